//! `phasescope completions`, `phasescope man`

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::output::write;
use super::sandbox::Reach;
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
        write(None, &text)?;
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
    pub(crate) fn reach(&self) -> Reach {
        Reach::default().writes_into(self.output.as_deref())
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let Some(folder) = &self.output else {
            page(&clap_mangen::Man::new(Cli::command()), None)?;
            return Ok(exit::FOUND);
        };
        let mut all = Cli::command().disable_help_subcommand(true);
        all.build();
        let mut rest = vec![all];
        while let Some(command) = rest.pop() {
            let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
            rest.extend(shown.cloned());
            let man = clap_mangen::Man::new(command);
            page(&man, Some(&folder.join(man.get_filename())))?;
        }
        Ok(exit::FOUND)
    }
}

/// Prints a page, or writes it whole or not at all.
fn page(man: &clap_mangen::Man, file: Option<&Path>) -> Result<(), Failure> {
    let mut text = Vec::new();
    man.render(&mut text)
        .map_err(|e| Failure::Other(e.to_string()))?;
    write(file, &text)
}
