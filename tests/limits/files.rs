//! Capture files that announce, or unpack to, more than there is room for.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use phasescope::capture::MAX_FRAME;

use crate::support::stream::Stream;
use crate::support::trace::{Side, Trace};

/// Address space that the program gets, in KiB: the program itself takes most of it.
const ADDRESS_SPACE_KIB: u32 = 400 << 10;

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("limits-{name}"));
    std::fs::write(&path, bytes).expect("can be written");
    path
}

/// `phasescope analyze --format json` with little address space.
fn analyze(path: &Path) -> Output {
    Command::new("sh")
        .arg("-c")
        .arg(format!(
            "ulimit -v {ADDRESS_SPACE_KIB}; exec \"$0\" analyze --format json \"$1\""
        ))
        .arg(env!("CARGO_BIN_EXE_phasescope"))
        .arg(path)
        .output()
        .expect("sh runs")
}

fn report(path: &Path) -> serde_json::Value {
    let out = analyze(path);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        matches!(out.status.code(), Some(0 | 3)),
        "{:?}: {said}",
        out.status
    );
    serde_json::from_slice(&out.stdout).expect("JSON")
}

fn pcap_head() -> Vec<u8> {
    let words = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1];
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn record(captured: u32, data: &[u8]) -> Vec<u8> {
    let words = [1_700_000_000u32, 0, captured, captured];
    let head = words.iter().flat_map(|w| w.to_le_bytes());
    head.chain(data.iter().copied()).collect()
}

#[test]
fn the_bound_is_one() {
    // The same run fails where there is even less: the bound does bind.
    let path = file("empty.pcap", &pcap_head());
    let out = Command::new("sh")
        .arg("-c")
        .arg("ulimit -v 2000; exec \"$0\" analyze \"$1\"")
        .arg(env!("CARGO_BIN_EXE_phasescope"))
        .arg(&path)
        .output()
        .expect("sh runs");
    assert!(!matches!(out.status.code(), Some(0 | 3)));
    assert_eq!(report(&path)["capture"]["packets"], 0);
}

#[test]
fn frames_of_four_gibibytes() {
    let damage = |bytes: &[u8], name: &str| {
        let r = report(&file(name, bytes));
        assert_eq!(r["capture"]["packets"], 1, "{name}");
        r["capture"]["health"]["damage"][0]
            .as_str()
            .expect("said")
            .to_owned()
    };
    let first = record(60, &[0; 60]);
    let huge = [pcap_head(), first.clone(), record(u32::MAX, &[0; 100])].concat();
    assert!(damage(&huge, "huge.pcap").contains("more than a frame can have"));
    // pcapng: a block of almost four gibibytes behind a good one.
    let mut huge = block(6, &[]);
    huge[4..8].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    let bytes = [section(1), packet(0), huge];
    damage(&bytes.concat(), "huge.pcapng");
}

/// A block of pcapng.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let body = [body, &vec![0; body.len().next_multiple_of(4) - body.len()]].concat();
    let length = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, &body, &length].concat()
}

/// The head of a section with so many interfaces, all Ethernet.
fn section(interfaces: usize) -> Vec<u8> {
    let mut head = 0x1a2b_3c4du32.to_le_bytes().to_vec();
    head.extend([1, 0, 0, 0]);
    head.extend([0xff; 8]);
    let described = block(1, &[1, 0, 0, 0, 0, 0, 4, 0]).repeat(interfaces);
    [block(0x0a0d_0d0a, &head), described].concat()
}

/// An enhanced packet block.
fn packet(interface: u32) -> Vec<u8> {
    let mut t = Trace::default();
    t.udp(0, b"x");
    let frame = &t.frames[0].1;
    let n = (frame.len() as u32).to_le_bytes();
    block(
        6,
        &[&interface.to_le_bytes()[..], &[0; 8], &n, &n, frame].concat(),
    )
}

