//! DPMI: files and streams against the truth beside them, then broken in every way.

mod streams;

use std::path::PathBuf;
use std::process::Command;

use phasescope::capture::dpmi::Marker;
use phasescope::capture::{Capture, CaptureError, FileSummary, Format, LinkType, Options};
use phasescope::time::Timestamp;
use serde_json::Value;

const NAMES: [&str; 5] = ["mixed", "twopoints", "marker", "legacy05", "live-eth"];
const INSIDE: Options = Options { dpmi_inside: true };

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/dpmi")
        .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

fn truth(name: &str) -> Value {
    serde_json::from_slice(&bytes(&format!("{name}.json"))).unwrap()
}

/// A frame that outlives its capture.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    number: u64,
    time: Timestamp,
    wire_len: u32,
    point: Option<String>,
    nic: Option<String>,
    name: Option<String>,
    data: Vec<u8>,
}

fn drain(mut capture: Capture) -> (Vec<Kept>, FileSummary) {
    let mut all = Vec::new();
    while let Some(f) = capture.next_frame().unwrap() {
        assert_eq!(f.link, LinkType::Ethernet);
        let (number, time, wire_len, data) = (f.number, f.time, f.wire_len, f.data.to_vec());
        let interface = f.interface as usize;
        let i = capture.interfaces().nth(interface).unwrap();
        all.push(Kept {
            number,
            time,
            wire_len,
            point: i.point.clone(),
            nic: i.local_name().map(str::to_owned),
            name: i.name.clone(),
            data,
        });
    }
    (all, capture.files()[0].clone())
}

fn read(data: Vec<u8>, options: Options) -> Result<(Vec<Kept>, FileSummary), CaptureError> {
    Capture::from_reader_with("x", std::io::Cursor::new(data), options).map(drain)
}

fn frames(name: &str) -> (Vec<Kept>, FileSummary) {
    drain(Capture::open(&[path(name)]).unwrap())
}

/// As capshow prints it: seconds and twelve digits.
fn twelve_digits(t: Timestamp) -> String {
    let ns = t.nanos();
    let (seconds, ns) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    format!("{seconds}.{ns:09}{:03}", t.sub_nano_picos())
}

fn check_packets(got: &[Kept], packets: &Value) {
    let packets = packets.as_array().unwrap();
    assert_eq!(got.len(), packets.len());
    for (f, p) in got.iter().zip(packets) {
        assert_eq!(f.number, p["n"].as_u64().unwrap());
        assert_eq!(twelve_digits(f.time), p["ts"].as_str().unwrap());
        assert_eq!(u64::from(f.wire_len), p["len"].as_u64().unwrap());
        let cut = p["caplen"].as_u64().min(p["len"].as_u64()).unwrap();
        assert_eq!(f.data.len() as u64, cut);
        assert_eq!(
            f.nic.as_deref().unwrap_or_default(),
            p["nic"].as_str().unwrap()
        );
        assert_eq!(
            f.point.as_deref().unwrap_or_default(),
            p["mampid"].as_str().unwrap()
        );
    }
}

#[test]
fn files_are_read_as_the_reference_reads_them() {
    for name in NAMES {
        let (got, file) = frames(&format!("{name}.cap"));
        let truth = truth(name);
        check_packets(&got, &truth["packets"]);
        assert_eq!(file.format, Format::Dpmi);
        assert_eq!(file.format.name(), "dpmi");
        assert_eq!(file.damage, None);
        let (major, minor) = file.version.unwrap();
        assert_eq!(
            format!("{major}.{minor}"),
            truth["version"].as_str().unwrap()
        );
        let notes = file.dpmi.unwrap();
        assert_eq!(
            notes.written_by.unwrap_or_default(),
            truth["mpid"].as_str().unwrap()
        );
        assert_eq!(
            notes.comment.unwrap_or_default(),
            truth["comment"].as_str().unwrap()
        );
    }
}

#[test]
fn frames_equal_those_of_the_converted_files() {
    for name in NAMES {
        let (ours, _) = frames(&format!("{name}.cap"));
        let (theirs, file) = frames(&format!("{name}.pcap"));
        assert_eq!(file.format, Format::PcapMicros);
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (a, b) in ours.iter().zip(&theirs) {
            assert_eq!(a.data, b.data);
            assert_eq!(a.wire_len, b.wire_len);
            assert_eq!(a.time.nanos() / 1000, b.time.nanos() / 1000);
        }
    }
}

