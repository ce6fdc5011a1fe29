//! `phasescope stats`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use phasescope::stats::interval::Interval;
use phasescope::stats::{StatsError, table};
use phasescope_tables::Table;

use super::output::{json, write};
use super::runs::Runs;
use super::sandbox::Reach;
use super::{EXIT_CODES, Failure, exit};

/// Statistics of many runs, by group and metric
///
/// Phases, gaps and totals in seconds, downtime by every method in milliseconds, pages, rounds,
/// and the bytes on the network by cause: number of runs, mean, 95 % interval of the mean,
/// standard deviation (divisor n-1), coefficient of variation, quartiles, minimum, maximum.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Stats {
    #[command(flatten)]
    runs: Runs,

    /// Factors to group by; without, all runs are one group.
    #[arg(short, long, value_name = "FACTOR", value_delimiter = ',')]
    group: Vec<String>,

    /// Where the width of the interval comes from.
    #[arg(long, value_enum, default_value_t = Width::T)]
    interval: Width,

    /// How to print the tables.
    #[arg(long, value_enum, default_value_t = TableFormat::Text)]
    format: TableFormat,

    /// One row for each run and metric instead of summaries (CSV, JSON, Parquet or Arrow).
    #[arg(long)]
    observations: bool,

    /// Write into this file, whole or not at all.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// `--interval`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Width {
    /// Student's t with n-1 degrees of freedom
    T,
    /// 1.959964 standard errors, whatever n is
    Normal,
}

impl Width {
    pub(crate) fn interval(self) -> Interval {
        match self {
            Width::T => Interval::T,
            Width::Normal => Interval::Normal,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableFormat {
    /// Columns for a terminal; bytes in MB (10^6)
    Text,
    /// For a merge request or a wiki
    Markdown,
    /// One row for each group and metric
    Csv,
    /// Schema phasescope.stats/1
    Json,
    /// As CSV, in Apache Parquet; needs a build with the feature `tables`
    Parquet,
    /// As CSV, in Apache Arrow's file format; needs a build with the feature `tables`
    Arrow,
}

#[cfg(not(feature = "tables"))]
const WITHOUT_TABLES: &str = "Parquet and Arrow need the feature `tables`, which this build lacks: \
                              cargo build --release --features tables";

fn failed(e: StatsError) -> Failure {
    Failure::Other(e.to_string())
}

impl Stats {
    pub(crate) fn reach(&self) -> Result<Reach, Failure> {
        Ok(self.runs.reach()?.writes(self.output.as_deref()))
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        self.runs.check(&self.group)?;
        if self.observations && matches!(self.format, TableFormat::Text | TableFormat::Markdown) {
            let why = "--observations needs --format csv (or json, parquet, arrow)".to_owned();
            return Err(Failure::Usage(why));
        }
        #[cfg(not(feature = "tables"))]
        if matches!(self.format, TableFormat::Parquet | TableFormat::Arrow) {
            return Err(Failure::Usage(WITHOUT_TABLES.to_owned()));
        }
        let runs = self.runs.load()?;
        let long = table::observations(&runs, &self.group).map_err(failed)?;
        let bytes = if self.observations {
            self.table(&long)?
        } else {
            let interval = self.interval.interval();
            let rows = table::summarize(&long, &self.group, interval).map_err(failed)?;
            self.summaries(&rows)?
        };
        write(self.output.as_deref(), &bytes)?;
        Ok(exit::FOUND)
    }

    fn table(&self, table: &Table) -> Result<Vec<u8>, Failure> {
        let bytes = match self.format {
            #[cfg(feature = "tables")]
            TableFormat::Parquet => table.parquet(),
            #[cfg(feature = "tables")]
            TableFormat::Arrow => table.arrow(),
            TableFormat::Json => return Ok(json(&table.json())?.into_bytes()),
            _ => table.csv().map(String::into_bytes),
        };
        bytes.map_err(|e| failed(e.into()))
    }

    fn summaries(&self, rows: &[table::Row]) -> Result<Vec<u8>, Failure> {
        let interval = self.interval.interval();
        let mut text = String::new();
        match self.format {
            TableFormat::Csv | TableFormat::Parquet | TableFormat::Arrow => {
                return self.table(&table::summaries(rows, &self.group).map_err(failed)?);
            }
            TableFormat::Json => {
                text = json(&table::to_json(rows, &self.group, interval))?;
            }
            TableFormat::Text => {
                for (name, grid) in table::grids(rows, &self.group) {
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str(&format!("{name}\n\n{}", grid.text()));
                }
            }
            TableFormat::Markdown => {
                for (name, grid) in table::grids(rows, &self.group) {
                    text.push_str(&format!("## {name}\n\n{}\n", grid.markdown()));
                }
            }
        }
        Ok(text.into_bytes())
    }
}
