//! Small captures, built packet by packet.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;
use phasescope::capture::{Capture, Frame};
use phasescope::scrub::{Summary, scrub};

/// Largest payload of a segment.
const SEGMENT: usize = 1448;

/// The first moment of every built capture, nanoseconds.
pub const START: i64 = 1_700_000_000_000_000_000;

/// Which side sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// A TCP connection in a capture.
pub struct Connection {
    ends: [SocketAddr; 2],
    sequence: [u32; 2],
}

/// Frames and their times, nanoseconds from [`START`].
#[derive(Default)]
pub struct Trace {
    pub frames: Vec<(i64, Vec<u8>)>,
}

fn mac(ip: IpAddr) -> [u8; 6] {
    match ip {
        IpAddr::V4(v) => [
            2,
            0,
            v.octets()[0],
            v.octets()[1],
            v.octets()[2],
            v.octets()[3],
        ],
        IpAddr::V6(v) => {
            let o = v.octets();
            [2, 6, o[12], o[13], o[14], o[15]]
        }
    }
}

/// Flags of a segment.
#[derive(Clone, Copy, Default)]
struct Flags {
    syn: bool,
    fin: bool,
    rst: bool,
}

impl Trace {
    fn segment(&mut self, at: i64, c: &mut Connection, side: Side, flags: Flags, payload: &[u8]) {
        let (from, to) = match side {
            Side::Client => (0, 1),
            Side::Server => (1, 0),
        };
        let (source, destination) = (c.ends[from], c.ends[to]);
        let link = PacketBuilder::ethernet2(mac(source.ip()), mac(destination.ip()));
        let ip = match (source.ip(), destination.ip()) {
            (IpAddr::V4(s), IpAddr::V4(d)) => link.ipv4(s.octets(), d.octets(), 64),
            (IpAddr::V6(s), IpAddr::V6(d)) => link.ipv6(s.octets(), d.octets(), 64),
            _ => panic!("one family"),
        };
        let mut tcp = ip.tcp(source.port(), destination.port(), c.sequence[from], 64_240);
        if !(flags.syn && side == Side::Client) {
            tcp = tcp.ack(c.sequence[to]);
        }
        if flags.syn {
            tcp = tcp.syn();
        }
        if flags.fin {
            tcp = tcp.fin();
        }
        if flags.rst {
            tcp = tcp.rst();
        }
        let mut frame = Vec::new();
        tcp.write(&mut frame, payload).expect("a vector takes all");
        let moved = payload.len() as u32 + u32::from(flags.syn) + u32::from(flags.fin);
        c.sequence[from] = c.sequence[from].wrapping_add(moved);
        self.frames.push((at, frame));
    }

    /// Three-way handshake.
    pub fn connect(&mut self, at: i64, client: &str, server: &str) -> Connection {
        let mut c = self.unseen(client, server);
        let syn = Flags {
            syn: true,
            ..Flags::default()
        };
        self.segment(at, &mut c, Side::Client, syn, &[]);
        self.segment(at + 1000, &mut c, Side::Server, syn, &[]);
        self.segment(at + 2000, &mut c, Side::Client, Flags::default(), &[]);
        c
    }

    /// A connection that was open before the capture.
    pub fn unseen(&mut self, client: &str, server: &str) -> Connection {
        Connection {
            ends: [
                client.parse().expect("an address"),
                server.parse().expect("an address"),
            ],
            sequence: [0xffff_f000, 77],
        }
    }

    /// Data, in segments a microsecond apart.
    pub fn send(&mut self, at: i64, c: &mut Connection, side: Side, bytes: &[u8]) {
        for (i, part) in bytes.chunks(SEGMENT).enumerate() {
            self.segment(at + i as i64 * 1000, c, side, Flags::default(), part);
        }
    }

    /// FIN from both sides.
    pub fn close(&mut self, at: i64, c: &mut Connection) {
        let fin = Flags {
            fin: true,
            ..Flags::default()
        };
        self.segment(at, c, Side::Client, fin, &[]);
        self.segment(at + 1000, c, Side::Server, fin, &[]);
    }

    /// RST from one side.
    pub fn reset(&mut self, at: i64, c: &mut Connection, side: Side) {
        let rst = Flags {
            rst: true,
            ..Flags::default()
        };
        self.segment(at, c, side, rst, &[]);
    }

    /// A UDP datagram.
    pub fn udp(&mut self, at: i64, payload: &[u8]) {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 9, 9, 9], [10, 9, 9, 8], 64)
            .udp(5353, 5353)
            .write(&mut frame, payload)
            .expect("a vector takes all");
        self.frames.push((at, frame));
    }

    /// The capture as a pcap file with nanoseconds, in time order.
    pub fn pcap(&self) -> Vec<u8> {
        let mut frames: Vec<_> = self.frames.iter().collect();
        frames.sort_by_key(|(at, _)| *at);
        let mut out = Vec::new();
        for word in [0xa1b2_3c4du32, 0x0004_0002, 0, 0, 262_144, 1] {
            out.extend(word.to_le_bytes());
        }
        for (at, frame) in frames {
            let ns = START + at;
            let words = [
                (ns / 1_000_000_000) as u32,
                (ns % 1_000_000_000) as u32,
                frame.len() as u32,
                frame.len() as u32,
            ];
            for word in words {
                out.extend(word.to_le_bytes());
            }
            out.extend(frame);
        }
        out
    }

    /// A scrubbed copy of a capture.
    pub fn scrubbed(mut capture: Capture, thin: bool) -> (Self, Summary) {
        let mut frames = Vec::new();
        let keep = |_: &Capture, f: &Frame<'_>| {
            frames.push((f.time.nanos() - START, f.data.to_vec()));
            Ok(())
        };
        let summary = scrub(&mut capture, thin, keep, |_| true).expect("scrubs");
        (Self { frames }, summary)
    }

    /// The capture, open.
    pub fn capture(&self) -> Capture {
        Capture::from_reader("built", std::io::Cursor::new(self.pcap())).expect("a capture")
    }
}
