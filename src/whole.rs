//! Files that are written whole or not at all: under a temporary name beside their place, and
//! renamed when they are complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 18;

/// Where a file of this name is written: what a symbolic link leads to, or the name itself.
pub fn place(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A file in the making. What is not [finished](WholeFile::finish) leaves nothing behind.
///
/// A symbolic link stays one: the file that it leads to is replaced. A device or a pipe is
/// written as it is, for it cannot be replaced.
#[derive(Debug)]
pub struct WholeFile {
    out: BufWriter<File>,
    /// The temporary name and the last one; none for devices and pipes.
    names: Option<(PathBuf, PathBuf)>,
}

impl WholeFile {
    /// Begins a file.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path) -> io::Result<Self> {
        let place = place(path);
        let known = fs::metadata(&place);
        if known.as_ref().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            let file = File::options().write(true).open(&place)?;
            return Ok(Self {
                out: BufWriter::with_capacity(BUFFER, file),
                names: None,
            });
        }
        let Some(name) = place.file_name().filter(|_| !place.is_dir()) else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let mut part = name.to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let part = place.with_file_name(part);
        Ok(Self {
            out: BufWriter::with_capacity(BUFFER, File::create(&part)?),
            names: Some((part, place)),
        })
    }

    /// Gives the file its name, with what was written until then.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        match self.names.take() {
            Some((part, place)) => fs::rename(&part, place).inspect_err(|_| {
                let _ = fs::remove_file(&part);
            }),
            None => Ok(()),
        }
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some((part, _)) = &self.names {
            let _ = fs::remove_file(part);
        }
    }
}

/// Writes a file at once.
///
/// # Errors
/// The system's.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = WholeFile::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

#[cfg(test)]
mod tests;
