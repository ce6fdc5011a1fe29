//! The program as a process: what it prints where, and its exit codes.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::{fixture, kvm, scratch};

fn program() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_phasescope"));
    c.env_remove("NO_COLOR");
    c
}

fn run(args: &[&str]) -> Output {
    program().args(args).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).expect("JSON")
}

/// The idle fixture, uncompressed.
fn plain() -> Vec<u8> {
    let file = fs::File::open(kvm("kvm-idle")).expect("the fixture");
    let mut z = zstd::Decoder::new(file).expect("zstd");
    z.window_log_max(27).expect("a window");
    let mut bytes = Vec::new();
    z.read_to_end(&mut bytes).expect("whole");
    bytes
}

fn path(p: &Path) -> &str {
    p.to_str().expect("UTF-8")
}

#[test]
fn analyze_prints_the_report_on_standard_output() {
    let out = run(&["analyze", path(&kvm("kvm-idle"))]);
    assert_eq!(out.status.code(), Some(0));
    let stdout = text(&out.stdout);
    assert!(stdout.contains("Migration 1: kvg1"));
    assert!(stdout.contains("23,805 normal, 9,298 zero (exact)"));
    assert!(!stdout.contains('\x1b'), "no escape codes into a pipe");
    assert_eq!(text(&out.stderr), "");
}

#[test]
fn json_and_markdown() {
    let out = run(&["analyze", "--format", "json", path(&kvm("kvm-loaded"))]);
    let report = json(&out);
    assert_eq!(report["schema"], "phasescope.report/1");
    assert_eq!(report["migrations"][0]["driver"], "libvirt-p2p");
    let out = run(&["analyze", "--format", "markdown", path(&kvm("kvm-loaded"))]);
    assert!(text(&out.stdout).contains("| phase | start (s) |"));
}

