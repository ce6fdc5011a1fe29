//! What is measured on a migration: one table.

use crate::migration::{DowntimeMethod, Migration, PhaseName};

use super::cost;

/// A unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// Memory pages.
    Pages,
    /// Bare numbers.
    Count,
}

impl Unit {
    /// Its sign.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Bytes => "bytes",
            Self::Pages => "pages",
            Self::Count => "",
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Its value for a migration; `None` where the migration does not tell.
    pub of: fn(&Migration) -> Option<f64>,
}

const fn row(name: &'static str, unit: Unit, of: fn(&Migration) -> Option<f64>) -> Metric {
    Metric { name, unit, of }
}

fn seconds(ns: Option<i64>) -> Option<f64> {
    ns.map(|n| n as f64 / 1e9)
}

fn milliseconds(ns: Option<i64>) -> Option<f64> {
    ns.map(|n| n as f64 / 1e6)
}

fn phase(m: &Migration, name: PhaseName) -> Option<f64> {
    seconds(m.phases.iter().find(|p| p.name == name)?.duration_ns)
}

fn downtime(m: &Migration, method: DowntimeMethod) -> Option<f64> {
    let d = m.downtime.iter().find(|d| d.method == method)?;
    milliseconds(d.duration_ns)
}

/// Lower bounds do not go into means.
fn pages(m: &Migration, of: fn(&crate::migration::Pages) -> u64) -> Option<f64> {
    let p = &m.transfer.as_ref()?.pages;
    p.exact.then(|| of(p) as f64)
}

fn bytes(m: &Migration, cause: &str) -> Option<f64> {
    cost::of(m, cause).map(|b| b as f64)
}

use DowntimeMethod as D;
use PhaseName as P;
use Unit::{Bytes, Count, Milliseconds, Pages, Seconds};

/// All metrics, in the order of printing.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    row("authentication", Seconds, |m| phase(m, P::Authentication)),
    row("initialization", Seconds, |m| phase(m, P::Initialization)),
    row("remote-connect", Seconds, |m| phase(m, P::RemoteConnect)),
    row("preparation", Seconds, |m| phase(m, P::Preparation)),
    row("storage", Seconds, |m| phase(m, P::Storage)),
    row("transfer", Seconds, |m| phase(m, P::Transfer)),
    row("finish", Seconds, |m| phase(m, P::Finish)),
    row("cleanup", Seconds, |m| phase(m, P::Cleanup)),
    row("post-migration", Seconds, |m| phase(m, P::PostMigration)),
    row("gaps", Seconds, |m| seconds(m.gaps_ns)),
    row("overlaps", Seconds, |m| seconds(m.overlaps_ns)),
    row("migration-time", Seconds, |m| seconds(m.migration_time_ns)),
    row("total-time", Seconds, |m| seconds(m.total_time_ns)),
    row("downtime.lost-echoes", Milliseconds, |m| downtime(m, D::LostEchoes)),
    row("downtime.echo-gap", Milliseconds, |m| downtime(m, D::EchoGap)),
    row("downtime.path-switch", Milliseconds, |m| downtime(m, D::PathSwitch)),
    row("downtime.guest-silence", Milliseconds, |m| downtime(m, D::GuestSilence)),
    row("downtime.stop-and-copy", Milliseconds, |m| downtime(m, D::StopAndCopy)),
    row("downtime.reported", Milliseconds, |m| downtime(m, D::Reported)),
    row("pause.min", Milliseconds, |m| milliseconds(m.pause.as_ref()?.min_ns)),
    row("pause.max", Milliseconds, |m| milliseconds(m.pause.as_ref()?.max_ns)),
    row("pages.normal", Pages, |m| pages(m, |p| p.normal)),
    row("pages.zero", Pages, |m| pages(m, |p| p.zero)),
    row("pages.xbzrle", Pages, |m| pages(m, |p| p.xbzrle)),
    row("rounds", Count, |m| Some(m.transfer.as_ref()?.rounds.len()).filter(|n| *n > 0).map(|n| n as f64)),
    row("bytes.total", Bytes, |m| cost::total(m).map(|b| b as f64)),
    row("bytes.first-round", Bytes, |m| bytes(m, "first-round")),
    row("bytes.later-rounds", Bytes, |m| bytes(m, "later-rounds")),
    row("bytes.stop-and-copy", Bytes, |m| bytes(m, "stop-and-copy")),
    row("bytes.post-copy", Bytes, |m| bytes(m, "post-copy")),
    row("bytes.other-pages", Bytes, |m| bytes(m, "other-pages")),
    row("bytes.device-state", Bytes, |m| bytes(m, "device-state")),
    row("bytes.stream-rest", Bytes, |m| bytes(m, "stream-rest")),
    row("bytes.storage", Bytes, |m| bytes(m, "storage")),
    row("bytes.control", Bytes, |m| bytes(m, "control")),
    row("bytes.network", Bytes, |m| bytes(m, "network")),
];

/// Metrics that `downtime` alone may mean, the best first.
pub(crate) const DOWNTIMES: [&str; 6] = [
    "downtime.lost-echoes",
    "downtime.echo-gap",
    "downtime.path-switch",
    "downtime.guest-silence",
    "downtime.stop-and-copy",
    "downtime.reported",
];

/// A metric by its name.
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|m| m.name == name)
}

/// All names, for messages.
pub fn names() -> String {
    let names: Vec<&str> = METRICS.iter().map(|m| m.name).collect();
    names.join(", ")
}
