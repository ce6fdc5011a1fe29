//! `phasescope live`: the screen, the lines, and real capture on a virtual wire.
#![cfg(feature = "live")]

mod dpmi;
mod headless;
mod screen;
mod wire;

use std::path::PathBuf;

use phasescope::analysis;
use phasescope::capture::Capture;
use phasescope::report::Report;

/// A path below the repository.
fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

const IDLE: &str = "fixtures/kvm/kvm-idle.pcap.zst";

fn open(name: &str) -> Capture {
    Capture::open(&[path(name)]).unwrap()
}

/// What `phasescope analyze` says.
fn offline(file: &std::path::Path) -> Report {
    let mut capture = Capture::open(&[file.to_owned()]).unwrap();
    analysis::analyze(&mut capture, |_| true).unwrap()
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
