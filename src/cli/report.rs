//! `phasescope report`

use std::path::PathBuf;

use clap::Args;
use phasescope::report::html;

use super::output::{Output, complain};
use super::sandbox::Reach;
use super::subject::Subject;
use super::{EXIT_CODES, Failure, exit};

/// Write one HTML page: tables, pictures and evidence, nothing else needed to read it
///
/// With a saved report instead of a capture, the throughput is the mean of each round, and
/// single echoes are left out.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Page {
    #[command(flatten)]
    subject: Subject,

    /// The page; standard output, if not given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Page {
    pub(crate) fn reach(&self) -> Reach {
        self.subject.reach().writes(self.output.as_deref())
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let read = self.subject.read()?;
        let page = html::page(&read.report, &read.series)?;
        let mut out = Output::open(self.output.as_deref())?;
        out.put(&page)?;
        out.finish()?;
        if read.report.migrations.is_empty() {
            complain("no migration found");
            return Ok(exit::NO_MIGRATION);
        }
        Ok(exit::FOUND)
    }
}
