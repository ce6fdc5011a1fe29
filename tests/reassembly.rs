//! TCP streams cut up, doubled, reordered and thinned out, and put together again.

use std::collections::HashMap;

use etherparse::PacketBuilder;
use phasescope::capture::{Frame, LinkType};
use phasescope::net::flow::{Interest, MAX_FLOWS};
use phasescope::net::tcp::{Half, HalfStats, MAX_EARLY_BYTES, MAX_EARLY_SEGMENTS, Missing, Piece};
use phasescope::net::{Chunk, Direction, FlowInfo, Flows, Handler, Packet, Place, Stamp, What};
use phasescope::time::Timestamp;
use proptest::prelude::*;

fn stamp(n: u64) -> Stamp {
    Stamp {
        time: Timestamp::from_nanos(n as i64 * 1000),
        frame: n,
    }
}

/// The byte at each offset tells the offset.
fn byte(at: u64) -> u8 {
    (at ^ (at >> 8).wrapping_mul(31)) as u8
}

fn stream(n: u64) -> Vec<u8> {
    (0..n).map(byte).collect()
}

/// What came out of one direction; every piece is checked as it comes.
#[derive(Debug, Default, Clone)]
struct Out {
    end: u64,
    data: u64,
    lost: u64,
    cut: u64,
    latest: Stamp,
    pieces: usize,
}

impl Out {
    /// `base`: what the original calls the direction's offset 0.
    fn take(&mut self, stamp: Stamp, piece: Piece<'_>, base: u64) {
        assert!(stamp >= self.latest, "no piece is there before those ahead");
        self.latest = stamp;
        self.pieces += 1;
        let (at, n) = match piece {
            Piece::Data(at, bytes) => {
                for (i, b) in (at..).zip(bytes) {
                    assert_eq!(*b, byte(base + i), "at {i}");
                }
                self.data += bytes.len() as u64;
                (at, bytes.len() as u64)
            }
            Piece::Gap(at, n, Missing::Lost) => {
                self.lost += n;
                (at, n)
            }
            Piece::Gap(at, n, Missing::Cut) => {
                self.cut += n;
                (at, n)
            }
        };
        assert!(n > 0);
        assert_eq!(at, self.end, "pieces follow each other");
        self.end += n;
    }
}

/// A segment: stream offset, length on the wire, bytes captured.
type Seg = (u64, u32, u32);

/// Feeds segments to a direction and checks the sums at the end.
fn feed(initial: u32, syn: bool, length: u64, segments: &[Seg]) -> (Out, HalfStats) {
    let original = stream(length);
    let (mut half, mut out) = (Half::default(), Out::default());
    let base = if syn {
        half.syn(initial.wrapping_sub(1));
        0
    } else {
        segments.first().map_or(0, |s| s.0)
    };
    assert_eq!(half.from_start(), syn);
    let mut fed = 0;
    for (n, (at, wire, captured)) in segments.iter().enumerate() {
        let bytes = &original[*at as usize..(at + u64::from(*captured)) as usize];
        let sequence = initial.wrapping_add(*at as u32);
        half.segment(sequence, bytes, *wire, stamp(n as u64 + 1), &mut |s, p| {
            out.take(s, p, base);
        });
        fed += u64::from(*wire);
        assert!(half.held() <= MAX_EARLY_BYTES);
        assert_eq!(half.offset(), out.end);
    }
    let last = stamp(segments.len() as u64 + 1);
    half.finish(last, &mut |s, p| out.take(s, p, base));
    assert_eq!(half.held(), 0);
    let stats = half.stats();
    assert_eq!((stats.payload_bytes, out.end), (out.end, half.offset()));
    assert_eq!((stats.missing_bytes, stats.cut_bytes), (out.lost, out.cut));
    // Every byte of the wire was delivered, cut off, or there before.
    let new = stats.payload_bytes - stats.missing_bytes;
    assert_eq!(new + stats.retransmitted_bytes, fed);
    (out, stats)
}

