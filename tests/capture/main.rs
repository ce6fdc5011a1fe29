//! Capture files, made here byte by byte: every format, several at once, broken in every way.

mod broken;
#[cfg(feature = "live")]
mod filter;
mod formats;
mod several;
mod written;

use std::io::{Cursor, Write as _};
use std::path::PathBuf;

use phasescope::capture::{Capture, CaptureError, FileSummary, LinkType};

const SECOND: i64 = 1_000_000_000;
/// 2026-11-21 01:00:00 UTC, nanoseconds.
const NOON: i64 = 1_795_222_800 * SECOND;

/// A packet to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pkt {
    ns: i64,
    wire: u32,
    data: Vec<u8>,
}

fn pkt(ns: i64, data: &[u8]) -> Pkt {
    Pkt {
        ns,
        wire: data.len() as u32,
        data: data.to_vec(),
    }
}

/// Some packets, a second and a bit apart; the second one is cut.
fn some() -> Vec<Pkt> {
    let mut all: Vec<Pkt> = (0..4)
        .map(|n| {
            pkt(
                NOON + n * (SECOND + 123_456_000),
                &vec![n as u8; 10 + n as usize],
            )
        })
        .collect();
    all[1].wire = 1500;
    all
}

/// A frame that outlives its capture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    number: u64,
    ns: i64,
    ps: u16,
    interface: u32,
    link: LinkType,
    wire: u32,
    data: Vec<u8>,
}

fn drain(capture: &mut Capture) -> Vec<Kept> {
    let mut all = Vec::new();
    while let Some(f) = capture.next_frame().unwrap() {
        all.push(Kept {
            number: f.number,
            ns: f.time.nanos(),
            ps: f.time.sub_nano_picos(),
            interface: f.interface,
            link: f.link,
            wire: f.wire_len,
            data: f.data.to_vec(),
        });
    }
    assert!(
        capture.next_frame().unwrap().is_none(),
        "the end stays the end"
    );
    all
}

fn open(bytes: &[u8]) -> Result<Capture, CaptureError> {
    Capture::from_reader("test", Cursor::new(bytes.to_vec()))
}

fn read(bytes: &[u8]) -> (Vec<Kept>, FileSummary) {
    let mut capture = open(bytes).unwrap();
    let frames = drain(&mut capture);
    assert_eq!(capture.files().len(), 1);
    (frames, capture.files()[0].clone())
}

fn same(frames: &[Kept], want: &[Pkt]) {
    let got: Vec<Pkt> = frames
        .iter()
        .map(|f| Pkt {
            ns: f.ns,
            wire: f.wire,
            data: f.data.clone(),
        })
        .collect();
    assert_eq!(got, want);
    for (n, f) in (1..).zip(frames) {
        assert_eq!(f.number, n);
    }
}

fn word(big: bool, n: u32) -> [u8; 4] {
    if big {
        n.to_be_bytes()
    } else {
        n.to_le_bytes()
    }
}

fn half(big: bool, n: u16) -> [u8; 2] {
    if big {
        n.to_be_bytes()
    } else {
        n.to_le_bytes()
    }
}

const MICROS: u32 = 0xa1b2_c3d4;
const NANOS: u32 = 0xa1b2_3c4d;
const MODIFIED: u32 = 0xa1b2_cd34;

fn pcap_with(magic: u32, big: bool, link: u32, packets: &[Pkt]) -> Vec<u8> {
    let mut b = word(big, magic).to_vec();
    b.extend(half(big, 2));
    b.extend(half(big, 4));
    for n in [0, 0, 65_535, link] {
        b.extend(word(big, n));
    }
    let unit = if magic == NANOS { 1 } else { 1000 };
    for p in packets {
        let len = p.data.len() as u32;
        let fraction = (p.ns % SECOND / unit) as u32;
        for n in [(p.ns / SECOND) as u32, fraction, len, p.wire] {
            b.extend(word(big, n));
        }
        if magic == MODIFIED {
            b.extend([7; 8]);
        }
        b.extend(&p.data);
    }
    b
}

fn pcap(packets: &[Pkt]) -> Vec<u8> {
    pcap_with(NANOS, false, 1, packets)
}

