//! `phasescope live`

use std::fs::File;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use phasescope::capture::{self, Capture};
use phasescope::live::device::{self, LiveDevice};
use phasescope::live::devices::Devices;
use phasescope::live::dpmi::{Address, DpmiStream};
use phasescope::live::lines::LineFormat;
use phasescope::live::monitor::{Ending, Monitor, Options, STATUS};
use phasescope::live::record::{self, Recorder, Rotation};
use phasescope::live::replay::{Replay, Speed};
use phasescope::live::source::{Source, SourceError};
use phasescope::live::stamps::{self, Stamps};
use phasescope::live::{metrics, privileges, tui};

use super::output::{Output, color, complain};
use super::sandbox::Reach;
use super::{EXIT_CODES, Failure, exit};

/// Watch migrations while they happen
///
/// Captures on a device, listens to a DPMI stream or replays a capture, and shows running and
/// finished migrations on the terminal, or tells them in lines (--headless). The screen never holds
/// the capture up; what is dropped is counted and shown. No filter is set by itself: protocols are
/// recognised by what they say, on any port and in tunnels.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
#[command(group(ArgGroup::new("source").required(true)
    .args(["interface", "dpmi", "replay", "list_devices"])))]
pub(crate) struct Live {
    /// Capture on this device; `any` is all of them; may be given several times: a packet that
    /// several devices saw counts once
    #[arg(short, long, value_name = "DEVICE")]
    interface: Vec<String>,

    /// Listen to a DPMI stream: eth1/01:00:00:00:00:01 or udp://239.0.0.1:2064
    #[arg(long, value_name = "ADDRESS")]
    dpmi: Option<Address>,

    /// Replay these captures
    #[arg(long, value_name = "FILE", num_args = 1..)]
    replay: Vec<PathBuf>,

    /// List the devices that can be captured on
    #[arg(short = 'D', long)]
    list_devices: bool,

    /// Capture only packets that match, in tcpdump's language: 'host 10.0.0.1 and tcp'
    #[arg(short, long, value_name = "EXPRESSION", conflicts_with = "dpmi")]
    filter: Option<String>,

    /// Capture so many bytes of each packet; all by default, for what is cut off cannot be read
    #[arg(short, long, value_name = "BYTES", requires = "interface",
        value_parser = clap::value_parser!(u32).range(64..=262_144))]
    snap_length: Option<u32>,

    /// Whose clock stamps the packets: host, adapter or adapter_unsynced
    #[arg(
        short = 'j',
        long,
        value_name = "TYPE",
        default_value = "host",
        requires = "interface"
    )]
    time_stamp_type: Stamps,

    /// List the types of time stamps that the devices have
    #[arg(short = 'J', long, requires = "interface")]
    list_time_stamp_types: bool,

    /// After the device is open, go on as this user; by default whoever called sudo
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// Replay so many times faster, or `max`
    #[arg(long, default_value = "1", requires = "replay")]
    speed: Speed,

    /// Keep what is seen in this file, pcapng or by its ending pcap
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Begin a new file after 500M or 2G, or after 90s, 10min or 1h; may be given twice
    #[arg(long, value_name = "LIMIT", requires = "write")]
    rotate: Vec<Rotation>,

    /// Keep the latest so many files
    #[arg(long, value_name = "N", requires = "rotate",
        value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,

    /// Keep no guest memory and no secrets in them, as `phasescope scrub` does
    #[arg(long, requires = "write")]
    scrub: bool,

    /// Replace files that exist
    #[arg(long)]
    force: bool,

    /// No screen: one line for each event of interest and each finished migration
    #[arg(long)]
    headless: bool,

    /// How lines look
    #[arg(long, value_enum, default_value_t = Format::Ndjson, requires = "headless")]
    format: Format,

    /// Answer Prometheus at this address, for example 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,

    /// Append each finished migration to this file: OpenTelemetry traces (OTLP), one JSON object a
    /// line, as a collector's otlpjsonfile receiver reads them
    #[arg(long, value_name = "FILE")]
    otlp: Option<PathBuf>,

    /// At the end, write the report of everything as JSON into this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object a line
    Ndjson,
    /// For people
    Text,
}

/// The screen reads a view so often; a scrape may be older.
const SCREEN_EVERY: Duration = Duration::from_millis(100);
const METRICS_EVERY: Duration = Duration::from_secs(1);
/// A signal waits no longer for its answer.
const PATIENCE: Duration = Duration::from_millis(100);