#[derive(Debug, Clone)]
struct Cutting {
    initial: u32,
    length: u64,
    sizes: Vec<u32>,
    /// Segments to send again: which, where from, how much longer.
    again: Vec<(prop::sample::Index, u32, u32)>,
    /// Keys by which segments are displaced, at most `window` places.
    order: Vec<u32>,
    window: usize,
    drops: Vec<prop::sample::Index>,
    snap: u32,
}

fn cutting() -> impl Strategy<Value = Cutting> {
    let initial = prop_oneof![any::<u32>(), 0u32..3, u32::MAX - 30_000..=u32::MAX];
    let again = (any::<prop::sample::Index>(), 0u32..3000, 1u32..3000);
    (
        initial,
        1u64..40_000,
        prop::collection::vec(prop_oneof![1u32..20, 1u32..1500, 1u32..9000], 1..30),
        prop::collection::vec(again, 0..20),
        prop::collection::vec(any::<u32>(), 1..50),
        0usize..40,
        prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        prop_oneof![Just(u32::MAX), 1u32..2000],
    )
        .prop_map(
            |(initial, length, sizes, again, order, window, drops, snap)| Cutting {
                initial,
                length,
                sizes,
                again,
                order,
                window,
                drops,
                snap,
            },
        )
}

impl Cutting {
    /// The segments as they arrive; the first stays the first.
    fn segments(&self, drop: bool) -> Vec<Seg> {
        let mut all = Vec::new();
        let mut at = 0;
        for n in self.sizes.iter().cycle() {
            let n = u64::from(*n).min(self.length - at) as u32;
            all.push((at, n, n));
            at += u64::from(n);
            if at == self.length {
                break;
            }
        }
        // Sent again, with other borders.
        for (which, back, n) in &self.again {
            let i = which.index(all.len());
            let from = all[i].0.saturating_sub(u64::from(*back));
            let n = u64::from(*n).min(self.length - from) as u32;
            all.insert(i + 1, (from, n, n));
        }
        let mut keyed: Vec<_> = all
            .into_iter()
            .enumerate()
            .map(|(i, s)| {
                let away = self.order[i % self.order.len()] as usize % (self.window + 1);
                (if i == 0 { 0 } else { i + away }, s)
            })
            .collect();
        keyed.sort_by_key(|(place, _)| *place);
        let mut all: Vec<Seg> = keyed.into_iter().map(|(_, s)| s).collect();
        if drop {
            for which in &self.drops {
                let i = which.index(all.len());
                if i > 0 {
                    all.remove(i);
                }
            }
        }
        all
    }

