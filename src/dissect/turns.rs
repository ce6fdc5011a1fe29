//! What an encrypted conversation shows: which side sent how many bytes, and when.

use super::Sink;
use super::event::Kind;
use super::out::Out;
use crate::net::{Direction, Stamp};

/// What begins so long after the last bytes belongs to another message: keepalive requests come a
/// second apart or more, the parts of one message in a row. So does what a clock puts so long
/// before. Nanoseconds.
pub(crate) const MESSAGE_PAUSE_NS: i64 = 250_000_000;

/// What one side sends before the other one does, or before it pauses.
#[derive(Debug, Clone, Copy)]
struct Run {
    direction: Direction,
    first: Stamp,
    last: Stamp,
    bytes: u64,
}

/// Puts bytes together to turns and tells each when it is over.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    /// What is told of a turn's bytes.
    kind: fn(u64) -> Kind,
    run: Option<Run>,
}

impl Turns {
    pub(super) fn new(kind: fn(u64) -> Kind) -> Self {
        Self { kind, run: None }
    }

    /// Bytes that began in frame `begin` and end in the one that is read.
    pub(super) fn add<S: Sink>(&mut self, begin: Stamp, bytes: u64, out: &mut Out<'_, S>) {
        let over = |r: Run| {
            let pause = begin.time.since(r.last.time).abs();
            r.direction != out.direction || pause > MESSAGE_PAUSE_NS
        };
        if self.run.is_some_and(over) {
            self.tell(out);
        }
        let run = self.run.get_or_insert(Run {
            direction: out.direction,
            first: begin,
            last: begin,
            bytes: 0,
        });
        run.last = out.stamp;
        run.bytes += bytes;
    }

    /// What was added last goes on in this frame.
    pub(super) fn goes_on(&mut self, direction: Direction, stamp: Stamp) {
        if let Some(run) = self.run.as_mut().filter(|r| r.direction == direction) {
            run.last = stamp;
        }
    }

    /// Nothing more comes of the turn that is open.
    pub(super) fn tell<S: Sink>(&mut self, out: &mut Out<'_, S>) {
        if let Some(r) = self.run.take() {
            let mut of_run = Out {
                sink: &mut *out.sink,
                flow: out.flow,
                direction: r.direction,
                stamp: r.last,
            };
            of_run.event(r.first, (self.kind)(r.bytes));
        }
    }
}
