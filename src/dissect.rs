//! From bytes in order to what the protocols said. Knows no phase.
//!
//! A connection's protocol is found by its content, on any port, and decided once.

pub mod amqp;
mod cloud;
pub mod event;
mod guest;
pub mod http;
mod libvirt;
mod multifd;
mod nbd;
mod out;
mod preempt;
mod qemu;
mod requests;
pub(crate) mod rounds;
pub(crate) mod secret;
mod ssh;
mod taps;
mod tls;
mod tunnel;
mod turns;

use phasescope_parsers::libvirt::header as rpc;
use phasescope_parsers::qemu::{self as migration, Probe, resync};

use out::Out;
pub(crate) use turns::MESSAGE_PAUSE_NS;

pub use event::{Event, Kind, Protocol};

use crate::capture::Frame;
use crate::net::flow::Interest;
use crate::net::tcp::{HalfStats, Missing};
use crate::net::{
    Body, Chunk, Direction, FlowInfo, Flows, Handler, Oddities, Packet, Place, Stamp, What,
};
use crate::time::Timestamp;

/// Bytes of a connection that are searched for an anchor where its beginning was not seen.
const MAX_SEARCH: u64 = 1 << 20;

/// Bytes that one direction may hold back while its protocol is looked for: a chain of RAM records.
const MAX_PREFIX: usize = 32 << 10;

/// Bytes held back in that way over all connections.
const MAX_PREFIX_TOTAL: usize = 8 << 20;

/// Closed connections that have been idle so long are ended. Nanoseconds of capture time.
const IDLE_NS: i64 = 5_000_000_000;

/// They are looked for so often. Nanoseconds of capture time.
const SWEEP_NS: i64 = 1_000_000_000;

/// Receives events in the order of their frames, and what `scrub` needs.
pub trait Sink {
    /// Something a protocol said.
    fn event(&mut self, event: Event);

    /// Is [`Sink::reveal`] listened to? Saves the work where it is not.
    fn wants_bytes(&self) -> bool {
        false
    }

    /// Bytes of a connection that hold no guest memory and no secret. What is not revealed before
    /// [`Sink::resolved`] passes it is content.
    fn reveal(&mut self, flow: u64, direction: Direction, offset: u64, bytes: &[u8]) {
        let _ = (flow, direction, offset, bytes);
    }

    /// A connection has ended: nothing more is revealed of it.
    fn over(&mut self, flow: u64) {
        let _ = flow;
    }

    /// Every byte of this direction before `offset` has been revealed or is content.
    fn resolved(&mut self, flow: u64, direction: Direction, offset: u64) {
        let _ = (flow, direction, offset);
    }
}

/// What the traffic looked like as a whole.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Frames that the snap length cut.
    pub cut_packets: u64,
    /// Counters of all TCP connections.
    pub tcp: HalfStats,
    /// TCP connections.
    pub connections: u64,
    /// Irregularities.
    pub oddities: Oddities,
}

/// The whole way from frames to events.
#[derive(Debug, Clone, Default)]
pub struct Dissector {
    flows: Flows<Conversation>,
    guests: guest::Guests,
    taps: taps::Taps,
    traffic: Traffic,
    /// Bytes that wait for a decision.
    undecided: usize,
    /// When closed connections were last swept out.
    swept: Timestamp,
}

