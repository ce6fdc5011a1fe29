//! Two sets of runs, metric by metric.

use serde_json::{Value, json};

use super::grid::{Grid, number};
use super::interval::Interval;
use super::metrics::{METRICS, Unit};
use super::rules::{Rule, Ruling};
use super::runs::Run;
use super::sample::Summary;

/// Schema of the JSON form.
pub const SCHEMA: &str = "phasescope.comparison/1";

/// A metric on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Metric.
    pub metric: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// The baseline's runs; `None` where none knows it.
    pub baseline: Option<Summary>,
    /// The candidate's runs.
    pub candidate: Option<Summary>,
}

/// What can be said of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The interval of the difference lies above nought.
    Higher,
    /// It lies below nought.
    Lower,
    /// It holds nought: the runs show no difference.
    NoDifference,
    /// One run on a side: no interval.
    NoInterval,
    /// Not known on both sides.
    Unknown,
}

impl Verdict {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::NoDifference => "no difference shown",
            Self::NoInterval => "too few runs to tell",
            Self::Unknown => "not known on both sides",
        }
    }
}

impl Difference {
    /// Candidate's mean less the baseline's.
    pub fn change(&self) -> Option<f64> {
        Some(self.candidate?.mean - self.baseline?.mean)
    }

    /// The change in percent of the baseline's mean.
    pub fn percent(&self) -> Option<f64> {
        let base = self.baseline?.mean;
        (base != 0.0).then_some(self.change()? / base * 100.0)
    }

    /// Half the width of the 95 % interval of the change: Welch's t, which does not suppose that
    /// both sides spread alike. `None` where a side has one run.
    pub fn half_width(&self) -> Option<f64> {
        let part = |s: &Summary| Some((s.standard_deviation?.powi(2) / s.n as f64, s.n as f64));
        let ((a, n), (b, m)) = (part(&self.baseline?)?, part(&self.candidate?)?);
        let variance = a + b;
        if variance == 0.0 {
            return Some(0.0);
        }
        // Welch and Satterthwaite's degrees of freedom.
        let degrees = variance.powi(2) / (a.powi(2) / (n - 1.0) + b.powi(2) / (m - 1.0));
        Some(Interval::T.factor(degrees)? * variance.sqrt())
    }

    /// What can be said of it.
    pub fn verdict(&self) -> Verdict {
        match (self.change(), self.half_width()) {
            (None, _) => Verdict::Unknown,
            (Some(_), None) => Verdict::NoInterval,
            (Some(c), Some(h)) if c > h => Verdict::Higher,
            (Some(c), Some(h)) if c < -h => Verdict::Lower,
            _ => Verdict::NoDifference,
        }
    }
}

/// Every metric that at least one side knows and that is not nought everywhere.
pub fn differences(baseline: &[Run], candidate: &[Run]) -> Vec<Difference> {
    METRICS
        .iter()
        .map(|m| {
            let side = |runs: &[Run]| {
                let values: Vec<f64> = runs.iter().filter_map(|r| (m.of)(&r.migration)).collect();
                Summary::of(&values, Interval::T)
            };
            Difference {
                metric: m.name,
                unit: m.unit,
                baseline: side(baseline),
                candidate: side(candidate),
            }
        })
        .filter(|d| {
            let nought = |s: Option<Summary>| s.is_none_or(|s| s.min == 0.0 && s.max == 0.0);
            !(nought(d.baseline) && nought(d.candidate))
        })
        .collect()
}

/// A comparison with its rules judged.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Names of the baseline's and the candidate's runs.
    pub runs: (Vec<String>, Vec<String>),
    /// Metrics.
    pub differences: Vec<Difference>,
    /// Rules, and what became of them.
    pub rulings: Vec<(Rule, Ruling)>,
}

impl Comparison {
    /// Compares, and judges.
    pub fn of(baseline: &[Run], candidate: &[Run], rules: &[Rule]) -> Self {
        let all = differences(baseline, candidate);
        let labels = |runs: &[Run]| runs.iter().map(Run::label).collect();
        Self {
            runs: (labels(baseline), labels(candidate)),
            rulings: rules.iter().map(|r| (r.clone(), r.judge(&all))).collect(),
            differences: all,
        }
    }

    /// No rule is broken, and none lacks its metric.
    pub fn passes(&self) -> bool {
        self.rulings
            .iter()
            .all(|(_, r)| matches!(r, Ruling::Kept(_)))
    }

    /// One line for each rule.
    pub fn sentences(&self) -> Vec<String> {
        self.rulings
            .iter()
            .map(|(rule, ruling)| {
                let about = rule.difference(&self.differences).map(|d| d.metric);
                let which = match about {
                    Some(m) if m != rule.metric => format!(" ({m})"),
                    _ => String::new(),
                };
                match ruling {
                    Ruling::Kept(v) => format!("kept: {}{which}: {}", rule.text, rule.words(*v)),
                    Ruling::Broken(v) => {
                        format!("BROKEN: {}{which}: {}", rule.text, rule.words(*v))
                    }
                    Ruling::Unknown => format!(
                        "BROKEN: {}{which}: cannot be judged, the metric is not known",
                        rule.text
                    ),
                }
            })
            .collect()
    }

    /// For people. Bytes in MB (10⁶).
    pub fn grid(&self) -> Grid {
        let mut grid = Grid::new(&[
            "metric",
            "unit",
            ">baseline",
            ">candidate",
            ">change",
            ">%",
            ">± 95 %",
            "verdict",
        ]);
        for d in &self.differences {
            let (scale, unit) = match d.unit {
                Unit::Bytes => (1e-6, "MB"),
                u => (1.0, u.name()),
            };
            let n = |v: f64| number(v * scale);
            let dash = || "-".to_owned();
            let mean = |s: Option<Summary>| s.map_or(dash(), |s| n(s.mean));
            let plus = |v: f64| if v > 0.0 { "+" } else { "" };
            grid.row(vec![
                d.metric.to_owned(),
                unit.to_owned(),
                mean(d.baseline),
                mean(d.candidate),
                d.change()
                    .map_or(dash(), |v| format!("{}{}", plus(v), n(v))),
                d.percent().map_or(dash(), |v| format!("{v:+.1}%")),
                d.half_width().map_or(dash(), n),
                d.verdict().name().to_owned(),
            ]);
        }
        grid
    }

    /// As JSON: [`SCHEMA`].
    pub fn to_json(&self) -> Value {
        let metrics: Vec<Value> = self
            .differences
            .iter()
            .map(|d| {
                json!({
                    "metric": d.metric,
                    "unit": d.unit.name(),
                    "baseline": d.baseline,
                    "candidate": d.candidate,
                    "change": d.change(),
                    "change_percent": d.percent(),
                    "ci95_half_width": d.half_width(),
                    "verdict": d.verdict().name(),
                })
            })
            .collect();
        let rules: Vec<Value> = self
            .rulings
            .iter()
            .map(|(rule, ruling)| {
                let (result, value) = match ruling {
                    Ruling::Kept(v) => ("kept", Some(*v)),
                    Ruling::Broken(v) => ("broken", Some(*v)),
                    Ruling::Unknown => ("unknown", None),
                };
                json!({
                    "rule": rule.text,
                    "metric": rule.difference(&self.differences).map(|d| d.metric),
                    "result": result,
                    "value": value,
                })
            })
            .collect();
        json!({
            "schema": SCHEMA,
            "baseline": self.runs.0,
            "candidate": self.runs.1,
            "passes": self.passes(),
            "rules": rules,
            "metrics": metrics,
        })
    }
}
