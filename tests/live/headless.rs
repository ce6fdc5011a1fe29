//! `--headless` as a process: its lines, its end, its numbers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use phasescope::capture::Capture;
use phasescope::live::engine::Engine;
use phasescope::live::metrics::Tally;
use phasescope::live::view::{Load, View};
use phasescope::report::trace::otlp;
use serde_json::Value;

use crate::{IDLE, Kept, TRACES, folder, offline, path};

fn live(arguments: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_phasescope"));
    c.arg("live").args(arguments).stdin(Stdio::null());
    c
}

fn lines(text: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|l| l["type"] == kind).collect()
}

#[test]
fn a_replay_tells_what_analyze_tells() {
    let report = folder("replay").join("report.json");
    for name in TRACES {
        let file = path(&format!("fixtures/{name}.pcap.zst"));
        let out = live(&["--headless", "--speed", "max", "--replay"])
            .arg(&file)
            .arg("--report")
            .arg(&report)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        let expected = offline(&file);
        assert_eq!(
            std::fs::read_to_string(&report).unwrap(),
            expected.to_json().unwrap()
        );
        let lines = lines(&out.stdout);
        assert_eq!(lines[0]["type"], "start");
        assert_eq!(lines[0]["schema"], "phasescope.live/1");
        let told = of_type(&lines, "migration");
        assert_eq!(told.len(), expected.migrations.len());
        assert!(!of_type(&lines, "event").is_empty());
        let end = lines.last().unwrap();
        assert_eq!(end["type"], "end");
        assert_eq!(end["migrations"], expected.migrations.len());
        assert!(out.stderr.is_empty(), "{out:?}");
    }
}

#[test]
fn finished_migrations_become_spans() {
    let file = path("fixtures/kvm/kvm-repeat.pcap.zst");
    let spans = folder("otlp").join("spans.jsonl");
    let run = || {
        let out = live(&["--headless", "--speed", "max", "--replay"])
            .arg(&file)
            .arg("--otlp")
            .arg(&spans)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        std::fs::read_to_string(&spans).unwrap()
    };
    let report = offline(&file);
    let line = |m| otlp::line(&report.capture, m);
    let expected: String = report.migrations.iter().map(line).collect();
    assert_eq!(expected.lines().count(), 3);
    assert_eq!(run(), expected);
    // What was there before stays.
    assert_eq!(run(), expected.repeat(2));
    let nowhere = live(&["--headless", "--replay"])
        .arg(&file)
        .args(["--otlp", "/nowhere/spans.jsonl"])
        .output()
        .unwrap();
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
}

/// Every view while a trace is read, some thousand of them at most.
fn views(name: &str, every: u64) -> Vec<View> {
    let mut capture = Capture::open(&[path(name)]).unwrap();
    let mut engine = Engine::new(vec![], "replay");
    let mut out = vec![];
    while let Some(frame) = capture.next_frame().unwrap() {
        engine.frame(&frame, &mut |_| {});
        if frame.number % every == 0 {
            out.push(engine.view(Load::default()));
        }
    }
    engine.close(&mut |_| {});
    out.push(engine.view(Load::default()));
    out
}

#[test]
fn channels_count_while_they_carry() {
    let views = views("fixtures/kvm/kvm-multifd.pcap.zst", 500);
    let finished = &views.last().unwrap().finished[0];
    let sum: u64 = finished
        .migration
        .transfer
        .as_ref()
        .unwrap()
        .rounds
        .iter()
        .map(|r| r.bytes)
        .sum();
    assert_eq!(finished.page_bytes, sum);
    assert!(
        finished.series.iter().sum::<u64>() > sum * 9 / 10,
        "{:?}",
        finished.series
    );
    let running: Vec<_> = views.iter().flat_map(|v| &v.running).collect();
    assert!(running.is_sorted_by_key(|s| s.page_bytes));
    assert!(
        running
            .iter()
            .any(|s| s.page_bytes > sum / 4 && s.page_bytes < sum * 3 / 4)
    );
    let rates = running.iter().map(|s| s.rate());
    assert!(rates.max() > Some(10_000_000));
    // Both rounds show before the end.
    let rounds = running
        .iter()
        .map(|s| s.migration.transfer.as_ref().map_or(0, |t| t.rounds.len()));
    assert!(rounds.max() > Some(0));
}

#[test]
fn a_clouds_migration_runs_from_its_request_on() {
    use phasescope::migration::{Driver, PhaseName};
    let views = views("fixtures/openstack/os-live-source.pcap.zst", 200);
    let running: Vec<_> = views.iter().flat_map(|v| &v.running).collect();
    let mut keys: Vec<u64> = running.iter().map(|s| s.key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 1, "the same from its first message to its last");
    assert!(
        running
            .iter()
            .all(|s| s.migration.driver == Driver::Openstack)
    );
    let mut phases: Vec<PhaseName> = running.iter().filter_map(|s| s.phase).collect();
    phases.dedup();
    for wanted in [
        PhaseName::Initialization,
        PhaseName::Transfer,
        PhaseName::PostMigration,
    ] {
        assert!(phases.contains(&wanted), "{phases:?}");
    }
    // In the end the report is the one of analyze.
    let expected = offline(&path("fixtures/openstack/os-live-source.pcap.zst"));
    let finished = &views.last().unwrap().finished;
    assert_eq!(finished.len(), expected.migrations.len());
    let json = |m| serde_json::to_value(m).unwrap();
    assert_eq!(json(&*finished[0].migration), json(&expected.migrations[0]));
}

