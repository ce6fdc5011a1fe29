//! `phasescope budget`

use clap::{Args, ValueEnum};
use phasescope::plot::budget::{self, Bar, Options, Scale};
use phasescope::stats::runs::Run;
use phasescope::stats::table;

use super::output::{Picture, complain};
use super::runs::Runs;
use super::sandbox::Reach;
use super::{EXIT_CODES, Failure, exit};

/// Draw where the time went: stacked bars of the phases
///
/// One bar for each run, or for the mean of each group.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Budget {
    #[command(flatten)]
    runs: Runs,

    /// Factors to group by: a bar is the mean of a group.
    #[arg(short, long, value_name = "FACTOR", value_delimiter = ',')]
    group: Vec<String>,

    /// How long the bars are.
    #[arg(long, value_enum, default_value_t = Length::Percent)]
    scale: Length,

    /// What becomes of the time between phases.
    #[arg(long, value_enum, default_value_t = Gaps::Show)]
    gaps: Gaps,

    #[command(flatten)]
    picture: Picture,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Length {
    /// Every bar is the whole of its time
    Percent,
    /// Seconds
    Seconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Gaps {
    /// A segment of its own
    Show,
    /// Left out: the phases fill the bar
    Hide,
}

impl Budget {
    pub(crate) fn reach(&self) -> Result<Reach, Failure> {
        Ok(self.runs.reach()?.writes(self.picture.path()))
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        self.picture.format()?;
        self.runs.check(&self.group)?;
        let runs = self.runs.load()?;
        let bars = self.bars(&runs);
        let title = || match self.group.is_empty() {
            true => "Where the time went".to_owned(),
            false => format!("Where the time went: means by {}", self.group.join(", ")),
        };
        let options = Options {
            title: self.picture.title(title),
            scale: match self.scale {
                Length::Percent => Scale::Percent,
                Length::Seconds => Scale::Seconds,
            },
            gaps: self.gaps == Gaps::Show,
        };
        self.picture.draw(&budget::scene(&bars, &options)?)?;
        Ok(exit::FOUND)
    }

    fn bars(&self, runs: &[Run]) -> Vec<Bar> {
        let bar = |r: &Run| {
            let bar = Bar::of(&r.label(), &r.migration);
            if bar.is_none() {
                complain(&format!("warning: {}: no phase is bounded", r.label()));
            }
            bar
        };
        if self.group.is_empty() {
            return runs.iter().filter_map(bar).collect();
        }
        let mut groups: Vec<(Vec<String>, Vec<Bar>)> = vec![];
        for r in runs {
            let key = r.group(&self.group);
            let Some(bar) = bar(r) else { continue };
            match groups.iter_mut().find(|(k, _)| *k == key) {
                Some((_, bars)) => bars.push(bar),
                None => groups.push((key, vec![bar])),
            }
        }
        groups.sort_by(|(a, _), (b, _)| {
            let mut orders = a.iter().zip(b).map(|(a, b)| table::natural(a, b));
            orders
                .find(|o| o.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        groups
            .iter()
            .filter_map(|(key, bars)| {
                Bar::mean(&format!("{} (n={})", key.join(" · "), bars.len()), bars)
            })
            .collect()
    }
}