impl Dissector {
    /// Takes the next frame; gives back its layers, and where its TCP payload lies.
    pub fn frame<'a>(
        &mut self,
        frame: &Frame<'a>,
        sink: &mut impl Sink,
    ) -> Option<(Packet<'a>, Option<Place>)> {
        let stamp = Stamp {
            time: frame.time,
            frame: frame.number,
        };
        let traffic = &mut self.traffic;
        traffic.packets += 1;
        traffic.bytes += u64::from(frame.wire_len);
        traffic.cut_packets += u64::from(frame.data.len() < frame.wire_len as usize);
        let Some(packet) = Packet::read(frame) else {
            traffic.oddities.note("link-layer-not-understood");
            return None;
        };
        if let Body::Fragment(_) = packet.body {
            traffic.oddities.note("ip-fragment");
        }
        self.guests
            .packet(&packet, frame.interface, stamp, &mut |e| sink.event(e));
        if self.taps.repeats(&packet, frame.interface, stamp.time) {
            traffic.oddities.note("seen-at-another-tap");
            let place = self.flows.place(&packet);
            return Some((packet, place));
        }
        let mut dispatch = Dispatch {
            sink,
            oddities: &mut traffic.oddities,
            undecided: &mut self.undecided,
        };
        let place = self
            .flows
            .packet(&packet, frame.wire_len, stamp, &mut dispatch);
        self.sweep(stamp.time, sink);
        Some((packet, place))
    }

    /// Ends the connections that are closed and idle by `now`; every frame's time does that, and a
    /// live capture calls this where no frame comes.
    pub fn sweep(&mut self, now: Timestamp, sink: &mut impl Sink) {
        if now.since(self.swept) > SWEEP_NS {
            self.swept = now;
            let mut dispatch = Dispatch {
                sink,
                oddities: &mut self.traffic.oddities,
                undecided: &mut self.undecided,
            };
            self.flows.expire(now.offset(-IDLE_NS), &mut dispatch);
        }
    }

    /// The capture has ended.
    pub fn finish(&mut self, sink: &mut impl Sink) {
        let mut dispatch = Dispatch {
            sink,
            oddities: &mut self.traffic.oddities,
            undecided: &mut self.undecided,
        };
        self.flows.finish(&mut dispatch);
    }

    /// The traffic so far.
    pub fn traffic(&self) -> Traffic {
        let mut traffic = self.traffic.clone();
        traffic.tcp = self.flows.stats();
        traffic.connections = self.flows.seen();
        for (name, n) in [
            ("flow-table-full", self.flows.evicted()),
            ("reassembly-memory-full", self.flows.memory_full()),
            ("reassembly-buffer-full", traffic.tcp.buffer_overflows),
            ("hardware-address-table-full", self.guests.overflow()),
        ] {
            traffic.oddities.add(name, n);
        }
        traffic
    }
}

/// State of one connection.
#[derive(Debug, Clone, Default)]
enum Conversation {
    /// Nothing has been sent yet.
    #[default]
    New,
    /// Not enough seen.
    Undecided(Box<Undecided>),
    Libvirt(Box<libvirt::Connection>),
    Qemu(Box<qemu::Connection>),
    Multifd(Box<multifd::Connection>),
    Preempt(Box<preempt::Connection>),
    Nbd(Box<nbd::Connection>),
    Tls(Box<tls::Connection>),
    Ssh(Box<ssh::Connection>),
    Amqp(Box<amqp::Connection>),
    Http(Box<http::Connection>),
    /// Some other protocol.
    Unknown,
}

/// Bytes of one direction that wait for a decision.
#[derive(Debug, Clone, Default)]
struct Prefix {
    bytes: Vec<u8>,
    stamp: Option<Stamp>,
    /// Offset of the first of `bytes`.
    offset: u64,
    refused: bool,
}

#[derive(Debug, Clone, Default)]
struct Undecided {
    prefixes: [Prefix; 2],
    searched: u64,
}

/// What the first bytes of a direction are.
enum Verdict {
    Is(Protocol, Where),
    No,
    NeedMore,
}

/// Where in its protocol a direction stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Start,
    Middle,
    /// At the start of a connection that goes on where another one broke.
    Resumed,
}

/// From one connection's chunks to events.
struct Dispatch<'a, S> {
    sink: &'a mut S,
    oddities: &'a mut Oddities,
    undecided: &'a mut usize,
}

impl<S: Sink> Handler<Conversation> for Dispatch<'_, S> {
    fn chunk(&mut self, flow: &FlowInfo, state: &mut Conversation, chunk: Chunk<'_>) -> Interest {
        let Chunk {
            direction,
            stamp,
            what,
        } = chunk;
        match what {
            What::Data(offset, bytes) => self.data(flow, state, direction, stamp, offset, bytes),
            What::Gap(offset, length, missing) => {
                self.gap(flow, state, direction, stamp, (offset, length, missing));
            }
            What::End => self.end(flow, state, stamp),
            What::Fin | What::Reset => {
                if state.is_decoded() {
                    let reset = what == What::Reset;
                    self.sink.event(Event {
                        stamp,
                        begin: stamp,
                        flow: Some((flow.id, direction)),
                        kind: Kind::Closing { reset },
                    });
                }
            }
            What::Opened | What::Accepted => {}
        }
        match state {
            Conversation::Unknown => Interest::Counters,
            _ => Interest::Bytes,
        }
    }
}