#[test]
fn compressed_files_are_the_same() {
    use std::io::Write as _;
    let plain = bytes("twopoints.cap");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let zst = zstd::encode_all(&plain[..], 1).unwrap();
    let expected = frames("twopoints.cap").0;
    for data in [gz.finish().unwrap(), zst] {
        assert_eq!(read(data, Options::default()).unwrap().0, expected);
    }
}

/// A 0.7 file around records.
fn file07(extensions: &[u8], comment: &[u8], records: &[u8]) -> Vec<u8> {
    let mut out = vec![0x6e, 0x9b, 0x3d, 0xc5, 0x47, 0xe2, 0x1a, 0x8f, 0, 0, 7, 0];
    out.extend((216 + extensions.len() as u16).to_le_bytes());
    out.extend((comment.len() as u16).to_le_bytes());
    out.resize(216, 0);
    out.extend(extensions);
    out.extend(comment);
    out.extend(records);
    out
}

fn file06(comment: &[u8], records: &[u8]) -> Vec<u8> {
    let mut out = (comment.len() as u32).to_le_bytes().to_vec();
    out.extend([0, 6]);
    out.extend(b"mpge06");
    out.resize(206, 0);
    // Alignment, any value.
    out.extend([0xab, 0xcd]);
    out.extend(comment);
    out.extend(records);
    out
}

