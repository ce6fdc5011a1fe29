//! Capture files, made here byte by byte: every format, several at once, broken in every way.

use std::io::{Cursor, Write as _};
use std::path::PathBuf;

use phasescope::capture::write::Writer;
use phasescope::capture::{
    Capture, CaptureError, Compression, FileSummary, Format, Interface, LinkType, MAX_FRAME,
};
use proptest::prelude::*;

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

#[test]
fn pcap_of_every_kind() {
    let mut exact = some();
    for (magic, big) in [
        (MICROS, false),
        (MICROS, true),
        (NANOS, false),
        (NANOS, true),
        (MODIFIED, false),
        (MODIFIED, true),
    ] {
        if magic == NANOS {
            exact[2].ns += 789;
        }
        let (frames, summary) = read(&pcap_with(magic, big, 1, &exact));
        same(&frames, &exact);
        let format = match magic {
            NANOS => Format::PcapNanos,
            _ => Format::PcapMicros,
        };
        assert_eq!((summary.format, summary.format.name()), (format, "pcap"));
        assert_eq!(summary.version, Some((2, 4)));
        assert_eq!(summary.compression, Compression::None);
        assert_eq!((summary.packets, summary.steps_back), (4, 0));
        let times = summary.times.map(|(a, b)| (a.nanos(), b.nanos()));
        assert_eq!(times, Some((exact[0].ns, exact[3].ns)));
        assert!(summary.damage.is_none());
        exact = some();
    }
    let mut capture = open(&pcap_with(MICROS, false, 0x1400_0071, &some())).unwrap();
    assert!(
        drain(&mut capture)
            .iter()
            .all(|f| f.link == LinkType::LinuxSll)
    );
    let want = Interface {
        link: LinkType::LinuxSll,
        name: None,
        point: None,
        snap_length: 65_535,
    };
    assert_eq!(capture.interfaces().collect::<Vec<_>>(), [&want]);
}

#[test]
fn a_wire_length_below_the_captured_one_is_not_believed() {
    let mut p = pkt(NOON, &[1; 60]);
    p.wire = 20;
    assert_eq!(read(&pcap(std::slice::from_ref(&p))).0[0].wire, 60);
    assert_eq!(read(&ng(false, &[p])).0[0].wire, 60);
}

#[test]
fn a_file_without_frames() {
    for bytes in [pcap(&[]), ng(true, &[]), Ng::new(false).bytes] {
        let (frames, summary) = read(&bytes);
        assert!(frames.is_empty() && summary.times.is_none());
        assert!(summary.damage.is_none());
    }
}

#[test]
fn time_that_steps_back() {
    let at = |n| pkt(NOON + n, b"x");
    // Late for good after one step: each frame is judged by the one in front of it.
    let packets = [at(10), at(20), at(15), at(17), at(17), at(16), at(30)];
    let (frames, summary) = read(&pcap(&packets));
    same(&frames, &packets);
    assert_eq!(summary.steps_back, 2);
    let times = summary.times.map(|(a, b)| (a.nanos(), b.nanos()));
    assert_eq!(times, Some((NOON + 10, NOON + 30)));
}

#[test]
fn long_frames_and_many_of_them() {
    // Frames over the borders of the reader's blocks.
    let packets: Vec<Pkt> = (0..40)
        .map(|n| {
            pkt(
                NOON + n,
                &vec![n as u8; 1 + (n as usize * 50_021) % MAX_FRAME],
            )
        })
        .chain([pkt(NOON + 50, &vec![0xff; MAX_FRAME])])
        .collect();
    for bytes in [pcap(&packets), ng(false, &packets), ng(true, &packets)] {
        for bytes in [gzip(&bytes), zstd(&bytes), bytes] {
            let (frames, summary) = read(&bytes);
            same(&frames, &packets);
            assert!(summary.damage.is_none());
        }
    }
}

