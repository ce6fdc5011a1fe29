//! `phasescope live`: the screen, the lines, and real capture on a virtual wire.
#![cfg(feature = "live")]

mod dpmi;
mod headless;
mod screen;
mod wire;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use phasescope::analysis;
use phasescope::capture::Capture;
use phasescope::report::Report;

/// A path below the repository.
fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Traces that live capture must read as `analyze` does.
const TRACES: [&str; 6] = [
    "kvm/kvm-idle",
    "kvm/kvm-loaded",
    "kvm/kvm-repeat",
    "kvm/kvm-postcopy",
    "kvm/kvm-multifd",
    "openstack/os-live-source",
];

const IDLE: &str = "fixtures/kvm/kvm-idle.pcap.zst";

fn open(name: &str) -> Capture {
    Capture::open(&[path(name)]).unwrap()
}

/// What `phasescope analyze` says.
fn offline(file: &std::path::Path) -> Report {
    let mut capture = Capture::open(&[file.to_owned()]).unwrap();
    analysis::analyze(&mut capture, |_| true).unwrap()
}

/// A path in the tests' own folder.
fn path_in_target(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = path_in_target(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Says, past the test harness, what is not tested here.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Ends the process if the test does not.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Kept {
    fn terminate(&self) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        self.wait_for(Duration::from_secs(60))
    }

    fn wait_for(&mut self, time: Duration) -> ExitStatus {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end");
    }
}
