//! A bounded list of times without a sign of life, which knows what it has forgotten.

use crate::net::Stamp;
use crate::time::Timestamp;

/// Times that a list holds.
const MAX_KEPT: usize = 64;

/// Times older than this give way first. Nanoseconds.
const MEMORY_NS: i64 = 60_000_000_000;

/// Something that lasts.
pub(super) trait Span {
    /// From when to when.
    fn span(&self) -> (Stamp, Stamp);
}

impl Span for (Stamp, Stamp) {
    fn span(&self) -> (Stamp, Stamp) {
        *self
    }
}

/// Of the last minute the longest ones.
#[derive(Debug, Clone)]
pub(super) struct Kept<T> {
    list: Vec<T>,
    /// From the earliest to the latest moment of what has given way.
    forgotten: Option<(Timestamp, Timestamp)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            forgotten: None,
        }
    }
}

impl<T: Span> Kept<T> {
    /// Adds one: what is older than a minute gives way, then the shortest.
    pub(super) fn keep(&mut self, new: T) {
        if self.list.len() >= MAX_KEPT {
            let now = new.span().1.time;
            let old = |t: &T| now.since(t.span().1.time) > MEMORY_NS;
            let length = |i: &usize| {
                let (from, to) = self.list.get(*i)?.span();
                Some(to.time.since(from.time))
            };
            let old = self.list.iter().position(old);
            if let Some(i) = old.or_else(|| (0..self.list.len()).min_by_key(length)) {
                let (from, to) = self.list.remove(i).span();
                let (first, last) = self.forgotten.unwrap_or((from.time, to.time));
                self.forgotten = Some((first.min(from.time), last.max(to.time)));
            }
        }
        self.list.push(new);
    }

    /// What is held, in the order in which it came.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.list.iter()
    }

    /// Can something of this time have been forgotten?
    pub(super) fn may_lack(&self, from: Timestamp, to: Timestamp) -> bool {
        self.forgotten
            .is_some_and(|(first, last)| first <= to && last >= from)
    }
}
