//! Multifd channels, built by hand.

mod streams;

use phasescope_parsers::qemu::Probe;
use phasescope_parsers::qemu::multifd::{Channel, probe};
use proptest::prelude::*;
use streams::{Log, slices};

const SYNC: u32 = 1;

fn initial(channel: u8) -> Vec<u8> {
    let mut b = vec![0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1];
    b.extend_from_slice(&[7; 16]);
    b.push(channel);
    b.resize(64, 0);
    b
}

struct Packet<'a> {
    flags: u32,
    allocated: u32,
    next_packet_size: u32,
    number: u64,
    block: &'a str,
    normal: &'a [u64],
    zero: &'a [u64],
}

const NONE: Packet<'static> = Packet {
    flags: 0,
    allocated: 128,
    next_packet_size: 0,
    number: 0,
    block: "",
    normal: &[],
    zero: &[],
};

/// `room` is N, `data` what follows the header.
fn packet(p: &Packet<'_>, room: usize, data: &[u8]) -> Vec<u8> {
    let mut b = vec![0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1];
    for w in [
        p.flags,
        p.allocated,
        p.normal.len() as u32,
        p.next_packet_size,
    ] {
        b.extend_from_slice(&w.to_be_bytes());
    }
    b.extend_from_slice(&p.number.to_be_bytes());
    b.extend_from_slice(&(p.zero.len() as u32).to_be_bytes());
    b.resize(64, 0);
    b.extend_from_slice(p.block.as_bytes());
    b.resize(320, 0);
    for o in p.normal.iter().chain(p.zero) {
        b.extend_from_slice(&o.to_be_bytes());
    }
    b.resize(320 + 8 * room, 0);
    b.extend_from_slice(data);
    b
}

fn ram(page: u32, number: u64, normal: &[u64], zero: &[u64]) -> Vec<u8> {
    let n = normal.len() as u32 * page;
    let p = Packet {
        allocated: 524_288 / page,
        next_packet_size: n,
        number,
        block: "pc.ram",
        normal,
        zero,
        ..NONE
    };
    packet(&p, 524_288 / page as usize, &vec![0xa5; n as usize])
}

/// As QEMU 10.0 sends it.
fn zeroed_sync(page: usize, number: u64) -> Vec<u8> {
    let p = Packet {
        flags: SYNC,
        allocated: 0,
        number,
        ..NONE
    };
    packet(&p, 524_288 / page, &[])
}

fn device_state(data: u32) -> Vec<u8> {
    let mut b = vec![0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1, 0, 0, 0, 0x40];
    b.extend_from_slice(b"0000:00:03.0/vfio");
    b.resize(268, 0);
    b.extend_from_slice(&3u32.to_be_bytes());
    b.extend_from_slice(&data.to_be_bytes());
    b.resize(276 + data as usize, 0x5a);
    b
}

/// Up to QEMU 8.1: an empty SYNC repeats the size of the packet before.
fn stale_sync(number: u64) -> Vec<u8> {
    let p = Packet {
        flags: SYNC,
        next_packet_size: 8192,
        number,
        block: "pc.ram",
        ..NONE
    };
    packet(&p, 128, &[])
}

fn stream() -> Vec<u8> {
    let mut b = initial(2);
    b.extend(zeroed_sync(4096, 1));
    b.extend(ram(4096, 2, &[0x1000, 0x3000], &[0x2000]));
    b.extend(stale_sync(3));
    b.extend(ram(4096, 4, &[], &[0x8000, 0x9000]));
    b.extend(device_state(1000));
    b.extend(ram(4096, 5, &[0x10000], &[]));
    b.extend(zeroed_sync(4096, 6));
    b
}

fn run(data: &[u8], size: usize) -> (Log, Channel<u64>) {
    let (mut log, mut c) = (Log::default(), Channel::new());
    for (at, s) in slices(data, size) {
        c.push(at, s, &mut log);
    }
    c.finish();
    (log, c)
}

#[test]
fn probes() {
    let s = stream();
    assert_eq!(probe(&s), Probe::Yes);
    assert_eq!(probe(&s[..25]), Probe::NeedMore);
    assert_eq!(probe(b"QEVM"), Probe::No);
    assert_eq!(probe(&[]), Probe::NeedMore);
    // The layout of 3.0 and 3.1: the first packet follows after 25 bytes.
    let mut old = s[..25].to_vec();
    old.extend_from_slice(&s[..25]);
    assert_eq!(probe(&old), Probe::No);
}

#[test]
fn whole_and_byte_by_byte() {
    let s = stream();
    let (log, c) = run(&s, s.len());
    assert!(c.whole());
    assert_eq!(c.resolved(), s.len() as u64);
    assert_eq!(c.page_size(), Some(4096));
    assert_eq!(log.count("Initial"), 1);
    assert_eq!(log.count("Packet"), 3);
    assert_eq!(log.count("Sync"), 3);
    assert_eq!(log.count("DeviceState"), 1);
    assert_eq!(log.count("Page pc.ram"), 6);
    assert_eq!(log.count("Lost"), 0);
    for size in [1, 2, 3, 7, 64, 1000] {
        assert_eq!(run(&s, size).0, log, "slices of {size}");
    }
    // Page data and device state are never revealed.
    assert!(!log.shown(0xa5) && !log.shown(0x5a));
}

#[test]
fn stale_next_packet_size() {
    let mut s = initial(0);
    s.extend(ram(4096, 0, &[0, 4096], &[]));
    s.extend(stale_sync(1));
    s.extend(stale_sync(2));
    s.extend(ram(4096, 3, &[8192], &[]));
    let (log, c) = run(&s, 100);
    assert!(c.whole());
    assert_eq!(log.count("Sync"), 2);
    assert_eq!(log.count("Page"), 3);
}

