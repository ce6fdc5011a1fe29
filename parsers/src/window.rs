//! The not yet decoded bytes of one direction, with the marks of the pushes
//! that brought them.

use std::collections::VecDeque;
use std::fmt;

/// Most pushes whose marks are told apart inside one window; the bytes of
/// later pushes take the last mark kept.
const MAX_MARKS: usize = 4096;

/// Bytes of a message body, handed to the next decoder. Its `Debug` form
/// shows the length only, so that a body never reaches a log.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    /// Wraps the bytes of a body.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a decoder that keeps an allow list of fields.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

/// A sliding window over one direction of a byte stream.
#[derive(Clone)]
pub(crate) struct Window<M> {
    bytes: Vec<u8>,
    start: usize,
    offset: u64,
    marks: VecDeque<(u64, M)>,
}

impl<M: Copy> Window<M> {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            offset: 0,
            marks: VecDeque::new(),
        }
    }

    /// Appends the bytes of one push.
    pub(crate) fn push(&mut self, mark: M, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if self.start > 0 {
            self.bytes.drain(..self.start.min(self.bytes.len()));
            self.start = 0;
        }
        if self.bytes.is_empty() {
            self.marks.clear();
        }
        if self.marks.len() < MAX_MARKS {
            self.marks.push_back((self.end(), mark));
        }
        self.bytes.extend_from_slice(data);
    }

    /// The bytes not yet consumed.
    pub(crate) fn data(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Stream offset of the first byte not yet consumed.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Stream offset behind the last byte.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.data().len() as u64)
    }

    /// Drops bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        let count = count.min(self.data().len());
        self.start = self.start.saturating_add(count);
        self.offset = self.offset.saturating_add(count as u64);
        while self.marks.get(1).is_some_and(|&(at, _)| at <= self.offset) {
            self.marks.pop_front();
        }
    }

    /// Drops bytes up to a stream offset.
    pub(crate) fn consume_to(&mut self, offset: u64) {
        let count = offset.saturating_sub(self.offset);
        self.consume(usize::try_from(count).unwrap_or(usize::MAX));
    }

    /// Drops all bytes and moves the offset over bytes that were not seen.
    pub(crate) fn skip(&mut self, length: u64) {
        self.offset = self.end().saturating_add(length);
        self.bytes.clear();
        self.start = 0;
        self.marks.clear();
    }

    /// The mark of the push that brought the byte at a stream offset.
    pub(crate) fn mark(&self, offset: u64, otherwise: M) -> M {
        let after = self.marks.partition_point(|&(at, _)| at <= offset);
        after
            .checked_sub(1)
            .and_then(|index| self.marks.get(index))
            .map_or(otherwise, |&(_, mark)| mark)
    }
}
