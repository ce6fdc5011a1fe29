//! The options that every command shares which reads captures.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use phasescope::analysis;
use phasescope::capture::{self, Capture, FileSummary};
use phasescope::report::Report;

use super::progress::{self, ProgressLine};
use super::sandbox::Reach;
use super::{Failure, output};

/// Which captures to read, and how.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// Captures: pcap, pcapng or DPMI, plain, gzip or zstd; `-` is standard input. Several are read as
    /// one, in time order.
    #[arg(required_unless_present = "taps", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// A capture from a tap with a name, 'source=sw1.pcap'; may be given several times. A packet that
    /// several taps saw counts once. `--mp` takes these names too.
    #[arg(long = "tap", value_name = "NAME=FILE", value_parser = tap)]
    taps: Vec<(String, PathBuf)>,

    #[command(flatten)]
    options: Options,
}

/// `NAME=FILE`
fn tap(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), file.into()))
        }
        _ => Err("NAME=FILE is needed".to_owned()),
    }
}

/// How to read captures.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Look only at packets that match, in tcpdump's language: 'host 10.0.0.1 and tcp'.
    #[cfg(feature = "live")]
    #[arg(short, long, value_name = "EXPRESSION")]
    filter: Option<String>,

    /// Look only at packets from this DPMI measurement point; may be given several times.
    #[arg(long = "mp", value_name = "NAME")]
    points: Vec<String>,

    /// Look only at packets from this capture interface, `d00` or `mp01:d00`; may be given several
    /// times.
    #[arg(long = "mp-interface", value_name = "NAME")]
    interfaces: Vec<String>,

    /// Look at the packets that DPMI measurement streams in the capture carry, instead of the
    /// packets that carry them (EtherType 0x0810, or UDP port 2064).
    #[arg(long)]
    dpmi_inside: bool,

    /// Show no progress on standard error.
    #[arg(short, long)]
    quiet: bool,
}

impl Input {
    /// What reading them needs.
    pub(crate) fn reach(&self) -> Reach {
        self.options.reach(&self.files())
    }

    pub(crate) fn open(&self) -> Result<Capture, Failure> {
        let mut capture = self.options.open(&self.files())?;
        for (i, (name, _)) in (self.files.len()..).zip(&self.taps) {
            capture.name_tap(i, name);
        }
        Ok(capture)
    }

    pub(crate) fn watch(&self) -> Watch {
        self.options.watch()
    }

    /// Reads them all, and warns of damage. Returns also whether Ctrl-C ended the reading.
    pub(crate) fn analyze(&self) -> Result<(Report, bool), Failure> {
        let mut capture = self.open()?;
        let mut watch = self.watch();
        let report = analysis::analyze(&mut capture, |c| watch.proceed(c));
        watch.clear();
        let report = report?;
        warn_of_damage(&capture);
        Ok((report, watch.stopped()))
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let taps = self.taps.iter().map(|(_, file)| file.clone());
        self.files.iter().cloned().chain(taps).collect()
    }

    /// One of the files alone.
    pub(crate) fn open_one(&self, file: &PathBuf) -> Result<Capture, Failure> {
        self.options.open(std::slice::from_ref(file))
    }
}

impl Options {
    pub(crate) fn reach(&self, files: &[PathBuf]) -> Reach {
        let reach = Reach::default().reads(files.iter().cloned());
        #[cfg(feature = "live")]
        let reach = reach.looks_up_names(self.filter.is_some());
        reach
    }

    pub(crate) fn open(&self, files: &[PathBuf]) -> Result<Capture, Failure> {
        let options = capture::Options {
            dpmi_inside: self.dpmi_inside,
        };
        let mut capture = Capture::open_with(files, options)?;
        capture.select(&self.points, &self.interfaces);
        #[cfg(feature = "live")]
        if let Some(expression) = &self.filter {
            capture.set_filter(expression)?;
        }
        Ok(capture)
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch::new(self.quiet)
    }
}

/// A warning of where a file broke off, if it did.
pub(crate) fn damage(file: &FileSummary) -> Option<String> {
    let d = file.damage.as_ref()?;
    Some(format!(
        "warning: {}: {d}; the {} packets before it are used",
        file.name, file.packets
    ))
}

/// Says what was broken in the files.
pub(crate) fn warn_of_damage(capture: &Capture) {
    for f in capture.files() {
        if let Some(warning) = damage(f) {
            output::complain(&warning);
        }
        for note in f.dpmi.iter().flat_map(|n| n.warnings()) {
            output::complain(&format!("warning: {}: {note}", f.name));
        }
    }
    for name in capture.unmet_names() {
        output::complain(&format!(
            "warning: no packet is from a measurement point or interface '{name}'"
        ));
    }
}

/// Draws progress, and hears of Ctrl-C.
pub(crate) struct Watch {
    line: ProgressLine,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn new(quiet: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        // The first Ctrl-C ends the reading, a second one the program.
        let signal = signal_hook::consts::SIGINT;
        let _ = signal_hook::flag::register_conditional_default(signal, stop.clone());
        let _ = signal_hook::flag::register(signal, stop.clone());
        Self {
            line: ProgressLine::new(quiet),
            stop,
        }
    }

    /// Shall reading go on?
    pub(crate) fn proceed(&mut self, capture: &Capture) -> bool {
        self.line.draw(|| {
            let (read, total) = capture.progress();
            progress::bytes(read, total)
        });
        !self.stopped()
    }

    /// Was Ctrl-C pressed?
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Removes the drawing.
    pub(crate) fn clear(&self) {
        self.line.clear();
        if self.stopped() {
            output::complain("interrupted; this is what was found so far");
        }
    }
}