#[test]
fn sync_with_pages() {
    let mut s = initial(0);
    let p = Packet {
        flags: SYNC,
        next_packet_size: 4096,
        block: "pc.ram",
        normal: &[0x5000],
        ..NONE
    };
    s.extend(packet(&p, 128, &[1; 4096]));
    s.extend(stale_sync(2));
    let (log, c) = run(&s, 77);
    assert!(c.whole());
    assert_eq!(log.count("Packet"), 1);
    assert_eq!(log.count("Sync"), 2);
}

#[test]
fn header_length_of_each_page_size() {
    for page in [1024usize, 2048, 4096, 8192, 16384, 65536] {
        let mut s = initial(0);
        s.extend(zeroed_sync(page, 0));
        s.extend(zeroed_sync(page, 1));
        s.extend(ram(page as u32, 2, &[0, page as u64], &[2 * page as u64]));
        s.extend(zeroed_sync(page, 3));
        for size in [1, 333, s.len()] {
            let (log, c) = run(&s, size);
            assert!(c.whole(), "page size {page}");
            assert_eq!(c.page_size(), Some(page as u32));
            assert_eq!(c.resolved(), s.len() as u64);
            assert_eq!(log.count("Sync"), 3);
            assert_eq!(log.count("Page"), 3);
        }
    }
}

#[test]
fn header_length_before_device_state() {
    let mut s = initial(0);
    s.extend(zeroed_sync(65536, 0));
    s.extend(device_state(10));
    s.extend(zeroed_sync(65536, 1));
    let (log, c) = run(&s, 5);
    assert!(c.whole());
    assert_eq!(log.count("DeviceState"), 1);
    assert_eq!(log.count("Sync"), 2);
}

#[test]
fn compressed() {
    let mut s = initial(0);
    let p = Packet {
        flags: 0x04,
        next_packet_size: 777,
        block: "pc.ram",
        normal: &[0, 4096, 8192],
        ..NONE
    };
    s.extend(packet(&p, 128, &[9; 777]));
    s.extend(zeroed_sync(4096, 1));
    let (log, c) = run(&s, 50);
    assert!(c.whole());
    assert_eq!(log.count("Page"), 3);
    assert!(log.items.iter().any(|i| i.contains("Zstd")));
    assert_eq!(log.count("Sync"), 1);
}

#[test]
fn cut_anywhere() {
    let s = stream();
    for end in 0..s.len() {
        let (log, c) = run(&s[..end], 512);
        assert_eq!(log.count("Lost"), 0);
        assert_eq!(c.resolved(), end as u64);
    }
}

fn with_gap(s: &[u8], from: usize, length: usize) -> (Log, Channel<u64>) {
    let (mut log, mut c) = (Log::default(), Channel::new());
    c.push(0, &s[..from], &mut log);
    c.gap(length as u64, from as u64, &mut log);
    for (at, b) in slices(&s[from + length..], 400) {
        c.push(at + (from + length) as u64, b, &mut log);
    }
    c.finish();
    (log, c)
}

#[test]
fn gap_inside_data() {
    let s = stream();
    // Data of the first RAM packet.
    let data = 64 + 1344 + 1344;
    let (log, c) = with_gap(&s, data + 100, 8000);
    assert!(c.whole());
    assert_eq!(log, run(&s, s.len()).0);
}

#[test]
fn gap_inside_offsets() {
    let s = stream();
    let offsets = 64 + 1344 + 320;
    let (log, c) = with_gap(&s, offsets + 12, 600);
    assert!(!c.whole());
    assert_eq!(log.count("Lost"), 0);
    assert_eq!(log.count("Packet"), 3);
    assert_eq!(log.count("Page"), 4);
    // In the unused rest nothing is lost at all.
    let (log, c) = with_gap(&s, offsets + 48, 600);
    assert!(c.whole());
    assert_eq!(log.count("Page"), 6);
}

#[test]
fn gap_over_a_header() {
    let s = stream();
    let data = 64 + 1344 + 1344;
    let (log, c) = with_gap(&s, data + 100, 8200);
    assert!(!c.whole());
    assert_eq!(log.count("Lost"), 1);
    assert_eq!(log.count("Found"), 1);
    assert_eq!(log.count("Packet"), 3);
    assert_eq!(log.count("Sync"), 2);
    assert_eq!(c.resolved(), s.len() as u64);
}

#[test]
fn gap_anywhere() {
    let s = stream();
    for from in (0..s.len()).step_by(13) {
        for length in [1, 100, 3000] {
            if from + length <= s.len() {
                let (_, c) = with_gap(&s, from, length);
                assert_eq!(c.resolved(), s.len() as u64);
            }
        }
    }
}

#[test]
fn from_the_middle() {
    let s = stream();
    let (mut log, mut c) = (Log::default(), Channel::in_the_middle(1000));
    for (at, b) in slices(&s[1000..], 60) {
        c.push(at + 1000, b, &mut log);
    }
    assert_eq!(log.count("Found"), 1);
    assert_eq!(log.count("Packet"), 3);
    assert!(!c.whole());
}

proptest! {
    #[test]
    fn changed_bytes(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        size in 1usize..3000,
    ) {
        let mut s = stream();
        for (at, b) in changes {
            let at = at.index(s.len());
            s[at] = b;
        }
        let (log, c) = run(&s, size);
        prop_assert_eq!(c.resolved(), s.len() as u64);
        prop_assert!(run(&s, s.len()).0 == log);
    }

    #[test]
    fn noise(s in prop::collection::vec(any::<u8>(), 0..5000), size in 1usize..600) {
        let mut all = initial(1);
        all.extend(&s);
        prop_assert_eq!(run(&all, size).1.resolved(), all.len() as u64);
    }
}
