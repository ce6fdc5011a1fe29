//! From capture files to frames: pcap, pcapng and DPMI, plain or compressed, one file or a set.
//!
//! pcap-parser reads the record formats; reading in large blocks, joining several files in time
//! order and saying what is wrong with a file, and where, happen here.

mod ahead;
mod block;
pub mod dpmi;
#[cfg(feature = "live")]
mod filter;
mod open;
mod pcap;
mod pcapng;
mod select;
pub mod write;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Timestamp;
use open::Reader;

/// Longest frame that is believed; libpcap's own limit (`MAXIMUM_SNAPLEN`). Bytes.
pub const MAX_FRAME: usize = 256 << 10;

/// Interfaces over all inputs that are told apart; later ones count as the last.
pub const MAX_INTERFACES: usize = 65_536;

/// The kind of link layer that frames begin with (`LINKTYPE_*` of tcpdump.org/linktypes.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// BSD loopback: four bytes of address family in the capturing host's byte order.
    Null,
    /// Ethernet.
    Ethernet,
    /// An IP packet.
    Raw,
    /// OpenBSD loopback: four bytes of address family in network byte order.
    Loop,
    /// Linux cooked capture, version 1.
    LinuxSll,
    /// Linux cooked capture, version 2.
    LinuxSll2,
    /// An IPv4 packet.
    Ipv4,
    /// An IPv6 packet.
    Ipv6,
    /// Not understood.
    Other(u16),
}

/// Numbers of the link types: file value and variant. `DLT_RAW` has had several values.
const LINK_TYPES: [(u16, LinkType); 10] = [
    (0, LinkType::Null),
    (1, LinkType::Ethernet),
    (101, LinkType::Raw),
    (108, LinkType::Loop),
    (113, LinkType::LinuxSll),
    (228, LinkType::Ipv4),
    (229, LinkType::Ipv6),
    (276, LinkType::LinuxSll2),
    (12, LinkType::Raw),
    (14, LinkType::Raw),
];

impl LinkType {
    /// From the number in a file. The upper half of pcap's word is about checksums.
    pub fn from_number(number: u32) -> Self {
        let number = (number & 0xffff) as u16;
        LINK_TYPES
            .iter()
            .find(|(n, _)| *n == number)
            .map_or(LinkType::Other(number), |(_, l)| *l)
    }

    /// The number for a file.
    pub fn number(self) -> u16 {
        match self {
            LinkType::Other(n) => n,
            known => LINK_TYPES
                .iter()
                .find(|(_, l)| *l == known)
                .map_or(0, |(n, _)| *n),
        }
    }
}

/// One captured packet.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// From 1 over the whole input.
    pub number: u64,
    /// When it was captured.
    pub time: Timestamp,
    /// Capture interface, from 0 over the whole input.
    pub interface: u32,
    /// What it begins with.
    pub link: LinkType,
    /// Bytes on the wire; at least as many as were captured.
    pub wire_len: u32,
    /// The captured bytes.
    pub data: &'a [u8],
}

/// A capture interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interface {
    /// Its link type.
    pub link: LinkType,
    /// Its name, where the file gives one; in DPMI with the measurement point's in front:
    /// `mp01:d00`.
    pub name: Option<String>,
    /// The measurement point it belongs to (DPMI).
    pub point: Option<String>,
    /// Snap length, bytes; 0 is none.
    pub snap_length: u32,
}

impl Interface {
    /// Its name without the measurement point's.
    pub fn local_name(&self) -> Option<&str> {
        let name = self.name.as_deref()?;
        let Some(point) = &self.point else {
            return Some(name);
        };
        let local = name.strip_prefix(point.as_str());
        Some(local.and_then(|n| n.strip_prefix(':')).unwrap_or(name))
    }
}

/// How to read the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Give the frames that DPMI measurement streams in the files carry, not those that carry
    /// them.
    pub dpmi_inside: bool,
}