    /// Bytes that at least one segment holds.
    fn covered(&self, segments: &[Seg]) -> u64 {
        let mut seen = vec![false; self.length as usize];
        for (at, n, _) in segments {
            seen[*at as usize..(*at + u64::from(*n)) as usize].fill(true);
        }
        seen.iter().filter(|s| **s).count() as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_that_was_seen(c in cutting(), syn: bool) {
        let (out, stats) = feed(c.initial, syn, c.length, &c.segments(false));
        prop_assert_eq!((out.data, out.end), (c.length, c.length));
        prop_assert_eq!((out.lost, out.cut), (0, 0));
        prop_assert_eq!(stats.buffer_overflows, 0);
    }

    #[test]
    fn what_was_not_seen_is_a_gap(c in cutting(), syn: bool) {
        let segments = c.segments(true);
        let (out, _) = feed(c.initial, syn, c.length, &segments);
        // All bytes seen come out, those not seen are gaps; behind the last one is nothing.
        prop_assert_eq!(out.data, c.covered(&segments));
        let last = segments.iter().map(|(at, n, _)| at + u64::from(*n)).max();
        prop_assert_eq!(Some(out.end), last);
    }

    #[test]
    fn snap_lengths(c in cutting()) {
        let segments: Vec<Seg> = c
            .segments(false)
            .into_iter()
            .map(|(at, n, _)| (at, n, n.min(c.snap)))
            .collect();
        let (out, _) = feed(c.initial, true, c.length, &segments);
        prop_assert_eq!(out.data + out.cut, c.length);
        prop_assert_eq!(out.lost, 0);
    }

    #[test]
    fn counting_only_counts_the_same(c in cutting()) {
        let segments = c.segments(true);
        let (_, want) = feed(c.initial, true, c.length, &segments);
        let mut half = Half::default();
        half.syn(c.initial.wrapping_sub(1));
        half.count_only(true);
        let bytes = stream(c.length);
        for (at, n, _) in &segments {
            let bytes = &bytes[*at as usize..(*at + u64::from(*n)) as usize];
            let sequence = c.initial.wrapping_add(*at as u32);
            half.segment(sequence, bytes, *n, stamp(1), &mut |_, _| {});
            prop_assert_eq!(half.held(), 0);
        }
        half.finish(stamp(2), &mut |_, _| {});
        prop_assert_eq!(half.stats(), want);
    }
}

#[test]
fn an_acknowledged_hole_is_given_up() {
    let bytes = stream(4000);
    let (mut half, mut out) = (Half::default(), Out::default());
    half.syn(u32::MAX);
    let mut sink = |s: Stamp, p: Piece<'_>| out.take(s, p, 0);
    half.segment(0, &bytes[..1000], 1000, stamp(1), &mut sink);
    half.segment(2000, &bytes[2000..3000], 1000, stamp(2), &mut sink);
    // The receiver has not got it either: it may come.
    for _ in 0..100 {
        half.acknowledge(1000, &mut sink);
    }
    assert_eq!((half.offset(), half.held()), (1000, 1000));
    // It has: the capture has missed it, but data may be shown after its acknowledgement.
    half.acknowledge(3000, &mut sink);
    assert_eq!(half.offset(), 1000);
    for _ in 0..100 {
        half.acknowledge(3000, &mut sink);
    }
    assert_eq!((half.offset(), half.held()), (3000, 0));
    half.segment(1000, &bytes[1000..2000], 1000, stamp(3), &mut sink);
    half.finish(stamp(4), &mut sink);
    let s = half.stats();
    assert_eq!((s.payload_bytes, s.missing_bytes), (3000, 1000));
    assert_eq!(s.retransmitted_bytes, 1000);
    assert_eq!((out.data, out.lost), (2000, 1000));
}

#[test]
fn a_hole_is_given_up_no_earlier_than_what_lies_before_it() {
    let bytes = stream(2000);
    let (mut half, mut out) = (Half::default(), Out::default());
    half.syn(u32::MAX);
    let mut sink = |s: Stamp, p: Piece<'_>| out.take(s, p, 0);
    half.segment(1000, &bytes[1000..], 1000, stamp(1), &mut sink);
    half.segment(0, &bytes[..900], 900, stamp(2), &mut sink);
    for _ in 0..100 {
        half.acknowledge(2000, &mut sink);
    }
    assert_eq!((out.data, out.lost, out.latest), (1900, 100, stamp(2)));
}

#[test]
fn what_was_acknowledged_and_never_seen_is_missing() {
    for (acknowledged, missing) in [(10, 0), (11, 0), (12, 2), (5000, 4990)] {
        let (mut half, mut out) = (Half::default(), Out::default());
        half.syn(99);
        let mut sink = |s: Stamp, p: Piece<'_>| out.take(s, p, 0);
        half.segment(100, &stream(10), 10, stamp(1), &mut sink);
        half.acknowledge(100 + acknowledged, &mut sink);
        half.finish(stamp(2), &mut sink);
        // One number may be the FIN's.
        assert_eq!((out.data, out.lost), (10, missing));
    }
}

#[test]
fn a_fin_is_no_byte() {
    // Its place is known: what is missing before it is exact, even a single byte.
    for unseen in [0u32, 1, 2, 5000] {
        let (mut half, mut out) = (Half::default(), Out::default());
        half.syn(99);
        let mut sink = |s: Stamp, p: Piece<'_>| out.take(s, p, 0);
        half.segment(100, &stream(10), 10, stamp(1), &mut sink);
        half.fin(110 + unseen);
        half.acknowledge(111 + unseen, &mut sink);
        half.finish(stamp(2), &mut sink);
        assert_eq!((out.data, out.lost), (10, unseen.into()));
    }
}

#[test]
fn a_fin_that_was_lost_is_no_byte() {
    for unseen in [0u32, 1, 2, 5000] {
        let mut net = Net::new();
        net.send(true, 99, SYN, b"");
        net.send(false, 4999, syn_ack(100), b"");
        net.send(true, 100, ack(5000), &stream(10));
        // The rest and the FIN are not in the capture; the other side acknowledges all and closes.
        let fin = Bits {
            fin: true,
            ..ack(111 + unseen)
        };
        net.send(false, 5000, fin, b"");
        net.finish();
        let (out, stats) = (net.out(0, UP), net.flows.stats());
        assert_eq!((out.data, out.lost), (10, unseen.into()));
        assert_eq!(stats.missing_bytes, u64::from(unseen));
    }
}

#[test]
fn equal_ports_on_both_sides() {
    let mut net = Net::new();
    let port = 49_152;
    let (low, high) = (([10, 0, 0, 1], port), ([10, 0, 0, 2], port));
    for (client, server) in [(low, high), (high, low)] {
        net.watch = Watch::default();
        net.watch.plain = true;
        net.flows = Flows::default();
        let mut frame = |from, to, sequence, bits, data: &[u8]| {
            let b = bytes_of(from, to, sequence, bits, data);
            net.frame(&b, b.len()).expect("a place")
        };
        frame(client, server, 99, SYN, b"");
        frame(server, client, 499, syn_ack(100), b"");
        // The SYN again is the same connection, of either side.
        frame(client, server, 99, SYN, b"");
        let up = frame(client, server, 100, ack(500), &stream(30));
        let down = frame(server, client, 500, ack(130), &stream(7));
        assert_eq!((up.flow, up.direction), (0, UP));
        assert_eq!((down.flow, down.direction), (0, DOWN));
        // The server's side opens another.
        let other = frame(server, client, 70_000, SYN, b"");
        assert_eq!((other.flow, other.direction), (1, UP));
        net.finish();
        assert_eq!((net.out(0, UP).data, net.out(0, DOWN).data), (30, 7));
        assert_eq!(net.flows.seen(), 2);
    }
}

#[test]
fn a_hole_that_never_closes_fills_the_buffer_once() {
    for (size, count) in [(1460u32, 10_000u64), (1, 20_000)] {
        let (mut half, mut out) = (Half::default(), Out::default());
        half.syn(u32::MAX);
        let bytes = stream(size.into());
        // One byte in front of each is missing.
        let step = u64::from(size) + 1;
        for n in 0..count {
            let at = n * step + 1;
            let from = |s: Stamp, p: Piece<'_>| {
                let (at, n) = match p {
                    Piece::Data(at, b) => (at, b.len() as u64),
                    Piece::Gap(at, n, _) => (at, n),
                };
                assert_eq!(at, out.end);
                assert!(s >= out.latest);
                (out.end, out.pieces, out.latest) = (at + n, out.pieces + 1, s);
            };
            half.segment(at as u32, &bytes, size, stamp(n), &mut { from });
            assert!(half.held() <= MAX_EARLY_BYTES);
            assert!(half.held() <= MAX_EARLY_SEGMENTS * size as usize);
        }
        half.finish(stamp(count), &mut |_, _| {});
        let s = half.stats();
        assert!(s.buffer_overflows > 0);
        assert_eq!((s.payload_bytes, s.missing_bytes), (count * step, count));
    }
}

