//! OpenStack: a real migration against its truth, made ones at the edges, secrets.

mod edges;
mod recorded;
mod secrets;
mod truth;
mod tshark;
mod veiled;
mod wire;

use std::path::PathBuf;

use phasescope::analysis;
use phasescope::capture::Capture;
use phasescope::migration::{Migration, Phase, PhaseName};
use phasescope::report::Report;

pub(crate) fn phase(m: &Migration, name: PhaseName) -> &Phase {
    m.phases.iter().find(|p| p.name == name).unwrap()
}

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/openstack")
        .join(name)
}

pub(crate) fn report_of(files: &[PathBuf]) -> Report {
    let mut capture = Capture::open(files).unwrap();
    analysis::analyze(&mut capture, |_| true).unwrap()
}
