//! `phasescope completions`, `phasescope man`

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::output::Output;
use super::{Cli, Failure, exit};

/// Print completions for a shell
///
/// For example: phasescope completions bash > /etc/bash_completion.d/phasescope
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "phasescope", &mut text);
        let mut out = Output::open(None)?;
        out.put(&String::from_utf8_lossy(&text))?;
        out.finish()?;
        Ok(exit::FOUND)
    }
}

/// Print the manual page, or write the pages of all commands into a folder
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write phasescope.1, phasescope-analyze.1 and so on here
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        if let Some(folder) = &self.output {
            clap_mangen::generate_to(Cli::command(), folder).map_err(|source| Failure::Write {
                name: folder.display().to_string(),
                source,
            })?;
            return Ok(exit::FOUND);
        }
        let mut text = Vec::new();
        let done = clap_mangen::Man::new(Cli::command()).render(&mut text);
        done.map_err(|source| Failure::Write {
            name: "standard output".to_owned(),
            source,
        })?;
        let mut out = Output::open(None)?;
        out.put(&String::from_utf8_lossy(&text))?;
        out.finish()?;
        Ok(exit::FOUND)
    }
}