#[test]
fn compressed() {
    let packets = some();
    for plain in [pcap(&packets), ng(true, &packets)] {
        let check = |bytes: &[u8], compression| {
            let (frames, summary) = read(bytes);
            same(&frames, &packets);
            assert_eq!(summary.compression, compression);
            assert!(summary.damage.is_none());
        };
        check(&gzip(&plain), Compression::Gzip);
        check(&zstd(&plain), Compression::Zstd);
        // In several members, and behind a skippable frame.
        let (a, b) = plain.split_at(50);
        check(&[gzip(a), gzip(b)].concat(), Compression::Gzip);
        check(&[zstd(a), zstd(b)].concat(), Compression::Zstd);
        let skippable = [
            &[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..],
            &zstd(&plain),
        ];
        check(&skippable.concat(), Compression::Zstd);
    }
}

#[test]
fn pcapng_of_two_sections() {
    for (first, second) in [(false, true), (true, false)] {
        let mut ng = Ng::new(first);
        ng.interface(1, 96, &[(2, b"eth0")])
            .interface(113, 0, &[(2, b"any"), (9, &[9])])
            .packet(1, 5_000_000_001, 4, b"aaaa")
            .packet(0, 6_000_000, 1400, b"bbb")
            .section(second)
            .interface(276, 0, &[(2, b"br0"), (9, &[3])])
            .packet(0, 7_500, 2, b"cc");
        let mut capture = open(&ng.bytes).unwrap();
        let frames = drain(&mut capture);
        let got: Vec<_> = frames
            .iter()
            .map(|f| (f.interface, f.ns, f.link, f.wire, &f.data[..]))
            .collect();
        let want: [(u32, i64, LinkType, u32, &[u8]); 3] = [
            (1, 5_000_000_001, LinkType::LinuxSll, 4, b"aaaa"),
            (0, 6_000_000_000, LinkType::Ethernet, 1400, b"bbb"),
            (2, 7_500_000_000, LinkType::LinuxSll2, 2, b"cc"),
        ];
        assert_eq!(got, want);
        let interfaces: Vec<_> = capture
            .interfaces()
            .map(|i| (i.name.as_deref(), i.local_name(), i.link, i.snap_length))
            .collect();
        let want = [
            (Some("eth0"), Some("eth0"), LinkType::Ethernet, 96),
            (Some("any"), Some("any"), LinkType::LinuxSll, 0),
            (Some("br0"), Some("br0"), LinkType::LinuxSll2, 0),
        ];
        assert_eq!(interfaces, want);
        assert_eq!(capture.files()[0].version, Some((1, 0)));
        assert_eq!(capture.files()[0].format, Format::Pcapng);
        assert!(capture.files()[0].damage.is_none());
    }
}

#[test]
fn units_of_time() {
    // if_tsresol, a time in that unit, nanoseconds, picoseconds below them.
    let cases: [(u8, u64, i64, u16); 9] = [
        (0, 7, 7 * SECOND, 0),
        (3, 7_001, 7_001_000_000, 0),
        (6, 1_795_222_800_000_001, NOON + 1000, 0),
        (9, NOON as u64 + 1, NOON + 1, 0),
        (12, 3_000_000_000_123, 3 * SECOND, 123),
        (15, 2_000_000_000_123_999, 2 * SECOND, 123),
        (0x80 | 20, (5 << 20) + (1 << 19), 5 * SECOND + SECOND / 2, 0),
        (0x80 | 30, 1, 0, 931),
        (0x80 | 63, 3 << 62, SECOND + SECOND / 2, 0),
    ];
    for (resolution, time, ns, ps) in cases {
        for big in [false, true] {
            let mut ng = Ng::new(big);
            ng.interface(1, 0, &[(9, &[resolution])]);
            ng.packet(0, time, 1, b"x");
            let f = &read(&ng.bytes).0[0];
            assert_eq!((f.ns, f.ps), (ns, ps), "unit {resolution:#x}");
        }
    }
    // Absurd units are no reason to stop.
    for resolution in [39, 127, 0x80 | 127] {
        let mut ng = Ng::new(false);
        ng.interface(1, 0, &[(9, &[resolution])]);
        ng.packet(0, 5, 1, b"x");
        let f = &read(&ng.bytes).0[0];
        assert_eq!((f.ns, f.ps), (0, 0));
    }
}

