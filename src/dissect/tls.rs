//! A TLS connection: what can be seen of it is versions, a server name, and the sizes and times of
//! its records.

use phasescope_parsers::tls::{ContentType, Decoder, Item, Sink as Listen};

use super::Sink;
use super::event::{Event, Kind, Tls};
use super::out::Out;
use crate::net::{Direction, Stamp};

/// A record that begins so long after the last one belongs to another message: keepalive requests
/// come a second apart or more, the records of one message in a row. Nanoseconds.
const MESSAGE_PAUSE_NS: i64 = 250_000_000;

/// State of one connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    decoders: [Decoder<Stamp>; 2],
    /// Application data in one direction, not told yet.
    run: Option<Run>,
}

/// Records of application data in a row, from one side.
#[derive(Debug, Clone, Copy)]
struct Run {
    direction: Direction,
    first: Stamp,
    last: Stamp,
    bytes: u64,
}

struct Adapter<'a, S> {
    out: Out<'a, S>,
    run: &'a mut Option<Run>,
}

impl<S: Sink> Adapter<'_, S> {
    /// Tells the run of records that has ended.
    fn turn(&mut self) {
        if let Some(r) = self.run.take() {
            self.out.sink.event(Event {
                stamp: r.last,
                begin: r.first,
                flow: Some((self.out.flow, r.direction)),
                kind: Kind::Tls(Tls::Data { bytes: r.bytes }),
            });
        }
    }
}

impl<S: Sink> Listen<Stamp> for Adapter<'_, S> {
    fn item(&mut self, item: Item<'_>, begin: Stamp, _offset: u64) {
        match item {
            Item::Record {
                kind: ContentType::ApplicationData,
                length,
                ..
            } => {
                let over = |r: Run| {
                    r.direction != self.out.direction
                        || begin.time.since(r.last.time) > MESSAGE_PAUSE_NS
                };
                if self.run.is_some_and(over) {
                    self.turn();
                }
                let run = self.run.get_or_insert(Run {
                    direction: self.out.direction,
                    first: begin,
                    last: begin,
                    bytes: 0,
                });
                run.last = self.out.stamp;
                run.bytes += u64::from(length);
            }
            Item::Record { .. } | Item::Found => {}
            Item::ClientHello {
                server_name,
                versions,
            } => {
                let offered = versions.as_slice().iter().copied().max();
                let server_name = server_name.map(str::to_owned);
                self.out.event(
                    begin,
                    Tls::ClientHello {
                        server_name,
                        offered,
                    },
                );
            }
            Item::ServerHello { version } => self.out.event(begin, Tls::ServerHello { version }),
            Item::Lost => self.out.event(begin, Tls::Lost),
        }
    }

    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.out.reveal(offset, bytes);
    }
}

impl Connection {
    pub(super) fn new() -> Self {
        Self {
            decoders: [Decoder::new(), Decoder::new()],
            run: None,
        }
    }

    fn with<S: Sink>(
        &mut self,
        flow: u64,
        direction: Direction,
        stamp: Stamp,
        sink: &mut S,
        f: impl FnOnce(&mut Decoder<Stamp>, &mut Adapter<'_, S>),
    ) {
        let decoder = &mut self.decoders[direction.index()];
        let mut adapter = Adapter {
            out: Out {
                sink,
                flow,
                direction,
                stamp,
            },
            run: &mut self.run,
        };
        f(decoder, &mut adapter);
        sink.resolved(flow, direction, decoder.resolved());
    }

    pub(super) fn data(
        &mut self,
        flow: u64,
        direction: Direction,
        stamp: Stamp,
        bytes: &[u8],
        sink: &mut impl Sink,
    ) {
        self.with(flow, direction, stamp, sink, |d, out| {
            // A record may go on in many segments: its end is the last of them.
            if let Some(run) = out.run.as_mut()
                && run.direction == direction
                && d.inside_record()
            {
                run.last = stamp;
            }
            d.push(stamp, bytes, out);
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
        self.with(flow, direction, stamp, sink, |d, out| {
            d.gap(length, stamp, out)
        });
    }

    pub(super) fn end(&mut self, flow: u64, stamp: Stamp, sink: &mut impl Sink) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.with(flow, direction, stamp, sink, |d, _| d.finish());
        }
        self.with(flow, Direction::ToServer, stamp, sink, |_, out| out.turn());
    }
}