/// Everything that happens on connections.
#[derive(Debug, Default)]
struct Watch {
    outs: HashMap<(u64, usize), Out>,
    /// Flow, direction, what, for all but data and gaps.
    events: Vec<(u64, Direction, &'static str)>,
    infos: HashMap<u64, FlowInfo>,
    /// Check bytes against [`byte`].
    plain: bool,
    /// No more bytes after so many chunks.
    enough: Option<usize>,
    chunks: usize,
    ended: Vec<u64>,
}

impl Handler<u64> for Watch {
    fn chunk(&mut self, flow: &FlowInfo, state: &mut u64, chunk: Chunk<'_>) -> Interest {
        *state += 1;
        self.chunks += 1;
        assert!(!self.ended.ends_with(&[flow.id]), "nothing after the end");
        self.infos.insert(flow.id, flow.clone());
        let out = self.outs.entry((flow.id, chunk.direction.index()));
        let name = match chunk.what {
            What::Data(at, b) if self.plain => {
                out.or_default().take(chunk.stamp, Piece::Data(at, b), 0);
                return self.interest();
            }
            What::Gap(at, n, m) if self.plain => {
                out.or_default().take(chunk.stamp, Piece::Gap(at, n, m), 0);
                return self.interest();
            }
            What::Data(..) => "data",
            What::Gap(..) => "gap",
            What::Opened => "opened",
            What::Accepted => "accepted",
            What::Fin => "fin",
            What::Reset => "reset",
            What::End => {
                self.ended.push(flow.id);
                "end"
            }
        };
        self.events.push((flow.id, chunk.direction, name));
        self.interest()
    }
}

impl Watch {
    fn interest(&self) -> Interest {
        if self.enough.is_some_and(|n| self.chunks >= n) {
            Interest::Counters
        } else {
            Interest::Bytes
        }
    }

