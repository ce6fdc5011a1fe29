//! The analysis, and what is kept for those who watch it. No thread, no clock: both are the
//! monitor's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::view::{Load, SAMPLE_NS, Shown, View, page_bytes};
use crate::analysis::Analysis;
use crate::capture::{FileSummary, Frame};
use crate::dissect::Event;
use crate::migration::{Migration, Role};
use crate::report::{CaptureSummary, Report};
use crate::time::Timestamp;

/// Samples kept of one throughput: two minutes.
const SERIES_LEN: usize = 480;
/// Streams whose throughput is kept.
const MAX_SERIES: usize = 512;
/// Finished migrations that are kept; past it the oldest goes, which has been told.
const MAX_FINISHED: usize = 2000;

/// Something worth telling at once.
#[derive(Debug)]
pub enum Notice<'a> {
    /// What a protocol said.
    Event(&'a Event),
    /// A migration is over.
    Migration(&'a Migration),
}

/// Sums in steps of [`SAMPLE_NS`].
#[derive(Debug, Clone, Default)]
struct Series {
    /// The sum at the last sample.
    sum: u64,
    steps: Arc<Vec<u64>>,
}

impl Series {
    /// `n` steps after the last sample the sum is `sum`; what came, came in the first of them.
    fn sample(&mut self, sum: u64, n: usize) {
        let steps = Arc::make_mut(&mut self.steps);
        steps.push(sum.saturating_sub(self.sum));
        steps.resize(steps.len() + n.min(SERIES_LEN) - 1, 0);
        let surplus = steps.len().saturating_sub(SERIES_LEN);
        steps.drain(..surplus);
        self.sum = sum;
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Engine {
    analysis: Analysis,
    source: Vec<String>,
    kind: &'static str,
    first: Option<Timestamp>,
    now: Timestamp,
    bytes: u64,
    total: Series,
    streams: BTreeMap<u64, Series>,
    sampled: Timestamp,
    finished: Arc<Vec<Shown>>,
    /// Migrations of the analysis that have been told.
    told: usize,
    /// Of the finished ones, those at the end that [`Engine::fresh`] has not given yet.
    unseen: usize,
    forgotten: u64,
}

impl Engine {
    /// For frames from there; see [`super::source::Source`].
    pub fn new(source: Vec<String>, kind: &'static str) -> Self {
        Self {
            source,
            kind,
            ..Self::default()
        }
    }

    /// Takes the next frame.
    pub fn frame(&mut self, frame: &Frame<'_>, see: &mut dyn FnMut(Notice<'_>)) {
        if self.first.is_none() {
            self.first = Some(frame.time);
            self.sampled = frame.time;
        }
        self.now = self.now.max(frame.time);
        self.bytes += u64::from(frame.wire_len);
        self.analysis
            .frame_seen(frame, &mut |e| see(Notice::Event(e)));
        self.after(see);
    }

    /// No frame has come by `now`.
    pub(crate) fn tick(&mut self, now: Timestamp, see: &mut dyn FnMut(Notice<'_>)) {
        if self.first.is_none() || now <= self.now {
            return;
        }
        self.now = now;
        self.analysis.tick(now, &mut |e| see(Notice::Event(e)));
        self.after(see);
    }

    /// The latest moment.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    fn after(&mut self, see: &mut dyn FnMut(Notice<'_>)) {
        let since = self.now.since(self.sampled);
        if since >= SAMPLE_NS {
            let steps = since / SAMPLE_NS;
            self.sampled = self.sampled.offset(steps * SAMPLE_NS);
            self.sample(usize::try_from(steps).unwrap_or(SERIES_LEN));
        }
        if self.analysis.migrations().len() > self.told {
            self.tell(see);
        }
    }

    fn sample(&mut self, steps: usize) {
        self.total.sample(self.bytes, steps);
        for (key, bytes) in self.analysis.progress() {
            self.streams.entry(key).or_default().sample(bytes, steps);
        }
        while self.streams.len() > MAX_SERIES {
            self.streams.pop_first();
        }
    }

    /// Tells what has been over since the last time.
    fn tell(&mut self, see: &mut dyn FnMut(Notice<'_>)) {
        let finished = Arc::make_mut(&mut self.finished);
        for m in self.analysis.migrations().iter().skip(self.told) {
            see(Notice::Migration(m));
            finished.push(Shown {
                key: u64::from(m.id),
                phase: None,
                series: series(&self.streams, m),
                page_bytes: page_bytes(m),
                migration: Arc::new(m.clone()),
            });
        }
        self.unseen += self.analysis.migrations().len() - self.told;
        let surplus = finished.len().saturating_sub(MAX_FINISHED);
        finished.drain(..surplus);
        self.analysis.forget(surplus);
        self.forgotten += surplus as u64;
        self.told = self.analysis.migrations().len();
    }

    /// Finished migrations since this was asked last; of many the latest.
    pub(crate) fn fresh(&mut self) -> Vec<Shown> {
        let n = std::mem::take(&mut self.unseen).min(self.finished.len());
        self.finished[self.finished.len() - n..].to_vec()
    }

    /// The capture so far.
    pub fn summary(&self) -> CaptureSummary {
        let mut capture = self.analysis.summary(&[]);
        self.describe(&mut capture);
        capture
    }

    /// Everything as it is now.
    pub fn view(&self, load: Load) -> View {
        let running = self
            .analysis
            .running()
            .into_iter()
            .map(|r| Shown {
                // Apart from the numbers of finished ones.
                key: r.key | 1 << 63,
                phase: r.phase,
                series: series(&self.streams, &r.migration),
                page_bytes: r.page_bytes,
                migration: Arc::new(r.migration),
            })
            .collect();
        let mut capture = self.summary();
        capture.health.dropped_packets = Some(load.drops.unseen());
        View {
            source: self.source.join(", "),
            now: self.now,
            first: self.first.unwrap_or_default(),
            capture,
            running,
            finished: self.finished.clone(),
            forgotten: self.forgotten,
            rate: self.total.steps.clone(),
            load,
            ended: None,
        }
    }

    fn describe(&self, capture: &mut CaptureSummary) {
        capture.files.clone_from(&self.source);
        self.kind.clone_into(&mut capture.format);
    }

    /// No more frames: what is left is told.
    pub fn close(&mut self, see: &mut dyn FnMut(Notice<'_>)) {
        self.analysis.close(&mut |e| see(Notice::Event(e)));
        self.tell(see);
    }

    /// The report, after [`Engine::close`]; of files the same as `phasescope analyze` gives.
    pub fn report(&self, files: &[FileSummary], load: &Load) -> Report {
        let mut report = self.analysis.clone().report(files);
        if files.is_empty() {
            let capture = &mut report.capture;
            self.describe(capture);
            capture.health.dropped_packets = Some(load.drops.unseen());
            if let Some(s) = load.streams {
                for (name, n) in [
                    ("dpmi-measurement-frames-lost", s.lost),
                    ("dpmi-sender-restarts", s.restarts),
                    ("dpmi-measurement-frames-broken", s.broken),
                ] {
                    if n > 0 {
                        capture.health.oddities.insert(name.to_owned(), n);
                    }
                }
            }
        }
        report
    }
}

/// Throughput of a migration's main stream.
fn series(all: &BTreeMap<u64, Series>, m: &Migration) -> Arc<Vec<u64>> {
    let stream = m
        .transfer
        .iter()
        .flat_map(|t| &t.connections)
        .find(|c| c.role == Role::Main);
    let series = stream.and_then(|c| all.get(&c.first_frame));
    series.map(|s| s.steps.clone()).unwrap_or_default()
}
