//! What several tests need: fixtures, reports, truth.

#![allow(dead_code, unreachable_pub, reason = "each test uses some of it")]

pub mod rpc;
pub mod scene;
pub mod stream;
pub mod trace;

use std::path::{Path, PathBuf};

use phasescope::analysis::analyze;
use phasescope::capture::Capture;
use phasescope::migration::{DowntimeMethod, Migration};
use phasescope::report::Report;
use serde_json::Value;

/// The fixtures with a truth of their own.
pub const KVM: [&str; 5] = [
    "kvm-idle",
    "kvm-loaded",
    "kvm-repeat",
    "kvm-postcopy",
    "kvm-multifd",
];

/// Recordings of every way that a migration can go (`fixtures/record/kvm`), with their truth.
pub const RECORDED: [&str; 33] = [
    "kvm-direct",
    "kvm-tunnelled",
    "kvm-tls",
    "kvm-tls-plain",
    "kvm-tls-direct",
    "kvm-tls-tunnelled",
    "kvm-ssh",
    "kvm-ssh-tunnelled",
    "kvm-ssh-direct",
    "kvm-ssh-cancelled",
    "kvm-storage",
    "kvm-block",
    "kvm-preempt",
    "kvm-cancelled",
    "kvm-qemu-killed",
    "kvm-libvirtd-killed",
    "kvm-refused-file",
    "kvm-refused-exists",
    "kvm-xbzrle",
    "kvm-autoconverge",
    "kvm-compressed",
    "kvm-postcopy-command",
    "kvm-postcopy-recovered",
    "kvm-multifd-zstd",
    "kvm-multifd-zlib",
    "kvm-vlan",
    "kvm-ipv6",
    "kvm-offload",
    "kvm-two-ways",
    "kvm-late",
    "kvm-offline",
    "kvm-link-lost",
    "kvm-link-restored",
];

/// An empty folder of a test's own.
pub fn scratch(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

pub fn kvm(name: &str) -> PathBuf {
    fixture(&format!("kvm/{name}.pcap.zst"))
}

pub fn truth(name: &str) -> Value {
    let file = fixture(&format!("kvm/{name}.truth.json"));
    serde_json::from_str(&std::fs::read_to_string(file).expect("truth is there"))
        .expect("truth is JSON")
}

pub fn report(files: &[PathBuf]) -> Report {
    let mut capture = Capture::open(files).expect("the capture opens");
    analyze(&mut capture, |_| true).expect("the capture can be read")
}

/// The report of one file, with the file's name taken out: the folder differs between machines.
pub fn report_of(file: &Path) -> Report {
    let mut report = report(&[file.to_owned()]);
    report.capture.files = vec![
        file.file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default(),
    ];
    report
}

/// `seconds.nanoseconds` as nanoseconds.
pub fn nanos(s: &str) -> i64 {
    let (seconds, fraction) = s.split_once('.').unwrap_or((s, ""));
    let fraction = format!("{fraction:0<9}");
    seconds.parse::<i64>().expect("seconds") * 1_000_000_000
        + fraction[..9].parse::<i64>().expect("nanoseconds")
}

/// RFC 3339 as nanoseconds since 1970.
pub fn parse_time(s: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(s)
        .expect("a time")
        .timestamp_nanos_opt()
        .expect("in range")
}

/// As many echoes were lost around the switch-over as in these runs, or none, and then it is said why.
pub fn lost_echoes_are(m: &Migration, runs: &[u64], name: &str) {
    let mut all = m.downtime.iter();
    let d = all
        .find(|d| d.method == DowntimeMethod::LostEchoes)
        .expect("the method");
    match runs {
        [] => assert!(d.lost.is_none() && d.reason.is_some(), "{name} {d:?}"),
        runs => assert_eq!(d.lost, Some(runs.iter().sum()), "{name}"),
    }
}
