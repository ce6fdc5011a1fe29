//! What the program as a process cannot reach, seen from outside. A pipe without a writer holds it
//! up where it has opened its first capture; what happens to its files then is no longer its own.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use landlock::{LandlockStatus, Ruleset, RulesetAttr};
use serde_json::Value;
use support::kvm;

fn scratch(test: &str) -> PathBuf {
    support::scratch(&format!("sandbox/{test}"))
}

/// Is Landlock in this kernel? A test that cannot be made says so.
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn landlock() -> bool {
    // In a thread of its own, for what is given up is gone.
    let asked = std::thread::spawn(|| {
        let rules = Ruleset::default().handle_access(landlock::AccessFs::Execute);
        let status = rules.and_then(|r| r.create()?.restrict_self()).unwrap();
        matches!(status.landlock, LandlockStatus::Available { .. })
    });
    let there = asked.join().unwrap();
    if !there {
        eprintln!("skipped: no Landlock in this kernel");
    }
    there
}

/// The program, held up by a pipe that is its first capture.
struct Held {
    child: Child,
    pipe: File,
}

impl Held {
    /// `off` is the control: the same without a sandbox.
    fn start(folder: &Path, off: bool, arguments: &[&str]) -> Self {
        let pipe = folder.join("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let mut command = Command::new(env!("CARGO_BIN_EXE_phasescope"));
        if off {
            command.env("PHASESCOPE_SANDBOX", "off");
        }
        let child = command
            .current_dir(folder)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Opens when the program has opened the other end.
        let pipe = File::options().write(true).open(&pipe).unwrap();
        Self { child, pipe }
    }

    /// A line of what the kernel tells of it.
    fn status(&self, key: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|l| l.strip_prefix(key)).unwrap();
        line.trim().to_owned()
    }

    /// Gives the capture and waits for the end.
    fn finish(mut self, capture: &[u8]) -> Output {
        // It may have ended already.
        let _ = self.pipe.write_all(capture);
        drop(self.pipe);
        self.child.wait_with_output().unwrap()
    }
}

fn capture(name: &str) -> Vec<u8> {
    fs::read(kvm(name)).unwrap()
}

fn migrations(report: &[u8]) -> usize {
    let report: Value = serde_json::from_slice(report).unwrap();
    report["migrations"].as_array().unwrap().len()
}

#[test]
fn a_file_that_takes_the_place_of_a_named_one_is_not_read() {
    if !landlock() {
        return;
    }
    for off in [false, true] {
        let folder = scratch(if off { "swapped-off" } else { "swapped" });
        fs::write(folder.join("second"), capture("kvm-repeat")).unwrap();
        fs::write(folder.join("other"), capture("kvm-loaded")).unwrap();
        let held = Held::start(
            &folder,
            off,
            &["analyze", "--format", "json", "pipe", "second"],
        );
        assert_eq!(held.status("NoNewPrivs:"), if off { "0" } else { "1" });
        fs::rename(folder.join("other"), folder.join("second")).unwrap();
        let out = held.finish(&capture("kvm-idle"));
        let said = String::from_utf8(out.stderr).unwrap();
        if off {
            assert_eq!(out.status.code(), Some(0), "{said}");
            assert_eq!(migrations(&out.stdout), 2);
        } else {
            assert_eq!(out.status.code(), Some(1), "{said}");
            assert!(
                said.contains("second") && said.contains("Permission denied"),
                "{said}"
            );
        }
    }
}