#[test]
fn interfaces_of_a_section() {
    // Each section has its own.
    let sections = [section(5000), packet(4095), section(5000), packet(4095)].concat();
    let r = report(&file("interfaces.pcapng", &sections));
    assert_eq!(r["capture"]["packets"], 2);
    assert_eq!(r["capture"]["health"]["damage"], serde_json::json!([]));
    // What is of a later one ends the file, and it is said why.
    let bytes = [sections, packet(4096), packet(0)].concat();
    let r = report(&file("interfaces-past.pcapng", &bytes));
    assert_eq!(r["capture"]["packets"], 2);
    let damage = r["capture"]["health"]["damage"][0].as_str();
    assert!(damage.is_some_and(|d| d.contains("interface 4096") && d.contains("not read")));
}

#[test]
fn interfaces_of_all_sections() {
    // When there are no numbers left, the last ones stand for others too; all frames are read.
    let all = [section(4096), packet(4095)].concat().repeat(18);
    let mut capture = phasescope::capture::Capture::from_reader("built", std::io::Cursor::new(all))
        .expect("opens");
    let mut seen = vec![];
    while let Some(frame) = capture.next_frame().expect("reads") {
        seen.push(frame.interface);
    }
    assert_eq!(seen[..3], [4095, 8191, 12_287]);
    assert_eq!(seen[15..], [65_535; 3]);
    assert_eq!(capture.interfaces().count(), 65_536);
}

/// A quarter of a gibibyte of frames of zeros, in a file a thousandth as long.
fn bomb(out: &mut impl Write) {
    let frame = record(MAX_FRAME as u32, &vec![0; MAX_FRAME]);
    out.write_all(&pcap_head()).expect("memory takes all");
    for _ in 0..1024 {
        out.write_all(&frame).expect("memory takes all");
    }
}

#[test]
fn bombs() {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb(&mut gz);
    let gz = gz.finish().expect("memory takes all");
    let mut zst = zstd::Encoder::new(Vec::new(), 1).expect("zstd");
    bomb(&mut zst);
    let zst = zst.finish().expect("memory takes all");
    for (name, bytes) in [("bomb.pcap.gz", gz), ("bomb.pcap.zst", zst)] {
        assert!(bytes.len() < 4 << 20, "{name}: {}", bytes.len());
        let r = report(&file(name, &bytes));
        assert_eq!(r["capture"]["packets"], 1024, "{name}");
        assert_eq!(r["capture"]["bytes"], 1024 * MAX_FRAME, "{name}");
    }
}

#[test]
fn a_window_that_is_too_large() {
    // RFC 8878, 3.1.1.1: no single segment; a window of 2^31 bytes (exponent 21).
    let bytes = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0, 0];
    let out = analyze(&file("window.pcap.zst", &bytes));
    assert_eq!(out.status.code(), Some(1));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("memory") || said.contains("window"), "{said}");
}

#[test]
fn claims_and_floods_in_little_memory() {
    // A guest of 8 EiB whose pages lie everywhere, and a hole with 64 MiB behind it.
    let far: Vec<(u64, Option<u8>)> = (0..256).map(|n| (n << 42, None)).collect();
    let stream = Stream::new()
        .ram_start(1 << 50)
        .ram(0x02, &far)
        .ram(0x02, &far);
    let mut t = Trace::default();
    let mut c = t.connect(0, "10.0.0.1:50000", "10.0.0.2:49152");
    t.send(1_000_000, &mut c, Side::Client, &stream.0);
    let mut holed = t.connect(2_000_000, "10.0.0.1:50001", "10.0.0.2:49153");
    let before = t.frames.len();
    t.send(3_000_000, &mut holed, Side::Client, &vec![0x55; 64 << 20]);
    t.frames.remove(before);
    let r = report(&file("claims.pcap", &t.pcap()));
    assert_eq!(r["migrations"][0]["transfer"]["pages"]["zero"], 512);
    assert!(r["capture"]["health"]["oddities"]["reassembly-buffer-full"].as_u64() > Some(0));
    assert_eq!(r["capture"]["health"]["missing_bytes"], 1448);
}
