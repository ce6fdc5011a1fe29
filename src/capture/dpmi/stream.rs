//! Measurement frames: the send header, and the packet records behind it.
//!
//! The send header is in network order, the records are little-endian as in files. A record never
//! spans two measurement frames.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::{RecordHeader, be16, be32, le32, record};

/// Bytes of the send header.
const SEND_HEADER_LEN: usize = 16;

/// Fields of the send header.
mod send {
    pub(super) const SEQUENCE: usize = 0;
    /// Packet records in the frame.
    pub(super) const COUNT: usize = 4;
    /// Flags; bit 0 asks to flush. Older senders put a 16-bit number first: nonzero is enough.
    pub(super) const FLAGS: usize = 8;
    pub(super) const MAJOR: usize = 12;
    pub(super) const MINOR: usize = 14;
}

/// The newest minor version whose stream layout is known.
const NEWEST_MINOR: u16 = 7;
/// Version 0.6 has two single bytes where 0.7 has two 16-bit numbers, and two bytes unused.
const VERSION_06: u16 = 0x0006;

/// Last sequence number before 0 comes again; senders of 2011 used the second.
const LAST_NUMBERS: [u32; 2] = [0xfffe, 0xffff];
/// A number this little below the newest is a late frame, not a new beginning. Frames.
const LATE_FRAMES: u32 = 64;

/// What was seen of one measurement stream, or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Streams.
    pub streams: u64,
    /// Measurement frames, without repeated ones.
    pub frames: u64,
    /// Packet records in them.
    pub records: u64,
    /// Places where numbers are missing.
    pub gaps: u64,
    /// Measurement frames that never came.
    pub lost: u64,
    /// Frames that came after ones with higher numbers.
    pub late: u64,
    /// Frames that came twice, as they do on loopback; the second is not used.
    pub repeated: u64,
    /// New beginnings of the numbers: the sender was restarted.
    pub restarts: u64,
    /// Frames with the flush flag. Not the end of a stream: idle senders set it too.
    pub flushes: u64,
    /// Frames that end inside a record; the records before it are used.
    pub broken: u64,
    /// Frames whose number of records is not what their header says.
    pub disagreeing: u64,
    /// Frames that are no measurement frames of a known version; not used.
    pub foreign: u64,
}

impl StreamCounts {
    /// Adds those of another stream.
    pub fn add(&mut self, other: &StreamCounts) {
        let pairs = [
            (&mut self.streams, other.streams),
            (&mut self.frames, other.frames),
            (&mut self.records, other.records),
            (&mut self.gaps, other.gaps),
            (&mut self.lost, other.lost),
            (&mut self.late, other.late),
            (&mut self.repeated, other.repeated),
            (&mut self.restarts, other.restarts),
            (&mut self.flushes, other.flushes),
            (&mut self.broken, other.broken),
            (&mut self.disagreeing, other.disagreeing),
            (&mut self.foreign, other.foreign),
        ];
        for (sum, n) in pairs {
            *sum += n;
        }
    }
}

/// A captured packet inside a measurement frame.
#[derive(Debug, Clone, Copy)]
pub struct PacketRecord<'a> {
    /// Who captured it, when, and how long it was.
    pub header: RecordHeader,
    /// Where `data` begins in what was pushed, bytes.
    pub at: usize,
    /// The captured bytes of the frame.
    pub data: &'a [u8],
}

/// Reads one measurement stream, whatever carries it: one stream address of one sender.
#[derive(Debug, Default)]
pub struct StreamDecoder {
    /// Number and fingerprint of the newest frame.
    newest: Option<(u32, u64)>,
    counts: StreamCounts,
}

/// How a sequence number follows the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    First,
    Next,
    /// Frames missing before it.
    Gap(u32),
    Repeated,
    Late,
    /// Frames missing since the number 0.
    Restart(u32),
}

impl StreamDecoder {
    /// What was seen so far.
    pub fn counts(&self) -> &StreamCounts {
        &self.counts
    }