/// File format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// libpcap's format with microseconds.
    PcapMicros,
    /// libpcap's format with nanoseconds.
    PcapNanos,
    /// pcapng.
    Pcapng,
    /// DPMI, picoseconds.
    Dpmi,
}

impl Format {
    /// Name as reports give it.
    pub fn name(self) -> &'static str {
        match self {
            Format::PcapMicros | Format::PcapNanos => "pcap",
            Format::Pcapng => "pcapng",
            Format::Dpmi => "dpmi",
        }
    }
}

/// Compression around the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// Where and how a file is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Offset in the (uncompressed) file, bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
    /// The file simply ends in the middle of something.
    pub truncated: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.offset)
    }
}

/// What one file held.
#[derive(Debug, Clone)]
pub struct FileSummary {
    /// Name as given.
    pub name: String,
    /// The tap that it is from, where the user named it.
    pub tap: Option<String>,
    /// Format.
    pub format: Format,
    /// Version of the format.
    pub version: Option<(u16, u16)>,
    /// Compression.
    pub compression: Compression,
    /// Frames.
    pub packets: u64,
    /// First and last time.
    pub times: Option<(Timestamp, Timestamp)>,
    /// Frames whose time lies before the frame in front of them.
    pub steps_back: u64,
    /// Where it broke off, if it did.
    pub damage: Option<Damage>,
    /// What DPMI says besides the frames; its counts are there when the file has been read.
    pub dpmi: Option<dpmi::Notes>,
}

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("{name}: {source}")]
    Open {
        /// File.
        name: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Nothing in it.
    #[error(
        "{name}: the file is empty (0 bytes); was the capture stopped before its first packet?"
    )]
    Empty {
        /// File.
        name: String,
    },
    /// No known format.
    #[error(
        "{name}: not a capture: it begins with {found}; pcap, pcapng, DPMI, and gzip or zstd of these can be read"
    )]
    NotACapture {
        /// File.
        name: String,
        /// Its first bytes.
        found: String,
    },
    /// The header of the file is broken.
    #[error("{name}: {damage}")]
    Broken {
        /// File.
        name: String,
        /// What and where.
        damage: Damage,
    },
    /// Reading failed.
    #[error("{name}: reading failed at byte {offset}: {source}")]
    Read {
        /// File.
        name: String,
        /// Offset in the uncompressed file.
        offset: u64,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The filter expression is wrong, or cannot be used.
    #[error("filter '{expression}': {reason}")]
    Filter {
        /// As given.
        expression: String,
        /// libpcap's reason.
        reason: String,
    },
}

/// Why the next record cannot be had.
#[derive(Debug)]
enum Fault {
    Io(std::io::Error),
    Damage(Damage),
}

fn damage(offset: u64, what: &str) -> Fault {
    Fault::Damage(Damage {
        offset,
        what: what.to_owned(),
        truncated: false,
    })
}

fn truncated(offset: u64, what: &str) -> Fault {
    Fault::Damage(Damage {
        offset,
        what: what.to_owned(),
        truncated: true,
    })
}

/// A record's place in the reader's block, and what its header says.
#[derive(Debug, Clone)]
struct Record {
    time: Timestamp,
    /// Interface within the file.
    interface: u32,
    link: LinkType,
    wire_len: u32,
    range: std::ops::Range<usize>,
}

/// One open file.
#[derive(Debug)]
struct Source {
    reader: Reader,
    summary: usize,
    /// The next frame of this file.
    head: Option<Record>,
    /// Time of the frame given out before it.
    before: Option<Timestamp>,
    /// Global numbers of the file's interfaces.
    interfaces: Vec<u32>,
    /// Files that follow each other share a lane; files that overlap in time do not.
    lane: usize,
}

/// A file that waits for its time.
#[derive(Debug)]
struct Waiting {
    path: PathBuf,
    first: Timestamp,
    summary: usize,
}

