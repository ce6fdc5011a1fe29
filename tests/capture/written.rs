//! What is written is read again.

use phasescope::capture::write::Writer;
use phasescope::capture::{Compression, Format, Interface};
use proptest::prelude::*;

use super::*;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

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
