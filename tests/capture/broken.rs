//! Files that end early, hold nonsense, or cannot be read.

use phasescope::capture::MAX_FRAME;
use proptest::prelude::*;

use super::*;

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
}