#[test]
fn offsets_of_time() {
    for big in [false, true] {
        for offset in [1_795_222_800i64, -3] {
            let bytes = if big {
                offset.to_be_bytes()
            } else {
                offset.to_le_bytes()
            };
            let mut ng = Ng::new(big);
            ng.interface(1, 0, &[(14, &bytes)]);
            ng.interface(1, 0, &[(9, &[9]), (14, &bytes)]);
            ng.packet(0, 5_000_001, 1, b"x");
            ng.packet(1, 5_000_000_001, 1, b"x");
            let (frames, _) = read(&ng.bytes);
            let from = (offset + 5) * SECOND;
            assert_eq!(frames[0].ns, from + 1000, "{offset} {big}");
            assert_eq!(frames[1].ns, from + 1, "{offset} {big}");
        }
    }
}

#[test]
fn every_packet_block() {
    for big in [false, true] {
        let mut ng = Ng::new(big);
        ng.interface(1, 8, &[]).interface(101, 0, &[]);
        ng.old_packet(1, 2_000_000, 900, b"old")
            // A simple block has no time; it belongs to the first interface, whose snap length
            // tells how much of it is data.
            .simple(5, b"short")
            .simple(1000, b"longer t")
            .packet(1, 3_000_000, 11, b"an enhanced");
        let (frames, summary) = read(&ng.bytes);
        let got: Vec<_> = frames
            .iter()
            .map(|f| (f.interface, f.ns / SECOND, f.wire, &f.data[..]))
            .collect();
        let want: [(u32, i64, u32, &[u8]); 4] = [
            (1, 2, 900, b"old"),
            (0, 2, 5, b"short"),
            (0, 2, 1000, b"longer t"),
            (1, 3, 11, b"an enhanced"),
        ];
        assert_eq!(got, want);
        assert!(summary.damage.is_none());
    }
}

#[test]
fn blocks_that_hold_no_packets() {
    // Name resolution, statistics, decryption secrets, custom ones; some far longer than what
    // is read at once.
    let huge = vec![0xee; 3 << 20];
    let mut ng = Ng::new(false);
    ng.block(4, b"names")
        .block(0xbad, &huge)
        .interface(1, 0, &[(9, &[9])])
        .block(5, &[0; 12])
        .packet(0, 1, 1, b"a")
        .block(10, &huge)
        .block(0x8000_0000, b"")
        .packet(0, 2, 1, b"b")
        .block(5, &[0; 12]);
    for bytes in [gzip(&ng.bytes), ng.bytes] {
        let (frames, summary) = read(&bytes);
        same(&frames, &[pkt(1, b"a"), pkt(2, b"b")]);
        assert!(summary.damage.is_none());
    }
}

/// What is wrong with a file whose frames so far are good.
fn damage(bytes: &[u8], frames: usize) -> (u64, String, bool) {
    let (got, summary) = read(bytes);
    assert_eq!(got.len(), frames);
    let d = summary.damage.unwrap();
    assert_eq!(d.to_string(), format!("{} at byte {}", d.what, d.offset));
    (d.offset, d.what, d.truncated)
}

#[test]
fn a_file_that_ends_inside_a_record() {
    let packets = some();
    let whole = pcap(&packets);
    let third = (24 + 16 + 10 + 16 + 11) as u64;
    let inside = |n: u64| damage(&whole[..(third + n) as usize], 2);
    assert_eq!(
        inside(1),
        (third, "the file ends inside a record's header".into(), true)
    );
    assert_eq!(inside(15).0, third);
    assert_eq!(
        inside(16),
        (third, "the file ends inside a record".into(), true)
    );
    assert_eq!(
        inside(27),
        (third, "the file ends inside a record".into(), true)
    );
    let whole = ng(false, &packets);
    let second = damage(&whole[..whole.len() - 1], 3);
    assert_eq!(
        (&*second.1, second.2),
        ("the file ends inside a block", true)
    );
    let header = damage(&whole[..second.0 as usize + 5], 3);
    assert_eq!(
        header,
        (
            second.0,
            "the file ends inside a block's header".into(),
            true
        )
    );
    let mut section = Ng::new(false);
    let at = section.bytes.len() as u64;
    section.section(true);
    for n in [9, 27] {
        let d = damage(&section.bytes[..at as usize + n], 0);
        assert_eq!(
            d,
            (at, "the file ends inside a section header".into(), true)
        );
    }
}

