//! DPMI, the Distributed Passive Measurement Infrastructure: `.cap` files, measurement streams and
//! marker packets.
//!
//! A measurement point captures frames on one or more capture interfaces and stores them, or sends
//! them to consumers. Source: the file and stream headers of libcap_utils 0.7.18 (`caputils/file.h`,
//! `caputils/capture.h`, `caputils/send.h`, `caputils/marker.h`). Integers in files and packet
//! records are little-endian.

pub(super) mod inside;
mod marker;
mod stream;

use std::collections::HashMap;
use std::fmt;

use super::block::Block;
use super::{Fault, Interface, LinkType, MAX_FRAME, Record, damage, truncated};
use crate::time::Timestamp;
pub use marker::Marker;
pub use stream::{PacketRecord, StreamCounts, StreamDecoder};

/// First eight bytes of a 0.7 file: 0x8f1ae247c53d9b6e, little-endian.
const MAGIC: [u8; 8] = [0x6e, 0x9b, 0x3d, 0xc5, 0x47, 0xe2, 0x1a, 0x8f];
/// The newest minor version whose layout is known.
const NEWEST_MINOR: u16 = 7;

/// Bytes of a name in a packet record.
const NAME_LEN: usize = 8;
/// Bytes of the writer's name in a file header.
const WRITER_LEN: usize = 200;
/// Longest comment, bytes; the length has 16 bits in 0.7.
const MAX_COMMENT: usize = 65_535;
/// Pairs of measurement point and interface in one file; later ones count as the last.
const MAX_POINTS: usize = 4096;

/// File header of 0.7: bytes, and where its fields lie.
mod v07 {
    pub(super) const LEN: usize = 216;
    pub(super) const MAJOR: usize = 8;
    pub(super) const MINOR: usize = 10;
    /// Where the comment begins, behind extensions if there are any.
    pub(super) const HEADER_OFFSET: usize = 12;
    pub(super) const COMMENT_LEN: usize = 14;
    pub(super) const WRITER: usize = 16;
}

/// File header of 0.6; two bytes of alignment end it.
mod v06 {
    pub(super) const LEN: usize = 208;
    pub(super) const MAJOR: usize = 4;
    pub(super) const MINOR: usize = 5;
    pub(super) const WRITER: usize = 6;
}

/// File header of 0.5.
mod v05 {
    pub(super) const LEN: usize = 212;
    pub(super) const MAJOR: usize = 4;
    pub(super) const MINOR: usize = 8;
    pub(super) const WRITER: usize = 12;
}

/// Header extensions: type and size, two bytes each; the size counts them.
mod extension {
    pub(super) const HEAD: usize = 4;
    pub(super) const END: u16 = 0;
}

/// Packet record: bytes of its header, and where its fields lie.
mod record {
    pub(super) const LEN: usize = 36;
    /// As 64-bit builds of 0.5 must have written it: eight bytes of seconds.
    pub(super) const WIDE_LEN: usize = 40;
    pub(super) const NIC: usize = 0;
    pub(super) const POINT: usize = 8;
    pub(super) const SECONDS: usize = 16;
    /// The fields below follow the seconds, whose length differs; places without those.
    pub(super) const PICOS: usize = 16;
    pub(super) const WIRE_LEN: usize = 24;
    pub(super) const CAPLEN: usize = 28;
}

/// Picoseconds in a second.
const PICOS_PER_SECOND: u64 = 1_000_000_000_000;
/// What a file without magic may have as picoseconds of its first record.
const PLAUSIBLE_PICOS: u64 = 2 * PICOS_PER_SECOND;

fn le16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