impl<S: Sink> Dispatch<'_, S> {
    fn data(
        &mut self,
        flow: &FlowInfo,
        state: &mut Conversation,
        direction: Direction,
        stamp: Stamp,
        offset: u64,
        bytes: &[u8],
    ) {
        match state {
            Conversation::Qemu(c) => c.data(flow.id, direction, stamp, offset, bytes, self.sink),
            Conversation::Libvirt(c) => {
                c.data(flow, direction, stamp, (offset, bytes), self.sink);
            }
            Conversation::Multifd(c) => c.data(bytes, &mut self.out(flow.id, direction, stamp)),
            Conversation::Nbd(c) => c.data(flow.id, direction, stamp, bytes, self.sink),
            Conversation::Tls(c) => c.data(bytes, &mut self.out(flow.id, direction, stamp)),
            Conversation::Amqp(c) => c.data(flow, direction, stamp, offset, bytes, self.sink),
            Conversation::Http(c) => c.data(flow, direction, stamp, offset, bytes, self.sink),
            Conversation::Preempt(c) => c.data(bytes, &mut self.out(flow.id, direction, stamp)),
            Conversation::Ssh(c) => c.data(bytes, offset, &mut self.out(flow.id, direction, stamp)),
            Conversation::Unknown => {}
            Conversation::New => {
                *state = Conversation::Undecided(Box::default());
                self.data(flow, state, direction, stamp, offset, bytes);
            }
            Conversation::Undecided(u) => {
                *self.undecided -= u.held();
                let other = u.prefixes[direction.reverse().index()].bytes.len();
                let room = MAX_PREFIX_TOTAL.saturating_sub(*self.undecided + other);
                if room < MAX_PREFIX {
                    self.oddities.note("recognition-memory-full");
                }
                let found = u.look(flow, direction, stamp, offset, bytes, room);
                *self.undecided += u.held();
                if let Some((protocol, place)) = found {
                    *self.undecided -= u.held();
                    let prefixes = std::mem::take(&mut u.prefixes);
                    *state = begin(protocol, place, direction, offset, &prefixes);
                    self.recognised(flow, protocol, direction, stamp);
                    for (d, p) in [Direction::ToServer, Direction::ToClient]
                        .into_iter()
                        .zip(prefixes)
                    {
                        if let (Some(stamp), false) = (p.stamp, p.bytes.is_empty()) {
                            self.data(flow, state, d, stamp, p.offset, &p.bytes);
                        }
                    }
                    self.data(flow, state, direction, stamp, offset, bytes);
                } else if u.hopeless(flow) {
                    *self.undecided -= u.held();
                    *state = Conversation::Unknown;
                    self.nothing_to_show(flow);
                }
            }
        }
    }

    fn gap(
        &mut self,
        flow: &FlowInfo,
        state: &mut Conversation,
        direction: Direction,
        stamp: Stamp,
        (offset, length, missing): (u64, u64, Missing),
    ) {
        match state {
            Conversation::Qemu(c) => c.gap(flow.id, direction, stamp, length, self.sink),
            Conversation::Libvirt(c) => c.gap(flow, direction, stamp, length, self.sink),
            Conversation::Multifd(c) => c.gap(length, &mut self.out(flow.id, direction, stamp)),
            Conversation::Nbd(c) => c.gap(flow.id, direction, stamp, length, self.sink),
            Conversation::Tls(c) => c.gap(length, &mut self.out(flow.id, direction, stamp)),
            Conversation::Amqp(c) => c.gap(flow, direction, (offset, length), self.sink),
            Conversation::Http(c) => c.gap(flow, direction, (offset, length), self.sink),
            Conversation::New => *state = Conversation::Undecided(Box::default()),
            Conversation::Undecided(u) => {
                *self.undecided -= u.held();
                u.forget(direction);
                *self.undecided += u.held();
            }
            Conversation::Preempt(c) => c.gap(length, &mut self.out(flow.id, direction, stamp)),
            Conversation::Ssh(c) => c.gap(length, &mut self.out(flow.id, direction, stamp)),
            Conversation::Unknown => {}
        }
        if state.is_decoded() {
            self.sink.event(Event {
                stamp,
                begin: stamp,
                flow: Some((flow.id, direction)),
                kind: Kind::Gap {
                    offset,
                    length,
                    missing,
                },
            });
        }
    }

    fn out(&mut self, flow: u64, direction: Direction, stamp: Stamp) -> Out<'_, S> {
        Out {
            sink: self.sink,
            flow,
            direction,
            stamp,
        }
    }

    /// All of the connection is content.
    fn nothing_to_show(&mut self, flow: &FlowInfo) {
        for d in [Direction::ToServer, Direction::ToClient] {
            self.sink.resolved(flow.id, d, u64::MAX);
        }
    }

    /// `direction`: whose bytes said what it is.
    fn recognised(
        &mut self,
        flow: &FlowInfo,
        protocol: Protocol,
        direction: Direction,
        stamp: Stamp,
    ) {
        let direction = match protocol {
            // Memory tells its source, also where the client was only guessed.
            Protocol::QemuMigration => direction,
            _ => Direction::ToServer,
        };
        self.sink.event(Event {
            stamp,
            begin: flow.first,
            flow: Some((flow.id, direction)),
            kind: Kind::Recognised(protocol, Box::new(flow.clone())),
        });
    }

    fn end(&mut self, flow: &FlowInfo, state: &mut Conversation, stamp: Stamp) {
        self.end_conversation(flow, state, stamp);
        self.sink.over(flow.id);
    }

    fn end_conversation(&mut self, flow: &FlowInfo, state: &mut Conversation, stamp: Stamp) {
        let protocol = match state {
            Conversation::Qemu(c) => {
                c.end(flow.id, stamp, self.sink);
                Protocol::QemuMigration
            }
            Conversation::Libvirt(c) => {
                c.end(flow, stamp, self.sink);
                if c.lost_step() {
                    self.oddities.note("libvirt-rpc-out-of-step");
                }
                Protocol::LibvirtRpc
            }
            Conversation::Multifd(c) => {
                c.end(&mut self.out(flow.id, Direction::ToServer, stamp));
                Protocol::Multifd
            }
            Conversation::Preempt(_) => Protocol::Preempt,
            Conversation::Nbd(c) => {
                c.end(flow.id, stamp, self.sink);
                Protocol::Nbd
            }
            Conversation::Tls(c) => {
                c.end(&mut self.out(flow.id, Direction::ToServer, stamp));
                Protocol::Tls
            }
            Conversation::Ssh(c) => {
                c.end(&mut self.out(flow.id, Direction::ToServer, stamp));
                Protocol::Ssh
            }
            Conversation::Amqp(c) => {
                c.end(flow, self.sink);
                if c.lost_step() {
                    self.oddities.note("amqp-out-of-step");
                }
                Protocol::Amqp
            }
            Conversation::Http(c) => {
                c.end(flow, self.sink);
                Protocol::Http
            }
            Conversation::Undecided(u) => {
                *self.undecided -= u.held();
                return;
            }
            Conversation::New | Conversation::Unknown => return,
        };
        self.sink.event(Event {
            stamp,
            begin: flow.first,
            flow: Some((flow.id, Direction::ToServer)),
            kind: Kind::Ended(protocol, Box::new(flow.clone())),
        });
    }
}

