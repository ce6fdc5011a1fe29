//! Reading in large blocks; records lie in one piece.

use std::io::{ErrorKind, Read};
use std::ops::Range;

use super::{Damage, Fault};

/// Bytes asked of the system at once.
const BLOCK: usize = 256 << 10;

/// A window on the input that moves forward.
pub(super) struct Block {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// The unread bytes of `buffer`.
    start: usize,
    end: usize,
    /// Offset in the input of `buffer[0]`.
    base: u64,
    ended: bool,
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
            input,
            buffer: vec![0; BLOCK],
            start: 0,
            end: 0,
            base: 0,
            ended: false,
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
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < n {
            self.buffer.resize(n, 0);
        }
        while self.end < n && !self.ended {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(got) => self.end += got,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // What the decompressors say of broken or cut input.
                Err(e) if is_about_data(e.kind()) => {
                    self.ended = true;
                    if self.end == 0 || self.end < n {
                        return Err(Fault::Damage(Damage {
                            offset: self.base + self.end as u64,
                            what: format!("the compressed data is cut or broken ({e})"),
                            truncated: e.kind() == ErrorKind::UnexpectedEof,
                        }));
                    }
                }
                Err(e) => return Err(Fault::Io(e)),
            }
        }
        Ok(())
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
