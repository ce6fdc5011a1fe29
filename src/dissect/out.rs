//! Where a decoder's findings go: to the sink, with the connection, the side and the frame that they
//! were found in.

use super::Sink;
use super::event::{Event, Kind};
use crate::net::{Direction, Stamp};

/// One direction of a connection, and the frame that is being read.
pub(super) struct Out<'a, S> {
    pub(super) sink: &'a mut S,
    pub(super) flow: u64,
    pub(super) direction: Direction,
    pub(super) stamp: Stamp,
}

impl<S: Sink> Out<'_, S> {
    /// Tells what was said; its first byte was in `begin`.
    pub(super) fn event(&mut self, begin: Stamp, what: impl Into<Kind>) {
        self.sink.event(Event {
            stamp: self.stamp,
            begin,
            flow: Some((self.flow, self.direction)),
            kind: what.into(),
        });
    }

    /// These bytes are structure.
    pub(super) fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.sink.reveal(self.flow, self.direction, offset, bytes);
    }
}
