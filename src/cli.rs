//! The command line.

mod analyze;
mod budget;
mod capinfo;
mod compare;
mod events;
mod input;
#[cfg(feature = "live")]
mod live;
mod model;
mod output;
mod phases;
mod plot;
mod progress;
mod report;
mod runs;
mod sandbox;
mod scrub;
mod shell;
mod stats;
mod subject;
mod what_if;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use sandbox::Reach;

/// Exit codes.
pub(crate) mod exit {
    /// At least one migration was found.
    pub(crate) const FOUND: u8 = 0;
    /// Something cannot be read or written.
    pub(crate) const CANNOT_READ: u8 = 1;
    /// Wrong usage: clap's own, and ours.
    pub(crate) const USAGE: u8 = 2;
    /// No migration inside.
    pub(crate) const NO_MIGRATION: u8 = 3;
    /// A rule of `compare` is broken.
    pub(crate) const RULE_BROKEN: u8 = 4;
}

/// What stands under every `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  at least one migration was found (or the command did its work)
  1  a file cannot be read or written
  2  wrong usage
  3  no migration was found in the capture
  4  a rule of compare --fail-on is broken, or its metric is unknown";

/// Where did the time of this live migration go?
///
/// phasescope reads captures of VM live-migration traffic and says which phases each migration
/// went through, how long each took, which packet proves it, and how long the guest was away.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Analyze(analyze::Analyze),
    #[cfg(feature = "live")]
    Live(live::Live),
    Events(events::Events),
    Phases(phases::Phases),
    Scrub(scrub::Scrub),
    Capinfo(capinfo::Capinfo),
    Stats(stats::Stats),
    Budget(budget::Budget),
    Plot(plot::Plot),
    Report(report::Page),
    Compare(compare::Compare),
    Model(model::Model),
    WhatIf(what_if::WhatIf),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Capture(#[from] phasescope::capture::CaptureError),
    #[error("{name}: {source}")]
    Write {
        name: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Plot(#[from] phasescope::plot::PlotError),
    /// The arguments do not go together.
    #[error("{0}")]
    Usage(String),
    /// Nothing to work on.
    #[error("{0}")]
    NoMigration(&'static str),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => exit::USAGE,
            Failure::NoMigration(_) => exit::NO_MIGRATION,
            _ => exit::CANNOT_READ,
        }
    }

    /// Nobody reads any more: no fault.
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Write { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl Command {
    /// What the command reads and writes; `live` knows only when its devices are open.
    fn reach(&self) -> Result<Option<Reach>, Failure> {
        Ok(Some(match self {
            Command::Analyze(c) => c.reach(),
            #[cfg(feature = "live")]
            Command::Live(_) => return Ok(None),
            Command::Events(c) => c.reach(),
            Command::Scrub(c) => c.reach(),
            Command::Capinfo(c) => c.reach(),
            Command::Stats(c) => c.reach()?,
            Command::Budget(c) => c.reach()?,
            Command::Plot(c) => c.reach()?,
            Command::Report(c) => c.reach(),
            Command::Compare(c) => c.reach(),
            Command::Model(c) => c.reach()?,
            Command::WhatIf(c) => c.reach(),
            Command::Phases(_) | Command::Completions(_) => Reach::default(),
            Command::Man(c) => c.reach(),
        }))
    }

    fn run(&self) -> Result<u8, Failure> {
        if let Some(reach) = self.reach()? {
            reach.enter();
        }
        match self {
            Command::Analyze(c) => c.run(),
            #[cfg(feature = "live")]
            Command::Live(c) => c.run(),
            Command::Events(c) => c.run(),
            Command::Phases(c) => c.run(),
            Command::Scrub(c) => c.run(),
            Command::Capinfo(c) => c.run(),
            Command::Stats(c) => c.run(),
            Command::Budget(c) => c.run(),
            Command::Plot(c) => c.run(),
            Command::Report(c) => c.run(),
            Command::Compare(c) => c.run(),
            Command::Model(c) => c.run(),
            Command::WhatIf(c) => c.run(),
            Command::Completions(c) => c.run(),
            Command::Man(c) => c.run(),
        }
    }
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(code) => ExitCode::from(code),
        Err(f) if f.is_closed_pipe() => ExitCode::from(exit::FOUND),
        Err(f) => {
            output::complain(&f.to_string());
            ExitCode::from(f.code())
        }
    }
}