    /// Takes one measurement frame from its send header on: what follows the Ethernet header, or
    /// the payload of a UDP datagram.
    pub fn push<'a>(&mut self, payload: &'a [u8], give: &mut impl FnMut(PacketRecord<'a>)) {
        let Some((sequence, count)) = self.header(payload) else {
            self.counts.foreign += 1;
            return;
        };
        self.counts.streams = 1;
        let fingerprint = FixedState::default().hash_one(payload);
        let step = self.step(sequence, fingerprint);
        match step {
            Step::First | Step::Next => {}
            Step::Gap(missing) => {
                self.counts.gaps += 1;
                self.counts.lost += u64::from(missing);
            }
            Step::Late => {
                self.counts.late += 1;
                self.counts.lost = self.counts.lost.saturating_sub(1);
            }
            Step::Restart(missing) => {
                self.counts.restarts += 1;
                self.counts.gaps += u64::from(missing > 0);
                self.counts.lost += u64::from(missing);
            }
            Step::Repeated => {
                self.counts.repeated += 1;
                return;
            }
        }
        if step != Step::Late {
            self.newest = Some((sequence, fingerprint));
        }
        self.counts.frames += 1;
        self.counts.flushes += u64::from(be32(payload, send::FLAGS) != Some(0));
        let (found, left) = walk(payload, give);
        // Less than a record behind all that were announced is padding or a checksum.
        let whole = left == 0 || (left < record::LEN && count.contains(&found));
        self.counts.records += u64::from(found);
        self.counts.broken += u64::from(!whole);
        self.counts.disagreeing += u64::from(whole && !count.contains(&found));
    }

    /// Sequence number, and what the number of records may be: older senders wrote it as 16 bits
    /// in the first half of the field, or in their own byte order.
    fn header(&self, payload: &[u8]) -> Option<(u32, [u32; 3])> {
        payload.get(..SEND_HEADER_LEN)?;
        let major = be16(payload, send::MAJOR)?;
        let minor = be16(payload, send::MINOR)?;
        if major != VERSION_06 && (major != 0 || minor > NEWEST_MINOR) {
            return None;
        }
        let count = match be32(payload, send::COUNT)? {
            n if n <= u32::from(u16::MAX) => [n; 3],
            n => [
                n,
                be16(payload, send::COUNT)?.into(),
                le32(payload, send::COUNT)?,
            ],
        };
        Some((be32(payload, send::SEQUENCE)?, count))
    }

    fn step(&self, sequence: u32, fingerprint: u64) -> Step {
        let Some((newest, before)) = self.newest else {
            return Step::First;
        };
        if sequence == newest {
            return if fingerprint == before {
                Step::Repeated
            } else {
                Step::Restart(sequence)
            };
        }
        // Frames from one number to another where 0 comes between them.
        let around = |from: u32, to: u32| {
            let last = LAST_NUMBERS.into_iter().find(|last| from <= *last)?;
            Some(last - from + 1 + to.min(last)).filter(|n| *n <= LATE_FRAMES)
        };
        if sequence > newest {
            return match sequence - newest - 1 {
                0 => Step::Next,
                _ if around(sequence, newest).is_some() => Step::Late,
                missing => Step::Gap(missing),
            };
        }
        // Smaller: the numbers began again in turn, or the frame is late, or the sender is new.
        match around(newest, sequence) {
            Some(1) => Step::Next,
            Some(n) => Step::Gap(n - 1),
            None if sequence > 0 && newest - sequence <= LATE_FRAMES => Step::Late,
            None => Step::Restart(sequence),
        }
    }
}

/// Gives the whole records; says how many there are, and how many bytes are left behind them.
fn walk<'a>(payload: &'a [u8], give: &mut impl FnMut(PacketRecord<'a>)) -> (u32, usize) {
    let mut at = SEND_HEADER_LEN;
    let mut found = 0;
    loop {
        let rest = payload.get(at..).unwrap_or_default();
        let Some(header) = RecordHeader::parse(rest, record::LEN) else {
            return (found, rest.len());
        };
        let captured = rest.get(record::LEN..).unwrap_or_default();
        let Some(captured) = captured.get(..header.caplen as usize) else {
            return (found, rest.len());
        };
        found += 1;
        give(PacketRecord {
            header,
            at: at + record::LEN,
            data: captured.get(..header.frame_len()).unwrap_or(captured),
        });
        at += record::LEN + captured.len();
    }
}
