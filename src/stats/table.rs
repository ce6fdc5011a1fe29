//! Tables: one row for each run and metric, and one for each group and metric.

use std::collections::HashMap;

use phasescope_tables::{Column, Table};
use serde_json::{Map, Value, json};

use super::StatsError;
use super::grid::{Grid, number};
use super::interval::Interval;
use super::metrics::{METRICS, Unit, find};
use super::runs::Run;
use super::sample::Summary;

/// Schema of the JSON form.
pub const SCHEMA: &str = "phasescope.stats/1";

/// Columns of the long frame beside the factors.
const METRIC: &str = "metric";
const VALUE: &str = "value";

/// One row for each run and metric that the run knows: the factors, `run`, `metric`, `unit`,
/// `value`.
///
/// # Errors
/// A factor has the name of one of those columns.
pub fn observations(runs: &[Run], factors: &[String]) -> Result<Table, StatsError> {
    let mut rows: Vec<(&Run, &str, Unit, f64)> = vec![];
    for metric in METRICS {
        for run in runs {
            if let Some(v) = (metric.of)(&run.migration).filter(|v| v.is_finite()) {
                rows.push((run, metric.name, metric.unit, v));
            }
        }
    }
    let mut table = Table::default();
    for f in factors {
        let levels = rows.iter().map(|(r, ..)| r.factor(f).unwrap_or_default());
        table.push(f, Column::Text(levels.collect()))?;
    }
    if !factors.iter().any(|f| f == "run") {
        let labels = rows.iter().map(|(r, ..)| r.label());
        table.push("run", Column::Text(labels.collect()))?;
    }
    let metrics = rows.iter().map(|r| r.1.to_owned());
    table.push(METRIC, Column::Text(metrics.collect()))?;
    let units = rows.iter().map(|r| r.2.name().to_owned());
    table.push("unit", Column::Text(units.collect()))?;
    let values = rows.iter().map(|r| Some(r.3));
    table.push(VALUE, Column::Number(values.collect()))?;
    Ok(table)
}

/// The summary of one group and metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Levels of the factors.
    pub group: Vec<String>,
    /// Metric.
    pub metric: String,
    /// Its numbers.
    pub summary: Summary,
}

/// Sums up observations by factors and metric. Groups come in natural order of their levels,
/// metrics in their own.
///
/// # Errors
/// The table lacks a column.
pub fn summarize(
    table: &Table,
    factors: &[String],
    interval: Interval,
) -> Result<Vec<Row>, StatsError> {
    let keys = factors.iter().map(String::as_str).chain([METRIC]);
    let keys = keys.map(|k| table.text(k)).collect::<Result<Vec<_>, _>>()?;
    let mut samples: HashMap<Vec<&str>, Vec<f64>> = HashMap::new();
    for (i, value) in table.number(VALUE)?.iter().enumerate() {
        let group = keys.iter().map(|k| k[i].as_str()).collect();
        samples.entry(group).or_default().extend(value);
    }
    let mut rows = vec![];
    for (group, sample) in samples {
        let mut group: Vec<String> = group.into_iter().map(str::to_owned).collect();
        let metric = group.pop().unwrap_or_default();
        if let Some(summary) = Summary::of(&sample, interval) {
            rows.push(Row {
                group,
                metric,
                summary,
            });
        }
    }
    let rank = |m: &str| METRICS.iter().position(|x| x.name == m);
    rows.sort_by(|a, b| {
        let groups = a.group.iter().zip(&b.group);
        let order = groups.map(|(a, b)| natural(a, b)).find(|o| o.is_ne());
        order
            .unwrap_or(std::cmp::Ordering::Equal)
            .then(rank(&a.metric).cmp(&rank(&b.metric)))
    });
    Ok(rows)
}

