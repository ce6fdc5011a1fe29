//! TCP connections: found by their two ends, tracked from SYN to close, delivered in order.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::packet::{Body, Packet, Segment};
use super::tcp::{Half, HalfStats, Missing, Piece};
use super::{Endpoint, Stamp};
use crate::time::Timestamp;

/// Connections that are tracked at once; past it the least recently active one of a sample goes.
pub const MAX_FLOWS: usize = 65_536;

/// Connections looked at to find one that can go.
const EVICTION_SAMPLE: usize = 16;

/// Bytes of early segments over all connections; past it holes become gaps at once.
pub const MAX_EARLY_TOTAL: usize = 16 << 20;

/// Which way a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Client to server.
    ToServer,
    /// Server to client.
    ToClient,
}

impl Direction {
    /// The other way.
    pub fn reverse(self) -> Self {
        match self {
            Direction::ToServer => Direction::ToClient,
            Direction::ToClient => Direction::ToServer,
        }
    }

    /// 0 or 1, for arrays.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What happened on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// The client's SYN.
    Opened,
    /// The server's SYN with ACK.
    Accepted,
    /// Bytes at a stream offset, in order.
    Data(u64, &'a [u8]),
    /// So many bytes from this offset on are missing.
    Gap(u64, u64, Missing),
    /// The sender of this direction sends no more (first FIN).
    Fin,
    /// The connection was reset.
    Reset,
    /// Nothing more will come: the connection was closed, replaced or forgotten, or the capture
    /// ended. Every connection ends with exactly one of these.
    End,
}

/// One thing that happened on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Who sent it.
    pub direction: Direction,
    /// The frame that made it available.
    pub stamp: Stamp,
    /// What it is.
    pub what: What<'a>,
}

/// A connection as the network shows it.
#[derive(Debug, Clone)]
pub struct FlowInfo {
    /// Number of the connection, from 0 in order of appearance.
    pub id: u64,
    /// The side that opened it. Without a SYN: the one with the higher port.
    pub client: Endpoint,
    /// The other side.
    pub server: Endpoint,
    /// First and last frame.
    pub first: Stamp,
    /// See `first`.
    pub last: Stamp,
    /// Last frame of each direction.
    pub heard: [Option<Stamp>; 2],
    /// The client's first SYN.
    pub opened: Option<Stamp>,
    /// The server's first SYN with ACK.
    pub accepted: Option<Stamp>,
    /// First FIN of each direction.
    pub fin: [Option<Stamp>; 2],
    /// First RST, and who sent it.
    pub reset: Option<(Stamp, Direction)>,
    /// Frames, both ways.
    pub packets: u64,
    /// Bytes of the frames on the wire, both ways.
    pub wire_bytes: u64,
    /// Byte counters of each direction, as of the last chunk of it.
    pub halves: [HalfStats; 2],
    /// Was each direction seen from its first byte on?
    pub from_start: [bool; 2],
}

impl FlowInfo {
    /// The frame that closed the connection: the later of the two FINs, or the reset where the
    /// close was not complete before it.
    pub fn closed(&self) -> Option<Stamp> {
        match (self.fin, self.reset) {
            ([Some(a), Some(b)], _) => Some(a.max(b)),
            (_, reset) => reset.map(|(stamp, _)| stamp),
        }
    }

    /// Who was the first to close the connection (FIN or RST), and when.
    pub(crate) fn first_to_close(&self) -> Option<(Stamp, Direction)> {
        [Direction::ToServer, Direction::ToClient]
            .into_iter()
            .filter_map(|d| Some((self.fin[d.index()]?, d)))
            .chain(self.reset)
            .min_by_key(|(stamp, _)| *stamp)
    }

    /// The endpoint that sends in this direction.
    pub fn sender(&self, direction: Direction) -> Endpoint {
        match direction {
            Direction::ToServer => self.client,
            Direction::ToClient => self.server,
        }
    }
}

/// What the application layer wants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Go on.
    Bytes,
    /// Not understood: count its packets, but deliver no more data.
    Counters,
}

/// Where a segment's payload lies in its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the connection.
    pub flow: u64,
    /// Who sent it.
    pub direction: Direction,
    /// Stream offset of its first byte; negative before the first byte seen.
    pub offset: i64,
}

