//! Layers of a packet, and TCP.

use phasescope::capture::{Frame, LinkType};
use phasescope::net::flow::{Interest, MAX_EARLY_TOTAL};
use phasescope::net::tcp::{Half, MAX_EARLY_BYTES, MAX_EARLY_SEGMENTS, Missing, Piece};
use phasescope::net::{Body, Chunk, FlowInfo, Flows, Handler, Packet, Stamp, What};
use phasescope::time::Timestamp;

use super::pieces::seed;

/// Bytes of the stream, by their offset.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn stamp(n: u64) -> Stamp {
    Stamp {
        time: Timestamp::from_nanos(n as i64),
        frame: n,
    }
}

const LINKS: [u32; 9] = [0, 1, 12, 101, 108, 113, 228, 229, 276];

/// The layers of one frame, of every kind of link.
pub fn packet(data: &[u8]) {
    let (seed, data) = seed(data);
    let frame = Frame {
        number: 1,
        time: Timestamp::from_nanos(0),
        interface: 0,
        link: LinkType::from_number(LINKS[usize::from(seed) % LINKS.len()]),
        wire_len: data.len() as u32 + u32::from(seed >> 8),
        data,
    };
    let Some(p) = Packet::read(&frame) else {
        return;
    };
    if let Body::Tcp(t) = p.body {
        assert!(t.payload.len() <= data.len());
        assert!(t.payload.len() <= t.wire_len as usize);
        // The IP header is believed where it says that more was sent: the frame was cut.
        assert!(t.wire_len <= frame.wire_len.max(65_535));
    }
}

/// What comes out of one direction: in order, without holes of its own.
#[derive(Default)]
struct Out {
    end: u64,
    data: u64,
    lost: u64,
    cut: u64,
}