#[test]
fn a_report_goes_into_a_file() {
    let folder = scratch("report-file");
    let file = folder.join("report.json");
    let out = run(&[
        "analyze",
        "--format",
        "json",
        "-o",
        path(&file),
        path(&kvm("kvm-idle")),
    ]);
    assert_eq!(out.status.code(), Some(0));
    assert!(out.stdout.is_empty());
    let report: Value = serde_json::from_slice(&fs::read(&file).expect("written")).expect("JSON");
    assert_eq!(report["migrations"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        fs::read_dir(&folder).expect("a folder").count(),
        1,
        "nothing left behind"
    );
}

#[test]
fn several_files_are_one_capture_in_time_order() {
    // A rotated set, named in the wrong order.
    let folder = scratch("rotated");
    let whole = plain();
    let mut cut = 24;
    while cut < whole.len() / 2 {
        let length = u32::from_le_bytes(whole[cut + 8..cut + 12].try_into().expect("four"));
        cut += 16 + length as usize;
    }
    let (first, second) = (folder.join("b.pcap"), folder.join("a.pcap"));
    fs::write(&first, &whole[..cut]).expect("written");
    fs::write(&second, [&whole[..24], &whole[cut..]].concat()).expect("written");
    let parts = run(&["analyze", "--format", "json", path(&second), path(&first)]);
    let one = run(&["analyze", "--format", "json", path(&kvm("kvm-idle"))]);
    let read = |o: &Output| {
        let mut v = json(o);
        v["capture"]["files"] = Value::Null;
        // A step back over the files' border cannot be seen.
        v["capture"]["health"]["oddities"]["time-steps-back"] = Value::Null;
        v
    };
    assert_eq!(read(&parts), read(&one));
}

#[test]
fn standard_input() {
    let mut child = program()
        .args(["analyze", "--format", "json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let compressed = fs::read(kvm("kvm-idle")).expect("the fixture");
    let mut stdin = child.stdin.take().expect("a pipe");
    let feeder = std::thread::spawn(move || stdin.write_all(&compressed));
    let out = child.wait_with_output().expect("it ends");
    feeder.join().expect("no panic").expect("all was read");
    assert_eq!(out.status.code(), Some(0));
    let report = json(&out);
    assert_eq!(report["capture"]["files"][0], "-");
}

#[test]
fn errors_name_the_file_and_the_place() {
    let folder = scratch("errors");
    fs::write(folder.join("empty.pcap"), b"").expect("written");
    fs::write(folder.join("notes.txt"), b"Dear diary").expect("written");
    for (name, words) in [
        ("missing.pcap", "missing.pcap: No such file"),
        ("empty.pcap", "empty.pcap: the file is empty"),
        ("notes.txt", "notes.txt: not a capture"),
        ("", "directory"),
    ] {
        let out = run(&["analyze", path(&folder.join(name))]);
        assert_eq!(out.status.code(), Some(1), "{name}");
        assert!(text(&out.stderr).contains(words), "{name}");
    }
}

#[test]
fn a_cut_file_is_analysed_as_far_as_it_goes() {
    let folder = scratch("cut");
    let whole = plain();
    let cut = folder.join("cut.pcap");
    let at = whole.len() * 3 / 4;
    fs::write(&cut, &whole[..at]).expect("written");
    let out = run(&["analyze", "--format", "json", path(&cut)]);
    assert_eq!(out.status.code(), Some(0));
    let stderr = text(&out.stderr);
    assert!(
        stderr.contains("cut.pcap: the file ends inside a record at byte "),
        "{stderr}"
    );
    let report = json(&out);
    assert_eq!(report["capture"]["health"]["truncated_file"], true);
    let m = &report["migrations"][0];
    assert_eq!(m["outcome"]["result"], "unfinished");
    let phases = m["phases"].as_array().expect("phases");
    let transfer = phases
        .iter()
        .find(|p| p["name"] == "transfer")
        .expect("began");
    assert!(transfer["duration_ns"].is_null());
    assert!(transfer["reason"].is_string());
    assert!(m["downtime"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn a_corrupt_record_is_told_with_its_place() {
    let folder = scratch("corrupt");
    let mut whole = plain();
    let place = {
        let mut at = 24;
        for _ in 0..100 {
            let n = u32::from_le_bytes(whole[at + 8..at + 12].try_into().expect("four"));
            at += 16 + n as usize;
        }
        at
    };
    whole[place + 8..place + 12].copy_from_slice(&u32::MAX.to_le_bytes());
    let file = folder.join("corrupt.pcap");
    fs::write(&file, &whole).expect("written");
    let out = run(&["analyze", path(&file)]);
    assert_eq!(out.status.code(), Some(3));
    assert!(text(&out.stderr).contains(&format!(
        "corrupt record: 4294967295 captured bytes are more than a frame can have at byte {place}"
    )));
}

#[test]
fn no_migration_is_exit_code_3() {
    let file = fixture("dpmi/mixed.pcap");
    let out = run(&["analyze", path(&file)]);
    assert_eq!(out.status.code(), Some(3));
    assert!(text(&out.stderr).contains("no migration found"));
    assert!(
        text(&out.stdout).contains("packets"),
        "what was read is still told"
    );
}

#[test]
fn wrong_usage_is_exit_code_2() {
    assert_eq!(run(&["analyze"]).status.code(), Some(2));
    assert_eq!(run(&["analyse", "x"]).status.code(), Some(2));
    assert_eq!(
        run(&["analyze", "--format", "xml", "x"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = program()
        .args(["events", path(&kvm("kvm-repeat"))])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut first = [0; 64];
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut first).expect("a line");
    drop(stdout);
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(text(&out.stderr), "");
    assert_eq!(out.status.code(), Some(0));
}

#[test]
fn ctrl_c_prints_what_was_found() {
    let mut child = program()
        .args(["analyze", "--format", "json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let whole = plain();
    let mut stdin = child.stdin.take().expect("a pipe");
    // Half of it, then the signal, then the rest: the reading stops in between.
    stdin.write_all(&whole[..whole.len() / 2]).expect("taken");
    let pid = child.id().to_string();
    let killed = Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .expect("kill runs");
    assert!(killed.success());
    // Until it has stopped reading; then the pipe is closed.
    while stdin.write_all(&whole[whole.len() / 2..]).is_ok() {}
    let out = child.wait_with_output().expect("it ends");
    assert!(text(&out.stderr).contains("interrupted"));
    let report = json(&out);
    assert_eq!(report["migrations"][0]["guest"]["name"], "kvg1");
}

#[test]
fn events_in_order_as_text_and_ndjson() {
    let out = run(&["events", "--format", "ndjson", path(&kvm("kvm-idle"))]);
    assert_eq!(out.status.code(), Some(0));
    let events: Vec<Value> = text(&out.stdout)
        .lines()
        .map(|l| serde_json::from_str(l).expect("one object a line"))
        .collect();
    let calls = events
        .iter()
        .filter(|e| e["event"] == "libvirt-rpc" && e["type"] == "call")
        .count();
    assert_eq!(calls, 13);
    let open = events
        .iter()
        .find(|e| e["procedure"] == "CONNECT_OPEN" && e["type"] == "reply")
        .expect("the reply");
    assert_eq!(open["frame"], 2324);
    let lines = run(&["events", path(&kvm("kvm-idle"))]);
    assert_eq!(text(&lines.stdout).lines().count(), events.len());
}

#[cfg(feature = "live")]
#[test]
fn a_filter_in_tcpdumps_language() {
    let out = run(&[
        "analyze",
        "--format",
        "json",
        "-f",
        "tcp port 16509",
        path(&kvm("kvm-idle")),
    ]);
    let report = json(&out);
    let m = &report["migrations"][0];
    assert!(m["transfer"].is_null(), "the stream was filtered out");
    let open = &m["phases"][0]["end"];
    assert_eq!(open["frame"], 2324, "frames keep their numbers");
    let out = run(&["analyze", "-f", "tcp prot 1", path(&kvm("kvm-idle"))]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("filter 'tcp prot 1'"));
}

#[test]
fn help_teaches() {
    let out = run(&["--help"]);
    let help = text(&out.stdout);
    for word in [
        "analyze",
        "events",
        "phases",
        "scrub",
        "completions",
        "man",
        "Exit codes",
    ] {
        assert!(help.contains(word), "{word}");
    }
    for command in ["analyze", "events", "scrub"] {
        let out = run(&[command, "--help"]);
        assert_eq!(out.status.code(), Some(0));
        for line in text(&out.stdout).lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}

#[test]
fn phases_completions_and_manual() {
    let table = text(&run(&["phases"]).stdout);
    assert!(table.contains("libvirt-connection-opened"));
    let rows: Value =
        serde_json::from_slice(&run(&["phases", "--format", "json"]).stdout).expect("JSON");
    assert!(rows.as_array().is_some_and(|r| r.len() > 10));
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&run(&["completions", shell]).stdout).contains("phasescope"));
    }
    assert!(text(&run(&["man"]).stdout).contains(".TH"));
    let folder = scratch("man");
    assert_eq!(run(&["man", "-o", path(&folder)]).status.code(), Some(0));
    assert!(folder.join("phasescope-analyze.1").exists());
}