#[test]
fn a_folder_that_takes_the_place_of_the_output_s_is_not_written_to() {
    if !landlock() {
        return;
    }
    for off in [false, true] {
        let folder = scratch(if off { "folder-off" } else { "folder" });
        for name in ["out", "other"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        let arguments = [
            "analyze",
            "--format",
            "json",
            "-o",
            "out/report.json",
            "pipe",
        ];
        let held = Held::start(&folder, off, &arguments);
        fs::rename(folder.join("out"), folder.join("old")).unwrap();
        fs::rename(folder.join("other"), folder.join("out")).unwrap();
        let out = held.finish(&capture("kvm-idle"));
        let said = String::from_utf8(out.stderr).unwrap();
        let written = fs::read_dir(folder.join("out")).unwrap().count();
        if off {
            assert_eq!(out.status.code(), Some(0), "{said}");
            assert_eq!(written, 1);
        } else {
            assert_eq!(out.status.code(), Some(1), "{said}");
            assert!(said.contains("Permission denied"), "{said}");
            assert_eq!(written, 0);
        }
    }
}

/// Every command has given up what it does not need when it opens its first capture.
#[test]
fn every_command_that_reads_captures() {
    if !landlock() {
        return;
    }
    let commands: &[&[&str]] = &[
        &["analyze", "pipe"],
        &["events", "pipe"],
        &["capinfo", "pipe"],
        &["scrub", "pipe", "copy.pcap"],
        &["stats", "pipe"],
        &["budget", "pipe"],
        &["plot", "timeline", "pipe"],
        &["plot", "metric", "transfer", "pipe", "--by", "file"],
        &["report", "pipe"],
        &["compare", "pipe", "pipe"],
        &["model", "lmdt", "--factor", "am=1", "pipe"],
        &["what-if", "pipe", "--bandwidth", "1G"],
        #[cfg(feature = "live")]
        &["live", "--headless", "--replay", "pipe"],
    ];
    for arguments in commands {
        let mut held = Held::start(&scratch("every"), false, arguments);
        assert_eq!(held.status("NoNewPrivs:"), "1", "{arguments:?}");
        held.child.kill().unwrap();
        held.child.wait().unwrap();
    }
}

/// Runs a line of bash with `$P` for the program and `$C` for a capture.
fn bash(folder: &Path, line: &str) -> Output {
    Command::new("bash")
        .args(["-c", line])
        .current_dir(folder)
        .env("P", env!("CARGO_BIN_EXE_phasescope"))
        .env("C", kvm("kvm-idle"))
        .output()
        .unwrap()
}

/// Inputs and outputs that are no plain files, as shells make them.
#[test]
fn what_shells_make_of_files_still_works() {
    let folder = scratch("shell");
    fs::write(folder.join("name"), "the idle guest").unwrap();
    for line in [
        r#"$P analyze <(cat "$C") | grep -q kvg1"#,
        r#"$P analyze /dev/stdin <"$C" | grep -q kvg1"#,
        r#"$P analyze - <"$C" | grep -q kvg1"#,
        r#"$P analyze "$C" -o /dev/null"#,
        r#"$P analyze "$C" -o /dev/stdout | grep -q kvg1"#,
        r#"$P analyze "$C" -o >(grep -q kvg1 && touch seen); sleep 0; wait; $P capinfo "$C" >/dev/null"#,
        r#"$P analyze "$C" -o /dev/stdout >file && grep -q kvg1 file"#,
        r#"$P analyze "$C" -o here && grep -q kvg1 here"#,
        r#"ln -s deep/link link; mkdir deep; touch deep/link; $P analyze "$C" -o link && grep -q kvg1 deep/link && test -L link"#,
        r#"ln -s "$C" capture; $P analyze capture | grep -q kvg1"#,
        r#"$P stats "$C" --group load --manifest <(printf 'file,load\n%s,5\n' "$C") | grep -q 5"#,
        r#"$P analyze <(cat "$C") <(cat "$C") | grep -q kvg1"#,
        r#"$P stats <(cat "$C") --format csv | grep -q transfer"#,
        r#"$P report <(cat "$C") | grep -q kvg1"#,
        r#"cp "$C" a; cp "$C" b; $P stats a+b --format csv | grep -q transfer"#,
        r#"printf 'file,with,load\na,b,7\n' >m; $P stats deep/../a --group load --manifest m | grep -q 7"#,
        r#"$P man -o . && test -s phasescope.1 -a -s phasescope-plot-timeline.1"#,
        r#"$P analyze . ; test $? = 1"#,
    ] {
        let out = bash(&folder, line);
        assert!(out.status.success(), "{line}: {out:?}");
    }
    let out = bash(&folder, "$P analyze deep");
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.to_lowercase().contains("is a directory"), "{said}");
}

/// Names of hosts and services in filters are looked up, as tcpdump does.
#[cfg(feature = "live")]
#[test]
fn filters_may_use_names() {
    let folder = scratch("names");
    let known = bash(&folder, "getent hosts localhost && getent services ssh/tcp");
    for (line, needed) in [
        (r#"$P capinfo -f 'host localhost' "$C""#, true),
        (
            r#"$P capinfo -f 'tcp port ssh' "$C""#,
            known.status.success(),
        ),
    ] {
        let out = bash(&folder, line);
        assert!(out.status.success() || !needed, "{line}: {out:?}");
    }
}