#[test]
fn a_length_that_cannot_be() {
    let packets = some();
    for big in [false, true] {
        let mut bytes = pcap_with(MICROS, big, 1, &packets);
        let at = 24 + 16 + 10;
        bytes[at + 8..at + 12].copy_from_slice(&word(big, MAX_FRAME as u32 + 1));
        let d = damage(&bytes, 1);
        assert_eq!((d.0, d.2), (at as u64, false));
        assert!(
            d.1.starts_with("corrupt record: 262145 captured bytes"),
            "{}",
            d.1
        );
        for (length, what) in [
            (0u32, "a length of 0"),
            (30, "a length of 30"),
            (1 << 30, "more"),
        ] {
            let mut ng = Ng::new(big);
            ng.interface(1, 0, &[]).packet(0, 1, 1, b"a");
            let at = ng.bytes.len();
            ng.packet(0, 2, 1, b"b");
            ng.bytes[at + 4..at + 8].copy_from_slice(&word(big, length));
            let d = damage(&ng.bytes, 1);
            assert_eq!((d.0, d.2), (at as u64, false));
            assert!(
                d.1.starts_with("corrupt block") && d.1.contains(what),
                "{}",
                d.1
            );
        }
        let mut ng = Ng::new(big);
        ng.interface(1, 0, &[]).packet(0, 1, 1, b"a");
        let at = ng.bytes.len() as u64;
        ng.packet(4, 2, 1, b"b");
        let d = damage(&ng.bytes, 1);
        let what = "corrupt block: a packet of interface 4, which is not described";
        assert_eq!(d, (at, what.into(), false));
        // A section header of nonsense.
        let mut ng = Ng::new(big);
        let at = ng.bytes.len();
        ng.section(big);
        ng.bytes[at + 8] ^= 1;
        assert_eq!(
            damage(&ng.bytes, 0).1,
            "a section header without byte-order magic"
        );
        let mut ng = Ng::new(big);
        ng.section(big);
        ng.bytes[at + 4..at + 8].copy_from_slice(&word(big, 24));
        assert_eq!(damage(&ng.bytes, 0).1, "a section header of 24 bytes");
    }
}

#[test]
fn compressed_data_that_is_cut_or_broken() {
    // Noise, so that a cut takes frames away.
    let mut x = 1u32;
    let mut noise = || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    let packets: Vec<Pkt> = (0..2000)
        .map(|n| pkt(NOON + n, &(0..1000).map(|_| noise()).collect::<Vec<_>>()))
        .collect();
    let plain = pcap(&packets);
    for bytes in [gzip(&plain), zstd(&plain)] {
        for cut in [bytes.len() / 2, bytes.len() - 1] {
            let (frames, summary) = read(&bytes[..cut]);
            same(&frames, &packets[..frames.len()]);
            assert!(frames.len() > 500, "{} frames", frames.len());
            let d = summary.damage.unwrap();
            assert!(d.truncated, "{d}");
            assert!(
                d.what.starts_with("the compressed data is cut or broken"),
                "{d}"
            );
            assert!(d.offset <= plain.len() as u64 && d.offset > 500_000);
        }
        let mut broken = bytes.clone();
        let at = broken.len() - 3;
        broken[at] ^= 0x55;
        let d = read(&broken).1.damage.unwrap();
        assert!(!d.truncated, "{d}");
        // Nothing comes out at all.
        for cut in [4, 5] {
            let e = open(&bytes[..cut]).unwrap_err();
            assert!(matches!(e, CaptureError::Broken { damage, .. } if damage.truncated));
        }
    }
}