    fn names(&self, flow: u64) -> Vec<&'static str> {
        let of = |(f, _, name): &(u64, Direction, &'static str)| (*f == flow).then_some(*name);
        self.events.iter().filter_map(of).collect()
    }
}

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];

/// Which bits a segment has.
#[derive(Debug, Clone, Copy, Default)]
struct Bits {
    syn: bool,
    fin: bool,
    rst: bool,
    ack: Option<u32>,
}

const SYN: Bits = Bits {
    syn: true,
    fin: false,
    rst: false,
    ack: None,
};

fn ack(n: u32) -> Bits {
    Bits {
        ack: Some(n),
        ..Bits::default()
    }
}

fn syn_ack(n: u32) -> Bits {
    Bits {
        ack: Some(n),
        ..SYN
    }
}

fn bytes_of(
    from: ([u8; 4], u16),
    to: ([u8; 4], u16),
    seq: u32,
    bits: Bits,
    data: &[u8],
) -> Vec<u8> {
    let mut t = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(from.0, to.0, 64)
        .tcp(from.1, to.1, seq, 1000);
    if bits.syn {
        t = t.syn();
    }
    if bits.fin {
        t = t.fin();
    }
    if bits.rst {
        t = t.rst();
    }
    if let Some(n) = bits.ack {
        t = t.ack(n);
    }
    let mut b = Vec::new();
    t.write(&mut b, data).unwrap();
    b
}

/// A table, its handler, and the number of the next frame.
#[derive(Default)]
struct Net {
    flows: Flows<u64>,
    watch: Watch,
    frames: u64,
    port: u16,
}

impl Net {
    fn new() -> Self {
        let mut net = Self {
            port: 49152,
            ..Self::default()
        };
        net.watch.plain = true;
        net
    }

    fn frame(&mut self, bytes: &[u8], captured: usize) -> Option<Place> {
        self.frames += 1;
        let frame = Frame {
            number: self.frames,
            time: stamp(self.frames).time,
            interface: 0,
            link: LinkType::Ethernet,
            wire_len: bytes.len() as u32,
            data: &bytes[..captured.min(bytes.len())],
        };
        let packet = Packet::read(&frame).unwrap();
        let stamp = stamp(self.frames);
        self.flows
            .packet(&packet, frame.wire_len, stamp, &mut self.watch)
    }

    /// From the client (true) or from the server.
    fn send(&mut self, client: bool, seq: u32, bits: Bits, data: &[u8]) -> Place {
        let (c, s) = ((CLIENT, self.port), (SERVER, 16509));
        let (from, to) = if client { (c, s) } else { (s, c) };
        let b = bytes_of(from, to, seq, bits, data);
        self.frame(&b, b.len()).unwrap()
    }

