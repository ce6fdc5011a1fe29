//! One capture or one saved report, with the series that pictures over time need.

use clap::Args;
use phasescope::migration::Migration;
use phasescope::report::Report;
use phasescope::series::{self, Series};

use super::Failure;
use super::input::Input;
use super::output::complain;
use super::runs::{is_pipe, saved_report};
use super::sandbox::Reach;

/// A capture (files are read as one) or a saved report.
#[derive(Debug, Args)]
pub(crate) struct Subject {
    #[command(flatten)]
    input: Input,
}

/// What was read.
pub(crate) struct Read {
    pub(crate) report: Report,
    /// One for each migration; empty where only the report is there.
    pub(crate) series: Vec<Series>,
}

impl Subject {
    pub(crate) fn reach(&self) -> Reach {
        self.input.reach()
    }

    /// Reads the report, or the capture twice: for its report, then for the series.
    pub(crate) fn read(&self) -> Result<Read, Failure> {
        let files = self.input.files();
        let series = vec![];
        if let Some(report) = saved_report(&files)? {
            return Ok(Read { report, series });
        }
        let (report, stopped) = self.input.analyze()?;
        if files.iter().any(|f| is_pipe(f)) {
            complain(
                "warning: a pipe cannot be read twice: throughput comes from the rounds, echoes are left out",
            );
            return Ok(Read { report, series });
        }
        if stopped || report.migrations.is_empty() {
            return Ok(Read { report, series });
        }
        let mut again = self.input.open()?;
        let mut watch = self.input.watch();
        let series = series::collect(&mut again, &report, |c| watch.proceed(c));
        watch.clear();
        Ok(Read {
            report,
            series: series?,
        })
    }
}

impl Read {
    /// One migration and its series; `None` where there is none.
    pub(crate) fn one(
        &self,
        id: Option<u32>,
    ) -> Result<Option<(&Migration, Option<&Series>)>, Failure> {
        let all = &self.report.migrations;
        let i = match id {
            None => {
                if all.len() > 1 {
                    complain(&format!(
                        "{} migrations; this is the first (--migration chooses)",
                        all.len()
                    ));
                }
                0
            }
            Some(id) => all.iter().position(|m| m.id == id).ok_or_else(|| {
                Failure::Usage(format!("--migration {id}: there are {}", all.len()))
            })?,
        };
        Ok(all.get(i).map(|m| (m, self.series.get(i))))
    }
}