fn begin(
    protocol: Protocol,
    place: Where,
    direction: Direction,
    offset: u64,
    prefixes: &[Prefix; 2],
) -> Conversation {
    let prefix = &prefixes[direction.index()];
    let at = if prefix.bytes.is_empty() {
        offset
    } else {
        prefix.offset
    };
    match protocol {
        Protocol::LibvirtRpc => {
            Conversation::Libvirt(Box::new(libvirt::Connection::new(place == Where::Middle)))
        }
        Protocol::Amqp => {
            Conversation::Amqp(Box::new(amqp::Connection::new(place == Where::Middle)))
        }
        Protocol::Http => {
            Conversation::Http(Box::new(http::Connection::new(place == Where::Middle)))
        }
        Protocol::QemuMigration if place == Where::Resumed => {
            Conversation::Qemu(Box::new(qemu::Connection::resumed(direction)))
        }
        Protocol::QemuMigration => {
            let middle = (place == Where::Middle).then_some(at);
            Conversation::Qemu(Box::new(qemu::Connection::new(direction, middle)))
        }
        Protocol::Multifd => {
            let middle = (place == Where::Middle).then_some(at);
            Conversation::Multifd(Box::new(multifd::Connection::new(direction, middle)))
        }
        Protocol::Preempt => Conversation::Preempt(Box::new(preempt::Connection::new(direction))),
        Protocol::Nbd => Conversation::Nbd(Box::new(nbd::Connection::new())),
        Protocol::Tls => Conversation::Tls(Box::new(tls::Connection::new())),
        Protocol::Ssh => Conversation::Ssh(Box::new(ssh::Connection::new())),
    }
}

impl Conversation {
    /// Is it a protocol whose bytes are read?
    fn is_decoded(&self) -> bool {
        !matches!(
            self,
            Conversation::New | Conversation::Undecided(_) | Conversation::Unknown
        )
    }
}