fn failed(e: &SourceError) -> Failure {
    Failure::Other(e.to_string())
}

/// A file of lines, to be continued.
fn lines_of(path: &Path) -> Result<File, Failure> {
    let file = File::options().append(true).create(true).open(path);
    file.map_err(|source| Failure::Write {
        name: path.display().to_string(),
        source,
    })
}

impl Live {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        if self.list_devices {
            let mut out = Output::open(None)?;
            for line in device::list().map_err(|e| failed(&e))? {
                out.put(&(line + "\n"))?;
            }
            out.finish()?;
            return Ok(exit::FOUND);
        }
        if self.list_time_stamp_types {
            return self.list_stamps();
        }
        if !self.headless && !io::stdout().is_terminal() {
            return Err(Failure::Other(
                "standard output is no terminal: --headless tells in lines what the screen shows"
                    .to_owned(),
            ));
        }
        let quit = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The first one ends cleanly, a second one at once.
            let _ = signal_hook::flag::register_conditional_default(signal, quit.clone());
            let _ = signal_hook::flag::register(signal, quit.clone());
        }
        // A device needs more rights until it is open.
        let captures = self.interface.is_empty() && self.dpmi.is_none();
        if captures {
            self.reach().enter();
        }
        let source = self.open()?;
        if let Some(user) = privileges::give_up(self.user.as_deref()).map_err(Failure::Other)?
            && self.headless
        {
            complain(&format!("the device is open; going on as user {user}"));
        }
        if !captures {
            self.reach().enter();
        }
        let monitor = self.start(source)?;
        if self.headless {
            self.tell(monitor, &quit)
        } else {
            let theme = tui::Theme::new(color());
            let shown = tui::run(&monitor, theme, || quit.load(Ordering::Relaxed));
            let ending = monitor.finish(|_| {}).map_err(Failure::Other)?;
            shown.map_err(|source| Failure::Write {
                name: "the terminal".to_owned(),
                source,
            })?;
            self.end(ending)
        }
    }

    /// What watching needs: the captures, or what the kernel counts of open devices; the outputs, and
    /// this folder for what the screen's `e` writes.
    fn reach(&self) -> Reach {
        let recordings = self.write.as_deref().and_then(Path::parent);
        let names = self.filter.is_some() || privileges::may_change(self.user.as_deref());
        Reach::default()
            .reads(self.replay.iter().cloned())
            .reads([PathBuf::from(STATUS)])
            .looks_up_names(names)
            .reads_device_counters(&self.interface)
            .writes(self.write.as_deref())
            .writes_into(recordings)
            .writes(self.otlp.as_deref())
            .writes(self.report.as_deref())
            .writes_into((!self.headless).then_some(Path::new(".")))
            .draws(!self.headless)
            .answers_at(self.metrics.map(|a| a.port()))
    }

    fn list_stamps(&self) -> Result<u8, Failure> {
        let mut out = Output::open(None)?;
        for name in &self.interface {
            let all = stamps::supported(name);
            let all = all.map_err(|e| Failure::Other(format!("{name}: {e}")))?;
            for (_, stamp, what) in all {
                out.put(&format!("{name:<16} {stamp:<16} {what}\n"))?;
            }
        }
        out.finish()?;
        Ok(exit::FOUND)
    }

    fn open(&self) -> Result<Box<dyn Source>, Failure> {
        let mut names: Vec<&String> = vec![];
        for name in &self.interface {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let settings = names.into_iter().map(|name| device::Settings {
            name: name.clone(),
            filter: self.filter.clone(),
            snap_length: self.snap_length,
            stamps: self.time_stamp_type,
        });
        match settings.collect::<Vec<_>>().as_slice() {
            [] => {}
            [one] => return Ok(Box::new(LiveDevice::open(one).map_err(|e| failed(&e))?)),
            all => return Ok(Box::new(Devices::open(all).map_err(|e| failed(&e))?)),
        }
        if let Some(address) = &self.dpmi {
            let stream = DpmiStream::open(address).map_err(|e| failed(&e))?;
            return Ok(Box::new(stream));
        }
        let mut capture = Capture::open(&self.replay)?;
        if let Some(expression) = &self.filter {
            capture.set_filter(expression)?;
        }
        Ok(Box::new(Replay::new(capture, self.speed)))
    }

    fn recorder(&self) -> Result<Option<Recorder>, Failure> {
        let Some(path) = &self.write else {
            return Ok(None);
        };
        let mut rotation = Rotation::default();
        for r in &self.rotate {
            rotation.bytes = r.bytes.or(rotation.bytes);
            rotation.time_ns = r.time_ns.or(rotation.time_ns);
        }
        let settings = record::Settings {
            path: path.clone(),
            rotation,
            keep: self.keep.map(|n| n as usize),
            scrub: self.scrub,
        };
        let first = settings.file(1);
        if self.interface.len() > 1 && settings.format() != capture::Format::Pcapng {
            return Err(Failure::Usage(format!(
                "{}: pcap holds the packets of one device only; pcapng those of several",
                path.display()
            )));
        }
        let ending = path.extension().and_then(|e| e.to_str());
        if matches!(ending, Some("gz" | "zst")) {
            return Err(Failure::Other(format!(
                "{}: compressing takes longer than capturing; compress the files afterwards",
                path.display()
            )));
        }
        if first.exists() && !self.force {
            return Err(Failure::Other(format!(
                "{}: exists already; --force replaces it",
                first.display()
            )));
        }
        let recorder = Recorder::create(settings).map_err(|source| Failure::Write {
            name: first.display().to_string(),
            source,
        })?;
        Ok(Some(recorder))
    }

    fn start(&self, source: Box<dyn Source>) -> Result<Monitor, Failure> {
        let every = if self.headless {
            self.metrics.map(|_| METRICS_EVERY)
        } else {
            Some(SCREEN_EVERY)
        };
        let format = match self.format {
            Format::Ndjson => LineFormat::Ndjson,
            Format::Text => LineFormat::Text,
        };
        let options = Options {
            recorder: self.recorder()?,
            lines: self.headless.then_some(format),
            view_every: every,
            otlp: match &self.otlp {
                None => None,
                Some(path) => Some(Box::new(lines_of(path)?)),
            },
        };
        let monitor = Monitor::start(source, options).map_err(|e| Failure::Other(e.to_string()))?;
        if let Some(address) = self.metrics {
            let bound = metrics::serve(address, monitor.board())
                .map_err(|e| Failure::Other(format!("{address}: {e}")))?;
            if self.headless {
                complain(&format!("metrics at http://{bound}/metrics"));
            }
        }
        Ok(monitor)
    }

    /// Prints lines until the capture or the process ends.
    fn tell(&self, monitor: Monitor, quit: &AtomicBool) -> Result<u8, Failure> {
        let mut out = Output::open(None)?;
        let mut stopped = false;
        let told = loop {
            match monitor.line(PATIENCE) {
                Some(line) => {
                    // Whoever reads a pipe wants each line at once, but not at the cost of a
                    // system call each where there are many.
                    let mut text = line + "\n";
                    while let Some(more) = monitor.line(Duration::ZERO) {
                        text.push_str(&more);
                        text.push('\n');
                        if text.len() > 1 << 16 {
                            break;
                        }
                    }
                    if let Err(e) = out.put(&text).and_then(|()| out.flush()) {
                        break Err(e);
                    }
                }
                None if monitor.is_over() => break Ok(()),
                None => {}
            }
            if quit.load(Ordering::Relaxed) && !stopped {
                stopped = true;
                monitor.stop();
            }
        };
        let mut rest = String::new();
        let ending = monitor.finish(|line| rest.push_str(&(line + "\n")));
        told?;
        out.put(&rest)?;
        out.finish()?;
        self.end(ending.map_err(Failure::Other)?)
    }

    fn end(&self, ending: Ending) -> Result<u8, Failure> {
        if let Some(path) = &self.report {
            let json = ending.report.to_json();
            let json = json.map_err(|e| Failure::Other(e.to_string()))?;
            let mut out = Output::open(Some(path))?;
            out.put(&json)?;
            out.finish()?;
        }
        let health = &ending.report.capture.health;
        if let Some(n) = health.dropped_packets.filter(|n| *n > 0) {
            complain(&format!("warning: {n} packets were dropped"));
        }
        for (failed, path) in [(ending.recorder, &self.write), (ending.otlp, &self.otlp)] {
            if let (Some(source), Some(path)) = (failed, path) {
                let name = path.display().to_string();
                return Err(Failure::Write { name, source });
            }
        }
        match ending.source {
            Some(e) => Err(failed(&e)),
            None => Ok(exit::FOUND),
        }
    }
}