/// The application layer. `T` is its state of one connection.
pub trait Handler<T> {
    /// Something happened on a connection.
    fn chunk(&mut self, flow: &FlowInfo, state: &mut T, chunk: Chunk<'_>) -> Interest;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    ips: [IpAddr; 2],
    ports: [u16; 2],
}

/// A TCP packet's segment, its connection, and whether the key's first end sent it.
fn keyed<'p, 'd>(packet: &'p Packet<'d>) -> Option<(&'p Segment<'d>, Key, bool)> {
    let (Body::Tcp(segment), Some((source, destination))) = (&packet.body, packet.addresses) else {
        return None;
    };
    let a = (source, segment.source_port);
    let b = (destination, segment.destination_port);
    let first = a <= b;
    let (low, high) = if first { (a, b) } else { (b, a) };
    let key = Key {
        ips: [low.0, high.0],
        ports: [low.1, high.1],
    };
    Some((segment, key, first))
}

#[derive(Debug, Clone)]
struct Flow<T> {
    key: Key,
    info: FlowInfo,
    /// Is the key's first end the client?
    client_first: bool,
    halves: [Half; 2],
    interest: Interest,
    state: T,
}

/// The table of connections.
#[derive(Debug, Clone)]
pub struct Flows<T> {
    /// Indices into `flows`.
    index: HashMap<Key, u32, RandomState>,
    flows: Vec<Flow<T>>,
    /// The connection of the frame before: bulk traffic comes in runs.
    recent: usize,
    next_id: u64,
    hand: usize,
    held: usize,
    gone: HalfStats,
    evicted: u64,
    memory_full: u64,
}

impl<T: Default> Default for Flows<T> {
    fn default() -> Self {
        Self {
            index: HashMap::default(),
            flows: Vec::new(),
            recent: 0,
            next_id: 0,
            hand: 0,
            held: 0,
            gone: HalfStats::default(),
            evicted: 0,
            memory_full: 0,
        }
    }
}

impl<T: Default> Flows<T> {
    /// Takes a TCP segment's packet and says where its payload lies; anything else is left alone.
    pub fn packet<H: Handler<T>>(
        &mut self,
        packet: &Packet<'_>,
        wire_len: u32,
        stamp: Stamp,
        handler: &mut H,
    ) -> Option<Place> {
        let (segment, key, first) = keyed(packet)?;
        let i = match self.find(&key) {
            Some(i) if self.reopened(i, first, segment) => {
                self.remove(i, stamp, handler);
                self.add(key, first, segment, stamp, handler)
            }
            Some(i) => i,
            None => self.add(key, first, segment, stamp, handler),
        };
        self.recent = i;
        let room = MAX_EARLY_TOTAL.saturating_sub(self.held);
        let flow = &mut self.flows[i];
        let direction = flow.direction(first);
        let place = Place {
            flow: flow.info.id,
            direction,
            offset: match segment.syn {
                true => 0,
                false => flow.halves[direction.index()].place(segment.sequence),
            },
        };
        let before = flow.halves[0].held() + flow.halves[1].held();
        flow.segment(direction, segment, wire_len, stamp, handler);
        let mut after = flow.halves[0].held() + flow.halves[1].held();
        if after > before && after - before > room {
            self.memory_full += 1;
            flow.flush(direction, stamp, handler);
            after = flow.halves[0].held() + flow.halves[1].held();
        }
        self.held = self.held + after - before;
        Some(place)
    }

    /// Where the payload of a segment lies that is not to count, in a connection that is known.
    pub fn place(&self, packet: &Packet<'_>) -> Option<Place> {
        let (segment, key, first) = keyed(packet)?;
        let flow = self.flows.get(self.find(&key)?)?;
        let direction = flow.direction(first);
        let first_byte = segment.sequence.wrapping_add(u32::from(segment.syn));
        Some(Place {
            flow: flow.info.id,
            direction,
            offset: flow.halves[direction.index()].place(first_byte),
        })
    }

    /// The capture has ended: every connection gets its [`What::End`].
    pub fn finish<H: Handler<T>>(&mut self, handler: &mut H) {
        // In order of appearance, so that the same capture gives the same answers.
        let mut order: Vec<usize> = (0..self.flows.len()).collect();
        order.sort_unstable_by_key(|i| self.flows[*i].info.id);
        for i in order {
            let stamp = self.flows[i].info.last;
            self.flows[i].end(stamp, handler);
            self.gone = sum(self.gone, self.flows[i].stats());
        }
        self.flows.clear();
        self.index.clear();
        self.held = 0;
    }

    /// Counters over all connections.
    pub fn stats(&self) -> HalfStats {
        self.flows
            .iter()
            .fold(self.gone, |acc, f| sum(acc, f.stats()))
    }