impl Out {
    fn take(&mut self, piece: Piece<'_>) {
        let (at, n) = match piece {
            Piece::Data(at, bytes) => {
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
        assert_eq!(at, self.end, "in order");
        assert!(n > 0);
        self.end = at + n;
    }
}

/// One direction of a connection: segments anywhere, of any length, cut and acknowledged.
pub fn reassembly(data: &[u8]) {
    let (seed, data) = seed(data);
    let initial = u32::from(seed) << 16 | 0xfff0;
    let mut half = Half::default();
    let mut out = Out::default();
    let syn = seed & 1 != 0;
    if syn {
        half.syn(initial.wrapping_sub(1));
    }
    let stream: Vec<u8> = (0..70_000).map(byte).collect();
    let honest = syn && seed & 2 != 0;
    let mut counting = false;
    for (n, op) in data.chunks_exact(6).enumerate() {
        let at = u32::from_le_bytes([op[0], op[1], op[2] & 0x0f, 0]) % 65_536;
        let len = u32::from(u16::from_le_bytes([op[3], op[4]])) % 4097;
        let at = if honest {
            at
        } else {
            at | u32::from(op[2] >> 4) << 28
        };
        let sequence = initial.wrapping_add(at);
        let begin = at as usize % 65_536;
        let kept = match op[5] & 0x0f {
            0 => len as usize / 2,
            _ => len as usize,
        };
        let bytes = &stream[begin..begin + kept];
        let mut take = |_: Stamp, piece: Piece<'_>| {
            if counting {
                return;
            }
            if let (true, Piece::Data(at, bytes)) = (honest, piece) {
                // Every byte lies where it was sent.
                let from = at as usize;
                assert_eq!(bytes, &stream[from..from + bytes.len()]);
            }
            out.take(piece);
        };
        match op[5] >> 4 {
            0 => half.acknowledge(sequence, &mut take),
            1 => half.fin(sequence),
            2 if !honest => half.finish(stamp(n as u64), &mut take),
            3 => {
                counting = true;
                half.count_only(true);
            }
            _ => half.segment(sequence, bytes, len, stamp(n as u64), &mut take),
        }
        assert!(half.held() <= MAX_EARLY_BYTES);
        assert!(half.held() <= MAX_EARLY_SEGMENTS * 4096);
    }
    half.finish(stamp(u64::MAX >> 1), &mut |_, piece| {
        if !counting {
            out.take(piece);
        }
    });
    assert_eq!(half.held(), 0);
    let s = half.stats();
    if !counting {
        assert_eq!((s.missing_bytes, s.cut_bytes), (out.lost, out.cut));
        assert_eq!(s.payload_bytes, out.data + out.lost + out.cut);
    }
    assert!(s.cut_bytes <= s.payload_bytes);
    assert_eq!(s.payload_bytes, half.offset());
    assert!(out.end <= half.offset());
}

/// Counts what comes, and that nothing comes behind the end.
#[derive(Default)]
struct Watch {
    ends: u64,
    lost: u64,
}

impl Handler<(bool, [u64; 2])> for Watch {
    fn chunk(
        &mut self,
        info: &FlowInfo,
        (over, next): &mut (bool, [u64; 2]),
        chunk: Chunk<'_>,
    ) -> Interest {
        assert!(!*over, "nothing behind the end");
        assert!(info.first <= info.last || info.packets == 0);
        let next = &mut next[chunk.direction.index()];
        match chunk.what {
            What::Data(at, bytes) => {
                assert_eq!(at, *next);
                *next = at + bytes.len() as u64;
            }
            What::Gap(at, n, missing) => {
                assert_eq!(at, *next);
                *next = at + n;
                self.lost += if missing == Missing::Lost { n } else { 0 };
            }
            What::End => {
                *over = true;
                self.ends += 1;
            }
            _ => {}
        }
        Interest::Bytes
    }
}

/// The table of connections: TCP headers of a few addresses and ports, any flags.
pub fn flows(data: &[u8]) {
    let mut flows: Flows<(bool, [u64; 2])> = Flows::default();
    let mut watch = Watch::default();
    for (n, op) in (1u64..).zip(data.chunks_exact(10)) {
        let frame = segment(op, &data[..data.len().min(usize::from(op[9]) * 8)]);
        let frame = Frame {
            number: n,
            time: Timestamp::from_nanos(n as i64 * 1_000_000_000),
            interface: 0,
            link: LinkType::Raw,
            wire_len: frame.len() as u32,
            data: &frame,
        };
        let packet = Packet::read(&frame).expect("an IPv4 packet");
        let wire = frame.wire_len;
        flows.packet(&packet, wire, stamp(n), &mut watch);
        if op[0] & 0x80 != 0 {
            flows.expire(stamp(n).time, &mut watch);
        }
    }
    flows.finish(&mut watch);
    assert_eq!(watch.ends, flows.seen(), "every connection ends once");
    let stats = flows.stats();
    assert_eq!(stats.missing_bytes, watch.lost);
    assert!(stats.buffer_overflows <= data.len() as u64 && MAX_EARLY_TOTAL > 0);
}

/// IPv4 and TCP headers, without checksums, and a payload.
pub fn segment(op: &[u8], payload: &[u8]) -> Vec<u8> {
    let total = 40 + payload.len() as u16;
    let mut out = vec![0x45, 0];
    out.extend(total.to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    let (a, b) = ([10, 0, 0, 1 + (op[0] & 1)], [10, 0, 0, 2 - (op[0] & 1)]);
    out.extend(a);
    out.extend(b);
    let port = |n: u8| 49_152u16 + u16::from(n % 4);
    out.extend(port(op[0] >> 1).to_be_bytes());
    out.extend(port(op[0] >> 3).to_be_bytes());
    out.extend([0, 0, op[1], op[2]]);
    out.extend([op[3] & 0xc0, 0, op[4], op[5]]);
    out.extend([0x50, op[6], 0xff, 0xff, 0, 0, 0, 0]);
    out.extend(payload);
    out
}