    fn finish(&mut self) {
        self.flows.finish(&mut self.watch);
    }

    fn out(&self, flow: u64, direction: Direction) -> Out {
        let out = self.watch.outs.get(&(flow, direction.index()));
        out.cloned().unwrap_or_default()
    }
}

const UP: Direction = Direction::ToServer;
const DOWN: Direction = Direction::ToClient;

#[test]
fn a_connection_from_syn_to_close() {
    let mut net = Net::new();
    let data = stream(300);
    net.send(true, 99, SYN, b"");
    net.send(false, 4999, syn_ack(100), b"");
    net.send(true, 100, ack(5000), b"");
    let place = net.send(true, 100, ack(5000), &data[..200]);
    assert_eq!((place.flow, place.direction, place.offset), (0, UP, 0));
    let place = net.send(false, 5000, ack(300), &data[..50]);
    assert_eq!((place.direction, place.offset), (DOWN, 0));
    let fin = |a| Bits {
        fin: true,
        ..ack(a)
    };
    let place = net.send(true, 300, fin(5050), &data[200..]);
    assert_eq!(place.offset, 200);
    net.send(false, 5050, fin(401), b"");
    net.send(true, 401, ack(5051), b"");
    net.finish();
    let want = ["opened", "accepted", "fin", "fin", "end"];
    assert_eq!(net.watch.names(0), want);
    let info = &net.watch.infos[&0];
    assert_eq!((info.client.port, info.server.port), (49152, 16509));
    assert_eq!(info.client.to_string(), "10.0.0.1:49152");
    assert_eq!(info.opened, Some(stamp(1)));
    assert_eq!(info.accepted, Some(stamp(2)));
    assert_eq!(info.fin, [Some(stamp(6)), Some(stamp(7))]);
    assert_eq!(info.closed(), Some(stamp(7)));
    assert_eq!((info.first, info.last), (stamp(1), stamp(8)));
    assert_eq!((info.packets, info.wire_bytes), (8, 8 * 54 + 350));
    assert_eq!(info.from_start, [true, true]);
    let payload = info.halves.map(|h| h.payload_bytes);
    assert_eq!(payload, [300, 50]);
    assert_eq!((net.out(0, UP).data, net.out(0, DOWN).data), (300, 50));
    assert_eq!((net.out(0, UP).lost, net.out(0, DOWN).lost), (0, 0));
    assert_eq!((net.flows.seen(), net.flows.evicted()), (1, 0));
    assert_eq!(net.flows.stats().payload_bytes, 350);
}

#[test]
fn a_syn_on_a_known_pair_of_ports() {
    let mut net = Net::new();
    net.send(true, 99, SYN, b"");
    // The same again is the same connection.
    net.send(true, 99, SYN, b"");
    net.send(true, 100, ack(1), &stream(10));
    net.send(true, 99, SYN, b"");
    assert_eq!(net.flows.seen(), 1);
    // Another number: another connection, though the old one was never closed.
    let place = net.send(true, 7099, SYN, b"");
    assert_eq!((place.flow, place.offset), (1, 0));
    assert_eq!(net.watch.names(0), ["opened", "end"]);
    net.send(false, 4999, syn_ack(7100), b"");
    net.send(true, 7100, ack(5000), &stream(20));
    // Now the other side opens one.
    let place = net.send(false, 500, SYN, b"");
    assert_eq!(place.flow, 2);
    net.finish();
    assert_eq!((net.out(0, UP).data, net.out(1, UP).data), (10, 20));
    assert_eq!(net.watch.infos[&2].client.port, 16509);
    assert_eq!(net.watch.ended, [0, 1, 2]);
    assert_eq!(net.flows.stats().payload_bytes, 30);
}

#[test]
fn data_in_the_syn() {
    let mut net = Net::new();
    let data = stream(30);
    let place = net.send(true, u32::MAX, SYN, &data[..10]);
    assert_eq!(place.offset, 0);
    net.send(true, 10, ack(1), &data[10..]);
    net.finish();
    assert_eq!((net.out(0, UP).data, net.out(0, UP).lost), (30, 0));
}