    /// Connections seen so far.
    pub fn seen(&self) -> u64 {
        self.next_id
    }

    /// Connections forgotten because the table was full.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Holes given up because [`MAX_EARLY_TOTAL`] was reached.
    pub fn memory_full(&self) -> u64 {
        self.memory_full
    }

    fn find(&self, key: &Key) -> Option<usize> {
        if self.flows.get(self.recent).is_some_and(|f| f.key == *key) {
            return Some(self.recent);
        }
        self.index.get(key).map(|i| *i as usize)
    }

    /// A SYN on a known pair of ends begins a new connection unless it repeats the old one's.
    fn reopened(&self, i: usize, source_first: bool, segment: &Segment<'_>) -> bool {
        let flow = &self.flows[i];
        segment.syn && segment.acknowledgment.is_none() && {
            let old = &flow.halves[flow.direction(source_first).index()];
            !old.repeats_syn(segment.sequence)
        }
    }

    fn add<H: Handler<T>>(
        &mut self,
        key: Key,
        source_first: bool,
        segment: &Segment<'_>,
        stamp: Stamp,
        handler: &mut H,
    ) -> usize {
        if self.flows.len() >= MAX_FLOWS {
            self.evicted += 1;
            let victim = self.victim();
            self.remove(victim, stamp, handler);
        }
        let source_is_client = match (segment.syn, segment.acknowledgment.is_some()) {
            (true, false) => true,
            (true, true) => false,
            _ => segment.source_port >= segment.destination_port,
        };
        let client_first = source_first == source_is_client;
        let end = |n: usize| Endpoint {
            ip: key.ips[n],
            port: key.ports[n],
        };
        let info = FlowInfo {
            id: self.next_id,
            client: end(usize::from(!client_first)),
            server: end(usize::from(client_first)),
            first: stamp,
            last: stamp,
            heard: [None; 2],
            opened: None,
            accepted: None,
            fin: [None; 2],
            reset: None,
            packets: 0,
            wire_bytes: 0,
            halves: [HalfStats::default(); 2],
            from_start: [false; 2],
        };
        self.next_id += 1;
        let i = self.flows.len();
        self.flows.push(Flow {
            key,
            info,
            client_first,
            halves: Default::default(),
            interest: Interest::Bytes,
            state: T::default(),
        });
        self.index.insert(key, i as u32);
        i
    }

    /// The least recently active of the next few, closed ones first.
    fn victim(&mut self) -> usize {
        let n = self.flows.len();
        let best = (0..EVICTION_SAMPLE)
            .map(|k| (self.hand + k) % n)
            .min_by_key(|i| {
                let info = &self.flows[*i].info;
                (info.closed().is_none(), info.last)
            })
            .unwrap_or(0);
        self.hand = (self.hand + EVICTION_SAMPLE) % n;
        best
    }

    fn remove<H: Handler<T>>(&mut self, i: usize, stamp: Stamp, handler: &mut H) {
        self.index.remove(&self.flows[i].key);
        let mut flow = self.flows.swap_remove(i);
        self.held -= flow.halves[0].held() + flow.halves[1].held();
        flow.end(stamp, handler);
        self.gone = sum(self.gone, flow.stats());
        // The last flow moved into the hole.
        if let Some(moved) = self.flows.get(i) {
            self.index.insert(moved.key, i as u32);
        }
    }

    /// Connections that have been idle since before `moment` and closed are ended.
    pub fn expire<H: Handler<T>>(&mut self, moment: Timestamp, handler: &mut H) {
        let mut i = 0;
        while i < self.flows.len() {
            let info = &self.flows[i].info;
            if info.closed().is_some() && info.last.time < moment {
                let stamp = info.last;
                self.remove(i, stamp, handler);
            } else {
                i += 1;
            }
        }
    }
}

fn sum(a: HalfStats, b: HalfStats) -> HalfStats {
    HalfStats {
        payload_bytes: a.payload_bytes + b.payload_bytes,
        missing_bytes: a.missing_bytes + b.missing_bytes,
        cut_bytes: a.cut_bytes + b.cut_bytes,
        retransmitted_bytes: a.retransmitted_bytes + b.retransmitted_bytes,
        reordered_packets: a.reordered_packets + b.reordered_packets,
        buffer_overflows: a.buffer_overflows + b.buffer_overflows,
    }
}

impl<T> Flow<T> {
    fn stats(&self) -> HalfStats {
        sum(self.halves[0].stats(), self.halves[1].stats())
    }

