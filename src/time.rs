//! Capture time: integer, exact, in the unit that the capture file gives.

use std::fmt;
use std::time::Duration;

/// A moment, counted from 1970-01-01T00:00:00Z.
///
/// Nanoseconds, and the picoseconds below them where the source has them (DPMI). Ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    ns: i64,
    ps: u16,
}

impl Timestamp {
    /// The moment `ns` nanoseconds after the epoch.
    pub const fn from_nanos(ns: i64) -> Self {
        Self { ns, ps: 0 }
    }

    /// The moment `seconds` and `ps` picoseconds after the epoch; picoseconds past a second carry
    /// over.
    pub(crate) fn from_picos(seconds: i64, ps: u64) -> Self {
        let ns = seconds
            .saturating_mul(1_000_000_000)
            .saturating_add((ps / 1000) as i64);
        Self {
            ns,
            ps: (ps % 1000) as u16,
        }
    }

    /// Whole nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.ns
    }

    /// The picoseconds below the nanosecond, 0 to 999.
    pub const fn sub_nano_picos(self) -> u16 {
        self.ps
    }

    /// Nanoseconds from `earlier` to `self`; negative when `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> i64 {
        self.ns.saturating_sub(earlier.ns)
    }

    /// The moment `d` later.
    pub fn plus(self, d: Duration) -> Self {
        Self {
            ns: self
                .ns
                .saturating_add(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)),
            ps: self.ps,
        }
    }

    /// The moment `ns` nanoseconds later (earlier when negative).
    pub const fn offset(self, ns: i64) -> Self {
        Self {
            ns: self.ns.saturating_add(ns),
            ps: self.ps,
        }
    }
}

/// RFC 3339 in UTC with nanoseconds, or picoseconds where there are any:
/// `2026-11-21T01:52:07.383885156Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = chrono::DateTime::from_timestamp_nanos(self.ns);
        write!(f, "{}", t.format("%Y-%m-%dT%H:%M:%S%.9f"))?;
        if self.ps != 0 {
            write!(f, "{:03}", self.ps)?;
        }
        write!(f, "Z")
    }
}
