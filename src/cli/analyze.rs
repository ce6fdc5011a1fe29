//! `phasescope analyze`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use phasescope::report::{self, Format, Report};

use super::input::Input;
use super::output::{color, complain, json, write};
use super::sandbox::Reach;
use super::{EXIT_CODES, Failure, exit};

/// Find the migrations in captures and say where their time went
///
/// For each migration: who moved, from where to where, its phases with the frames that prove
/// their boundaries, the rounds and bytes of the transfer, and the downtime by every method that
/// the capture allows. What cannot be known is said to be unknown, with the reason.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Analyze {
    #[command(flatten)]
    input: Input,

    /// How to print the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,

    /// Show the steps within phases too, and the messages that prove them (JSON has them always)
    #[arg(long)]
    detail: bool,

    /// Write the report into this file, whole or not at all
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For a terminal, at most 100 columns
    Text,
    /// Schema phasescope.report/1
    Json,
    /// For a merge request or a wiki
    Markdown,
    /// Trace events that the Perfetto viewer opens
    Perfetto,
    /// OpenTelemetry traces, as a collector takes them (OTLP, JSON)
    Otlp,
}

impl Analyze {
    pub(crate) fn reach(&self) -> Reach {
        self.input.reach().writes(self.output.as_deref())
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let (report, _) = self.input.analyze()?;
        write(self.output.as_deref(), self.print(&report)?.as_bytes())?;
        if report.migrations.is_empty() {
            complain(
                "no migration found: neither a libvirt PREPARE or FINISH nor a QEMU stream (magic QEVM) is in the capture",
            );
            return Ok(exit::NO_MIGRATION);
        }
        Ok(exit::FOUND)
    }

    fn print(&self, report: &Report) -> Result<String, Failure> {
        Ok(match self.format {
            ReportFormat::Text => {
                let color = self.output.is_none() && color();
                report::render_with(report, Format::Text { color }, self.detail)
            }
            ReportFormat::Markdown => report::render_with(report, Format::Markdown, self.detail),
            ReportFormat::Json => report
                .to_json()
                .map_err(|e| Failure::Other(e.to_string()))?,
            ReportFormat::Perfetto => json(&report::trace::perfetto::trace(report))?,
            ReportFormat::Otlp => json(&report::trace::otlp::request(report))?,
        })
    }
}
