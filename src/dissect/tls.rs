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

struct Adapter<'a, 'b, S> {
    out: &'b mut Out<'a, S>,
    turns: &'b mut Turns,
}

impl<S: Sink> Listen<Stamp> for Adapter<'_, '_, S> {
    fn item(&mut self, item: Item<'_>, begin: Stamp, _offset: u64) {
        match item {
            Item::Record {
                kind: ContentType::ApplicationData,
                length,
                ..
            } => self.turns.add(begin, u64::from(length), self.out),
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
        out: &mut Out<'_, S>,
        f: impl FnOnce(&mut Decoder<Stamp>, &mut Adapter<'_, '_, S>),
    ) {
        let decoder = &mut self.decoders[out.direction.index()];
        let mut adapter = Adapter {
            out: &mut *out,
            turns: &mut self.turns,
        };
        f(decoder, &mut adapter);
        out.sink
            .resolved(out.flow, out.direction, decoder.resolved());
    }

    pub(super) fn data<S: Sink>(&mut self, bytes: &[u8], out: &mut Out<'_, S>) {
        let (direction, stamp) = (out.direction, out.stamp);
        self.with(out, |d, out| {
            // A record may go on in many segments: its end is the last of them.
            if d.inside_record() {
                out.turns.goes_on(direction, stamp);
            }
            d.push(stamp, bytes, out);
        });
    }

    pub(super) fn gap<S: Sink>(&mut self, length: u64, out: &mut Out<'_, S>) {
        let stamp = out.stamp;
        self.with(out, |d, out| d.gap(length, stamp, out));
    }

    pub(super) fn end<S: Sink>(&mut self, out: &mut Out<'_, S>) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            out.direction = direction;
            self.with(out, |d, _| d.finish());
        }
        self.turns.tell(out);
    }
}
