//! `phasescope capinfo`

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use phasescope::capture::dpmi::Marker;
use phasescope::capture::{Compression, FileSummary, Format, Frame, Interface, LinkType};
use phasescope::report::printable;
use phasescope::time::Timestamp;
use serde_json::{Value, json};

use super::input::{Input, Watch};
use super::output::{Output, complain, json};
use super::sandbox::Reach;
use super::{EXIT_CODES, Failure, exit};

/// Marker packets that are listed for each file; all are counted.
const MAX_MARKERS: usize = 64;

/// Say what captures are: format, interfaces, measurement points, times, sizes, damage
///
/// Each file for itself, read to its end.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Capinfo {
    #[command(flatten)]
    input: Input,

    /// How to print it
    #[arg(long, value_enum, default_value_t = InfoFormat::Text)]
    format: InfoFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InfoFormat {
    /// Lines
    Text,
    /// An array of objects, one for each file
    Json,
}

/// Packets and bytes, of a file or of one interface.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    packets: u64,
    /// On the wire.
    bytes: u64,
    captured: u64,
    /// Packets that were not captured whole.
    cut: u64,
}

impl Tally {
    fn add(&mut self, frame: &Frame<'_>) {
        let len = frame.data.len() as u64;
        self.packets += 1;
        self.bytes += u64::from(frame.wire_len);
        self.captured += len;
        self.cut += u64::from(len < u64::from(frame.wire_len));
    }
}

/// What one file turned out to be.
#[derive(Debug)]
struct Info {
    file: FileSummary,
    all: Tally,
    interfaces: Vec<(Interface, Tally)>,
    /// First, last by time.
    times: Option<(Timestamp, Timestamp)>,
    /// Packets whose time lies before that of the packet in front of them.
    steps_back: u64,
    markers: u64,
    /// The first of them, with number and time.
    listed: Vec<(u64, Timestamp, Marker)>,
}

impl Capinfo {
    pub(crate) fn reach(&self) -> Reach {
        self.input.reach()
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let mut out = Output::open(None)?;
        let mut watch = self.input.watch();
        let mut code = exit::FOUND;
        let mut rows = Vec::new();
        for (i, file) in self.input.files().iter().enumerate() {
            if watch.stopped() {
                break;
            }
            match self.read(file, &mut watch) {
                Ok(Some(info)) if self.format == InfoFormat::Text => {
                    let gap = if i > 0 { "\n" } else { "" };
                    out.put(&(gap.to_owned() + &text(&info)))?;
                }
                Ok(info) => rows.extend(info.as_ref().map(object)),
                Err(f) => {
                    complain(&f.to_string());
                    code = exit::CANNOT_READ;
                }
            }
        }
        watch.clear();
        if self.format == InfoFormat::Json {
            out.put(&json(&rows)?)?;
        }
        out.finish()?;
        Ok(code)
    }

    fn read(&self, file: &PathBuf, watch: &mut Watch) -> Result<Option<Info>, Failure> {
        let mut capture = self.input.open_one(file)?;
        let mut all = Tally::default();
        let mut tallies: Vec<Tally> = Vec::new();
        let mut times: Option<(Timestamp, Timestamp)> = None;
        let mut before = None;
        let (mut steps_back, mut markers) = (0, 0);
        let mut listed = Vec::new();
        while let Some(frame) = capture.next_frame()? {
            let n = frame.interface as usize;
            if tallies.len() <= n {
                tallies.resize(n + 1, Tally::default());
            }
            all.add(&frame);
            tallies[n].add(&frame);
            let t = frame.time;
            let (first, last) = times.unwrap_or((t, t));
            times = Some((first.min(t), last.max(t)));
            steps_back += u64::from(before.is_some_and(|b| t < b));
            before = Some(t);
            if let Some(marker) = Marker::find(frame.link, frame.data) {
                markers += 1;
                if listed.len() < MAX_MARKERS {
                    listed.push((frame.number, t, marker));
                }
            }
            if frame.number % 4096 == 0 && !watch.proceed(&capture) {
                break;
            }
        }
        let interfaces = capture.interfaces().cloned();
        let tallies = tallies
            .into_iter()
            .chain(std::iter::repeat(Tally::default()));
        let interfaces = interfaces.zip(tallies).collect();
        Ok(capture.files().first().map(|file| Info {
            file: file.clone(),
            all,
            interfaces,
            times,
            steps_back,
            markers,
            listed,
        }))
    }
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::PcapMicros => "pcap, microseconds",
        Format::PcapNanos => "pcap, nanoseconds",
        Format::Pcapng => "pcapng",
        Format::Dpmi => "DPMI, picoseconds",
    }
}

fn compression_name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

fn link_name(link: LinkType) -> String {
    let name = match link {
        LinkType::Null => "BSD loopback",
        LinkType::Ethernet => "Ethernet",
        LinkType::Raw => "raw IP",
        LinkType::Loop => "OpenBSD loopback",
        LinkType::LinuxSll => "Linux cooked",
        LinkType::LinuxSll2 => "Linux cooked v2",
        LinkType::Ipv4 => "IPv4",
        LinkType::Ipv6 => "IPv6",
        LinkType::Other(n) => return format!("link type {n}"),
    };
    name.to_owned()
}

fn version(file: &FileSummary) -> Option<String> {
    file.version
        .map(|(major, minor)| format!("{major}.{minor}"))
}

