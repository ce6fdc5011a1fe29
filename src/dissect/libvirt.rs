//! A libvirt connection: RPC messages both ways, and the streams that they carry.

use phasescope_parsers::libvirt::framing::{Framer, Item};
use phasescope_parsers::libvirt::header::{HEADER_LEN, Header, PROGRAM_REMOTE};
use phasescope_parsers::libvirt::{message, procedures, redact};
use phasescope_parsers::qemu;

use super::Sink;
use super::event::{Event, Kind, Protocol, Rpc};
use super::tunnel::Tunnel;
use crate::net::{Direction, FlowInfo, Stamp};

/// Calls that open a stream which carries a migration (libvirt `src/remote/remote_protocol.x`).
const TUNNELS: [i32; 3] = [
    procedures::DOMAIN_MIGRATE_PREPARE_TUNNEL,
    procedures::DOMAIN_MIGRATE_PREPARE_TUNNEL3,
    procedures::DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS,
];

/// State of one libvirt connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    framers: [Framer<Stamp>; 2],
    /// Offset on the connection of each framer's first byte, once bytes have come.
    bases: [Option<u64>; 2],
    /// Bytes that were no RPC were stepped over.
    skipped: u64,
    /// For redacted copies of messages; reused.
    clear: Vec<u8>,
    /// The migration stream that goes through this connection.
    tunnel: Option<Tunnel>,
}

/// One message's surroundings.
struct Context<'a, S> {
    flow: &'a FlowInfo,
    direction: Direction,
    stamp: Stamp,
    sink: &'a mut S,
    skipped: &'a mut u64,
    clear: &'a mut Vec<u8>,
    tunnel: &'a mut Option<Tunnel>,
    /// Offset on the connection of the framer's first byte.
    base: u64,
    /// The pushed bytes and their offset.
    pushed: (u64, &'a [u8]),
}

impl<S: Sink> Context<'_, S> {
    fn item(&mut self, item: Item<'_, Stamp>) {
        match item {
            Item::Message {
                header,
                begin,
                offset,
                payload,
                missing,
                ..
            } => {
                self.tell(begin, &header, payload, missing);
                if !header.is_stream_data() {
                    self.reveal(self.base + offset, &header, payload);
                } else if let Some(t) = self.tunnel.as_mut().filter(|t| t.serial == header.serial) {
                    t.message_end(self.flow.id, self.stamp, missing, self.sink);
                }
            }
            Item::StreamData {
                header,
                begin,
                position,
                data,
            } => self.stream_data(&header, begin, position, data),
            Item::Skipped { length, .. } => *self.skipped += length,
        }
    }

    fn tell(&mut self, begin: Stamp, header: &Header, payload: &[u8], missing: u32) {
        let rpc = Rpc {
            header: *header,
            name: procedures::name(header.program, header.procedure),
            body: message::decode(header, payload),
            missing,
        };
        self.sink.event(Event {
            stamp: self.stamp,
            begin,
            flow: Some((self.flow.id, self.direction)),
            kind: Kind::Rpc(Box::new(rpc)),
        });
    }

    /// Shows `scrub` the message without its secrets.
    fn reveal(&mut self, offset: u64, header: &Header, payload: &[u8]) {
        if !self.sink.wants_bytes() {
            return;
        }
        self.clear.clear();
        self.clear.extend_from_slice(payload);
        redact::redact(header, self.clear);
        let (flow, direction) = (self.flow.id, self.direction);
        self.sink
            .reveal(flow, direction, offset, &header.to_bytes());
        self.sink
            .reveal(flow, direction, offset + HEADER_LEN as u64, self.clear);
    }

    fn stream_data(&mut self, header: &Header, begin: Stamp, position: u32, data: &[u8]) {
        let (offset, bytes) = self.pushed;
        // A piece is lent out of what was pushed, so its place tells its offset.
        let into = (data.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize);
        if into >= bytes.len() {
            return;
        }
        let outer = offset + into as u64;
        if position == 0 && self.sink.wants_bytes() {
            let at = outer.saturating_sub(HEADER_LEN as u64);
            let head = header.to_bytes();
            self.sink.reveal(self.flow.id, self.direction, at, &head);
        }
        let opens = header.program == PROGRAM_REMOTE
            && TUNNELS.contains(&header.procedure)
            && self
                .tunnel
                .as_ref()
                .is_none_or(|t| t.serial != header.serial);
        if opens && qemu::probe(data) == qemu::Probe::Yes {
            *self.tunnel = Some(Tunnel::new(header.serial, self.direction));
            self.sink.event(Event {
                stamp: self.stamp,
                begin,
                flow: Some((self.flow.id, self.direction)),
                kind: Kind::Recognised(Protocol::QemuMigration, Box::new(self.flow.clone())),
            });
        }
        if let Some(t) = self.tunnel.as_mut().filter(|t| t.serial == header.serial) {
            let place = (outer, position);
            t.data(self.flow.id, self.stamp, place, data, self.sink);
        }
    }
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
            bases: [None; 2],
            skipped: 0,
            clear: Vec::new(),
            tunnel: None,
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
        (offset, bytes): (u64, &[u8]),
        sink: &mut impl Sink,
    ) {
        let fed = self.framers[direction.index()].offset();
        self.bases[direction.index()].get_or_insert(offset.saturating_sub(fed));
        self.with(
            flow,
            direction,
            stamp,
            (offset, bytes),
            sink,
            |framer, mut out| {
                framer.push(stamp, bytes, &mut out);
            },
        );
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
        self.with(flow, direction, stamp, (0, &[]), sink, |framer, mut out| {
            framer.gap(length, &mut out);
        });
    }

    /// The connection has ended.
    pub(super) fn end(&mut self, flow: &FlowInfo, stamp: Stamp, sink: &mut impl Sink) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.with(flow, direction, stamp, (0, &[]), sink, |framer, mut out| {
                framer.finish(&mut out);
            });
        }
        if let Some(mut t) = self.tunnel.take() {
            t.end(flow.id, stamp, sink);
            sink.event(Event {
                stamp,
                begin: flow.first,
                flow: Some((flow.id, Direction::ToServer)),
                kind: Kind::Ended(Protocol::QemuMigration, Box::new(flow.clone())),
            });
        }
    }

    fn with<S: Sink>(
        &mut self,
        flow: &FlowInfo,
        direction: Direction,
        stamp: Stamp,
        pushed: (u64, &[u8]),
        sink: &mut S,
        f: impl FnOnce(&mut Framer<Stamp>, &mut dyn FnMut(Item<'_, Stamp>)),
    ) {
        let base = self.bases[direction.index()].unwrap_or(0);
        let framer = &mut self.framers[direction.index()];
        let mut context = Context {
            flow,
            direction,
            stamp,
            sink,
            skipped: &mut self.skipped,
            clear: &mut self.clear,
            tunnel: &mut self.tunnel,
            base,
            pushed,
        };
        f(framer, &mut |item| context.item(item));
        let waiting = self.tunnel.as_ref().and_then(Tunnel::resolved);
        let resolved = base + framer.resolved();
        let resolved = waiting.map_or(resolved, |w| w.min(resolved));
        sink.resolved(flow.id, direction, resolved);
    }
}