/// Writes pcapng.
#[derive(Debug, Clone, Default)]
struct Ng {
    big: bool,
    bytes: Vec<u8>,
}

impl Ng {
    fn new(big: bool) -> Self {
        let mut ng = Self {
            big,
            bytes: Vec::new(),
        };
        ng.section(big);
        ng
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padded = body.len().next_multiple_of(4);
        let length = word(self.big, padded as u32 + 12);
        self.bytes.extend(word(self.big, kind));
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len() + padded - body.len(), 0);
        self.bytes.extend(length);
        self
    }

    fn section(&mut self, big: bool) -> &mut Self {
        self.big = big;
        let mut b = word(big, 0x1a2b_3c4d).to_vec();
        b.extend(half(big, 1));
        b.extend(half(big, 0));
        b.extend(u64::MAX.to_le_bytes());
        self.block(0x0a0d_0d0a, &b)
    }

    fn interface(&mut self, link: u16, snap: u32, options: &[(u16, &[u8])]) -> &mut Self {
        let mut b = half(self.big, link).to_vec();
        b.extend([0, 0]);
        b.extend(word(self.big, snap));
        for (code, value) in options {
            b.extend(half(self.big, *code));
            b.extend(half(self.big, value.len() as u16));
            b.extend(*value);
            b.resize(b.len().next_multiple_of(4), 0);
        }
        if !options.is_empty() {
            b.extend([0; 4]);
        }
        self.block(1, &b)
    }

    /// Enhanced packet block; the time in the interface's own unit.
    fn packet(&mut self, interface: u32, time: u64, wire: u32, data: &[u8]) -> &mut Self {
        let mut b = Vec::new();
        for n in [
            interface,
            (time >> 32) as u32,
            time as u32,
            data.len() as u32,
            wire,
        ] {
            b.extend(word(self.big, n));
        }
        b.extend(data);
        b.resize(b.len().next_multiple_of(4), 0);
        // epb_flags, and the end of options.
        b.extend(half(self.big, 2));
        b.extend(half(self.big, 4));
        b.extend([0; 8]);
        self.block(6, &b)
    }

    fn simple(&mut self, wire: u32, data: &[u8]) -> &mut Self {
        let b = [&word(self.big, wire)[..], data].concat();
        self.block(3, &b)
    }

    fn old_packet(&mut self, interface: u16, time: u64, wire: u32, data: &[u8]) -> &mut Self {
        let mut b = half(self.big, interface).to_vec();
        b.extend(half(self.big, 3));
        for n in [(time >> 32) as u32, time as u32, data.len() as u32, wire] {
            b.extend(word(self.big, n));
        }
        b.extend(data);
        self.block(2, &b)
    }
}

/// [`some`] as pcapng.
fn ng(big: bool, packets: &[Pkt]) -> Vec<u8> {
    let mut ng = Ng::new(big);
    ng.interface(1, 0, &[(9, &[9])]);
    for p in packets {
        ng.packet(0, p.ns as u64, p.wire, &p.data);
    }
    ng.bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut z = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    z.write_all(bytes).unwrap();
    z.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut z = zstd::Encoder::new(Vec::new(), 1).unwrap();
    z.include_checksum(true).unwrap();
    z.write_all(bytes).unwrap();
    z.finish().unwrap()
}

/// An empty directory of this test's own.
fn dir(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("capture-{name}"));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

fn files(name: &str, contents: &[Vec<u8>]) -> Vec<PathBuf> {
    let dir = dir(name);
    let mut paths = Vec::new();
    for (n, bytes) in contents.iter().enumerate() {
        paths.push(dir.join(format!("{n}.pcap")));
        std::fs::write(&paths[n], bytes).unwrap();
    }
    paths
}

/// A capture with two interfaces, to be copied.
fn source() -> Vec<u8> {
    let mut ng = Ng::new(false);
    ng.interface(1, 1000, &[(2, b"eth0"), (9, &[9])]);
    ng.packet(0, NOON as u64 + 1, 1500, b"first");
    ng.interface(113, 0, &[(9, &[9])]);
    ng.packet(1, NOON as u64 + 2, 3, b"two");
    ng.packet(0, NOON as u64 + 3000, 0, b"");
    ng.bytes
}
