//! Every format, link, unit of time and compression, whole.

use phasescope::capture::{Compression, Format, Interface, LinkType, MAX_FRAME};

use super::*;

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
