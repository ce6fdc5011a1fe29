//! Rules that a candidate must keep: `downtime>+20%`.
//!
//! METRIC, `>` or `<`, and a number. A number with a sign is a change against the baseline, in
//! percent or in the metric's unit; one without is the candidate's own mean. `>` says what must
//! not happen: `downtime>+20%` is broken where the mean downtime grew by more than a fifth.

use std::str::FromStr;

use super::compare::Difference;
use super::metrics::{DOWNTIMES, Unit, find, names};

/// What a rule holds its bound against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// The change in percent of the baseline's mean.
    Percent,
    /// The change in the metric's unit.
    Change,
    /// The candidate's mean in the metric's unit.
    Level,
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// As it was written.
    pub text: String,
    /// Metric; `downtime` is the best method that both sides know.
    pub metric: String,
    /// Broken above the bound; else below it.
    pub above: bool,
    /// What the bound is for.
    pub against: Against,
    /// The bound, percent or the metric's unit.
    pub bound: f64,
}

/// What became of a rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Ruling {
    /// Kept; the value that was found.
    Kept(f64),
    /// Broken; the value that was found.
    Broken(f64),
    /// The metric is not known on both sides, so it cannot be said to be kept.
    Unknown,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let text = s.trim();
        let at = text
            .find(['<', '>'])
            .ok_or_else(|| format!("`{text}`: a rule is METRIC>BOUND or METRIC<BOUND"))?;
        let (metric, rest) = (text[..at].trim(), text[at + 1..].trim());
        let unit = if metric == "downtime" {
            Unit::Milliseconds
        } else {
            find(metric)
                .ok_or_else(|| format!("`{metric}` is no metric; there are downtime, {}", names()))?
                .unit
        };
        let signed = rest.starts_with(['+', '-']);
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c)))
            .unwrap_or(rest.len());
        let value: f64 = rest[..digits]
            .parse()
            .map_err(|_| format!("`{text}`: `{rest}` does not begin with a number"))?;
        let wrong = |what: &str| format!("`{text}`: {metric} is not measured in {what}");
        let (against, bound) = match (rest[digits..].trim(), signed) {
            ("%", true) => (Against::Percent, value),
            ("%", false) => {
                return Err(format!(
                    "`{text}`: a percentage is a change; write +{value}% or -{value}%"
                ));
            }
            (u, signed) => {
                let scale = scale(u, unit).ok_or_else(|| wrong(u))?;
                let against = if signed {
                    Against::Change
                } else {
                    Against::Level
                };
                (against, value * scale)
            }
        };
        Ok(Self {
            text: text.to_owned(),
            metric: metric.to_owned(),
            above: text.as_bytes()[at] == b'>',
            against,
            bound,
        })
    }
}

/// What one of the written unit is in the metric's own.
fn scale(written: &str, unit: Unit) -> Option<f64> {
    let factor = match (unit, written) {
        (_, "") => 1.0,
        (Unit::Seconds, "s") | (Unit::Milliseconds, "ms") => 1.0,
        (Unit::Seconds, "ms") => 1e-3,
        (Unit::Milliseconds, "s") => 1e3,
        (Unit::Milliseconds, "us" | "µs") => 1e-3,
        (Unit::Bytes, "B" | "bytes") => 1.0,
        (Unit::Bytes, "kB") => 1e3,
        (Unit::Bytes, "MB") => 1e6,
        (Unit::Bytes, "GB") => 1e9,
        (Unit::Bytes, "KiB") => 1024.0,
        (Unit::Bytes, "MiB") => 1_048_576.0,
        (Unit::Bytes, "GiB") => 1_073_741_824.0,
        (Unit::Pages, "pages") => 1.0,
        _ => return None,
    };
    Some(factor)
}

impl Rule {
    /// Which of the differences it is about.
    pub(crate) fn difference<'a>(&self, all: &'a [Difference]) -> Option<&'a Difference> {
        let by_name = |name: &str| all.iter().find(|d| d.metric == name);
        if self.metric == "downtime" {
            DOWNTIMES
                .iter()
                .filter_map(|n| by_name(n))
                .find(|d| d.change().is_some())
        } else {
            by_name(&self.metric)
        }
    }

    /// Judges.
    pub fn judge(&self, all: &[Difference]) -> Ruling {
        let value = self.difference(all).and_then(|d| match self.against {
            Against::Percent => d.percent(),
            Against::Change => d.change(),
            Against::Level => d.candidate.map(|c| c.mean),
        });
        match value {
            None => Ruling::Unknown,
            Some(v) if (self.above && v > self.bound) || (!self.above && v < self.bound) => {
                Ruling::Broken(v)
            }
            Some(v) => Ruling::Kept(v),
        }
    }

    /// A value that it found, in words.
    pub fn words(&self, value: f64) -> String {
        use super::grid::number;
        let unit = if self.metric == "downtime" {
            Unit::Milliseconds
        } else {
            super::table::unit(&self.metric)
        };
        match self.against {
            Against::Percent => format!("{value:+.1}%"),
            Against::Change => {
                let sign = if value > 0.0 { "+" } else { "" };
                format!("{sign}{} {}", number(value), unit.name())
            }
            Against::Level => format!("{} {}", number(value), unit.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading() {
        let r: Rule = "downtime>+20%".parse().unwrap();
        assert_eq!(
            (r.against, r.bound, r.above),
            (Against::Percent, 20.0, true)
        );
        let r: Rule = "transfer > +150ms".parse().unwrap();
        assert_eq!((r.against, r.bound), (Against::Change, 0.15));
        let r: Rule = "total-time>30s".parse().unwrap();
        assert_eq!((r.against, r.bound), (Against::Level, 30.0));
        let r: Rule = "bytes.total<-1MiB".parse().unwrap();
        assert_eq!((r.bound, r.above), (-1_048_576.0, false));
        for bad in [
            "",
            "x>1",
            "transfer",
            "transfer>x",
            "transfer>20%",
            "rounds>1ms",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }
}
