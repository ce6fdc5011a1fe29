//! What is shown of a capture that runs: made by the analysis now and then, read by the screen, the
//! metrics and nobody else. Cheap to hand over, never changed.

use std::sync::Arc;

use super::source::Drops;
use crate::capture::dpmi::StreamCounts;
use crate::migration::{Migration, OutcomeKind, PhaseName};
use crate::report::{CaptureSummary, units};
use crate::time::Timestamp;

/// Capture time between two samples of throughput. Nanoseconds.
pub const SAMPLE_NS: i64 = 250_000_000;

/// A migration, as it is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The same as long as it is shown.
    pub key: u64,
    /// What is known of it.
    pub migration: Arc<Migration>,
    /// The phase it is in, if it is in one.
    pub phase: Option<PhaseName>,
    /// Page bytes in each [`SAMPLE_NS`], the latest last.
    pub series: Arc<Vec<u64>>,
    /// Bytes of page records, those of multifd channels included.
    pub page_bytes: u64,
}

/// How the machinery does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// What was dropped, and where.
    pub drops: Drops,
    /// Batches that wait for the analysis.
    pub queued: usize,
    /// Memory of this process, bytes; 0 is unknown.
    pub memory_bytes: u64,
    /// What the DPMI streams lost.
    pub streams: Option<StreamCounts>,
}

/// Everything at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// Where the frames come from.
    pub source: String,
    /// The latest moment: of a frame, or of the clock where none comes.
    pub now: Timestamp,
    /// The first frame.
    pub first: Timestamp,
    /// The capture so far.
    pub capture: CaptureSummary,
    /// Migrations that are not over.
    pub running: Vec<Shown>,
    /// Those that are, in the order in which they were told.
    pub finished: Arc<Vec<Shown>>,
    /// Finished ones that are no longer kept.
    pub forgotten: u64,
    /// Bytes on the wire in each [`SAMPLE_NS`], the latest last.
    pub rate: Arc<Vec<u64>>,
    /// How the machinery does.
    pub load: Load,
    /// No frame will come any more; why, if not as it should be.
    pub ended: Option<Option<String>>,
}

/// Is pre-copy getting anywhere?
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Trend {
    /// Too early to tell.
    Unknown,
    /// Each round is smaller: the pages of the last, as part of those of the one before.
    Converging(f64),
    /// Not smaller.
    Stuck(f64),
}

/// A round counts as smaller below this part of the one before.
const SMALLER: f64 = 0.95;

/// Bytes of page records of a migration that is over, those of multifd channels included: the
/// report's own sum is of the main stream, the rounds are of all.
pub fn page_bytes(m: &Migration) -> u64 {
    let all = m.transfer.iter().map(|t| {
        let rounds = t.rounds.iter().map(|r| r.bytes);
        t.page_bytes.max(rounds.fold(0, u64::saturating_add))
    });
    all.fold(0, u64::saturating_add)
}

impl Shown {
    /// Its guest's name, or what stands for it.
    pub fn name(&self) -> &str {
        self.migration.guest.name.as_deref().unwrap_or("?")
    }

    /// First evidence of it. Nanoseconds from the first frame.
    pub(crate) fn begin_ns(&self) -> Option<i64> {
        self.migration
            .phases
            .iter()
            .find_map(|p| p.start.as_ref().or(p.end.as_ref()))
            .map(|b| b.offset_ns)
    }

    /// Its phases with their starts and ends so far; one that lasts ends `now`.
    pub fn spans(&self, now_ns: i64) -> Vec<(PhaseName, i64, i64)> {
        let m = &self.migration;
        m.phases
            .iter()
            .filter_map(|p| {
                let start = p.start.as_ref()?.offset_ns;
                let end = match &p.end {
                    Some(e) => e.offset_ns,
                    None if self.phase == Some(p.name) => now_ns.max(start),
                    None => return None,
                };
                Some((p.name, start, end))
            })
            .collect()
    }

    /// How long it has run, or ran.
    pub fn elapsed_ns(&self, now_ns: i64) -> Option<i64> {
        let spans = self.spans(now_ns);
        let from = spans.iter().map(|(_, s, _)| *s).min()?;
        let to = spans.iter().map(|(_, _, e)| *e).max()?;
        Some(to - from)
    }

    /// In a word or two: the phase, or how it ended.
    pub fn state(&self) -> &'static str {
        match (self.phase, self.migration.outcome.result) {
            (Some(p), _) => p.name(),
            (None, OutcomeKind::Unfinished) => "between phases",
            (None, result) => outcome(result),
        }
    }

    /// Bytes a second over the latest full second.
    pub fn rate(&self) -> u64 {
        rate(&self.series)
    }

    /// Pages sent, all kinds.
    pub fn pages(&self) -> u64 {
        self.migration.transfer.as_ref().map_or(0, |t| {
            let p = &t.pages;
            p.normal + p.zero + p.xbzrle + p.compressed
        })
    }

    /// Rounds: those that are over, and the one that lasts.
    pub fn rounds(&self) -> usize {
        let Some(t) = &self.migration.transfer else {
            return 0;
        };
        let told: u64 = t.rounds.iter().map(|r| r.pages).sum();
        t.rounds.len() + usize::from(self.pages() > told)
    }

    /// Does each round have less to send than the one before?
    pub(crate) fn trend(&self) -> Trend {
        let rounds = self.migration.transfer.as_ref().map(|t| &t.rounds);
        let mut last = rounds.into_iter().flatten().rev().filter(|r| !r.stopped);
        match (last.next(), last.next()) {
            (Some(b), Some(a)) if a.pages > 0 => {
                let part = b.pages as f64 / a.pages as f64;
                if part < SMALLER {
                    Trend::Converging(part)
                } else {
                    Trend::Stuck(part)
                }
            }
            _ => Trend::Unknown,
        }
    }

    /// How long the guest stood still: in words, and whether it still does.
    pub fn pause(&self, now_ns: i64) -> Option<(String, bool)> {
        let m = &self.migration;
        if let Some(d) = m.downtime.iter().find_map(|d| d.duration_ns) {
            return Some((units::duration(d), false));
        }
        let p = m.pause.as_ref()?;
        if let (Some(min), Some(max)) = (p.min_ns, p.max_ns) {
            let words = format!("{}..{}", units::duration(min), units::duration(max));
            return Some((words, false));
        }
        let since = p.stop_latest.as_ref()?.offset_ns;
        let over = m.outcome.result != OutcomeKind::Unfinished;
        (!over).then(|| (units::duration((now_ns - since).max(0)), true))
    }
}

/// An outcome in a word.
pub fn outcome(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Completed => "completed",
        OutcomeKind::Cancelled => "cancelled",
        OutcomeKind::Failed => "failed",
        OutcomeKind::Refused => "refused",
        OutcomeKind::Unfinished => "unfinished",
        OutcomeKind::Unknown => "unknown",
    }
}

/// Bytes a second over the latest full second of samples.
pub fn rate(series: &[u64]) -> u64 {
    let second = (1_000_000_000 / SAMPLE_NS) as usize;
    series.iter().rev().take(second).sum()
}

impl View {
    /// The latest moment, from the first frame. Nanoseconds.
    pub(crate) fn now_ns(&self) -> i64 {
        self.now.since(self.first)
    }
}