#[test]
fn without_the_syn() {
    // The server's SYN tells where the client's stream begins.
    let mut net = Net::new();
    net.send(false, 4999, syn_ack(100), b"");
    net.send(true, 110, ack(5000), &stream(20)[10..]);
    net.send(true, 100, ack(5000), &stream(10));
    net.finish();
    let info = &net.watch.infos[&0];
    assert_eq!((info.client.port, info.opened), (49152, None));
    assert_eq!(info.from_start, [true, true]);
    assert_eq!(net.out(0, UP).data, 20);
    // In the middle: the higher port is the client's, the first byte seen is offset 0.
    let mut net = Net::new();
    net.send(false, 70_000, ack(1), &stream(50));
    net.send(true, 40_000, ack(70_050), &stream(10));
    let place = net.send(true, 39_990, ack(70_050), &[0; 10]);
    assert_eq!(place.offset, -10);
    net.finish();
    let info = &net.watch.infos[&0];
    assert_eq!((info.client.port, info.from_start), (49152, [false, false]));
    assert_eq!((net.out(0, DOWN).data, net.out(0, UP).data), (50, 10));
    assert_eq!(info.halves[0].retransmitted_bytes, 10);
    assert_eq!(net.watch.names(0), ["end"]);
}

#[test]
fn a_reset() {
    let mut net = Net::new();
    net.send(true, 99, SYN, b"");
    let rst = Bits {
        rst: true,
        ..ack(100)
    };
    net.send(false, 0, rst, b"");
    net.send(false, 0, rst, b"");
    net.finish();
    assert_eq!(net.watch.names(0), ["opened", "reset", "end"]);
    assert_eq!(net.watch.infos[&0].closed(), Some(stamp(2)));
}

#[test]
fn closed_connections_are_forgotten_in_time() {
    let mut net = Net::new();
    for port in 1..=20 {
        net.port = port;
        net.send(true, 99, SYN, b"");
        if port % 2 == 0 {
            let rst = Bits {
                rst: true,
                ..Bits::default()
            };
            net.send(true, 100, rst, b"");
        }
    }
    net.flows.expire(stamp(16).time, &mut net.watch);
    // Those of ports 2 to 10 were reset before.
    let mut ended = net.watch.ended.clone();
    ended.sort_unstable();
    assert_eq!(ended, [1, 3, 5, 7, 9]);
    net.port = 11;
    assert_eq!(net.send(true, 100, ack(1), &stream(5)).flow, 10);
    net.finish();
    assert_eq!(net.watch.ended.len(), 20);
}

#[test]
fn nobody_wants_the_bytes() {
    let mut net = Net::new();
    net.watch.enough = Some(2);
    let data = stream(60_000);
    net.send(true, 99, SYN, b"");
    net.send(true, 100, ack(1), &data[..1000]);
    // With a hole, which would be held open.
    for n in 2..60u32 {
        let at = n as usize * 1000;
        net.send(true, 100 + n * 1000, ack(1), &data[at..at + 1000]);
    }
    net.finish();
    assert_eq!(net.out(0, UP).data, 1000);
    assert_eq!(net.watch.names(0), ["opened", "end"]);
    let stats = net.flows.stats();
    assert_eq!((stats.payload_bytes, stats.missing_bytes), (60_000, 1000));
}

#[test]
fn other_packets_are_left_alone() {
    let mut net = Net::new();
    let mut b = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(CLIENT, SERVER, 64)
        .udp(49152, 16509)
        .write(&mut b, b"x")
        .unwrap();
    assert_eq!(net.frame(&b, 100), None);
    assert_eq!(net.flows.seen(), 0);
}