/// Numbers by value and before words, words by letter.
pub fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let number = |s: &str| s.trim_end_matches('%').parse::<f64>().ok();
    match (number(a), number(b)) {
        (Some(x), Some(y)) => x.total_cmp(&y).then(a.cmp(b)),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// The summaries as a table: factors, `metric`, `unit`, and the numbers.
///
/// # Errors
/// A factor has the name of another column.
pub fn summaries(rows: &[Row], factors: &[String]) -> Result<Table, StatsError> {
    let mut table = Table::default();
    let text = |of: &dyn Fn(&Row) -> String| Column::Text(rows.iter().map(of).collect());
    for (i, f) in factors.iter().enumerate() {
        table.push(f, text(&|r| r.group[i].clone()))?;
    }
    table.push(METRIC, text(&|r| r.metric.clone()))?;
    table.push("unit", text(&|r| unit(&r.metric).name().to_owned()))?;
    let n = rows.iter().map(|r| r.summary.n as u64);
    table.push("n", Column::Count(n.collect()))?;
    for (name, of) in NUMBERS {
        let values = rows.iter().map(|r| of(&r.summary));
        table.push(name, Column::Number(values.collect()))?;
    }
    Ok(table)
}

/// The numbers of a summary, as columns and keys.
type Number = (&'static str, fn(&Summary) -> Option<f64>);
const NUMBERS: &[Number] = &[
    ("mean", |s| Some(s.mean)),
    ("standard_deviation", |s| s.standard_deviation),
    ("ci95_half_width", |s| s.half_width),
    ("coefficient_of_variation", |s| s.variation),
    ("minimum", |s| Some(s.min)),
    ("first_quartile", |s| Some(s.q1)),
    ("median", |s| Some(s.median)),
    ("third_quartile", |s| Some(s.q3)),
    ("maximum", |s| Some(s.max)),
];

/// The unit of a metric.
pub fn unit(metric: &str) -> Unit {
    find(metric).map_or(Unit::Count, |m| m.unit)
}

/// As JSON: [`SCHEMA`].
pub fn to_json(rows: &[Row], factors: &[String], interval: Interval) -> Value {
    let list: Vec<Value> = rows
        .iter()
        .map(|r| {
            let mut o = Map::new();
            let group: Map<String, Value> = factors
                .iter()
                .zip(&r.group)
                .map(|(f, l)| (f.clone(), json!(l)))
                .collect();
            o.insert("group".to_owned(), Value::Object(group));
            o.insert(METRIC.to_owned(), json!(r.metric));
            o.insert("unit".to_owned(), json!(unit(&r.metric).name()));
            o.insert("n".to_owned(), json!(r.summary.n));
            for (name, of) in NUMBERS {
                o.insert((*name).to_owned(), json!(of(&r.summary)));
            }
            Value::Object(o)
        })
        .collect();
    json!({
        "schema": SCHEMA,
        "interval": interval.name(),
        "level": super::interval::LEVEL,
        "factors": factors,
        "rows": list,
    })
}

/// Tables for people, one for each group: its name and its table. Bytes in MB (10⁶).
pub fn grids(rows: &[Row], factors: &[String]) -> Vec<(String, Grid)> {
    let mut out: Vec<(String, Grid)> = vec![];
    let mut last: Option<&Vec<String>> = None;
    for r in rows {
        if last != Some(&r.group) {
            last = Some(&r.group);
            let heads = [
                "metric",
                "unit",
                ">n",
                ">mean",
                ">± 95 %",
                ">deviation",
                ">CoV",
                ">min",
                ">q1",
                ">median",
                ">q3",
                ">max",
            ];
            out.push((group_name(factors, &r.group), Grid::new(&heads)));
        }
        let unit = unit(&r.metric);
        let (scale, unit) = match unit {
            Unit::Bytes => (1e-6, "MB"),
            u => (1.0, u.name()),
        };
        let s = &r.summary;
        let n = |v: f64| number(v * scale);
        let or = |v: Option<f64>| v.map_or("-".to_owned(), n);
        let variation = s
            .variation
            .map_or("-".to_owned(), |c| format!("{:.2}%", c * 100.0));
        if let Some((_, grid)) = out.last_mut() {
            grid.row(vec![
                r.metric.clone(),
                unit.to_owned(),
                s.n.to_string(),
                n(s.mean),
                or(s.half_width),
                or(s.standard_deviation),
                variation,
                n(s.min),
                n(s.q1),
                n(s.median),
                n(s.q3),
                n(s.max),
            ]);
        }
    }
    out
}

/// `flavor m1.small, load 25`.
pub(crate) fn group_name(factors: &[String], levels: &[String]) -> String {
    let parts: Vec<String> = factors
        .iter()
        .zip(levels)
        .map(|(f, l)| match l.as_str() {
            "" => format!("{f} not given"),
            l => format!("{f} {l}"),
        })
        .collect();
    if parts.is_empty() {
        "all runs".to_owned()
    } else {
        parts.join(", ")
    }
}
