//! Frames from a capture file, at their own pace or another.

use std::time::{Duration, Instant};

use super::source::{Outlet, Shared, Source, SourceError};
use crate::capture::{Capture, FileSummary};
use crate::time::Timestamp;

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times the pace of the capture.
    Times(f64),
    /// As fast as it can be analysed.
    Max,
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if s == "max" {
            return Ok(Speed::Max);
        }
        match s.trim_end_matches(['x', '×']).parse::<f64>() {
            Ok(n) if n.is_finite() && n > 0.0 => Ok(Speed::Times(n)),
            _ => Err("a number above 0, such as 1 or 10, or 'max'".to_owned()),
        }
    }
}

/// Longest sleep: then it looks whether it shall end.
const NAP: Duration = Duration::from_millis(20);
/// A frame that is due this soon is due.
const SOON: Duration = Duration::from_millis(1);

/// A capture that is replayed.
pub struct Replay {
    capture: Capture,
    speed: Speed,
}

impl Replay {
    /// Of this capture.
    pub fn new(capture: Capture, speed: Speed) -> Self {
        Self { capture, speed }
    }
}

/// When frames are due.
struct Pace {
    speed: Speed,
    /// A time in the capture, and when it was.
    begun: Option<(Timestamp, Instant)>,
}

impl Pace {
    fn due(&mut self, time: Timestamp) -> Option<Instant> {
        let Speed::Times(speed) = self.speed else {
            return None;
        };
        let (first, at) = *self.begun.get_or_insert((time, Instant::now()));
        let ns = time.since(first).max(0) as f64 / speed;
        Some(at + Duration::from_nanos(ns as u64))
    }

    /// It stood still for so long.
    fn shift(&mut self, by: Duration) {
        if let Some((_, at)) = &mut self.begun {
            *at += by;
        }
    }
}

/// Waits until a frame is due, and as long as the replay is held.
fn wait(pace: &mut Pace, time: Timestamp, out: &mut Outlet, shared: &Shared) {
    while !shared.stopped() {
        if shared.held() {
            out.flush();
            let since = Instant::now();
            std::thread::sleep(NAP);
            pace.shift(since.elapsed());
            continue;
        }
        let left = pace
            .due(time)
            .map(|d| d.saturating_duration_since(Instant::now()))
            .filter(|left| *left > SOON);
        let Some(left) = left else { return };
        out.flush();
        std::thread::sleep(left.min(NAP));
    }
}

impl Source for Replay {
    fn names(&self) -> Vec<String> {
        self.capture
            .files()
            .iter()
            .map(|f| f.name.clone())
            .collect()
    }

    fn kind(&self) -> &'static str {
        "replay"
    }

    fn waits(&self) -> bool {
        true
    }

    fn run(&mut self, out: &mut Outlet, shared: &Shared) -> Result<Vec<FileSummary>, SourceError> {
        let mut pace = Pace {
            speed: self.speed,
            begun: None,
        };
        let mut known = 0;
        while let Some(frame) = self.capture.next_frame()? {
            wait(&mut pace, frame.time, out, shared);
            let interface = frame.interface as usize;
            out.frame(&frame);
            if interface >= known {
                let all: Vec<_> = self.capture.interfaces().cloned().collect();
                known = all.len();
                shared.set_interfaces(all);
            }
            out.flush_full();
            if shared.stopped() || out.is_closed() {
                break;
            }
        }
        out.flush();
        Ok(self.capture.files().to_vec())
    }
}
