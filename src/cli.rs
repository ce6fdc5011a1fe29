//! The command line.

mod analyze;
mod capinfo;
mod events;
mod input;
#[cfg(feature = "live")]
mod live;
mod output;
mod phases;
mod scrub;
mod shell;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit codes.
pub(crate) mod exit {
    /// At least one migration was found.
    pub(crate) const FOUND: u8 = 0;
    /// Something cannot be read or written.
    pub(crate) const CANNOT_READ: u8 = 1;
    // 2, wrong usage, is clap's own.
    /// No migration inside.
    pub(crate) const NO_MIGRATION: u8 = 3;
}

/// What stands under every `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  at least one migration was found (or the command did its work)
  1  a file cannot be read or written
  2  wrong usage
  3  no migration was found in the capture";

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
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// Nobody reads any more: no fault.
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Write { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Analyze(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Live(c) => c.run(),
        Command::Events(c) => c.run(),
        Command::Phases(c) => c.run(),
        Command::Scrub(c) => c.run(),
        Command::Capinfo(c) => c.run(),
        Command::Completions(c) => c.run(),
        Command::Man(c) => c.run(),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(f) if f.is_closed_pipe() => ExitCode::from(exit::FOUND),
        Err(f) => {
            output::complain(&f.to_string());
            ExitCode::from(exit::CANNOT_READ)
        }
    }
}