#[test]
fn what_cannot_be_read() {
    let dir = dir("errors");
    let missing = dir.join("missing.pcap");
    let e = Capture::open(std::slice::from_ref(&missing)).unwrap_err();
    assert!(
        matches!(&e, CaptureError::Open { name, .. } if *name == missing.display().to_string())
    );
    let e = Capture::open(std::slice::from_ref(&dir)).unwrap_err();
    let CaptureError::Open { source, .. } = &e else {
        panic!("{e}")
    };
    assert_eq!(source.kind(), std::io::ErrorKind::IsADirectory);
    for nothing in [vec![], gzip(b""), zstd(b"")] {
        let e = open(&nothing).unwrap_err();
        assert!(matches!(e, CaptureError::Empty { .. }), "{e}");
    }
    for (bytes, found) in [
        (&b"PK\x03\x04zip"[..], "the bytes 50 4b 03 04"),
        (b"{", "the bytes 7b"),
        (b"\xd4\xc3\xb2", "the bytes d4 c3 b2"),
    ] {
        for packed in [bytes.to_vec(), gzip(bytes), zstd(bytes)] {
            let e = open(&packed).unwrap_err();
            assert!(e.to_string().contains(found), "{e}");
            assert!(matches!(e, CaptureError::NotACapture { .. }));
        }
    }
    for (bytes, what) in [
        (
            &pcap(&[])[..23],
            "the file ends inside its header at byte 0",
        ),
        (
            &ng(false, &[])[..11],
            "the file ends inside a section header at byte 0",
        ),
        (
            &ng(true, &[])[..27],
            "the file ends inside a section header at byte 0",
        ),
        (
            b"\x0a\x0d\x0d\x0a\0\0\0\x1c\0\0\0\0\0\0\0\0",
            "a section header without byte-order magic at byte 0",
        ),
    ] {
        let e = open(bytes).unwrap_err();
        assert_eq!(e.to_string(), format!("test: {what}"));
        assert!(matches!(e, CaptureError::Broken { .. }));
    }
    // One bad file among good ones.
    let good = dir.join("good.pcap");
    std::fs::write(&good, pcap(&some())).unwrap();
    assert!(Capture::open(&[good, missing]).is_err());
}

/// A disk that fails after so many bytes.
struct Failing(Cursor<Vec<u8>>, u64);

impl std::io::Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.0.position() >= self.1 {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let n = buf.len().min((self.1 - self.0.position()) as usize);
        self.0.read(&mut buf[..n])
    }
}

#[test]
fn reading_fails() {
    let bytes = pcap(&some());
    let fails = |at| Capture::from_reader("disk", Failing(Cursor::new(bytes.clone()), at));
    assert!(matches!(
        fails(0),
        Err(CaptureError::Read { offset: 0, .. })
    ));
    assert!(matches!(fails(20), Err(CaptureError::Read { .. })));
    let mut capture = fails(24 + 16 + 10 + 3).unwrap();
    assert!(capture.next_frame().unwrap().is_some());
    let e = capture.next_frame().unwrap_err();
    assert_eq!(e.to_string(), "disk: reading failed at byte 50: timed out");
}

#[test]
fn every_file_cut_at_every_byte() {
    let packets = some();
    let mut mixed = Ng::new(true);
    mixed.interface(1, 0, &[(2, b"eth0"), (9, &[9])]);
    mixed.old_packet(0, 1, 3, b"old").simple(3, b"new");
    mixed.block(77, b"unknown").section(false);
    mixed.interface(1, 0, &[]).packet(0, 1, 2, b"xx");
    for whole in [
        pcap(&packets),
        pcap_with(MODIFIED, false, 1, &packets),
        ng(false, &packets),
        mixed.bytes,
    ] {
        let (all, summary) = read(&whole);
        assert!(summary.damage.is_none());
        for packed in [whole.clone(), gzip(&whole), zstd(&whole)] {
            let mut most = 0;
            for cut in 0..packed.len() {
                let Ok(mut capture) = open(&packed[..cut]) else {
                    continue;
                };
                let frames = drain(&mut capture);
                assert!(all.starts_with(&frames), "cut at {cut}");
                most = most.max(frames.len());
                if let Some(d) = &capture.files()[0].damage {
                    assert!(d.truncated, "cut at {cut}: {d}");
                    assert!(d.offset <= whole.len() as u64);
                }
            }
            assert!(most >= all.len() - 1);
        }
    }
}

/// Frames as (file's letter, interface).
fn order(paths: &[PathBuf]) -> (String, Vec<u32>) {
    let mut capture = Capture::open(paths).unwrap();
    let frames = drain(&mut capture);
    let numbers: Vec<u64> = frames.iter().map(|f| f.number).collect();
    assert_eq!(numbers, (1..=frames.len() as u64).collect::<Vec<_>>());
    let interfaces = frames.iter().map(|f| f.interface).collect();
    let letters = frames.iter().map(|f| char::from(f.data[0])).collect();
    (letters, interfaces)
}