/// Global numbers of interfaces; those of no measurement point by their lane and number there.
type Numbers = HashMap<(Option<(usize, u32)>, Interface), u32>;

/// A capture: one file, or several in time order.
#[derive(Debug)]
pub struct Capture {
    active: Vec<Source>,
    waiting: Vec<Waiting>,
    summaries: Vec<FileSummary>,
    interfaces: Vec<(usize, u32, Interface)>,
    numbers: Numbers,
    options: Options,
    selection: Option<select::Selection>,
    /// The source whose head was given out last and must move on.
    used: Option<usize>,
    number: u64,
    read: Arc<AtomicU64>,
    total: Option<u64>,
    #[cfg(feature = "live")]
    filter: Option<filter::Filter>,
}

impl Capture {
    /// Opens the files; `-` is standard input. Several are joined in time order, and only those
    /// are open at once whose times overlap.
    ///
    /// # Errors
    /// A file that cannot be opened or is no capture.
    pub fn open(paths: &[PathBuf]) -> Result<Self, CaptureError> {
        Self::open_with(paths, Options::default())
    }

    /// [`Capture::open`] with options.
    ///
    /// # Errors
    /// A file that cannot be opened or is no capture.
    pub fn open_with(paths: &[PathBuf], options: Options) -> Result<Self, CaptureError> {
        let read = Arc::new(AtomicU64::new(0));
        let mut capture = Self::empty(read.clone(), options);
        let mut total = Some(0u64);
        for path in paths {
            let size = std::fs::metadata(path).ok().filter(|m| m.is_file());
            // What is no file cannot be opened again.
            let stays = paths.len() == 1 || path == Path::new("-") || size.is_none();
            total = total.zip(size).map(|(t, m)| t + m.len());
            let reader = Reader::open(path, read.clone())?;
            capture.add(reader, (!stays).then_some(path))?;
        }
        capture.total = total;
        if paths.len() > 1 {
            // The peeks above do not count.
            read.store(0, Ordering::Relaxed);
        }
        let in_time = |w: &Waiting| std::cmp::Reverse((w.first, w.summary));
        capture.waiting.sort_by_key(in_time);
        Ok(capture)
    }

    /// Reads from anything.
    ///
    /// # Errors
    /// Not a capture.
    pub fn from_reader(
        name: &str,
        reader: impl std::io::Read + Send + 'static,
    ) -> Result<Self, CaptureError> {
        Self::from_reader_with(name, reader, Options::default())
    }

    /// [`Capture::from_reader`] with options.
    ///
    /// # Errors
    /// Not a capture.
    pub fn from_reader_with(
        name: &str,
        reader: impl std::io::Read + Send + 'static,
        options: Options,
    ) -> Result<Self, CaptureError> {
        let read = Arc::new(AtomicU64::new(0));
        let mut capture = Self::empty(read.clone(), options);
        capture.add(Reader::new(name, Box::new(reader), read)?, None)?;
        Ok(capture)
    }

    fn empty(read: Arc<AtomicU64>, options: Options) -> Self {
        Self {
            active: Vec::new(),
            waiting: Vec::new(),
            summaries: Vec::new(),
            interfaces: Vec::new(),
            numbers: Numbers::default(),
            options,
            selection: None,
            used: None,
            number: 0,
            read,
            total: None,
            #[cfg(feature = "live")]
            filter: None,
        }
    }

    /// Shows only frames that match a filter in tcpdump's language (pcap-filter(7)); the others
    /// keep their numbers.
    ///
    /// # Errors
    /// The expression does not compile for Ethernet.
    #[cfg(feature = "live")]
    pub fn set_filter(&mut self, expression: &str) -> Result<(), CaptureError> {
        self.filter = Some(filter::Filter::new(expression)?);
        Ok(())
    }