/// Seconds from one time to the other: nanoseconds, or picoseconds where there are any.
fn span(first: Timestamp, last: Timestamp) -> String {
    let picos = |t: Timestamp| i128::from(t.nanos()) * 1000 + i128::from(t.sub_nano_picos());
    let ps = (picos(last) - picos(first)).max(0);
    let (seconds, ps) = (ps / 1_000_000_000_000, ps % 1_000_000_000_000);
    if ps % 1000 == 0 {
        format!("{seconds}.{:09}", ps / 1000)
    } else {
        format!("{seconds}.{ps:012}")
    }
}

fn text(info: &Info) -> String {
    let file = &info.file;
    let mut out = format!("{}\n", file.name);
    let mut line = |label: &str, what: &str| {
        let _ = writeln!(out, "  {label:<12} {what}");
    };
    let number = version(file).map(|v| format!(", version {v}"));
    let format = format_name(file.format);
    line("format", &format!("{format}{}", number.unwrap_or_default()));
    line("compression", compression_name(file.compression));
    if let Some(notes) = &file.dpmi {
        for (label, what) in [
            ("written by", &notes.written_by),
            ("comment", &notes.comment),
        ] {
            if let Some(what) = what {
                line(label, what);
            }
        }
    }
    line("packets", &info.all.packets.to_string());
    line(
        "bytes",
        &format!(
            "{} on the wire, {} captured",
            info.all.bytes, info.all.captured
        ),
    );
    line("cut packets", &info.all.cut.to_string());
    if let Some((first, last)) = info.times {
        line("first", &first.to_string());
        line("last", &last.to_string());
        line("duration", &format!("{} s", span(first, last)));
    }
    line("steps back", &info.steps_back.to_string());
    if let Some(s) = file.dpmi.as_ref().and_then(|n| n.streams) {
        line(
            "streams",
            &format!(
                "{}: {} measurement frames, {} records, {} frames lost in {} gaps",
                s.streams, s.frames, s.records, s.lost, s.gaps
            ),
        );
    }
    if info.markers > 0 {
        line("markers", &info.markers.to_string());
    }
    for (frame, time, m) in &info.listed {
        let end = if m.terminate { ", terminate" } else { "" };
        let what = format!(
            "packet {frame}, {time}: experiment {}, run {}, key {}, sequence {}{end} {}",
            m.experiment, m.run, m.key, m.sequence, m.comment
        );
        line("", what.trim_end());
    }
    for warning in file.dpmi.iter().flat_map(|n| n.warnings()) {
        line("warning", &warning);
    }
    let damage = file.damage.as_ref().map(ToString::to_string);
    line("damage", damage.as_deref().unwrap_or("none"));
    line("interfaces", &info.interfaces.len().to_string());
    for (i, (interface, t)) in info.interfaces.iter().enumerate() {
        let name = interface.name.as_deref().map(printable);
        let name = name.unwrap_or_else(|| format!("#{i}").into());
        line(
            "",
            &format!(
                "{name:<18} {}, {} packets, {} bytes, {} captured, {} cut",
                link_name(interface.link),
                t.packets,
                t.bytes,
                t.captured,
                t.cut
            ),
        );
    }
    out
}

fn tally(t: &Tally) -> [(&'static str, Value); 4] {
    [
        ("packets", json!(t.packets)),
        ("bytes", json!(t.bytes)),
        ("captured_bytes", json!(t.captured)),
        ("cut_packets", json!(t.cut)),
    ]
}

fn object(info: &Info) -> Value {
    let file = &info.file;
    let notes = file.dpmi.as_ref();
    let interfaces: Vec<Value> = info
        .interfaces
        .iter()
        .map(|(i, t)| {
            let mut row = json!({
                "name": i.name,
                "measurement_point": i.point,
                "link_type": i.link.number(),
                "snap_length": i.snap_length,
            });
            for (key, value) in tally(t) {
                row[key] = value;
            }
            row
        })
        .collect();
    let markers: Vec<Value> = info
        .listed
        .iter()
        .map(|(frame, time, m)| {
            json!({
                "frame": frame,
                "time": time.to_string(),
                "experiment": m.experiment,
                "run": m.run,
                "key": m.key,
                "sequence": m.sequence,
                "terminate": m.terminate,
                "comment": m.comment,
                "port": m.port,
            })
        })
        .collect();
    let mut row = json!({
        "file": file.name,
        "format": file.format.name(),
        "version": version(file),
        "compression": compression_name(file.compression),
        "written_by": notes.and_then(|n| n.written_by.clone()),
        "comment": notes.and_then(|n| n.comment.clone()),
        "first": info.times.map(|(first, _)| first.to_string()),
        "last": info.times.map(|(_, last)| last.to_string()),
        "duration_s": info.times.map(|(first, last)| span(first, last)),
        "steps_back": info.steps_back,
        "markers": info.markers,
        "marker_packets": markers,
        "warnings": notes.map(|n| n.warnings()).unwrap_or_default(),
        "damage": file.damage.as_ref().map(|d| json!({
            "offset": d.offset,
            "what": d.what,
            "truncated": d.truncated,
        })),
        "interfaces": interfaces,
    });
    for (key, value) in tally(&info.all) {
        row[key] = value;
    }
    if let Some(s) = notes.and_then(|n| n.streams) {
        row["streams"] = json!({
            "streams": s.streams,
            "measurement_frames": s.frames,
            "records": s.records,
            "gaps": s.gaps,
            "lost_frames": s.lost,
            "late_frames": s.late,
            "repeated_frames": s.repeated,
            "restarts": s.restarts,
            "flushes": s.flushes,
            "broken_frames": s.broken,
            "disagreeing_frames": s.disagreeing,
            "foreign_frames": s.foreign,
        });
    }
    row
}
