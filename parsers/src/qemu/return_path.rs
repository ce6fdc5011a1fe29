//! The return path: what the destination writes on the migration connection, after
//! OPEN_RETURN_PATH. Repeated `u16 type, u16 length, length bytes`.
//!
//! Source: QEMU `migration/migration.h` (`enum mig_rp_message_type`), `migration/migration.c`
//! (`source_return_path_thread`).

use nom::multi::length_data;
use nom::number::streaming::be_u16;
use nom::{IResult, Parser};

use super::Probe;

/// Longest message that QEMU sends: the head, 13 bytes and a block name of 255. Bytes.
pub const MAX_MESSAGE: usize = 4 + 13 + 255;

/// One message of the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Loading has ended; status 0 means success. Nothing follows.
    Shut(u32),
    /// Answer to PING, with its value.
    Pong(u32),
    /// Post-copy: the destination needs these pages.
    ReqPages {
        /// Block; `None`: the block of the request before.
        block: Option<String>,
        /// Offset in the block, bytes.
        start: u64,
        /// Bytes wanted.
        length: u32,
    },
    /// Recovery: a bitmap of the pages that have arrived, of `size` bytes.
    RecvBitmap {
        /// Block name.
        block: String,
    },
    /// Recovery: the destination is ready to go on.
    ResumeAck(u32),
    /// The destination allows the switch-over (QEMU 8.1).
    SwitchoverAck,
}

fn be32(b: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(b.get(..4)?.try_into().ok()?))
}

fn be64(b: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(b.get(..8)?.try_into().ok()?))
}

fn name(b: &[u8]) -> Option<String> {
    let n = usize::from(*b.first()?);
    let s = b.get(1..1 + n)?;
    (b.len() == 1 + n && !s.is_empty()).then(|| String::from_utf8_lossy(s).into_owned())
}

fn body(kind: u16, b: &[u8]) -> Option<Message> {
    Some(match (kind, b.len()) {
        (1, 4) => Message::Shut(be32(b)?),
        (2, 4) => Message::Pong(be32(b)?),
        (3, 14..) => Message::ReqPages {
            block: Some(name(b.get(12..)?)?),
            start: be64(b)?,
            length: be32(b.get(8..)?)?,
        },
        (4, 12) => Message::ReqPages {
            block: None,
            start: be64(b)?,
            length: be32(b.get(8..)?)?,
        },
        (5, 2..) => Message::RecvBitmap { block: name(b)? },
        (6, 4) => Message::ResumeAck(be32(b)?),
        (7, 0) => Message::SwitchoverAck,
        _ => return None,
    })
}

/// Value that ends the bitmap of RECV_BITMAP (`RAMBLOCK_RECV_BITMAP_ENDING`, ram.c).
const BITMAP_ENDING: u64 = 0x0123_4567_89ab_cdef;

/// Largest bitmap that is believed: one bit a page of a 16 TiB block. Bytes.
const MAX_BITMAP: u64 = 512 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Message,
    BitmapSize,
    BitmapEnding,
    Lost,
}

/// Push decoder of the return path. `M` is the caller's mark of a slice (its frame and time).
#[derive(Debug, Clone)]
pub struct ReturnPath<M> {
    state: State,
    pending: Vec<u8>,
    begin: Option<M>,
    skip: u64,
}

impl<M: Copy> Default for ReturnPath<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Copy> ReturnPath<M> {
    /// At the first byte that the destination sends.
    pub fn new() -> Self {
        Self {
            state: State::Message,
            pending: Vec::new(),
            begin: None,
            skip: 0,
        }
    }

    /// False once bytes came that no QEMU sends, or were lost; decoding has ended then.
    pub fn in_step(&self) -> bool {
        self.state != State::Lost
    }