    /// Shows only frames of these measurement points (all, where none is named) and of these
    /// capture interfaces (likewise); the others keep their numbers. An interface goes by its own
    /// name or by that with the measurement point's in front.
    pub fn select(&mut self, points: &[String], interfaces: &[String]) {
        let any = !points.is_empty() || !interfaces.is_empty();
        self.selection = any.then(|| select::Selection::new(points, interfaces));
    }

    /// Names given to [`Capture::select`] that nothing read so far has.
    pub fn unmet_names(&self) -> impl Iterator<Item = &str> {
        let selection = self.selection.iter();
        selection.flat_map(|s| s.unmet(&self.interfaces))
    }

    /// Names the tap that a file is from. Its interfaces go by that name in front, as those of a
    /// measurement point do. `file` counts from 0; to be called before the first frame is read.
    pub fn name_tap(&mut self, file: usize, name: &str) {
        if let Some(summary) = self.summaries.get_mut(file) {
            summary.tap = Some(name.to_owned());
        }
    }

    /// Takes a file in: open at once, or waiting for its time.
    fn add(&mut self, mut reader: Reader, reopen: Option<&PathBuf>) -> Result<(), CaptureError> {
        let summary = self.summaries.len();
        self.summaries.push(FileSummary {
            name: reader.name.clone(),
            tap: None,
            format: reader.format(),
            version: reader.version(),
            compression: reader.compression,
            packets: 0,
            times: None,
            steps_back: 0,
            damage: None,
            dpmi: None,
        });
        if self.options.dpmi_inside {
            reader.look_inside();
        }
        let head = next_record(&mut reader, &mut self.summaries[summary])?;
        match (reopen, head) {
            (Some(path), Some(head)) => self.waiting.push(Waiting {
                path: path.clone(),
                first: head.time,
                summary,
            }),
            (None, Some(head)) => self.activate(reader, head, summary),
            (_, None) => {}
        }
        Ok(())
    }

    fn activate(&mut self, reader: Reader, head: Record, summary: usize) {
        let lane = (0..)
            .find(|l| self.active.iter().all(|s| s.lane != *l))
            .unwrap_or(0);
        self.active.push(Source {
            reader,
            summary,
            head: Some(head),
            before: None,
            interfaces: Vec::new(),
            lane,
        });
    }

