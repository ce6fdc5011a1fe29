//! `phasescope plot`

use clap::{Args, Subcommand};
use phasescope::migration::Migration;
use phasescope::plot::metric::{Options, Point};
use phasescope::plot::scene::Scene;
use phasescope::plot::{PlotError, downtime, metric, rounds, throughput, timeline};
use phasescope::series::Series;
use phasescope::stats::metrics::{find, names};
use phasescope::stats::table;

use super::output::Picture;
use super::runs::Runs;
use super::sandbox::Reach;
use super::stats::Width;
use super::subject::Subject;
use super::{EXIT_CODES, Failure, exit};

/// Draw a migration over time, or a metric over factors
#[derive(Debug, Args)]
pub(crate) struct Plot {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Phases and rounds as bars over the throughput of the stream
    ///
    /// The throughput comes from the capture; with a saved report, it is the mean of each round.
    #[command(after_help = EXIT_CODES)]
    Timeline(One),
    /// Bytes a second of the stream
    #[command(after_help = EXIT_CODES)]
    Throughput(One),
    /// Bytes and pages of every pass over memory
    #[command(after_help = EXIT_CODES)]
    Rounds(One),
    /// Downtime by every method; with a capture, over the echo replies around the switch-over
    #[command(after_help = EXIT_CODES)]
    Downtime(One),
    /// One metric over one factor: group means with 95 % intervals
    #[command(after_help = EXIT_CODES)]
    Metric(Metric),
}

/// A picture of one migration.
#[derive(Debug, Args)]
struct One {
    #[command(flatten)]
    subject: Subject,

    /// Which migration, by its number in the report.
    #[arg(short, long, value_name = "NUMBER")]
    migration: Option<u32>,

    #[command(flatten)]
    picture: Picture,
}

/// A picture of many.
#[derive(Debug, Args)]
struct Metric {
    /// Name of the metric, as `phasescope stats` prints it; for example transfer.
    #[arg(value_name = "METRIC")]
    metric: String,

    #[command(flatten)]
    runs: Runs,

    /// The factor on the horizontal axis.
    #[arg(long, value_name = "FACTOR")]
    by: String,

    /// A second factor: one coloured series for each of its levels.
    #[arg(long, value_name = "FACTOR")]
    series: Option<String>,

    /// Where the width of the interval comes from.
    #[arg(long, value_enum, default_value_t = Width::T)]
    interval: Width,

    #[command(flatten)]
    picture: Picture,
}

type Draw = fn(&Migration, Option<&Series>, &str) -> Result<Scene, PlotError>;

impl Plot {
    pub(crate) fn reach(&self) -> Result<Reach, Failure> {
        match &self.kind {
            Kind::Timeline(o) | Kind::Throughput(o) | Kind::Rounds(o) | Kind::Downtime(o) => {
                Ok(o.reach())
            }
            Kind::Metric(m) => m.reach(),
        }
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        match &self.kind {
            Kind::Timeline(o) => o.run("Timeline", |m, s, t| {
                timeline::scene(m, s.map(|s| &s.throughput), t)
            }),
            Kind::Throughput(o) => o.run("Throughput", |m, s, t| {
                throughput::scene(m, s.map(|s| &s.throughput), t)
            }),
            Kind::Rounds(o) => o.run("Rounds", |m, _, t| rounds::scene(m, t)),
            Kind::Downtime(o) => o.run("Downtime", |m, s, t| {
                downtime::scene(m, s.map_or(&[], |s| &s.echoes), t)
            }),
            Kind::Metric(m) => m.run(),
        }
    }
}

impl One {
    fn reach(&self) -> Reach {
        self.subject.reach().writes(self.picture.path())
    }

    fn run(&self, what: &str, draw: Draw) -> Result<u8, Failure> {
        self.picture.format()?;
        let read = self.subject.read()?;
        let one = read.one(self.migration)?;
        let (m, series) = one.ok_or(Failure::NoMigration("no migration found"))?;
        let title = || format!("{what}: {}", phasescope::plot::subject(m));
        self.picture
            .draw(&draw(m, series, &self.picture.title(title))?)?;
        Ok(exit::FOUND)
    }
}

impl Metric {
    fn reach(&self) -> Result<Reach, Failure> {
        Ok(self.runs.reach()?.writes(self.picture.path()))
    }

    fn run(&self) -> Result<u8, Failure> {
        self.picture.format()?;
        let Some(metric) = find(&self.metric) else {
            return Err(Failure::Usage(format!(
                "`{}` is no metric; there are {}",
                self.metric,
                names()
            )));
        };
        let mut factors = vec![self.by.clone()];
        factors.extend(self.series.clone());
        self.runs.check(&factors)?;
        let runs = self.runs.load()?;
        let failed = |e: phasescope::stats::StatsError| Failure::Other(e.to_string());
        let long = table::observations(&runs, &factors).map_err(failed)?;
        let interval = self.interval.interval();
        let rows = table::summarize(&long, &factors, interval).map_err(failed)?;
        let points: Vec<Point> = rows
            .iter()
            .filter(|r| r.metric == metric.name)
            .map(|r| Point {
                x: r.group[0].clone(),
                series: r.group.get(1).cloned().unwrap_or_default(),
                mean: r.summary.mean,
                half: r.summary.half_width,
            })
            .collect();
        let unit = match metric.unit.name() {
            "" => String::new(),
            u => format!(" ({u})"),
        };
        let options = Options {
            title: self
                .picture
                .title(|| format!("{} by {}", metric.name, factors.join(", "))),
            x: self.by.clone(),
            y: format!("{}{unit}", metric.name),
        };
        self.picture.draw(&metric::scene(&points, &options)?)?;
        Ok(exit::FOUND)
    }
}
