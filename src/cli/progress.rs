//! How far a long work is: one line on standard error that is drawn over and over, on terminals
//! only.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Between two drawings.
const EVERY: Duration = Duration::from_millis(100);
/// Shorter work shows nothing.
const AFTER: Duration = Duration::from_millis(500);
/// Columns of a bar.
const BAR: usize = 24;

/// The line; several threads may draw it.
pub(crate) struct ProgressLine {
    show: bool,
    begun: Instant,
    drawn: Mutex<Option<Instant>>,
}

impl ProgressLine {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            show: !quiet && io::stderr().is_terminal(),
            begun: Instant::now(),
            drawn: Mutex::new(None),
        }
    }

    /// Draws what `words` says, if it is time to.
    pub(crate) fn draw(&self, words: impl FnOnce() -> String) {
        if !self.show || self.begun.elapsed() < AFTER {
            return;
        }
        // Who finds another thread drawing leaves it to that one.
        let Ok(mut drawn) = self.drawn.try_lock() else {
            return;
        };
        if drawn.is_none_or(|d| d.elapsed() > EVERY) {
            *drawn = Some(Instant::now());
            let _ = write!(io::stderr(), "\r{}\x1b[K", words());
        }
    }

    /// Removes the drawing.
    pub(crate) fn clear(&self) {
        if self.drawn.lock().is_ok_and(|d| d.is_some()) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// `[#########---------------]  38%  120 of 312 MiB`, or only what was read where the end is not
/// known.
pub(crate) fn bytes(read: u64, total: Option<u64>) -> String {
    let mib = read >> 20;
    let Some(total) = total.filter(|t| *t > 0) else {
        return format!("{mib} MiB");
    };
    let part = read.min(total) as f64 / total as f64;
    let full = (part * BAR as f64) as usize;
    format!(
        "[{}{}] {:3.0}%  {mib} of {} MiB",
        "#".repeat(full),
        "-".repeat(BAR - full),
        (part * 100.0).floor(),
        total >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bars() {
        let mib = 1 << 20;
        assert_eq!(bytes(3 * mib, None), "3 MiB");
        assert_eq!(
            bytes(5 * mib, Some(10 * mib)),
            "[############------------]  50%  5 of 10 MiB"
        );
        // A file that has grown since.
        assert!(bytes(11 * mib, Some(10 * mib)).contains("] 100%"));
    }
}
