//! A migration stream inside libvirt's STREAM messages.

use std::collections::VecDeque;

use super::event::Event;
use super::{Sink, qemu};
use crate::net::{Direction, Stamp};

/// Pieces of the tunnel whose place on the connection is remembered: what a decoder can hold back
/// lies in few messages.
const MAX_PIECES: usize = 256;

/// A stream in a tunnel, and where its bytes lie on the connection that carries it.
#[derive(Debug, Clone)]
pub(super) struct Tunnel {
    connection: qemu::Connection,
    /// Serial of the call that opened it.
    pub(super) serial: u32,
    direction: Direction,
    passed: u64,
    /// Where in its message the next piece is expected, and bytes of the message told as missing.
    expected: u32,
    told_missing: u32,
    pieces: VecDeque<Piece>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    /// Offset in the tunnel.
    inner: u64,
    /// Offset on the connection.
    outer: u64,
    length: u64,
}

/// Moves what is revealed to its place on the connection.
struct Outside<'a, S> {
    sink: &'a mut S,
    pieces: &'a VecDeque<Piece>,
}

impl<S: Sink> Sink for Outside<'_, S> {
    fn event(&mut self, event: Event) {
        self.sink.event(event);
    }

    fn wants_bytes(&self) -> bool {
        self.sink.wants_bytes()
    }

    fn reveal(&mut self, flow: u64, direction: Direction, offset: u64, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len() as u64);
        for p in self.pieces {
            let (from, to) = (offset.max(p.inner), end.min(p.inner + p.length));
            if from >= to {
                continue;
            }
            let part = (from - offset) as usize..(to - offset) as usize;
            if let Some(part) = bytes.get(part) {
                let outer = p.outer + (from - p.inner);
                self.sink.reveal(flow, direction, outer, part);
            }
        }
    }
}

impl Tunnel {
    pub(super) fn new(serial: u32, direction: Direction) -> Self {
        Self {
            connection: qemu::Connection::new(direction, None),
            serial,
            direction,
            passed: 0,
            expected: 0,
            told_missing: 0,
            pieces: VecDeque::new(),
        }
    }

    /// The next bytes of the tunnel, which lie at `outer` on the connection and at `position` in
    /// their message.
    pub(super) fn data(
        &mut self,
        flow: u64,
        stamp: Stamp,
        (outer, position): (u64, u32),
        bytes: &[u8],
        sink: &mut impl Sink,
    ) {
        let hole = position.saturating_sub(self.expected);
        if hole > 0 {
            self.told_missing += hole;
            self.gap(flow, stamp, hole, sink);
        }
        self.expected = position.saturating_add(bytes.len() as u32);
        if self.pieces.len() >= MAX_PIECES {
            self.pieces.pop_front();
        }
        self.pieces.push_back(Piece {
            inner: self.passed,
            outer,
            length: bytes.len() as u64,
        });
        let mut outside = Outside {
            sink,
            pieces: &self.pieces,
        };
        let at = self.passed;
        self.passed += bytes.len() as u64;
        self.connection
            .data(flow, self.direction, stamp, at, bytes, &mut outside);
    }

    /// A message of the tunnel has ended, with so many of its bytes missing.
    pub(super) fn message_end(
        &mut self,
        flow: u64,
        stamp: Stamp,
        missing: u32,
        sink: &mut impl Sink,
    ) {
        let hole = missing.saturating_sub(self.told_missing);
        (self.expected, self.told_missing) = (0, 0);
        if hole > 0 {
            self.gap(flow, stamp, hole, sink);
        }
    }

    fn gap(&mut self, flow: u64, stamp: Stamp, length: u32, sink: &mut impl Sink) {
        let mut outside = Outside {
            sink,
            pieces: &self.pieces,
        };
        self.passed += u64::from(length);
        self.connection
            .gap(flow, self.direction, stamp, length.into(), &mut outside);
    }

    /// Offset on the connection before which nothing waits for its meaning.
    pub(super) fn resolved(&self) -> Option<u64> {
        let inner = self.connection.resolved();
        (inner < self.passed).then(|| {
            self.pieces
                .iter()
                .find(|p| inner < p.inner + p.length)
                .map_or(0, |p| p.outer + inner.saturating_sub(p.inner))
        })
    }

    /// The tunnel or its connection has ended.
    pub(super) fn end(&mut self, flow: u64, stamp: Stamp, sink: &mut impl Sink) {
        let mut outside = Outside {
            sink,
            pieces: &self.pieces,
        };
        self.connection.end(flow, stamp, &mut outside);
        self.passed = self.connection.resolved();
    }
}