    /// The way of a segment whose source is the key's first end, or its second. Ports alone do
    /// not tell: both may be the same.
    fn direction(&self, source_first: bool) -> Direction {
        if source_first == self.client_first {
            Direction::ToServer
        } else {
            Direction::ToClient
        }
    }

    fn segment<H: Handler<T>>(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        wire_len: u32,
        stamp: Stamp,
        handler: &mut H,
    ) {
        self.info.packets += 1;
        self.info.wire_bytes += u64::from(wire_len);
        self.info.last = self.info.last.max(stamp);
        let d = direction.index();
        self.info.heard[d] = self.info.heard[d].max(Some(stamp));
        if segment.syn {
            self.halves[d].syn(segment.sequence);
            self.info.from_start[d] = self.halves[d].from_start();
            let (slot, what) = match segment.acknowledgment {
                None => (&mut self.info.opened, What::Opened),
                Some(_) => (&mut self.info.accepted, What::Accepted),
            };
            if slot.is_none() {
                *slot = Some(stamp);
                self.tell(direction, stamp, what, handler);
            }
        }
        if let Some(ack) = segment.acknowledgment {
            let other = direction.reverse();
            if segment.syn {
                // The acknowledgement of a SYN tells where the other direction begins.
                self.halves[other.index()].syn(ack.wrapping_sub(1));
                self.info.from_start[other.index()] = self.halves[other.index()].from_start();
            }
            self.with_half(other, handler, |half, out| half.acknowledge(ack, out));
        }
        if segment.wire_len > 0 {
            self.with_half(direction, handler, |half, out| {
                half.segment(
                    segment.sequence.wrapping_add(u32::from(segment.syn)),
                    segment.payload,
                    segment.wire_len,
                    stamp,
                    out,
                );
            });
        }
        if segment.fin && self.info.fin[d].is_none() {
            self.info.fin[d] = Some(stamp);
            let behind = u32::from(segment.syn).wrapping_add(segment.wire_len);
            self.halves[d].fin(segment.sequence.wrapping_add(behind));
            self.tell(direction, stamp, What::Fin, handler);
        }
        if segment.rst && self.info.reset.is_none() {
            self.info.reset = Some((stamp, direction));
            self.tell(direction, stamp, What::Reset, handler);
        }
    }

    /// Runs `f` on one direction and hands on the pieces that come out.
    fn with_half<H: Handler<T>>(
        &mut self,
        direction: Direction,
        handler: &mut H,
        f: impl FnOnce(&mut Half, &mut dyn FnMut(Stamp, Piece<'_>)),
    ) {
        let d = direction.index();
        let (info, state, interest) = (&mut self.info, &mut self.state, &mut self.interest);
        let half = &mut self.halves[d];
        f(half, &mut |stamp, piece| {
            if *interest == Interest::Bytes {
                let what = match piece {
                    Piece::Data(at, bytes) => What::Data(at, bytes),
                    Piece::Gap(at, n, missing) => What::Gap(at, n, missing),
                };
                let chunk = Chunk {
                    direction,
                    stamp,
                    what,
                };
                *interest = handler.chunk(info, state, chunk);
            }
        });
        half.count_only(*interest == Interest::Counters);
        info.halves[d] = half.stats();
    }

    fn tell<H: Handler<T>>(
        &mut self,
        direction: Direction,
        stamp: Stamp,
        what: What<'_>,
        handler: &mut H,
    ) {
        let chunk = Chunk {
            direction,
            stamp,
            what,
        };
        let interest = handler.chunk(&self.info, &mut self.state, chunk);
        if self.interest == Interest::Bytes {
            self.interest = interest;
        }
    }

    fn flush<H: Handler<T>>(&mut self, direction: Direction, stamp: Stamp, handler: &mut H) {
        self.with_half(direction, handler, |half, out| half.finish(stamp, out));
    }

    fn end<H: Handler<T>>(&mut self, stamp: Stamp, handler: &mut H) {
        // The other side has closed and nothing was reset: this side's FIN was sent too.
        for (d, other) in [(0, 1), (1, 0)] {
            let fins = (self.info.fin[d], self.info.fin[other], self.info.reset);
            if let (None, Some(_), None) = fins {
                self.halves[d].fin_not_seen();
            }
        }
        self.flush(Direction::ToServer, stamp, handler);
        self.flush(Direction::ToClient, stamp, handler);
        self.tell(Direction::ToServer, stamp, What::End, handler);
    }
}
