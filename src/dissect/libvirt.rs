//! A libvirt connection: RPC messages both ways.

use phasescope_parsers::libvirt::framing::{Framer, Item};
use phasescope_parsers::libvirt::header::{HEADER_LEN, Header};
use phasescope_parsers::libvirt::{message, procedures, redact};

use super::Sink;
use super::event::{Event, Kind, Rpc};
use crate::net::{Direction, FlowInfo, Stamp};

/// State of one libvirt connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    framers: [Framer<Stamp>; 2],
    /// Bytes that were no RPC were stepped over.
    skipped: u64,
    /// For redacted copies of messages; reused.
    clear: Vec<u8>,
}

impl Connection {
    /// At its first bytes, or picked up in the middle.
    pub(super) fn new(middle: bool) -> Self {
        let framer = || {
            if middle {
                Framer::resynchronising()
            } else {
                Framer::new()
            }
        };
        Self {
            framers: [framer(), framer()],
            skipped: 0,
            clear: Vec::new(),
        }
    }

    /// Did it lose step?
    pub(super) fn lost_step(&self) -> bool {
        self.skipped > 0
    }

    /// Bytes in order.
    pub(super) fn data(
        &mut self,
        flow: &FlowInfo,
        direction: Direction,
        stamp: Stamp,
        bytes: &[u8],
        sink: &mut impl Sink,
    ) {
        self.with(flow, direction, stamp, sink, |framer, mut out| {
            framer.push(stamp, bytes, &mut out);
        });
    }

    /// Missing bytes.
    pub(super) fn gap(
        &mut self,
        flow: &FlowInfo,
        direction: Direction,
        stamp: Stamp,
        length: u64,
        sink: &mut impl Sink,
    ) {
        self.with(flow, direction, stamp, sink, |framer, mut out| {
            framer.gap(length, &mut out);
        });
    }

    /// The connection has ended.
    pub(super) fn end(&mut self, flow: &FlowInfo, stamp: Stamp, sink: &mut impl Sink) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.with(flow, direction, stamp, sink, |framer, mut out| {
                framer.finish(&mut out);
            });
        }
    }

    fn with<S: Sink>(
        &mut self,
        flow: &FlowInfo,
        direction: Direction,
        stamp: Stamp,
        sink: &mut S,
        f: impl FnOnce(&mut Framer<Stamp>, &mut dyn FnMut(Item<'_, Stamp>)),
    ) {
        let framer = &mut self.framers[direction.index()];
        let (skipped, clear) = (&mut self.skipped, &mut self.clear);
        f(framer, &mut |item| match item {
            Item::Message {
                header,
                begin,
                offset,
                payload,
                missing,
                ..
            } => {
                tell(
                    flow, direction, stamp, begin, &header, payload, missing, sink,
                );
                reveal(flow, direction, offset, &header, payload, clear, sink);
            }
            Item::StreamData { .. } => {}
            Item::Skipped { length, .. } => *skipped += length,
        });
        sink.resolved(flow.id, direction, framer.resolved());
    }
}

#[expect(clippy::too_many_arguments, reason = "one message, all its context")]
fn tell(
    flow: &FlowInfo,
    direction: Direction,
    stamp: Stamp,
    begin: Stamp,
    header: &Header,
    payload: &[u8],
    missing: u32,
    sink: &mut impl Sink,
) {
    let rpc = Rpc {
        header: *header,
        name: procedures::name(header.program, header.procedure),
        body: message::decode(header, payload),
        missing,
    };
    sink.event(Event {
        stamp,
        begin,
        flow: Some((flow.id, direction)),
        kind: Kind::Rpc(Box::new(rpc)),
    });
}

/// Shows `scrub` the message without its secrets.
fn reveal(
    flow: &FlowInfo,
    direction: Direction,
    offset: u64,
    header: &Header,
    payload: &[u8],
    clear: &mut Vec<u8>,
    sink: &mut impl Sink,
) {
    if !sink.wants_bytes() {
        return;
    }
    clear.clear();
    clear.extend_from_slice(payload);
    redact::redact(header, clear);
    sink.reveal(flow.id, direction, offset, &header.to_bytes());
    sink.reveal(flow.id, direction, offset + HEADER_LEN as u64, clear);
}