#[test]
fn more_half_open_connections_than_the_table_holds() {
    let extra = 4_464;
    let mut net = Net::new();
    // One that lives: it is in use all the time.
    net.port = 9;
    net.send(true, 99, SYN, b"");
    let data = stream(70_000);
    for n in 0..(MAX_FLOWS + extra) as u32 {
        let ip = [172, 16, (n >> 15) as u8, 1];
        let from = (ip, 1024 + (n & 0x7fff) as u16);
        let b = bytes_of(from, (SERVER, 16509), n, SYN, b"");
        net.frame(&b, b.len());
        if n % 64 == 0 {
            let at = (n / 64) as usize;
            let place = net.send(true, 100 + at as u32, ack(1), &data[at..=at]);
            assert_eq!((place.flow, place.offset), (0, at as i64));
        }
    }
    assert_eq!(net.flows.seen(), (MAX_FLOWS + extra + 1) as u64);
    assert_eq!(net.flows.evicted(), extra as u64 + 1);
    assert_eq!(net.watch.ended.len(), extra + 1);
    net.finish();
    // Every connection ends, once.
    let mut ended = net.watch.ended.clone();
    ended.sort_unstable();
    let all: Vec<u64> = (0..net.flows.seen()).collect();
    assert_eq!(ended, all);
    assert_eq!(net.out(0, UP).data, (MAX_FLOWS + extra).div_ceil(64) as u64);
}

#[test]
fn holes_of_many_connections_share_a_bound() {
    // Forty directions, each with a hole and a mebibyte behind it.
    let mut net = Net::new();
    let piece = vec![0; 32 << 10];
    net.watch.plain = false;
    for port in 1..=40u16 {
        net.port = port;
        net.send(true, 99, SYN, b"");
        for n in 0..32u32 {
            net.send(true, 200 + n * (32 << 10), ack(1), &piece);
        }
    }
    assert!(net.flows.memory_full() > 0);
    net.finish();
    let s = net.flows.stats();
    assert_eq!(
        (s.payload_bytes, s.missing_bytes),
        (40 * ((1 << 20) + 100), 4000)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn frames_of_both_directions(
        up in cutting(),
        down in cutting(),
        handshake: bool,
        thinned: bool,
        turns in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let mut net = Net::new();
        let (a, b) = (up.initial, down.initial);
        if handshake {
            net.send(true, a.wrapping_sub(1), SYN, b"");
            net.send(false, b.wrapping_sub(1), syn_ack(a), b"");
        }
        let sides = [(true, &up, up.segments(thinned)), (false, &down, down.segments(thinned))];
        let originals = [stream(up.length), stream(down.length)];
        let mut next = [0, 0];
        for turn in turns.iter().cycle() {
            let i = usize::from(*turn);
            let i = if next[i] < sides[i].2.len() { i } else { 1 - i };
            let (client, c, segments) = &sides[i];
            let Some((at, n, _)) = segments.get(next[i]) else { break };
            next[i] += 1;
            let data = &originals[i][*at as usize..(*at + u64::from(*n)) as usize];
            // Nothing is acknowledged, so no hole is given up early.
            let bits = ack(if *client { b } else { a });
            let place = net.send(*client, c.initial.wrapping_add(*at as u32), bits, data);
            prop_assert_eq!(place.offset, *at as i64);
            prop_assert_eq!(place.direction, if *client { UP } else { DOWN });
            if *turn && next.iter().zip(&sides).all(|(n, s)| *n == s.2.len()) {
                break;
            }
        }
        net.finish();
        for (i, (_, c, segments)) in sides.iter().enumerate() {
            let sent = &segments[..next[i]];
            let out = net.out(0, if i == 0 { UP } else { DOWN });
            prop_assert_eq!(out.data, c.covered(sent));
            prop_assert_eq!(out.cut, 0);
            let stats = net.watch.infos[&0].halves[i];
            prop_assert_eq!((stats.payload_bytes, stats.missing_bytes), (out.end, out.lost));
            let fed: u64 = sent.iter().map(|s| u64::from(s.1)).sum();
            let new = stats.payload_bytes - stats.missing_bytes;
            prop_assert_eq!(new + stats.retransmitted_bytes, fed);
        }
        prop_assert_eq!(net.flows.seen(), 1);
    }
}
