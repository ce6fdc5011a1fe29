//! Keeps what was seen: capture files, one after the other, with or without the guests' memory.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::batch::Batch;
use super::source::Shared;
use crate::capture::write::Writer;
use crate::capture::{Format, Frame, Interface};
use crate::scrub::Scrubbing;
use crate::time::Timestamp;

/// Bytes of a file besides each frame's own: about a block's head.
const FRAME_OVERHEAD: u64 = 32;

/// When to begin a new file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    /// When it has so many bytes.
    pub bytes: Option<u64>,
    /// When it spans so much time. Nanoseconds.
    pub time_ns: Option<i64>,
}

/// `500M` or `2GiB` bytes; `90s`, `10min` or `1h`.
const UNITS: &[(&[&str], Unit)] = &[
    (&["k", "kb", "kib"], Unit::Bytes(1 << 10)),
    (&["m", "mb", "mib"], Unit::Bytes(1 << 20)),
    (&["g", "gb", "gib"], Unit::Bytes(1 << 30)),
    (&["s", "sec"], Unit::Seconds(1)),
    (&["min"], Unit::Seconds(60)),
    (&["h"], Unit::Seconds(3600)),
    (&["d"], Unit::Seconds(86_400)),
];

#[derive(Debug, Clone, Copy)]
enum Unit {
    Bytes(u64),
    Seconds(i64),
}

impl FromStr for Rotation {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || "a size such as 500M or 2G, or a time such as 90s, 10min or 1h".to_owned();
        let at = s.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = s.split_at(at);
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let unit = unit.to_lowercase();
        let unit = UNITS
            .iter()
            .find(|(names, _)| names.contains(&unit.as_str()));
        match unit {
            _ if number == 0 => Err(wrong()),
            Some((_, Unit::Bytes(b))) => Ok(Rotation {
                bytes: Some(b * u64::from(number)),
                time_ns: None,
            }),
            Some((_, Unit::Seconds(t))) => Ok(Rotation {
                bytes: None,
                time_ns: Some(t * i64::from(number) * 1_000_000_000),
            }),
            None => Err(wrong()),
        }
    }
}

/// What to keep, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file; with rotation a number comes before its ending.
    pub path: PathBuf,
    /// Begin new files.
    pub rotation: Rotation,
    /// Keep so many files; older ones are removed.
    pub keep: Option<usize>,
    /// Keep no guest memory and no secrets.
    pub scrub: bool,
}

impl Settings {
    fn rotates(&self) -> bool {
        self.rotation != Rotation::default()
    }

    /// The `n`th file, from 1.
    pub fn file(&self, n: u32) -> PathBuf {
        if !self.rotates() {
            return self.path.clone();
        }
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let ending = self.path.extension().map(|e| e.to_string_lossy());
        let name = match ending {
            Some(e) => format!("{stem}-{n:05}.{e}"),
            None => format!("{stem}-{n:05}"),
        };
        self.path.with_file_name(name)
    }

    /// By the ending: pcap, or else pcapng.
    pub fn format(&self) -> Format {
        match self.path.extension().and_then(|e| e.to_str()) {
            Some("pcap") => Format::PcapNanos,
            _ => Format::Pcapng,
        }
    }
}

/// The file in hand.
struct Current {
    writer: Writer,
    path: PathBuf,
    bytes: u64,
    first: Option<Timestamp>,
}

/// Writes files.
pub struct Recorder {
    settings: Settings,
    current: Option<Current>,
    number: u32,
    kept: VecDeque<PathBuf>,
    scrubbing: Option<Scrubbing>,
}

impl Recorder {
    /// Begins the first file at once, so that a mistake shows.
    ///
    /// # Errors
    /// The system's.
    pub fn create(settings: Settings) -> io::Result<Self> {
        let mut recorder = Self {
            scrubbing: settings.scrub.then(|| Scrubbing::new(false)),
            settings,
            current: None,
            number: 0,
            kept: VecDeque::new(),
        };
        recorder.begin()?;
        Ok(recorder)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.number += 1;
        let path = self.settings.file(self.number);
        self.current = Some(Current {
            writer: Writer::create(&path, self.settings.format())?,
            path,
            bytes: 0,
            first: None,
        });
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(current) = self.current.take() else {
            return Ok(());
        };
        current.writer.finish()?;
        self.kept.push_back(current.path);
        if let Some(keep) = self.settings.keep {
            while self.kept.len() > keep {
                if let Some(old) = self.kept.pop_front() {
                    remove(&old)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// The system's.
    pub fn frame(&mut self, frame: &Frame<'_>, interfaces: &[Interface]) -> io::Result<()> {
        let Some(mut scrubbing) = self.scrubbing.take() else {
            return self.write(frame, interfaces);
        };
        scrubbing.frame(frame);
        let done = scrubbing.write(|f| self.write(f, interfaces));
        self.scrubbing = Some(scrubbing);
        done
    }

    fn write(&mut self, frame: &Frame<'_>, interfaces: &[Interface]) -> io::Result<()> {
        if self.is_due(frame) {
            self.end()?;
            self.begin()?;
        }
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        current.first.get_or_insert(frame.time);
        current.bytes += frame.data.len() as u64 + FRAME_OVERHEAD;
        current.writer.frame(frame, interfaces.iter())
    }

    fn is_due(&self, frame: &Frame<'_>) -> bool {
        let Some(current) = &self.current else {
            return false;
        };
        let r = &self.settings.rotation;
        let large = r.bytes.is_some_and(|b| current.bytes >= b);
        let long = r
            .time_ns
            .zip(current.first)
            .is_some_and(|(t, first)| frame.time.since(first) >= t);
        large || long
    }

    /// There are no more frames.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self, interfaces: &[Interface]) -> io::Result<()> {
        if let Some(mut scrubbing) = self.scrubbing.take() {
            scrubbing.finish();
            scrubbing.write(|f| self.write(f, interfaces))?;
        }
        self.end()
    }

    /// Takes batches until there are no more. After a failure they are counted as dropped.
    ///
    /// # Errors
    /// The first of the system's.
    pub fn run(mut self, batches: &Receiver<Arc<Batch>>, shared: &Shared) -> io::Result<()> {
        let mut interfaces = shared.interfaces();
        while let Ok(batch) = batches.recv() {
            for frame in batch.frames() {
                if frame.interface as usize >= interfaces.len() {
                    interfaces = shared.interfaces();
                }
                self.frame(&frame, &interfaces)?;
            }
            shared.pool.give(batch);
        }
        self.finish(&interfaces)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
