//! A post-copy preempt channel: the pages that the destination asked for, beside the stream.

use phasescope_parsers::qemu::ram::PageKind;
use phasescope_parsers::qemu::stream::{self, Decoder, Item};

use super::Sink;
use super::event::Preempt;
use super::out::Out;
use crate::net::{Direction, Stamp};

/// State of one channel.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// The side that sends pages.
    source: Direction,
    decoder: Decoder<Stamp>,
}

/// A page record, its block by number.
struct Page {
    block: Option<u16>,
    address: u64,
    kind: PageKind,
    bytes: u64,
}

struct Adapter<'a, 'b, S> {
    out: &'b mut Out<'a, S>,
    pages: Vec<Page>,
}

impl<S: Sink> stream::Sink<Stamp> for Adapter<'_, '_, S> {
    fn item(&mut self, item: Item<'_>, begin: Stamp, _offset: u64) {
        if item == Item::Lost {
            self.out.event(begin, Preempt::Lost);
        }
    }

    fn page(&mut self, block: Option<u16>, address: u64, kind: PageKind, bytes: u64) {
        self.pages.push(Page {
            block,
            address,
            kind,
            bytes,
        });
    }

    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.out.reveal(offset, bytes);
    }
}

impl Connection {
    pub(super) fn new(source: Direction) -> Self {
        Self {
            source,
            decoder: Decoder::preempt(),
        }
    }

    pub(super) fn data<S: Sink>(&mut self, bytes: &[u8], out: &mut Out<'_, S>) {
        self.with(out, |decoder, stamp, adapter| {
            decoder.push(stamp, bytes, adapter);
        });
    }

    pub(super) fn gap<S: Sink>(&mut self, length: u64, out: &mut Out<'_, S>) {
        self.with(out, |decoder, stamp, adapter| {
            decoder.gap(length, stamp, adapter);
        });
    }

    /// The destination says nothing on this channel.
    fn with<S: Sink>(
        &mut self,
        out: &mut Out<'_, S>,
        f: impl FnOnce(&mut Decoder<Stamp>, Stamp, &mut Adapter<'_, '_, S>),
    ) {
        if out.direction != self.source {
            return;
        }
        let mut adapter = Adapter {
            out: &mut *out,
            pages: Vec::new(),
        };
        let stamp = adapter.out.stamp;
        f(&mut self.decoder, stamp, &mut adapter);
        for p in adapter.pages {
            let block = p
                .block
                .and_then(|b| self.decoder.blocks().get(usize::from(b)));
            let said = Preempt::Page {
                block: block.map_or_else(String::new, |b| b.name.clone()),
                address: p.address,
                kind: p.kind,
                bytes: p.bytes,
            };
            out.event(stamp, said);
        }
        out.sink
            .resolved(out.flow, out.direction, self.decoder.resolved());
    }
}