    /// Bytes that are held back until the rest of their message comes.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Feeds the next bytes. `sink` gets each message, the mark of its first byte, its place behind
    /// the first byte that was pending (or is new), and its raw bytes; no message for the length
    /// and the end of a bitmap.
    pub fn push(
        &mut self,
        mark: M,
        mut data: &[u8],
        sink: &mut impl FnMut(Option<Message>, M, u64, &[u8]),
    ) {
        let mut at = 0;
        while !data.is_empty() && self.in_step() {
            if self.skip > 0 {
                let n = usize::try_from(self.skip)
                    .unwrap_or(usize::MAX)
                    .min(data.len());
                self.skip -= n as u64;
                at += n as u64;
                data = &data[n..];
                continue;
            }
            if self.pending.is_empty() {
                self.begin = Some(mark);
            }
            // Messages are rare and short: collecting them byte-exactly costs nothing.
            let had = self.pending.len();
            let room = (MAX_MESSAGE - had.min(MAX_MESSAGE)).min(data.len());
            self.pending.extend_from_slice(&data[..room]);
            match self.step(at, sink) {
                Some(used) => {
                    at += used as u64;
                    data = &data[used.saturating_sub(had)..];
                    self.pending.clear();
                }
                None if self.pending.len() >= MAX_MESSAGE => self.state = State::Lost,
                None => data = &data[room..],
            }
        }
    }

    /// Bytes were lost: a message that cannot be found again ends the decoding.
    pub fn gap(&mut self, length: u64) {
        if length <= self.skip {
            self.skip -= length;
        } else if length > 0 {
            self.state = State::Lost;
            self.pending.clear();
        }
    }

    fn step(
        &mut self,
        at: u64,
        sink: &mut impl FnMut(Option<Message>, M, u64, &[u8]),
    ) -> Option<usize> {
        match self.state {
            State::Message => match message(&self.pending) {
                Ok((rest, m)) => {
                    let used = self.pending.len() - rest.len();
                    if matches!(m, Message::RecvBitmap { .. }) {
                        self.state = State::BitmapSize;
                    }
                    if let Some(begin) = self.begin {
                        sink(Some(m), begin, at, &self.pending[..used]);
                    }
                    Some(used)
                }
                Err(nom::Err::Incomplete(_)) => None,
                Err(_) => {
                    self.state = State::Lost;
                    Some(0)
                }
            },
            State::BitmapSize => {
                let size = be64(&self.pending)?;
                self.state = if size <= MAX_BITMAP {
                    self.skip = size;
                    State::BitmapEnding
                } else {
                    State::Lost
                };
                if self.in_step() {
                    self.tell_bitmap(at, sink);
                }
                Some(8)
            }
            State::BitmapEnding => {
                let ok = be64(&self.pending)? == BITMAP_ENDING;
                if ok {
                    self.tell_bitmap(at, sink);
                }
                self.state = if ok { State::Message } else { State::Lost };
                Some(8)
            }
            State::Lost => Some(0),
        }
    }
}

impl<M: Copy> ReturnPath<M> {
    fn tell_bitmap(&self, at: u64, sink: &mut impl FnMut(Option<Message>, M, u64, &[u8])) {
        if let (Some(begin), Some(raw)) = (self.begin, self.pending.get(..8)) {
            sink(None, begin, at, raw);
        }
    }
}

/// One message.
///
/// # Errors
/// `nom::Err::Error` for a type or length that QEMU does not send.
pub fn message(input: &[u8]) -> IResult<&[u8], Message> {
    let refuse = || nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Tag));
    // Type and length are judged before the bytes are waited for.
    if let [t0, t1, n0, n1, ..] = *input {
        let kind = u16::from_be_bytes([t0, t1]);
        let length = usize::from(u16::from_be_bytes([n0, n1]));
        if !(1..=7).contains(&kind) || length > MAX_MESSAGE - 4 {
            return Err(refuse());
        }
    }
    let (rest, (kind, b)) = (be_u16, length_data(be_u16)).parse(input)?;
    body(kind, b).map(|m| (rest, m)).ok_or_else(refuse)
}

/// Do the first bytes of the reverse direction look like a return path?
pub fn probe(input: &[u8]) -> Probe {
    match message(input) {
        Ok(_) => Probe::Yes,
        Err(nom::Err::Incomplete(_)) => Probe::NeedMore,
        Err(_) => Probe::No,
    }
}