fn file(letter: u8, seconds: &[i64]) -> Vec<u8> {
    let packets: Vec<Pkt> = seconds.iter().map(|s| pkt(s * SECOND, &[letter])).collect();
    pcap(&packets)
}

#[test]
fn files_that_follow_each_other() {
    // As tcpdump -W or -C leaves them; named in any order.
    let (a, b, c) = (file(b'a', &[1, 2]), file(b'b', &[3, 4]), file(b'c', &[5]));
    for (n, set) in [[&a, &b, &c], [&c, &a, &b], [&b, &c, &a]]
        .iter()
        .enumerate()
    {
        let set = set.map(Vec::clone);
        let paths = files(&format!("follow{n}"), &set);
        // They are of one interface.
        assert_eq!(order(&paths), ("aabbc".into(), vec![0; 5]));
        let mut capture = Capture::open(&paths).unwrap();
        drain(&mut capture);
        assert_eq!(capture.interfaces().count(), 1);
        let summary: Vec<_> = capture
            .files()
            .iter()
            .map(|f| (&f.name, f.packets))
            .collect();
        for (i, path) in paths.iter().enumerate() {
            let packets = if set[i] == c { 1 } else { 2 };
            assert_eq!(summary[i], (&path.display().to_string(), packets));
        }
        let size: usize = set.iter().map(Vec::len).sum();
        assert_eq!(capture.progress(), (size as u64, Some(size as u64)));
    }
}

#[test]
fn files_are_opened_when_their_time_comes() {
    let paths = files(
        "lazy",
        &[file(b'a', &[1, 2]), file(b'b', &[3]), file(b'c', &[9])],
    );
    let mut capture = Capture::open(&paths).unwrap();
    // What is gone before its time cannot be read.
    std::fs::remove_file(&paths[1]).unwrap();
    for _ in 0..2 {
        assert_eq!(capture.next_frame().unwrap().unwrap().data, b"a");
    }
    let e = capture.next_frame().unwrap_err();
    assert!(matches!(e, CaptureError::Open { .. }), "{e}");
}

#[test]
fn files_that_overlap() {
    // Two hosts: two interfaces.
    let paths = files("overlap", &[file(b'a', &[1, 4, 5]), file(b'b', &[2, 3, 6])]);
    assert_eq!(order(&paths), ("abbaab".into(), vec![0, 1, 1, 0, 0, 1]));
    // Equal times: the file named first comes first, whichever was open before.
    let sets = [
        [file(b'a', &[7]), file(b'b', &[7]), file(b'c', &[7])],
        [file(b'a', &[7]), file(b'b', &[1, 7]), file(b'c', &[7])],
        [file(b'a', &[7]), file(b'b', &[7]), file(b'c', &[1, 7])],
        [file(b'a', &[1, 7]), file(b'b', &[7]), file(b'c', &[7])],
    ];
    for (n, (set, want)) in sets.iter().zip(["abc", "babc", "cabc", "aabc"]).enumerate() {
        let paths = files(&format!("ties{n}"), set);
        assert_eq!(order(&paths).0, want);
    }
    // A third one follows the first: it takes its interface over.
    let set = [
        file(b'a', &[1, 3]),
        file(b'b', &[2, 9]),
        file(b'c', &[4, 5]),
    ];
    let paths = files("lanes", &set);
    assert_eq!(order(&paths), ("abaccb".into(), vec![0, 1, 0, 0, 0, 1]));
}

#[test]
fn files_of_several_formats() {
    let mut two = Ng::new(true);
    two.interface(1, 0, &[(2, b"a"), (9, &[0])])
        .interface(101, 0, &[(2, b"b"), (9, &[0])]);
    two.packet(1, 2, 1, b"n").packet(0, 4, 1, b"n");
    let set = [
        zstd(&file(b'z', &[1, 3, 8])),
        two.bytes,
        // Nothing in it, and one that is broken.
        pcap(&[]),
        file(b'x', &[6, 7])[..24 + 17 + 9].to_vec(),
    ];
    let paths = files("formats", &set);
    // z is open all the time; x takes the place of n, but is another interface.
    assert_eq!(order(&paths), ("znznxz".into(), vec![0, 2, 0, 1, 3, 0]));
    let mut capture = Capture::open(&paths).unwrap();
    drain(&mut capture);
    let packets: Vec<_> = capture.files().iter().map(|f| f.packets).collect();
    assert_eq!(packets, [3, 2, 0, 1]);
    let broken: Vec<_> = capture.files().iter().map(|f| f.damage.is_some()).collect();
    assert_eq!(broken, [false, false, false, true]);
    let names: Vec<_> = capture.interfaces().map(|i| i.name.clone()).collect();
    assert_eq!(names, [None, Some("a".into()), Some("b".into()), None]);
}

