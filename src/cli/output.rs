//! Data on standard output or into a file, words for people on standard error.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use phasescope::plot::render::{Format, draw};
use phasescope::plot::scene::Scene;
use phasescope::whole::WholeFile;

use super::Failure;

/// An error or warning for people.
pub(crate) fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "phasescope: {what}");
}

/// May escape codes be used on standard output? See no-color.org.
pub(crate) fn color() -> bool {
    io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// JSON, indented, with a line's end.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::Other(e.to_string()))?;
    Ok(text + "\n")
}

/// A picture's heading and file.
#[derive(Debug, Args)]
pub(crate) struct Picture {
    /// Heading of the picture.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,

    /// The picture: NAME.svg or NAME.png; SVG on standard output, if not given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Picture {
    pub(crate) fn path(&self) -> Option<&Path> {
        self.output.as_deref()
    }

    pub(crate) fn title(&self, otherwise: impl FnOnce() -> String) -> String {
        self.title.clone().unwrap_or_else(otherwise)
    }

    /// The format, by the ending of the file's name; SVG on standard output. Asked for before the
    /// work, so that a wrong name is told at once.
    pub(crate) fn format(&self) -> Result<Format, Failure> {
        let Some(path) = self.path().filter(|p| *p != Path::new("-")) else {
            return Ok(Format::Svg);
        };
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        match ending.to_lowercase().as_str() {
            "svg" => Ok(Format::Svg),
            "png" => Ok(Format::Png),
            _ => Err(Failure::Usage(format!(
                "{}: a picture's name ends in .svg or .png",
                path.display()
            ))),
        }
    }

    pub(crate) fn draw(&self, scene: &Scene) -> Result<(), Failure> {
        write(self.path(), &draw(scene, self.format()?)?)
    }
}

/// Writes a file, whole or not at all, or on standard output.
pub(crate) fn write(path: Option<&Path>, bytes: &[u8]) -> Result<(), Failure> {
    let mut out = Output::open(path)?;
    out.put_bytes(bytes)?;
    out.finish()
}

/// Where the data goes; a file is written whole or not at all.
pub(crate) enum Output {
    Stdout(BufWriter<io::StdoutLock<'static>>),
    File(WholeFile, PathBuf),
}

fn failed(name: &Path, source: io::Error) -> Failure {
    Failure::Write {
        name: name.display().to_string(),
        source,
    }
}

impl Output {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|p| *p != Path::new("-")) else {
            return Ok(Output::Stdout(BufWriter::new(io::stdout().lock())));
        };
        let file = WholeFile::create(path).map_err(|e| failed(path, e))?;
        Ok(Output::File(file, path.to_owned()))
    }

    fn writer(&mut self) -> (&mut dyn Write, &Path) {
        match self {
            Output::Stdout(w) => (w, Path::new("standard output")),
            Output::File(w, path) => (w, path),
        }
    }

    pub(crate) fn put(&mut self, s: &str) -> Result<(), Failure> {
        self.put_bytes(s.as_bytes())
    }

    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (w, name) = self.writer();
        w.write_all(bytes).map_err(|e| failed(name, e))
    }

    /// What was put so far goes out.
    #[cfg(feature = "live")]
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let (w, name) = self.writer();
        w.flush().map_err(|e| failed(name, e))
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self {
            Output::Stdout(mut w) => w
                .flush()
                .map_err(|e| failed(Path::new("standard output"), e)),
            Output::File(w, path) => w.finish().map_err(|e| failed(&path, e)),
        }
    }
}
