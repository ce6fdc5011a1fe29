//! Printed tables: mean, deviation, interval and variation with the digits that were printed, and
//! whether they agree with each other.

use phasescope_tables::Texts;

use super::StatsError;
use super::interval::Interval;
use crate::migration::PhaseName;
use crate::plot::budget::{Bar, Part};

/// A number and how many decimals it was printed with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Printed {
    /// The number.
    pub value: f64,
    /// Decimals.
    pub decimals: usize,
}

impl Printed {
    /// From its text.
    pub fn read(text: &str) -> Option<Self> {
        let value = text.parse().ok().filter(|v: &f64| v.is_finite())?;
        let decimals = text.split_once('.').map_or(0, |(_, d)| d.len());
        Some(Self { value, decimals })
    }

    /// Half a unit of its last digit: what rounding may have taken.
    pub(crate) fn rounding(self) -> f64 {
        0.5 * 10f64.powi(-(self.decimals.min(15) as i32))
    }
}

/// A row: one metric of one experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Table.
    pub table: String,
    /// Flavor of the guest.
    pub flavor: String,
    /// Load of its processors, percent.
    pub load: String,
    /// Metric as printed.
    pub metric: String,
    /// Runs.
    pub runs: usize,
    /// Mean; seconds, or milliseconds where the metric says so.
    pub mean: Printed,
    /// Standard deviation.
    pub deviation: Printed,
    /// Half width of the 95 % interval.
    pub half_width: Printed,
    /// Coefficient of variation, percent.
    pub variation: Printed,
}

/// What follows from mean, deviation and number of runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rebuilt {
    /// Half width of the 95 % interval.
    pub half_width: f64,
    /// It agrees with the printed one, given the rounding of all.
    pub half_width_agrees: bool,
    /// Coefficient of variation, percent.
    pub variation: f64,
    /// It agrees with the printed one.
    pub variation_agrees: bool,
}

impl Cell {
    /// Rebuilds the columns that follow from the others.
    pub fn rebuild(&self, interval: Interval) -> Rebuilt {
        let (s, mean) = (self.deviation.value, self.mean.value);
        let half = |s: f64| interval.half_width(s, self.runs).unwrap_or(f64::NAN);
        let half_width = half(s);
        let slack = self.half_width.rounding() + half(self.deviation.rounding()) + 1e-9;
        let variation = s / mean * 100.0;
        let spread =
            100.0 * (self.deviation.rounding() / mean + s * self.mean.rounding() / (mean * mean));
        let room = self.variation.rounding() + spread + 1e-9;
        Rebuilt {
            half_width,
            half_width_agrees: (half_width - self.half_width.value).abs() <= slack,
            variation,
            variation_agrees: (variation - self.variation.value).abs() <= room,
        }
    }

    /// The phase that the metric is the length of.
    pub fn phase(&self) -> Option<PhaseName> {
        PHASES
            .iter()
            .find(|(name, _)| *name == self.metric)
            .map(|(_, p)| *p)
    }
}

/// The study's names of the phases.
const PHASES: [(&str, PhaseName); 8] = [
    ("Authentication", PhaseName::Authentication),
    ("Initialize", PhaseName::Initialization),
    ("Remote connect", PhaseName::RemoteConnect),
    ("Preparation", PhaseName::Preparation),
    ("Transfer", PhaseName::Transfer),
    ("Finish", PhaseName::Finish),
    ("Cleanup", PhaseName::Cleanup),
    ("Post-migration", PhaseName::PostMigration),
];

/// The study's name of the total.
pub(crate) const TOTAL: &str = "Total Migration Time";

/// Reads a table like the study's appendix A.
///
/// # Errors
/// It is no CSV, lacks a column, or holds something else than numbers.
pub fn read(csv: &[u8]) -> Result<Vec<Cell>, StatsError> {
    let table = Texts::read(csv)?;
    let column = |name: &str| table.column(name);
    let (tables, flavors) = (column("table")?, column("flavor")?);
    let (loads, metrics) = (column("cpu_load_percent")?, column("metric")?);
    let runs = column("runs")?;
    let number = |name: &str| -> Result<Vec<Printed>, StatsError> {
        column(name)?
            .iter()
            .map(|t| Printed::read(t).ok_or_else(|| StatsError::Words(format!("{name}: `{t}`"))))
            .collect()
    };
    let (means, deviations) = (number("mean")?, number("standard_deviation")?);
    let (halves, variations) = (number("ci95_half_width")?, number("cov_percent")?);
    (0..runs.len())
        .map(|i| {
            Ok(Cell {
                table: tables[i].to_owned(),
                flavor: flavors[i].to_owned(),
                load: loads[i].to_owned(),
                metric: metrics[i].to_owned(),
                runs: runs[i]
                    .parse()
                    .map_err(|_| StatsError::Words(format!("runs: `{}`", runs[i])))?,
                mean: means[i],
                deviation: deviations[i],
                half_width: halves[i],
                variation: variations[i],
            })
        })
        .collect()
}

/// The budgets of one flavor, one bar for each load, in the order of the table. What the phases
/// leave of the printed total is the gap.
pub fn bars(cells: &[Cell], flavor: &str) -> Vec<Bar> {
    let mut out: Vec<Bar> = vec![];
    let mut totals = vec![];
    for c in cells.iter().filter(|c| c.flavor == flavor) {
        let label = format!("{} % load", c.load);
        if out.last().is_none_or(|b| b.label != label) {
            out.push(Bar {
                label,
                parts: vec![],
                overlap: 0.0,
            });
            totals.push(None);
        }
        let (Some(bar), Some(total)) = (out.last_mut(), totals.last_mut()) else {
            continue;
        };
        match c.phase() {
            Some(p) => bar.parts.push((Part::Phase(p), c.mean.value)),
            None if c.metric == TOTAL => *total = Some(c.mean.value),
            None => {}
        }
    }
    for (bar, total) in out.iter_mut().zip(totals) {
        if let Some(gap) = total.map(|t| t - bar.total()).filter(|g| *g > 0.0) {
            bar.parts.push((Part::Gap, gap));
        }
    }
    out
}