#[test]
fn only_some_interfaces() {
    let mut ng = Ng::new(false);
    ng.interface(1, 0, &[(2, b"eth0")])
        .interface(1, 0, &[(2, b"eth1")]);
    ng.packet(0, 1, 1, b"a")
        .packet(1, 2, 1, b"b")
        .packet(0, 3, 1, b"c");
    let mut capture = open(&ng.bytes).unwrap();
    capture.select(&[], &["eth1".into(), "eth7".into()]);
    let frames = drain(&mut capture);
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].number, &frames[0].data[..]), (2, &b"b"[..]));
    assert_eq!(capture.unmet_names().collect::<Vec<_>>(), ["eth7"]);
    assert_eq!(capture.files()[0].packets, 3);
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

fn copy(bytes: &[u8], to: &std::path::Path, format: Format, finish: bool) {
    let mut whole = open(bytes).unwrap();
    drain(&mut whole);
    let interfaces: Vec<Interface> = whole.interfaces().cloned().collect();
    let mut capture = open(bytes).unwrap();
    let mut writer = Writer::create(to, format).unwrap();
    let mut met = 0;
    while let Some(f) = capture.next_frame().unwrap() {
        // Those that have been seen by now.
        met = met.max(1 + f.interface as usize);
        writer.frame(&f, interfaces.iter().take(met)).unwrap();
    }
    if finish {
        writer.finish().unwrap();
    }
}

#[test]
fn written_and_read_again() {
    let dir = dir("written");
    let (mut want, _) = read(&source());
    for (name, format, compression) in [
        ("a.pcapng", Format::Pcapng, Compression::None),
        ("a.pcapng.gz", Format::Pcapng, Compression::Gzip),
        ("a.pcapng.zst", Format::Pcapng, Compression::Zstd),
    ] {
        let path = dir.join(name);
        copy(&source(), &path, format, true);
        let mut capture = Capture::open(&[path]).unwrap();
        assert_eq!(drain(&mut capture), want);
        let interfaces: Vec<_> = capture
            .interfaces()
            .map(|i| (i.name.clone(), i.link, i.snap_length))
            .collect();
        let eth0 = (Some("eth0".to_owned()), LinkType::Ethernet, 1000);
        assert_eq!(interfaces, [eth0, (None, LinkType::LinuxSll, 0)]);
        assert_eq!(capture.files()[0].compression, compression);
        assert!(capture.files()[0].damage.is_none());
    }
    // pcap has one interface.
    for f in &mut want {
        (f.interface, f.link) = (0, LinkType::Ethernet);
    }
    for (name, format) in [
        ("b.pcap", Format::PcapNanos),
        ("b.pcap.gz", Format::PcapNanos),
        ("b.pcap.zst", Format::PcapMicros),
    ] {
        let path = dir.join(name);
        copy(&source(), &path, format, true);
        if format == Format::PcapMicros {
            for f in &mut want {
                f.ns -= f.ns % 1000;
            }
        }
        let mut capture = Capture::open(&[path]).unwrap();
        assert_eq!(capture.files()[0].format, format);
        assert_eq!(drain(&mut capture), want);
        assert_eq!(capture.interfaces().next().unwrap().snap_length, 1000);
    }
    // Only what was finished is there.
    let mut left: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    left.sort();
    let want = [
        "a.pcapng",
        "a.pcapng.gz",
        "a.pcapng.zst",
        "b.pcap",
        "b.pcap.gz",
        "b.pcap.zst",
    ];
    assert_eq!(left, want);
}

