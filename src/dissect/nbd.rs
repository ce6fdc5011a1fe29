//! An NBD connection: disks copied beside the guest's memory.

use phasescope_parsers::nbd::table::Command;
use phasescope_parsers::nbd::{self, Item, Side, Sink as Listen};

use super::Sink;
use super::event::{Event, Kind, Nbd};
use crate::net::{Direction, Stamp};

/// Requests are summed up over so long, or there would be an event for each. Nanoseconds.
const SUM_NS: i64 = 100_000_000;

/// State of one connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    nbd: nbd::Connection<Stamp>,
    sum: Sum,
}

/// Requests that no event has told yet.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    since: Option<Stamp>,
    requests: u64,
    written: u64,
    zeroed: u64,
}

fn side(direction: Direction) -> Side {
    match direction {
        Direction::ToServer => Side::Client,
        Direction::ToClient => Side::Server,
    }
}

fn direction(side: Side) -> Direction {
    match side {
        Side::Client => Direction::ToServer,
        Side::Server => Direction::ToClient,
    }
}

struct Adapter<'a, S> {
    sink: &'a mut S,
    sum: &'a mut Sum,
    flow: u64,
    stamp: Stamp,
}

impl<S: Sink> Adapter<'_, S> {
    fn event(&mut self, side: Side, begin: Stamp, what: Nbd) {
        self.sink.event(Event {
            stamp: self.stamp,
            begin,
            flow: Some((self.flow, direction(side))),
            kind: Kind::Nbd(what),
        });
    }

    fn tell_sum(&mut self) {
        let sum = std::mem::take(self.sum);
        if let Some(since) = sum.since {
            self.event(
                Side::Client,
                since,
                Nbd::Requests {
                    requests: sum.requests,
                    written: sum.written,
                    zeroed: sum.zeroed,
                },
            );
        }
    }
}

impl<S: Sink> Listen<Stamp> for Adapter<'_, S> {
    fn item(&mut self, side: Side, item: Item<'_>, begin: Stamp, _offset: u64) {
        match item {
            Item::Request { kind, length, .. } => {
                let since = *self.sum.since.get_or_insert(begin);
                self.sum.requests += 1;
                match kind {
                    Command::Write => self.sum.written += length,
                    Command::WriteZeroes => self.sum.zeroed += length,
                    _ => {}
                }
                if self.stamp.time.since(since.time) >= SUM_NS {
                    self.tell_sum();
                }
            }
            Item::Option { name, export, .. } => {
                let export = export.map(str::to_owned);
                self.event(side, begin, Nbd::Option { name, export });
            }
            Item::Ready => self.event(side, begin, Nbd::Ready),
            Item::Disconnect => {
                self.tell_sum();
                self.event(side, begin, Nbd::Disconnect);
            }
            Item::Tls => self.event(side, begin, Nbd::Tls),
            Item::Lost => self.event(side, begin, Nbd::Lost),
            Item::Greeting { .. } | Item::Reply { .. } | Item::Found => {}
        }
    }

    fn reveal(&mut self, side: Side, offset: u64, bytes: &[u8]) {
        self.sink.reveal(self.flow, direction(side), offset, bytes);
    }
}

impl Connection {
    pub(super) fn new() -> Self {
        Self {
            nbd: nbd::Connection::new(),
            sum: Sum::default(),
        }
    }

    fn with<S: Sink>(
        &mut self,
        flow: u64,
        stamp: Stamp,
        sink: &mut S,
        f: impl FnOnce(&mut nbd::Connection<Stamp>, &mut Adapter<'_, S>),
    ) {
        let mut adapter = Adapter {
            sink,
            sum: &mut self.sum,
            flow,
            stamp,
        };
        f(&mut self.nbd, &mut adapter);
        for s in [Side::Client, Side::Server] {
            sink.resolved(flow, direction(s), self.nbd.resolved(s));
        }
    }

    pub(super) fn data(
        &mut self,
        flow: u64,
        direction: Direction,
        stamp: Stamp,
        bytes: &[u8],
        sink: &mut impl Sink,
    ) {
        self.with(flow, stamp, sink, |c, out| {
            c.push(side(direction), stamp, bytes, out)
        });
    }

    pub(super) fn gap(
        &mut self,
        flow: u64,
        direction: Direction,
        stamp: Stamp,
        length: u64,
        sink: &mut impl Sink,
    ) {
        self.with(flow, stamp, sink, |c, out| {
            c.gap(side(direction), length, stamp, out)
        });
    }

    pub(super) fn end(&mut self, flow: u64, stamp: Stamp, sink: &mut impl Sink) {
        self.with(flow, stamp, sink, |c, out| {
            c.finish(Side::Client);
            c.finish(Side::Server);
            out.tell_sum();
        });
    }
}
