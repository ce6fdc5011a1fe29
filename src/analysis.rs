//! The whole way from frames to a report.

use crate::capture::{Capture, CaptureError, FileSummary, Frame};
use crate::dissect::{Dissector, Event, Sink};
use crate::migration::{Migration, Running, Tracker};
use crate::report::{CaptureSummary, Report};
use crate::time::Timestamp;

/// An analysis in progress. Feed it frames; it tells migrations as they are over.
#[derive(Debug, Clone, Default)]
pub struct Analysis {
    dissector: Dissector,
    tracker: Tracker,
    migrations: Vec<Migration>,
    times: Option<(Timestamp, Timestamp)>,
    looked: Timestamp,
}

/// Between two looks for migrations that are over. Nanoseconds of capture time.
const LOOK_NS: i64 = 1_000_000_000;

/// Gives every event to the tracker, and to whoever wants to see it too.
struct Both<'a, F> {
    tracker: &'a mut Tracker,
    see: &'a mut F,
}

impl<F: FnMut(&Event)> Sink for Both<'_, F> {
    fn event(&mut self, event: Event) {
        self.tracker.event(&event);
        (self.see)(&event);
    }
}

impl Analysis {
    /// Takes the next frame.
    pub fn frame(&mut self, frame: &Frame<'_>) {
        self.frame_seen(frame, &mut |_| {});
    }

    /// Takes the next frame and shows its events.
    pub fn frame_seen(&mut self, frame: &Frame<'_>, see: &mut impl FnMut(&Event)) {
        let (first, last) = self.times.unwrap_or((frame.time, frame.time));
        self.times = Some((first, last.max(frame.time)));
        self.tracker.time(frame.time);
        let mut sink = Both {
            tracker: &mut self.tracker,
            see,
        };
        self.dissector.frame(frame, &mut sink);
        self.look(frame.time);
    }

    /// No frame has come by `now`: what is over by then is told. For captures that run.
    pub fn tick(&mut self, now: Timestamp, see: &mut impl FnMut(&Event)) {
        if self.times.is_none() {
            return;
        }
        self.tracker.time(now);
        let mut sink = Both {
            tracker: &mut self.tracker,
            see,
        };
        self.dissector.sweep(now, &mut sink);
        self.look(now);
    }

    fn look(&mut self, now: Timestamp) {
        if now.since(self.looked) > LOOK_NS {
            self.looked = now;
            self.migrations.extend(self.tracker.ready());
        }
    }

    /// Migrations told so far.
    pub fn migrations(&self) -> &[Migration] {
        &self.migrations
    }

    /// Forgets the first `n` of the migrations told so far: a capture that runs for months has no
    /// end to its report.
    pub fn forget(&mut self, n: usize) {
        self.migrations.drain(..n.min(self.migrations.len()));
    }

    /// Migrations that are not over.
    pub fn running(&self) -> Vec<Running> {
        self.tracker.running()
    }

    /// Page bytes so far of each migration stream, by the number of its first frame.
    pub fn progress(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.tracker.progress()
    }

    /// The capture so far; `files` are those that the frames come from.
    pub fn summary(&self, files: &[FileSummary]) -> CaptureSummary {
        CaptureSummary::new(
            files,
            &self.dissector.traffic(),
            self.times,
            self.tracker.echoes(),
        )
    }

    /// No more frames: tells the migrations that are left.
    pub fn close(&mut self, see: &mut impl FnMut(&Event)) {
        let mut sink = Both {
            tracker: &mut self.tracker,
            see,
        };
        self.dissector.finish(&mut sink);
        self.migrations.extend(self.tracker.finish());
    }

    /// The capture has ended: everything that is left is told.
    pub fn finish(mut self, capture: &Capture) -> Report {
        self.close(&mut |_| {});
        self.report(capture.files())
    }

    /// The report, after [`Analysis::close`].
    pub fn report(mut self, files: &[FileSummary]) -> Report {
        // In order of their first evidence, whatever the order in which they were over.
        self.migrations.sort_by_key(|m| {
            let first = m
                .phases
                .iter()
                .find_map(|p| p.start.as_ref().or(p.end.as_ref()));
            (first.map_or(i64::MAX, |b| b.offset_ns), m.id)
        });
        for (id, m) in (1..).zip(&mut self.migrations) {
            m.id = id;
        }
        Report::new(self.summary(files), self.migrations)
    }
}

/// Analyses a whole capture; `proceed` is asked after every frame whether to go on.
///
/// # Errors
/// The system cannot read the capture. What was found until then is lost; a broken file is no
/// error, see [`Capture::next_frame`].
pub fn analyze(
    capture: &mut Capture,
    mut proceed: impl FnMut(&Capture) -> bool,
) -> Result<Report, CaptureError> {
    let mut analysis = Analysis::default();
    while let Some(frame) = capture.next_frame()? {
        let number = frame.number;
        analysis.frame(&frame);
        if number % 4096 == 0 && !proceed(capture) {
            break;
        }
    }
    Ok(analysis.finish(capture))
}