    /// The next frame in time order.
    ///
    /// # Errors
    /// The system cannot read. A broken file is no error: it ends there, and
    /// [`Capture::files`] says where and why.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, CaptureError> {
        loop {
            let Some(i) = self.advance()? else {
                return Ok(None);
            };
            self.number += 1;
            let Some(source) = self.active.get_mut(i) else {
                return Ok(None);
            };
            let Some(head) = &source.head else {
                return Ok(None);
            };
            let summary = &mut self.summaries[source.summary];
            summary.packets += 1;
            let (first, last) = summary.times.unwrap_or((head.time, head.time));
            summary.steps_back += u64::from(source.before.is_some_and(|b| head.time < b));
            source.before = Some(head.time);
            summary.times = Some((first.min(head.time), last.max(head.time)));
            let interface = match source.interfaces.get(head.interface as usize) {
                Some(n) => *n,
                None => {
                    let local = head.interface;
                    let tap = self.summaries[source.summary].tap.as_deref();
                    let (all, numbers) = (&mut self.interfaces, &mut self.numbers);
                    learn_interfaces(source, local, tap, all, numbers)
                }
            };
            if let Some(selection) = &mut self.selection
                && !selection.takes(interface, &self.interfaces)
            {
                continue;
            }
            #[cfg(feature = "live")]
            if let (Some(filter), Some(head)) = (&mut self.filter, &source.head) {
                let data = source.reader.block.bytes(&head.range);
                if !filter.matches(head.link, data)? {
                    continue;
                }
            }
            break self.frame(i, interface);
        }
    }

    fn frame(&self, i: usize, interface: u32) -> Result<Option<Frame<'_>>, CaptureError> {
        let source = &self.active[i];
        Ok(source.head.as_ref().map(|head| Frame {
            number: self.number,
            time: head.time,
            interface,
            link: head.link,
            wire_len: head.wire_len,
            data: source.reader.block.bytes(&head.range),
        }))
    }

    /// Moves on past the frame given out last and says which source comes next.
    fn advance(&mut self) -> Result<Option<usize>, CaptureError> {
        if let Some(i) = self.used.take() {
            let source = &mut self.active[i];
            source.head = next_record(&mut source.reader, &mut self.summaries[source.summary])?;
            if source.head.is_none() {
                self.active.remove(i);
            }
        }
        loop {
            // Ties go to the file named first.
            let next = self
                .active
                .iter()
                .enumerate()
                .filter_map(|(i, s)| Some((s.head.as_ref()?.time, s.summary, i)))
                .min();
            let due = self.waiting.last().is_some_and(|w| {
                next.is_none_or(|(time, summary, _)| (w.first, w.summary) < (time, summary))
            });
            if due {
                self.open_waiting()?;
                continue;
            }
            self.used = next.map(|(_, _, i)| i);
            return Ok(self.used);
        }
    }

    fn open_waiting(&mut self) -> Result<(), CaptureError> {
        let Some(w) = self.waiting.pop() else {
            return Ok(());
        };
        let mut reader = Reader::open(&w.path, self.read.clone())?;
        if self.options.dpmi_inside {
            reader.look_inside();
        }
        let head = next_record(&mut reader, &mut self.summaries[w.summary])?;
        if let Some(head) = head {
            self.activate(reader, head, w.summary);
        }
        Ok(())
    }

    /// What the files held so far.
    pub fn files(&self) -> &[FileSummary] {
        &self.summaries
    }

    /// The capture interfaces seen so far, by their numbers.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.iter().map(|(_, _, i)| i)
    }

    /// Bytes read of the files, and their size where it is known.
    pub fn progress(&self) -> (u64, Option<u64>) {
        (self.read.load(Ordering::Relaxed), self.total)
    }
}

/// The file's next record; a broken file ends there.
#[inline]
fn next_record(
    reader: &mut Reader,
    summary: &mut FileSummary,
) -> Result<Option<Record>, CaptureError> {
    match reader.next_record() {
        Ok(Some(record)) => Ok(Some(record)),
        Ok(None) => {
            summary.dpmi = reader.notes();
            Ok(None)
        }
        Err(Fault::Damage(damage)) => {
            summary.damage = Some(damage);
            summary.dpmi = reader.notes();
            Ok(None)
        }
        Err(Fault::Io(source)) => Err(CaptureError::Read {
            name: reader.name.clone(),
            offset: reader.block.offset(),
            source,
        }),
    }
}

/// Gives the file's interfaces up to `local` their global numbers.
#[cold]
fn learn_interfaces(
    source: &mut Source,
    local: u32,
    tap: Option<&str>,
    all: &mut Vec<(usize, u32, Interface)>,
    numbers: &mut Numbers,
) -> u32 {
    while source.interfaces.len() <= local as usize {
        let n = source.interfaces.len() as u32;
        let mut interface = source.reader.interface(n);
        if let (Some(tap), None) = (tap, &interface.point) {
            let name = interface.name.take();
            interface.name = Some(name.map_or(tap.to_owned(), |n| format!("{tap}:{n}")));
            interface.point = Some(tap.to_owned());
        }
        // A measurement point's interface is the same in every file.
        let place = interface.point.is_none().then_some((source.lane, n));
        let key = (place, interface);
        let global = match numbers.get(&key) {
            Some(known) => *known,
            None if all.len() < MAX_INTERFACES => {
                let new = all.len() as u32;
                all.push((source.lane, n, key.1.clone()));
                numbers.insert(key, new);
                new
            }
            None => MAX_INTERFACES as u32 - 1,
        };
        source.interfaces.push(global);
    }
    source.interfaces[local as usize]
}
