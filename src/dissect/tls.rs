//! A TLS connection: what can be seen of it is versions, a server name, and the sizes and times of
//! its records.

use phasescope_parsers::tls::{ContentType, Decoder, Item, Sink as Listen};

use super::Sink;
use super::event::{Kind, Tls};
use super::out::Out;
use super::turns::Turns;
use crate::net::{Direction, Stamp};

/// State of one connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    decoders: [Decoder<Stamp>; 2],
    /// Application data.
    turns: Turns,
}

struct Adapter<'a, S> {
    out: Out<'a, S>,
    turns: &'a mut Turns,
}

impl<S: Sink> Listen<Stamp> for Adapter<'_, S> {
    fn item(&mut self, item: Item<'_>, begin: Stamp, _offset: u64) {
        match item {
            Item::Record {
                kind: ContentType::ApplicationData,
                length,
                ..
            } => self.turns.add(begin, u64::from(length), &mut self.out),
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
            turns: Turns::new(|bytes| Kind::Tls(Tls::Data { bytes })),
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
            turns: &mut self.turns,
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
            if d.inside_record() {
                out.turns.goes_on(direction, stamp);
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
        self.with(flow, Direction::ToServer, stamp, sink, |_, out| {
            out.turns.tell(&mut out.out);
        });
    }
}
