//! The same calls and replies in the same frames as tshark with libvirt's own dissector (Debian
//! packages tshark and libvirt-wireshark). Skipped where they are not installed.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{KVM, kvm};

/// Frame, procedure number, type, serial, status.
type Message = (u64, i64, u64, u64, u64);

fn tshark_knows_libvirt() -> bool {
    Command::new("tshark")
        .args(["-G", "protocols"])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|o| {
            String::from_utf8_lossy(&o.stdout)
                .lines()
                .any(|l| l.ends_with("\tlibvirt"))
        })
}

fn by_tshark(pcap: &Path, port: u16) -> Vec<Message> {
    let out = Command::new("tshark")
        .arg("-r")
        .arg(pcap)
        .args(["-d", &format!("tcp.port=={port},libvirt"), "-Y", "libvirt"])
        .args([
            "-T",
            "fields",
            "-E",
            "separator=,",
            "-E",
            "occurrence=a",
            "-E",
            "aggregator=;",
        ])
        .args([
            "-e",
            "frame.number",
            "-e",
            "libvirt.procedure",
            "-e",
            "libvirt.type",
        ])
        .args(["-e", "libvirt.serial", "-e", "libvirt.status"])
        .stderr(Stdio::null())
        .output()
        .expect("tshark runs");
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let mut messages = Vec::new();
    for line in text.lines() {
        let fields: Vec<Vec<&str>> = line.split(',').map(|f| f.split(';').collect()).collect();
        let [frame, procedures, kinds, serials, statuses] = fields.as_slice() else {
            panic!("{line}");
        };
        for i in 0..procedures.len() {
            let n = |list: &[&str]| list[i].parse::<u64>().expect("a number");
            messages.push((
                frame[0].parse().expect("a number"),
                procedures[i].parse().expect("a number"),
                n(kinds),
                n(serials),
                n(statuses),
            ));
        }
    }
    messages
}

fn by_phasescope(pcap: &Path) -> Vec<Message> {
    let out = Command::new(env!("CARGO_BIN_EXE_phasescope"))
        .args(["events", "--format", "ndjson"])
        .arg(pcap)
        .output()
        .expect("the program runs");
    let names = &phasescope_parsers::libvirt::procedures::REMOTE_PROCEDURES;
    String::from_utf8(out.stdout)
        .expect("UTF-8")
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).expect("JSON"))
        .filter(|e| e["event"] == "libvirt-rpc")
        .map(|e| {
            let name = e["procedure"].as_str().expect("a name");
            let number = names.iter().find(|(_, n)| *n == name).expect("known").0;
            (
                e["frame"].as_u64().expect("a frame"),
                i64::from(number),
                ["call", "reply"]
                    .iter()
                    .position(|k| e["type"] == *k)
                    .expect("a type") as u64,
                e["serial"].as_u64().expect("a serial"),
                ["ok", "error"]
                    .iter()
                    .position(|s| e["status"] == *s)
                    .expect("a status") as u64,
            )
        })
        .collect()
}

#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn same_messages_in_the_same_frames() {
    if !tshark_knows_libvirt() {
        eprintln!("skipped: tshark with libvirt's dissector is not installed");
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tshark");
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in KVM {
        // tshark's own zstd does not take long windows.
        let pcap = folder.join(format!("{name}.pcap"));
        let file = std::fs::File::open(kvm(name)).expect("the fixture");
        let mut z = zstd::Decoder::new(file).expect("zstd");
        z.window_log_max(27).expect("a window");
        let mut out = std::fs::File::create(&pcap).expect("a file");
        std::io::copy(&mut z, &mut out).expect("written");
        let theirs = by_tshark(&pcap, 16509);
        assert!(!theirs.is_empty(), "{name}");
        assert_eq!(by_phasescope(&pcap), theirs, "{name}");
        std::fs::remove_file(pcap).expect("removed");
    }
}
