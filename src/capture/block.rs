//! Reading in large blocks; records lie in one piece.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;

use super::ahead::{self, Ahead};
use super::{Damage, Fault};

/// Bytes asked of the system at once. Fewer make more calls and wake the other thread more often;
/// more do not stay in a core's cache.
const BLOCK: usize = 1 << 20;

/// Bytes of the first block: what most small files fit into.
const FIRST: usize = 256 << 10;

/// What is left of a block is moved in front of the next one; more than this is rare. Bytes.
const HEADROOM: usize = 64 << 10;

/// Where the bytes come from.
enum Input {
    /// This thread reads: the first block, which may be all.
    Here(Box<dyn Read + Send>),
    /// Another one does.
    Ahead(Ahead),
    Ended,
}

/// A window on the input that moves forward.
pub(super) struct Block {
    input: Input,
    buffer: Vec<u8>,
    /// The unread bytes of `buffer`.
    start: usize,
    end: usize,
    /// Offset in the input of `buffer[0]`.
    base: u64,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block")
            .field("offset", &self.offset())
            .finish()
    }
}

impl Block {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Self {
        Self {
            input: Input::Here(input),
            buffer: vec![0; FIRST],
            start: 0,
            end: 0,
            base: 0,
        }
    }

    /// Offset of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// At least `n` bytes where the input has so many, else what is left.
    #[inline]
    pub(super) fn want(&mut self, n: usize) -> Result<&[u8], Fault> {
        if self.end - self.start < n {
            self.fill(n)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    #[cold]
    fn fill(&mut self, n: usize) -> Result<(), Fault> {
        while self.end - self.start < n {
            match self.more() {
                Ok(true) => {}
                Ok(false) => break,
                // What the decompressors say of broken or cut input.
                Err(e) if is_about_data(e.kind()) => {
                    self.input = Input::Ended;
                    return Err(Fault::Damage(Damage {
                        offset: self.base + self.end as u64,
                        what: format!("the compressed data is cut or broken ({e})"),
                        truncated: e.kind() == ErrorKind::UnexpectedEof,
                    }));
                }
                Err(e) => return Err(Fault::Io(e)),
            }
        }
        Ok(())
    }

    /// Adds bytes behind those that are there; false where there are no more.
    fn more(&mut self) -> io::Result<bool> {
        if let Input::Here(_) = self.input
            && self.base + self.end as u64 >= FIRST as u64
            && let Input::Here(input) = std::mem::replace(&mut self.input, Input::Ended)
        {
            self.input = Input::Ahead(Ahead::new(input, HEADROOM, BLOCK)?);
        }
        match &mut self.input {
            Input::Ended => Ok(false),
            Input::Here(input) => {
                let got = loop {
                    match input.read(&mut self.buffer[self.end..]) {
                        Err(e) if e.kind() == ErrorKind::Interrupted => {}
                        other => break other?,
                    }
                };
                self.end += got;
                if got == 0 {
                    self.input = Input::Ended;
                }
                Ok(got > 0)
            }
            Input::Ahead(ahead) => {
                let Some((block, end)) = ahead.next()? else {
                    self.input = Input::Ended;
                    return Ok(false);
                };
                let left = self.end - self.start;
                let from = ahead::beginning(&block, HEADROOM);
                if left <= HEADROOM {
                    let mut next = block;
                    next[from - left..from].copy_from_slice(&self.buffer[self.start..self.end]);
                    let used = std::mem::replace(&mut self.buffer, next);
                    let fresh = || ahead::memory(HEADROOM, BLOCK);
                    // One that was made for a large record is not kept.
                    let kept = Some(used).filter(|u| u.len() == self.buffer.len());
                    ahead.give_back(kept.unwrap_or_else(fresh));
                    self.base = self.base + self.start as u64 - (from - left) as u64;
                    self.start = from - left;
                    self.end = end;
                } else {
                    // A record larger than the headroom grows in its own buffer.
                    self.buffer.copy_within(self.start..self.end, 0);
                    self.base += self.start as u64;
                    self.start = 0;
                    self.buffer.truncate(left);
                    self.buffer.extend_from_slice(&block[from..end]);
                    self.end = self.buffer.len();
                    ahead.give_back(block);
                }
                Ok(true)
            }
        }
    }

    /// Steps over `n` bytes that [`Block::want`] has shown; gives their place.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Range<usize> {
        let from = self.start;
        self.start = (from + n).min(self.end);
        from..self.start
    }

    /// Steps over `n` bytes, seen or not; false where the input ends before.
    pub(super) fn skip(&mut self, mut n: u64) -> Result<bool, Fault> {
        while n > 0 {
            let have = self.want(1)?.len();
            if have == 0 {
                return Ok(false);
            }
            let step = usize::try_from(n).unwrap_or(usize::MAX).min(have);
            self.take(step);
            n -= step as u64;
        }
        Ok(true)
    }

    /// Bytes at a place given by [`Block::take`]; valid until the next [`Block::want`].
    #[inline]
    pub(super) fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.buffer.get(range.clone()).unwrap_or_default()
    }
}

/// zstd reports broken data as `Other`.
fn is_about_data(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::Other
    )
}