impl Undecided {
    /// Looks at the next bytes of a direction. Those that do not decide are kept.
    fn look(
        &mut self,
        flow: &FlowInfo,
        direction: Direction,
        stamp: Stamp,
        offset: u64,
        bytes: &[u8],
        room: usize,
    ) -> Option<(Protocol, Where)> {
        let start = flow.from_start[direction.index()];
        let prefix = &mut self.prefixes[direction.index()];
        if prefix.refused {
            return None;
        }
        self.searched = self.searched.saturating_add(bytes.len() as u64);
        let had = prefix.bytes.len();
        let verdict = if had == 0 {
            verdict(bytes, start && offset == 0)
        } else {
            // Enough of the new bytes to decide; they are given on by the caller.
            prefix.bytes.extend_from_slice(bytes);
            let v = verdict(&prefix.bytes, start && prefix.offset == 0);
            prefix.bytes.truncate(had);
            v
        };
        match verdict {
            Verdict::Is(protocol, place) => return Some((protocol, place)),
            Verdict::No if start => prefix.refused = true,
            Verdict::No => prefix.bytes.clear(),
            // A candidate that goes on for too long is none.
            Verdict::NeedMore if had + bytes.len() > MAX_PREFIX.min(room) => prefix.bytes.clear(),
            Verdict::NeedMore => {
                if had == 0 {
                    prefix.offset = offset;
                    prefix.stamp = Some(stamp);
                }
                prefix.bytes.extend_from_slice(bytes);
            }
        }
        None
    }

    fn forget(&mut self, direction: Direction) {
        let prefix = &mut self.prefixes[direction.index()];
        prefix.bytes.clear();
        prefix.refused = false;
    }

    /// Both directions have spoken and said nothing that is known, or too much has gone by.
    fn hopeless(&self, flow: &FlowInfo) -> bool {
        // In every protocol known here one side speaks first, and says what it is.
        let refused = |n: usize| flow.from_start[n] && self.prefixes[n].refused;
        let silent = |n: usize| self.prefixes[n].stamp.is_none() && !self.prefixes[n].refused;
        (refused(0) && (refused(1) || silent(1)))
            || (refused(1) && silent(0))
            || self.searched > MAX_SEARCH
    }

    fn held(&self) -> usize {
        self.prefixes.iter().map(|p| p.bytes.len()).sum()
    }
}

/// Looks at the first bytes of a connection.
type ProbeFn = fn(&[u8]) -> Probe;

/// Protocols by their first bytes.
const PROBES: &[(Protocol, ProbeFn)] = &[
    (Protocol::QemuMigration, migration::probe),
    (Protocol::Multifd, migration::multifd::probe),
    (Protocol::Nbd, phasescope_parsers::nbd::probe),
    (Protocol::Tls, phasescope_parsers::tls::probe),
    (Protocol::Ssh, phasescope_parsers::ssh::probe),
    (Protocol::Preempt, migration::preempt),
];

fn verdict(bytes: &[u8], start: bool) -> Verdict {
    match rpc::probe(bytes) {
        rpc::Probe::Yes => {
            let place = if start { Where::Start } else { Where::Middle };
            return Verdict::Is(Protocol::LibvirtRpc, place);
        }
        rpc::Probe::NeedMore if start => return Verdict::NeedMore,
        _ => {}
    }
    // The first bytes of a connection tell; in its middle only what has anchors is found.
    if start {
        let mut more = match migration::resumes(bytes) {
            Probe::Yes => return Verdict::Is(Protocol::QemuMigration, Where::Resumed),
            Probe::NeedMore => true,
            Probe::No => false,
        };
        for (protocol, probe) in PROBES {
            match probe(bytes) {
                Probe::Yes => return Verdict::Is(*protocol, Where::Start),
                Probe::NeedMore => more = true,
                Probe::No => {}
            }
        }
        return match cloud::verdict(bytes, start) {
            Verdict::No if more => Verdict::NeedMore,
            told => told,
        };
    }
    if migration::probe(bytes) == Probe::Yes {
        return Verdict::Is(Protocol::QemuMigration, Where::Start);
    }
    if phasescope_parsers::tls::is_records(bytes) {
        return Verdict::Is(Protocol::Tls, Where::Middle);
    }
    match migration::multifd::search(bytes) {
        Probe::Yes => return Verdict::Is(Protocol::Multifd, Where::Middle),
        Probe::NeedMore => return Verdict::NeedMore,
        Probe::No => {}
    }
    match resync::search(bytes, migration::DEFAULT_PAGE_SIZE, |_| false) {
        resync::Found::Record(_) | resync::Found::Footer(_) => {
            Verdict::Is(Protocol::QemuMigration, Where::Middle)
        }
        resync::Found::NeedMore(_) => match cloud::verdict(bytes, start) {
            Verdict::No => Verdict::NeedMore,
            decided => decided,
        },
        resync::Found::Nothing(_) => cloud::verdict(bytes, start),
    }
}
