//! polars frames: one row for each run and metric, and one for each group and metric.

use std::io::Cursor;

use polars::prelude::{AnyValue, Column, CsvReadOptions, CsvWriter, DataFrame, NamedFrom};
use polars::prelude::{SerReader, SerWriter, Series};
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
pub fn observations(runs: &[Run], factors: &[String]) -> Result<DataFrame, StatsError> {
    let mut rows: Vec<(&Run, &str, Unit, f64)> = vec![];
    for metric in METRICS {
        for run in runs {
            if let Some(v) = (metric.of)(&run.migration).filter(|v| v.is_finite()) {
                rows.push((run, metric.name, metric.unit, v));
            }
        }
    }
    let text = |name: &str, values: Vec<String>| Column::from(Series::new(name.into(), values));
    let mut columns = vec![];
    for f in factors {
        let levels = rows.iter().map(|(r, ..)| r.factor(f).unwrap_or_default());
        columns.push(text(f, levels.collect()));
    }
    if !factors.iter().any(|f| f == "run") {
        columns.push(text("run", rows.iter().map(|(r, ..)| r.label()).collect()));
    }
    columns.push(text(METRIC, rows.iter().map(|r| r.1.to_owned()).collect()));
    let units = rows.iter().map(|r| r.2.name().to_owned()).collect();
    columns.push(text("unit", units));
    let values: Vec<f64> = rows.iter().map(|r| r.3).collect();
    columns.push(Column::from(Series::new(VALUE.into(), values)));
    Ok(DataFrame::new(rows.len(), columns)?)
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

/// Sums up a long frame by factors and metric. Groups come in natural order of their levels,
/// metrics in their own.
///
/// # Errors
/// The frame lacks a column.
pub fn summarize(
    frame: &DataFrame,
    factors: &[String],
    interval: Interval,
) -> Result<Vec<Row>, StatsError> {
    let mut keys: Vec<String> = factors.to_vec();
    keys.push(METRIC.to_owned());
    let values = frame.column(VALUE)?.f64()?.clone();
    let columns: Vec<_> = keys
        .iter()
        .map(|k| Ok(frame.column(k)?.str()?.clone()))
        .collect::<Result<_, StatsError>>()?;
    let groups = frame.group_by_stable(keys.iter().map(String::as_str))?;
    let mut rows = vec![];
    for g in groups.get_groups().iter() {
        let first = g.first() as usize;
        let members: Vec<usize> = match g {
            polars::prelude::GroupsIndicator::Idx((_, all)) => {
                all.iter().map(|i| *i as usize).collect()
            }
            polars::prelude::GroupsIndicator::Slice([from, n]) => {
                (from as usize..(from + n) as usize).collect()
            }
        };
        let sample: Vec<f64> = members.iter().filter_map(|i| values.get(*i)).collect();
        let mut group: Vec<String> = columns
            .iter()
            .map(|c| c.get(first).unwrap_or_default().to_owned())
            .collect();
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

/// The summaries as a frame: factors, `metric`, `unit`, and the numbers.
///
/// # Errors
/// A factor has the name of another column.
pub fn frame(rows: &[Row], factors: &[String]) -> Result<DataFrame, StatsError> {
    let mut columns = vec![];
    for (i, f) in factors.iter().enumerate() {
        let levels: Vec<String> = rows.iter().map(|r| r.group[i].clone()).collect();
        columns.push(Column::from(Series::new(f.as_str().into(), levels)));
    }
    let metrics: Vec<&str> = rows.iter().map(|r| r.metric.as_str()).collect();
    columns.push(Column::from(Series::new(METRIC.into(), metrics)));
    let units: Vec<&str> = rows.iter().map(|r| unit(&r.metric).name()).collect();
    columns.push(Column::from(Series::new("unit".into(), units)));
    let n: Vec<u64> = rows.iter().map(|r| r.summary.n as u64).collect();
    columns.push(Column::from(Series::new("n".into(), n)));
    for (name, of) in NUMBERS {
        let values: Vec<Option<f64>> = rows.iter().map(|r| of(&r.summary)).collect();
        columns.push(Column::from(Series::new((*name).into(), values)));
    }
    Ok(DataFrame::new(rows.len(), columns)?)
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

/// CSV with a header, every column as text.
pub(super) fn read_texts(csv: &[u8]) -> Result<DataFrame, StatsError> {
    Ok(CsvReadOptions::default()
        .with_has_header(true)
        .with_infer_schema_length(Some(0))
        .into_reader_with_file_handle(Cursor::new(csv.to_vec()))
        .finish()?)
}

/// As CSV with a header.
///
/// # Errors
/// polars cannot write it.
pub fn csv(frame: &mut DataFrame) -> Result<String, StatsError> {
    let mut out = Vec::new();
    CsvWriter::new(&mut out)
        .include_header(true)
        .finish(frame)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The rows of a frame as JSON objects.
///
/// # Errors
/// polars cannot read its own column.
pub fn rows_json(frame: &DataFrame) -> Result<Value, StatsError> {
    let mut rows = vec![Map::new(); frame.height()];
    for column in frame.columns() {
        for (i, row) in rows.iter_mut().enumerate() {
            let value = match column.get(i)? {
                AnyValue::Null => Value::Null,
                AnyValue::Float64(v) => json!(v),
                AnyValue::UInt64(v) => json!(v),
                AnyValue::String(s) => json!(s),
                other => json!(other.to_string()),
            };
            row.insert(column.name().to_string(), value);
        }
    }
    Ok(Value::Array(rows.into_iter().map(Value::Object).collect()))
}

/// As Parquet.
///
/// # Errors
/// polars cannot write it.
#[cfg(feature = "parquet")]
pub fn parquet(frame: &mut DataFrame) -> Result<Vec<u8>, StatsError> {
    let mut out = Vec::new();
    polars::prelude::ParquetWriter::new(&mut out).finish(frame)?;
    Ok(out)
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