fn le32(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

fn le64(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

fn be32(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

/// Text for people: bytes that are not printable ASCII as `\xNN`.
fn escape(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(bytes.len());
    for b in bytes {
        if is_printable(*b) {
            out.push(char::from(*b));
        } else {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out
}

fn is_printable(b: u8) -> bool {
    matches!(b, 0x20..=0x7e)
}

/// Up to the first NUL; what is behind it is garbage.
fn before_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

/// Name of a measurement point or of a capture interface: up to eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Name([u8; NAME_LEN]);

impl Name {
    fn new(field: &[u8]) -> Self {
        let mut name = [0; NAME_LEN];
        for (to, from) in name.iter_mut().zip(before_nul(field)) {
            *to = *from;
        }
        Self(name)
    }

    /// The bytes of the name, without padding.
    pub fn as_bytes(&self) -> &[u8] {
        before_nul(&self.0)
    }

    fn is_plausible(&self) -> bool {
        self.as_bytes().iter().all(|b| is_printable(*b))
    }
}

/// Bytes that cannot be printed appear as `\xNN`.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(self.as_bytes()))
    }
}

/// What stands before each captured frame, in files and in streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Capture interface.
    pub nic: Name,
    /// Measurement point.
    pub point: Name,
    /// Seconds since 1970, UTC.
    pub seconds: u64,
    /// Picoseconds; nothing keeps them below a second.
    pub picos: u64,
    /// Bytes of the frame on the wire, without checksum.
    pub wire_len: u32,
    /// Bytes that follow; more than `wire_len` where a checksum or padding came along.
    pub caplen: u32,
}

impl RecordHeader {
    /// Reads the header that the bytes begin with; its seconds have four bytes, or eight where it
    /// is [`record::WIDE_LEN`] long.
    fn parse(b: &[u8], len: usize) -> Option<Self> {
        let b = b.get(..len)?;
        let (seconds, rest) = if len == record::WIDE_LEN {
            (le64(b, record::SECONDS)?, b.get(8..)?)
        } else {
            (u64::from(le32(b, record::SECONDS)?), b.get(4..)?)
        };
        Some(Self {
            nic: Name::new(b.get(record::NIC..record::NIC + NAME_LEN)?),
            point: Name::new(b.get(record::POINT..record::POINT + NAME_LEN)?),
            seconds,
            picos: le64(rest, record::PICOS)?,
            wire_len: le32(rest, record::WIRE_LEN)?,
            caplen: le32(rest, record::CAPLEN)?,
        })
    }

    /// When the frame was captured.
    pub fn time(&self) -> Timestamp {
        Timestamp::from_picos(i64::try_from(self.seconds).unwrap_or(i64::MAX), self.picos)
    }

    /// Bytes of the frame among those that follow.
    pub(crate) fn frame_len(&self) -> usize {
        self.wire_len.min(self.caplen) as usize
    }

    /// For files that have no magic.
    fn is_plausible(&self) -> bool {
        self.nic.is_plausible()
            && self.point.is_plausible()
            && self.seconds <= u64::from(u32::MAX)
            && self.picos < PLAUSIBLE_PICOS
            && self.caplen as usize <= MAX_FRAME
            && self.wire_len as usize <= MAX_FRAME
    }
}

/// What a DPMI file, or the DPMI streams in a capture, say besides their frames.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Who wrote the file, which need not be who captured.
    pub written_by: Option<String>,
    /// The file's comment; bytes that cannot be printed as `\xNN`.
    pub comment: Option<String>,
    /// The seconds have eight bytes, as in 64-bit builds of 0.5.
    pub wide_seconds: bool,
    /// Records whose picoseconds are a second or more.
    pub odd_times: u64,
    /// Records that hold more bytes than the frame had.
    pub surplus: u64,
    /// Measurement streams found inside, where they were looked for.
    pub streams: Option<StreamCounts>,
}

impl Notes {
    /// What a reader should know before trusting the numbers.
    pub fn warnings(&self) -> Vec<String> {
        let streams = self.streams.unwrap_or_default();
        let mut out = Vec::new();
        let mut say = |n: u64, what: &str| {
            if n > 0 {
                out.push(format!("{n} {what}"));
            }
        };
        say(
            self.odd_times,
            "records have a second or more of picoseconds",
        );
        say(
            self.surplus,
            "records hold more bytes than their frame had; only the frame is used",
        );
        say(
            streams.lost,
            "measurement frames are missing, with all that was captured in them",
        );
        say(
            streams.restarts,
            "times the sender of a measurement stream began anew",
        );
        say(
            streams.repeated,
            "measurement frames came twice; one of each is used",
        );
        say(streams.broken, "measurement frames end inside a record");
        say(
            streams.disagreeing,
            "measurement frames announce another number of records than they have",
        );
        say(
            streams.foreign,
            "frames look like measurement frames, but are of no known version",
        );
        if self.wide_seconds {
            out.push("records of 40 bytes, as a 64-bit host wrote them in version 0.5".to_owned());
        }
        if self.streams.is_some() && streams.streams == 0 {
            out.push("no DPMI measurement stream inside".to_owned());
        }
        out
    }

    fn count(&mut self, header: &RecordHeader) {
        self.odd_times += u64::from(header.picos >= PICOS_PER_SECOND);
        self.surplus += u64::from(header.caplen > header.wire_len);
    }
}

/// The pairs of measurement point and interface met so far: each is one capture interface.
#[derive(Debug, Default)]
struct Points {
    numbers: HashMap<(Name, Name), u32>,
    list: Vec<(Name, Name)>,
    last: Option<((Name, Name), u32)>,
}

impl Points {
    fn number(&mut self, header: &RecordHeader) -> u32 {
        let pair = (header.point, header.nic);
        if let Some((known, n)) = self.last
            && known == pair
        {
            return n;
        }
        let n = match self.numbers.get(&pair) {
            Some(n) => *n,
            None if self.list.len() < MAX_POINTS => {
                let n = self.list.len() as u32;
                self.numbers.insert(pair, n);
                self.list.push(pair);
                n
            }
            None => MAX_POINTS as u32 - 1,
        };
        self.last = Some((pair, n));
        n
    }

    fn interface(&self, n: u32) -> Interface {
        let (point, nic) = self.list.get(n as usize).copied().unwrap_or_default();
        let point = Some(point.to_string()).filter(|p| !p.is_empty());
        Interface {
            link: LinkType::Ethernet,
            name: Some(match &point {
                Some(point) => format!("{point}:{nic}"),
                None => nic.to_string(),
            })
            .filter(|n| !n.is_empty()),
            point,
            snap_length: 0,
        }
    }
}

/// A `.cap` file.
#[derive(Debug)]
pub(super) struct Dpmi {
    version: (u16, u16),
    notes: Notes,
    points: Points,
    /// Bytes of a record's header.
    record_len: usize,
}

impl Dpmi {
    /// Reads the file header, where there is one; nothing is taken from the block where not.
    pub(super) fn open(block: &mut Block) -> Result<Option<Self>, Fault> {
        let first = block.want(v05::WRITER)?;
        let swapped: Vec<u8> = MAGIC.iter().rev().copied().collect();
        if first.starts_with(&MAGIC) {
            return Self::v07(block).map(Some);
        }
        if first.starts_with(&swapped) {
            return Err(damage(
                0,
                "a DPMI file from a big-endian host, which cannot be read",
            ));
        }
        if le32(first, v05::MAJOR) == Some(0) && le32(first, v05::MINOR) == Some(5) {
            return Self::old(block, (0, 5), v05::LEN, v05::WRITER);
        }
        if first.get(v06::MAJOR..=v06::MINOR) == Some(&[0, 6]) {
            return Self::old(block, (0, 6), v06::LEN, v06::WRITER);
        }
        Ok(None)
    }

    fn v07(block: &mut Block) -> Result<Self, Fault> {
        let head = block.want(v07::LEN)?;
        let fields = (|| {
            let version = (le16(head, v07::MAJOR)?, le16(head, v07::MINOR)?);
            let comment = (
                usize::from(le16(head, v07::HEADER_OFFSET)?),
                usize::from(le16(head, v07::COMMENT_LEN)?),
            );
            let writer = head.get(v07::WRITER..v07::WRITER + WRITER_LEN)?;
            Some((version, comment, before_nul(writer).to_vec()))
        })();
        let Some((version, (start, comment_len), writer)) = fields else {
            return Err(truncated(0, "the file ends inside its header"));
        };
        if version.0 != 0 || version.1 > NEWEST_MINOR {
            let what = format!(
                "DPMI version {}.{}; up to 0.{NEWEST_MINOR} can be read",
                version.0, version.1
            );
            return Err(damage(v07::MAJOR as u64, &what));
        }
        if start < v07::LEN {
            let what = format!("corrupt header: a comment at byte {start}, inside the header");
            return Err(damage(v07::HEADER_OFFSET as u64, &what));
        }
        let Some(head) = block.want(start + comment_len)?.get(..start + comment_len) else {
            return Err(truncated(
                v07::LEN as u64,
                "the file ends inside its header or comment",
            ));
        };
        check_extensions(head.get(..start).unwrap_or_default())?;
        let comment = head.get(start..).unwrap_or_default().to_vec();
        block.take(start + comment_len);
        Ok(Self::begin(version, &writer, &comment, record::LEN))
    }

    /// Versions without magic: the header must make sense, and so must the first record.
    fn old(
        block: &mut Block,
        version: (u16, u16),
        len: usize,
        writer: usize,
    ) -> Result<Option<Self>, Fault> {
        let head = block.want(len)?;
        let comment_len = le32(head, 0).map_or(usize::MAX, |n| n as usize);
        let field = head.get(writer..).unwrap_or_default();
        let field = before_nul(field.get(..WRITER_LEN).unwrap_or(field)).to_vec();
        if comment_len > MAX_COMMENT || !field.iter().all(|b| is_printable(*b)) {
            return Ok(None);
        }
        let start = len + comment_len;
        let window = block.want(start + record::WIDE_LEN)?;
        let Some(comment) = window.get(len..start) else {
            // Two bytes of 0.6 alone prove nothing.
            return match version {
                (0, 5) => Err(truncated(0, "the file ends inside its header or comment")),
                _ => Ok(None),
            };
        };
        let comment = comment.to_vec();
        let rest = window.get(start..).unwrap_or_default();
        let fits = |len| RecordHeader::parse(rest, len).is_some_and(|header| header.is_plausible());
        let record_len = if rest.len() < record::LEN || fits(record::LEN) {
            record::LEN
        } else if version == (0, 5) && fits(record::WIDE_LEN) {
            record::WIDE_LEN
        } else {
            return Ok(None);
        };
        block.take(start);
        Ok(Some(Self::begin(version, &field, &comment, record_len)))
    }

    fn begin(version: (u16, u16), writer: &[u8], comment: &[u8], record_len: usize) -> Self {
        let text = |b: &[u8]| Some(escape(b)).filter(|s| !s.is_empty());
        Self {
            version,
            notes: Notes {
                written_by: text(writer),
                comment: text(comment),
                wide_seconds: record_len == record::WIDE_LEN,
                ..Notes::default()
            },
            points: Points::default(),
            record_len,
        }
    }

    pub(super) fn version(&self) -> (u16, u16) {
        self.version
    }

    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    pub(super) fn interface(&self, n: u32) -> Interface {
        self.points.interface(n)
    }

    #[inline]
    pub(super) fn next_record(&mut self, block: &mut Block) -> Result<Option<Record>, Fault> {
        let offset = block.offset();
        let window = block.want(self.record_len)?;
        if window.is_empty() {
            return Ok(None);
        }
        let Some(header) = RecordHeader::parse(window, self.record_len) else {
            return Err(truncated(offset, "the file ends inside a record's header"));
        };
        let caplen = header.caplen as usize;
        if caplen > MAX_FRAME {
            let what =
                format!("corrupt record: {caplen} captured bytes are more than a frame can have");
            return Err(damage(offset, &what));
        }
        let whole = self.record_len + caplen;
        if block.want(whole)?.len() < whole {
            return Err(truncated(offset, "the file ends inside a record"));
        }
        self.notes.count(&header);
        let place = block.take(whole);
        let from = place.start + self.record_len;
        Ok(Some(Record {
            time: header.time(),
            interface: self.points.number(&header),
            link: LinkType::Ethernet,
            wire_len: header.wire_len,
            range: from..from + header.frame_len(),
        }))
    }
}

/// Walks the extensions between the fixed header and the comment. None has a meaning yet; a size
/// that cannot be makes the file invalid.
fn check_extensions(head: &[u8]) -> Result<(), Fault> {
    let mut at = v07::LEN;
    while let (Some(kind), Some(size)) = (le16(head, at), le16(head, at + 2)) {
        if kind == extension::END {
            break;
        }
        let size = usize::from(size);
        if size < extension::HEAD || size > head.len() {
            let what = format!("corrupt header: an extension of {size} bytes");
            return Err(damage(at as u64, &what));
        }
        at += size;
    }
    Ok(())
}
