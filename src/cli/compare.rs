//! `phasescope compare`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use phasescope::stats::compare::Comparison;
use phasescope::stats::rules::Rule;

use super::output::{Output, complain, json};
use super::runs::{Work, files_of};
use super::sandbox::Reach;
use super::{EXIT_CODES, Failure, exit};

/// Compare runs with a baseline, and judge them by rules
///
/// Reads saved reports or traces. Where a side has several runs (several files, or several
/// migrations in one), means are compared, and with two or more on each side the change gets its
/// 95 % interval (Welch's t).
///
/// Rules: 'downtime>+20%' (grew by more than 20 %), 'transfer>+150ms', 'total-time>30s' (the
/// candidate's mean itself), 'bytes.total<-1MB'. `downtime` alone is the best method that both
/// sides know. A rule whose metric is unknown counts as broken.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Compare {
    /// What to compare with.
    #[arg(value_name = "BASELINE")]
    baseline: PathBuf,

    /// What to judge.
    #[arg(required = true, value_name = "CANDIDATE")]
    candidates: Vec<PathBuf>,

    /// More runs of the baseline.
    #[arg(long = "baseline", value_name = "FILE")]
    more: Vec<PathBuf>,

    /// A rule that the candidate must keep; may be given several times.
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    fail_on: Vec<Rule>,

    /// How to print the comparison.
    #[arg(long, value_enum, default_value_t = TableFormat::Text)]
    format: TableFormat,

    /// Write into this file, whole or not at all.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    work: Work,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableFormat {
    /// Columns for a terminal
    Text,
    /// For a merge request
    Markdown,
    /// Schema phasescope.comparison/1
    Json,
}

impl Compare {
    pub(crate) fn reach(&self) -> Reach {
        Reach::default()
            .reads(files_of(&self.baselines(), None))
            .reads(files_of(&self.candidates, None))
            .writes(self.output.as_deref())
    }

    fn baselines(&self) -> Vec<PathBuf> {
        let first = std::iter::once(&self.baseline);
        first.chain(&self.more).cloned().collect()
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let baseline = self.work.load(&self.baselines())?;
        let candidate = self.work.load(&self.candidates)?;
        let comparison = Comparison::of(&baseline, &candidate, &self.fail_on);
        let mut out = Output::open(self.output.as_deref())?;
        let sides = format!(
            "baseline: {}; candidate: {}",
            runs(&comparison.runs.0),
            runs(&comparison.runs.1)
        );
        let sentences = comparison.sentences();
        match self.format {
            TableFormat::Json => out.put(&json(&comparison.to_json())?)?,
            TableFormat::Text => {
                out.put(&format!("{sides}\n\n{}", comparison.grid().text()))?;
                if !sentences.is_empty() {
                    out.put(&format!("\n{}\n", sentences.join("\n")))?;
                }
            }
            TableFormat::Markdown => {
                let verdict = match (sentences.is_empty(), comparison.passes()) {
                    (true, _) => "",
                    (_, true) => "**All rules are kept.**\n\n",
                    (_, false) => "**A rule is broken.**\n\n",
                };
                let list: String = sentences.iter().map(|s| format!("- {s}\n")).collect();
                let gap = if list.is_empty() { "" } else { "\n" };
                out.put(&format!(
                    "{verdict}{list}{gap}{sides}\n\n{}",
                    comparison.grid().markdown()
                ))?;
            }
        }
        out.finish()?;
        if baseline.is_empty() || candidate.is_empty() {
            complain("one side has no completed migration");
        }
        if !comparison.passes() {
            return Ok(exit::RULE_BROKEN);
        }
        if baseline.is_empty() || candidate.is_empty() {
            return Ok(exit::NO_MIGRATION);
        }
        Ok(exit::FOUND)
    }
}

fn runs(labels: &[String]) -> String {
    match labels.len() {
        0 => "none".to_owned(),
        n if n <= 4 => labels.join(", "),
        n => format!("{n} runs"),
    }
}
