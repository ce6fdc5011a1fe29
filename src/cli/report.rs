//! `phasescope report`

use std::path::PathBuf;

use clap::Args;
use phasescope::report::html;

use super::output::write;
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
        write(self.output.as_deref(), page.as_bytes())?;
        if read.report.migrations.is_empty() {
            return Err(Failure::NoMigration("no migration found"));
        }
        Ok(exit::FOUND)
    }
}