#[test]
fn an_unfinished_file_leaves_nothing_behind() {
    let dir = dir("unfinished");
    let kept = dir.join("kept.pcap");
    std::fs::write(&kept, b"as it was").unwrap();
    for name in ["kept.pcap", "x.pcap", "x.pcapng.gz", "x.pcapng.zst"] {
        copy(&source(), &dir.join(name), Format::Pcapng, false);
    }
    // The file of that name is the old one.
    assert_eq!(std::fs::read(&kept).unwrap(), b"as it was");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    copy(&source(), &kept, Format::Pcapng, true);
    assert_eq!(read(&std::fs::read(&kept).unwrap()).0.len(), 3);
    assert!(Writer::create(&dir.join("no/such/dir.pcap"), Format::PcapNanos).is_err());
}

#[cfg(feature = "live")]
mod filter {
    use super::*;
    use etherparse::PacketBuilder;

    fn segment(port: u16) -> Vec<u8> {
        let mut b = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(49152, port, 1, 1)
            .write(&mut b, b"x")
            .unwrap();
        b
    }

    /// The same packet behind another link.
    fn behind(link: u16, ip: &[u8]) -> Vec<u8> {
        let front: &[u8] = match link {
            0 => &[2, 0, 0, 0],
            108 => &[0, 0, 0, 2],
            1 => &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0],
            113 => &[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0],
            276 => &[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0],
            _ => &[],
        };
        [front, ip].concat()
    }

    #[test]
    fn on_every_link() {
        let mut ng = Ng::new(false);
        let links = [1u16, 113, 276, 0, 108, 101, 228];
        for (n, link) in links.iter().enumerate() {
            ng.interface(*link, 0, &[]);
            for port in [22, 16509] {
                let b = behind(*link, &segment(port));
                ng.packet(n as u32, 1, b.len() as u32, &b);
            }
        }
        let mut capture = open(&ng.bytes).unwrap();
        capture.set_filter("tcp port 16509").unwrap();
        let frames = drain(&mut capture);
        // The others keep their numbers.
        let numbers: Vec<u64> = frames.iter().map(|f| f.number).collect();
        assert_eq!(numbers, [2, 4, 6, 8, 10, 12, 14]);
        assert_eq!(capture.files()[0].packets, 14);
        let mut capture = open(&ng.bytes).unwrap();
        capture.set_filter("udp").unwrap();
        assert_eq!(drain(&mut capture), []);
    }

    #[test]
    fn that_is_none() {
        let mut capture = open(&pcap(&some())).unwrap();
        let e = capture.set_filter("port port").unwrap_err();
        let CaptureError::Filter { expression, reason } = &e else {
            panic!("{e}")
        };
        assert!(expression == "port port" && !reason.is_empty());
        // The capture is as it was.
        assert_eq!(drain(&mut capture).len(), 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_changes(
        which in 0usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let packets = some();
        let mut bytes = match which {
            0 => pcap(&packets),
            1 => pcap_with(MICROS, true, 1, &packets),
            2 => ng(false, &packets),
            3 => source(),
            4 => gzip(&pcap(&packets)),
            _ => zstd(&ng(true, &packets)),
        };
        for (at, b) in &changes {
            *at.get_mut(&mut bytes) = *b;
        }
        if let Ok(mut capture) = open(&bytes) {
            while let Ok(Some(f)) = capture.next_frame() {
                prop_assert!(f.data.len() <= MAX_FRAME);
                prop_assert!(f.wire_len as usize >= f.data.len());
                prop_assert!(f.number <= 10_000);
            }
        }
    }

    #[test]
    fn what_is_written_is_read(
        packets in prop::collection::vec(
            (0i64..4_000_000_000, 0u32..SECOND as u32, prop::collection::vec(any::<u8>(), 0..200)),
            0..20),
        nanos: bool,
        big: bool,
    ) {
        let packets: Vec<Pkt> = packets
            .into_iter()
            .map(|(s, f, data)| {
                let f = i64::from(f);
                let f = if nanos { f } else { f / 1000 * 1000 };
                pkt(s * SECOND + f, &data)
            })
            .collect();
        let magic = if nanos { NANOS } else { MICROS };
        same(&read(&pcap_with(magic, big, 1, &packets)).0, &packets);
        same(&read(&ng(big, &packets)).0, &packets);
    }
}