#[test]
fn lines_for_people() {
    let out = live(&[
        "--headless",
        "--format",
        "text",
        "--speed",
        "max",
        "--replay",
    ])
    .arg(path(IDLE))
    .output()
    .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("migration 1 kvg1: completed"), "{text}");
}

#[test]
fn sigterm_tells_what_is_open() {
    let child = live(&["--headless", "--replay"])
        .arg(path(IDLE))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Kept(child);
    let mut out = BufReader::new(child.0.stdout.take().unwrap());
    let mut seen = String::new();
    while !seen.contains("stream-header") {
        assert!(out.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    child.terminate();
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap();
    let lines = lines(&rest);
    let open = of_type(&lines, "open");
    assert_eq!(open.len(), 1, "{lines:?}");
    assert_eq!(open[0]["guest"]["name"], "kvg1");
    assert_eq!(lines.last().unwrap()["type"], "end");
    assert!(child.wait().success());
}

fn get(address: &str, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_are_answered() {
    let child = live(&["--headless", "--metrics", "127.0.0.1:0", "--replay"])
        .arg(path(IDLE))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Kept(child);
    let mut line = String::new();
    let mut err = BufReader::new(child.0.stderr.take().unwrap());
    err.read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).unwrap();
    let address = address.split('/').next().unwrap().to_owned();
    let begun = Instant::now();
    let page = loop {
        let page = get(&address, "/metrics");
        if page.contains("phasescope_migrations_running 1\n") {
            break page;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{page}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    for part in [
        "phasescope_dropped_packets_total{place=\"kernel\"} 0",
        "# TYPE phasescope_phase_duration_seconds histogram",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(get(&address, "/other").starts_with("HTTP/1.1 404"));
    child.terminate();
    assert!(child.wait().success());
}

#[test]
fn finished_migrations_become_histograms() {
    let report = offline(&path("fixtures/kvm/kvm-repeat.pcap.zst"));
    let mut tally = Tally::default();
    report.migrations.iter().for_each(|m| tally.count(m));
    let page = tally.page(&Engine::default().view(Load::default()));
    for part in [
        "phasescope_phase_duration_seconds_bucket{phase=\"transfer\",le=\"0.5\"} 0\n",
        "phasescope_phase_duration_seconds_bucket{phase=\"transfer\",le=\"1\"} 2\n",
        "phasescope_phase_duration_seconds_bucket{phase=\"transfer\",le=\"+Inf\"} 3\n",
        "phasescope_phase_duration_seconds_count{phase=\"transfer\"} 3\n",
        "phasescope_migrations_total{outcome=\"completed\"} 3\n",
        "phasescope_downtime_seconds_count{method=\"stop-and-copy\"} 3\n",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn what_was_seen_is_kept() {
    let folder = folder("kept");
    let (whole, clean) = (folder.join("whole.pcapng"), folder.join("clean.pcapng"));
    let expected = offline(&path(IDLE));
    for (file, more) in [(&whole, None), (&clean, Some("--scrub"))] {
        let out = live(&["--headless", "--speed", "max", "--replay"])
            .arg(path(IDLE))
            .arg("--write")
            .arg(file)
            .args(more)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        let migrations = offline(file).migrations;
        assert_eq!(
            serde_json::to_value(&migrations).unwrap(),
            serde_json::to_value(&expected.migrations).unwrap()
        );
        // What exists is not replaced.
        let again = live(&["--headless", "--replay"])
            .arg(path(IDLE))
            .arg("--write")
            .arg(file)
            .output()
            .unwrap();
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
    }
}

#[test]
fn files_rotate() {
    let folder = folder("rotate");
    let run = |name: &str, more: &[&str]| {
        let out = live(&["--headless", "--speed", "max", "--replay"])
            .arg(path(IDLE))
            .arg("--write")
            .arg(folder.join(name))
            .args(more)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.to_string_lossy().contains(&format!("{}-", &name[..4])))
            .collect();
        files.sort();
        files
    };
    let files = run("size.pcapng", &["--rotate", "10M"]);
    assert!(files.len() > 3, "{files:?}");
    assert!(files[0].ends_with("size-00001.pcapng"));
    let mut all = Capture::open(&files).unwrap();
    let mut packets = 0;
    while all.next_frame().unwrap().is_some() {
        packets += 1;
    }
    assert_eq!(packets, offline(&path(IDLE)).capture.packets);
    let files = run("time.pcap", &["--rotate", "1s", "--keep", "2"]);
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files[1].ends_with("time-00005.pcap"), "{files:?}");
}

#[test]
fn clear_words() {
    let fails = |arguments: &[&str], code: i32, words: &str| {
        let out = live(arguments).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{err}");
        assert!(err.contains(words), "{err}");
    };
    let idle = path(IDLE);
    let idle = idle.to_str().unwrap();
    fails(&["--replay", idle], 1, "--headless tells");
    fails(&["--headless"], 2, "--interface");
    fails(
        &["--headless", "--replay", idle, "--speed", "0"],
        2,
        "'max'",
    );
    fails(
        &["--headless", "--replay", idle, "-w", "x.zst"],
        1,
        "afterwards",
    );
    fails(&["--headless", "--dpmi", "eth1"], 2, "udp://239.0.0.1:2064");
    fails(
        &["--headless", "--replay", idle, "-f", "nonsense and"],
        1,
        "filter",
    );
}