fn record(nic: &[u8; 8], point: &[u8; 8], picos: u64, len: u32, data: &[u8]) -> Vec<u8> {
    let mut out = [*nic, *point].concat();
    out.extend(1_700_000_000u32.to_le_bytes());
    out.extend(picos.to_le_bytes());
    out.extend(len.to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

#[test]
fn every_version_of_the_header_is_read() {
    let expected = frames("twopoints.cap").0;
    let records = &records_of_cap("twopoints");
    let padding = [1, 0, 8, 0, 9, 9, 9, 9, 0x34, 0x12, 5, 0, 7, 0, 0, 0, 0];
    for file in [
        file07(&[], b"", records),
        file07(&padding, b"two\nlines \xe5", records),
        file06(b"No Comment", records),
        file06(b"", records),
    ] {
        let (got, summary) = read(file, Options::default()).unwrap();
        assert_eq!(got, expected);
        assert_eq!(summary.damage, None);
    }
    let (_, summary) = read(file07(&padding, b"a\nb \xe5", &[]), Options::default()).unwrap();
    assert_eq!(
        summary.dpmi.unwrap().comment.as_deref(),
        Some("a\\x0ab \\xe5")
    );
    assert_eq!(summary.packets, 0);
}

#[test]
fn wide_seconds_of_version_05_are_read_and_told() {
    let old = bytes("legacy05.cap");
    let truth = truth("legacy05");
    let offsets: Vec<usize> = truth["packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["offset"].as_u64().unwrap() as usize)
        .collect();
    let mut wide = old[..offsets[0]].to_vec();
    for (i, at) in offsets.iter().enumerate() {
        let end = offsets.get(i + 1).copied().unwrap_or(old.len());
        wide.extend(&old[*at..at + 20]);
        wide.extend([0; 4]);
        wide.extend(&old[at + 20..end]);
    }
    let (got, file) = read(wide, Options::default()).unwrap();
    assert_eq!(got, frames("legacy05.cap").0);
    let notes = file.dpmi.unwrap();
    assert!(notes.wide_seconds);
    assert_eq!(notes.warnings().len(), 1);
}

#[test]
fn names_times_and_lengths_at_their_limits() {
    let records = [
        // No NUL at all; garbage behind a NUL; nothing; not printable.
        record(b"xrk-desk", b"theotitc", 250, 3, b"abc"),
        record(
            b"d0\0garba",
            b"mp\0\xff\xfe\xfd\xfc\xfb",
            1_500_000_000_000,
            2,
            b"abFCS.",
        ),
        record(b"d0\0\0\0\0\0\0", b"mp\0\0\0\0\0\0", u64::MAX, 60, b""),
        record(b"d0\0\0\0\0\0\0", &[0; 8], 0, 1, b"z"),
        record(&[0; 8], &[0; 8], 0, 1, b"z"),
        record(b"\x01\xe5\0\0\0\0\0\0", b"mp\0\0\0\0\0\0", 0, 1, b"z"),
    ]
    .concat();
    let (got, file) = read(file07(&[], b"", &records), Options::default()).unwrap();
    let names: Vec<_> = got.iter().map(|f| f.name.as_deref()).collect();
    assert_eq!(
        names,
        [
            Some("theotitc:xrk-desk"),
            Some("mp:d0"),
            Some("mp:d0"),
            Some("d0"),
            None,
            Some("mp:\\x01\\xe5")
        ]
    );
    assert_eq!(twelve_digits(got[0].time), "1700000000.000000000250");
    assert_eq!(twelve_digits(got[1].time), "1700000001.500000000000");
    assert_eq!(got[1].data, b"ab");
    assert_eq!((got[2].data.len(), got[2].wire_len), (0, 60));
    let notes = file.dpmi.unwrap();
    assert_eq!((notes.odd_times, notes.surplus), (2, 1));
    assert_eq!(notes.warnings().len(), 2);
}

#[test]
fn a_record_larger_than_the_reference_reads_is_read() {
    let records = [
        record(b"d00\0\0\0\0\0", b"mp01\0\0\0\0", 0, 9000, &[7; 9000]),
        record(b"d00\0\0\0\0\0", b"mp01\0\0\0\0", 1, 3, b"abc"),
    ]
    .concat();
    let (got, _) = read(file07(&[], b"", &records), Options::default()).unwrap();
    assert_eq!(got.len(), 2);
}

#[test]
fn headers_that_cannot_be_are_refused_with_a_reason() {
    let good = file07(&[0; 4], b"", &[]);
    let change = |at: usize, b: &[u8]| {
        let mut f = good.clone();
        f[at..at + b.len()].copy_from_slice(b);
        match read(f, Options::default()) {
            Err(CaptureError::Broken { damage, .. }) => damage,
            other => panic!("{other:?}"),
        }
    };
    assert!(change(10, &[8, 0]).what.contains("0.8"));
    assert!(change(8, &[1, 0]).what.contains("1.7"));
    assert!(change(12, &[100, 0]).what.contains("byte 100"));
    assert!(change(216, &[9, 0, 3, 0]).what.contains("3 bytes"));
    assert!(
        change(216, &[9, 0, 0xff, 0xff])
            .what
            .contains("65535 bytes")
    );
    let swapped = [0x8f, 0x1a, 0xe2, 0x47, 0xc5, 0x3d, 0x9b, 0x6e];
    assert!(change(0, &swapped).what.contains("big-endian"));
    // Files that only begin like the versions without magic.
    for start in [[0u8, 0, 0, 0, 0, 6], [1, 2, 3, 4, 0, 6]] {
        let mut f = start.to_vec();
        f.resize(1000, 0xee);
        assert!(matches!(
            read(f, Options::default()),
            Err(CaptureError::NotACapture { .. })
        ));
    }
}

#[test]
fn an_absurd_length_ends_the_file_with_its_place() {
    let start = truth("mixed")["packets"][2]["offset"].as_u64().unwrap();
    let mut file = bytes("mixed.cap");
    let at = start as usize + 32;
    file[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let (got, summary) = read(file, Options::default()).unwrap();
    let damage = summary.damage.unwrap();
    assert_eq!(
        (got.len(), damage.offset, damage.truncated),
        (2, start, false)
    );
}

#[test]
fn files_cut_anywhere_say_where() {
    let cut06 = file06(b"No Comment", &records_of_cap("twopoints"));
    let files = NAMES.map(|n| (bytes(&format!("{n}.cap")), offsets(n)));
    for (file, offsets) in files {
        let first = offsets[0];
        for n in 0..file.len() {
            let whole = offsets.iter().filter(|o| **o <= n).count();
            match read(file[..n].to_vec(), Options::default()) {
                Err(CaptureError::Empty { .. }) => assert_eq!(n, 0),
                Err(CaptureError::NotACapture { .. }) => assert!(n < 12, "cut at {n}"),
                Err(CaptureError::Broken { damage, .. }) => {
                    assert!(n < first && damage.truncated, "cut at {n}");
                }
                Err(other) => panic!("{other}"),
                Ok((got, summary)) => {
                    assert!(n >= first);
                    let at = offsets[whole - 1];
                    assert_eq!(got.len(), whole - 1);
                    match summary.damage {
                        None => assert_eq!(n, at, "cut between records"),
                        Some(d) => assert_eq!((d.offset, d.truncated), (at as u64, true)),
                    }
                }
            }
        }
    }
    for n in 0..cut06.len() {
        let _ = read(cut06[..n].to_vec(), Options::default());
    }
}

fn offsets(name: &str) -> Vec<usize> {
    truth(name)["packets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["offset"].as_u64().unwrap() as usize)
        .collect()
}

fn records_of_cap(name: &str) -> Vec<u8> {
    bytes(&format!("{name}.cap"))[offsets(name)[0]..].to_vec()
}

/// A small generator (xorshift64) with a fixed seed: the same changes every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

#[test]
fn changed_bytes_do_no_harm() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut files: Vec<Vec<u8>> = NAMES.iter().map(|n| bytes(&format!("{n}.cap"))).collect();
    files.push(file06(b"x", &records_of_cap("twopoints")));
    files.push(bytes("live-eth.stream.pcap"));
    for file in &files {
        for round in 0..600 {
            let mut f = file.clone();
            for _ in 0..=dice.below(8) {
                // Half of the changes in the headers.
                let end = if round % 2 == 0 { f.len() } else { 300 };
                let at = dice.below(end);
                f[at] = dice.below(256) as u8;
            }
            for options in [Options::default(), INSIDE] {
                if let Ok(mut c) =
                    Capture::from_reader_with("x", std::io::Cursor::new(f.clone()), options)
                {
                    while let Ok(Some(frame)) = c.next_frame() {
                        assert!(frame.wire_len as usize >= frame.data.len());
                        let _ = Marker::find(frame.link, frame.data);
                    }
                }
            }
        }
    }
}

#[test]
fn many_points_are_bounded() {
    let mut records = Vec::new();
    for i in 0..5000u64 {
        records.extend(record(
            &i.to_be_bytes().map(|b| b | 0x40),
            &i.to_le_bytes().map(|b| b | 0x80),
            0,
            1,
            b"z",
        ));
    }
    let file = file07(&[], b"", &records);
    let mut capture = Capture::from_reader("x", std::io::Cursor::new(file)).unwrap();
    let mut n = 0;
    while capture.next_frame().unwrap().is_some() {
        n += 1;
    }
    assert_eq!(n, 5000);
    assert!(capture.interfaces().count() <= 4096);
}

#[test]
fn points_and_interfaces_select_frames_that_keep_their_numbers() {
    let all = frames("twopoints.cap").0;
    let select = |points: &[&str], interfaces: &[&str]| {
        let own = |s: &[&str]| s.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let mut capture = Capture::open(&[path("twopoints.cap")]).unwrap();
        capture.select(&own(points), &own(interfaces));
        let mut got = Vec::new();
        while let Some(f) = capture.next_frame().unwrap() {
            got.push(f.number);
        }
        let unmet: Vec<String> = capture.unmet_names().map(str::to_owned).collect();
        (got, unmet)
    };
    let where_ = |keep: &dyn Fn(&Kept) -> bool| -> Vec<u64> {
        all.iter().filter(|f| keep(f)).map(|f| f.number).collect()
    };
    let is = |x: &Option<String>, name: &str| x.as_deref() == Some(name);
    assert_eq!(select(&[], &[]).0.len(), 44);
    let (got, unmet) = select(&["mp01"], &[]);
    assert_eq!(got, where_(&|f| is(&f.point, "mp01")));
    assert!(unmet.is_empty() && !got.is_empty() && got.len() < 44);
    assert_eq!(select(&["mp01", "mp02"], &[]).0.len(), 44);
    assert_eq!(select(&[], &["d01"]).0, where_(&|f| is(&f.nic, "d01")));
    assert_eq!(
        select(&["mp02"], &["d01"]).0,
        where_(&|f| is(&f.nic, "d01") && is(&f.point, "mp02"))
    );
    assert_eq!(
        select(&[], &["mp02:d00"]).0,
        where_(&|f| is(&f.name, "mp02:d00"))
    );
    let (got, unmet) = select(&["mp01", "mp03"], &["d0"]);
    assert_eq!(
        (got.len(), unmet),
        (0, vec!["mp03".to_owned(), "d0".to_owned()])
    );
}

#[test]
fn an_interface_is_the_same_in_every_file() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let records = records_of_cap("twopoints");
    let offsets = offsets("twopoints");
    let middle = offsets[21] - offsets[0];
    // The second half meets its interfaces in another order.
    let parts = [("a.cap", &records[..middle]), ("b.cap", &records[middle..])];
    let paths: Vec<PathBuf> = parts
        .iter()
        .map(|(name, data)| {
            let p = dir.join(format!("dpmi-{}-{name}", std::process::id()));
            std::fs::write(&p, file07(&[], b"", data)).unwrap();
            p
        })
        .collect();
    let (got, _) = drain(Capture::open(&paths).unwrap());
    let mut capture = Capture::open(&paths).unwrap();
    while capture.next_frame().unwrap().is_some() {}
    assert_eq!(capture.interfaces().count(), 4);
    assert_eq!(got, frames("twopoints.cap").0);
    for p in paths {
        let _ = std::fs::remove_file(p);
    }
}

#[test]
fn markers_are_recognised() {
    let (all, _) = frames("marker.cap");
    let found: Vec<(u64, Marker)> = all
        .iter()
        .filter_map(|f| Some((f.number, Marker::find(LinkType::Ethernet, &f.data)?)))
        .collect();
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|(_, m)| m.version == 1));
    assert_eq!(found[0].1.comment, "run start");
    for name in ["mixed", "twopoints", "live-eth"] {
        let (all, _) = frames(&format!("{name}.cap"));
        assert!(
            all.iter()
                .all(|f| Marker::find(LinkType::Ethernet, &f.data).is_none())
        );
    }
    // Cut anywhere.
    for f in &all {
        for n in 0..f.data.len() {
            let _ = Marker::find(LinkType::Ethernet, &f.data[..n]);
        }
    }
}

fn capinfo(arguments: &[&str]) -> (String, Option<i32>) {
    let out = Command::new(env!("CARGO_BIN_EXE_phasescope"))
        .arg("capinfo")
        .args(arguments)
        .output()
        .unwrap();
    (String::from_utf8(out.stdout).unwrap(), out.status.code())
}

#[test]
fn capinfo_tells_what_files_are() {
    let file = |name: &str| path(name).display().to_string();
    let (cap, pcap, stream) = (
        file("twopoints.cap"),
        file("twopoints.pcap"),
        file("live-eth.stream.pcap"),
    );
    let (out, code) = capinfo(&["--format", "json", &cap, &pcap, &file("legacy05.cap")]);
    assert_eq!(code, Some(0));
    let rows: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(rows[0]["format"], "dpmi");
    assert_eq!(rows[0]["version"], "0.7");
    assert_eq!(rows[0]["comment"], "two capture points, 250 ps grid");
    assert_eq!(rows[0]["packets"], 44);
    assert_eq!(rows[0]["damage"], Value::Null);
    let points = rows[0]["interfaces"].as_array().unwrap();
    assert_eq!(points.len(), 4);
    let sum: u64 = points.iter().map(|p| p["packets"].as_u64().unwrap()).sum();
    assert_eq!(sum, 44);
    assert_eq!(rows[1]["format"], "pcap");
    assert_eq!(rows[1]["version"], "2.4");
    assert_eq!(rows[1]["bytes"], rows[0]["bytes"]);
    assert_eq!(rows[2]["version"], "0.5");
    assert!(rows[2]["cut_packets"].as_u64().unwrap() > 0);

    let (out, _) = capinfo(&["--mp", "mp02", "--mp-interface", "d01", &cap]);
    assert!(out.contains("mp02:d01"), "{out}");
    let (out, _) = capinfo(&["--dpmi-inside", &stream]);
    assert!(out.contains("19 measurement frames, 65 records"), "{out}");
    let (out, _) = capinfo(&[&file("marker.cap")]);
    assert!(out.contains("run start"), "{out}");
    let (_, code) = capinfo(&[&cap, &file("mixed.json")]);
    assert_eq!(code, Some(1));
}
