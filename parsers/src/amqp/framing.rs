//! Frames (AMQP 0-9-1, section 2.3.5) and the search for them in the middle
//! of a stream.

use std::collections::VecDeque;

use super::method;

/// Octet at the end of every frame.
pub const FRAME_END: u8 = 0xCE;
/// Octets before a frame's payload: type, channel and size.
pub const FRAME_HEADER: usize = 7;
/// Largest payload accepted while in step; RabbitMQ's default frame-max is
/// 131072.
pub const MAX_PAYLOAD: u32 = 1 << 20;
/// Largest payload of a frame that the search for frames believes in.
pub const MAX_SEARCHED_PAYLOAD: u32 = 131_072;
/// Most places that the search holds while it waits for the rest of a frame.
const MAX_CANDIDATES: usize = 64;
/// Complete frames that prove a stream in the middle of the bytes probed.
const PROOF: usize = 3;
/// Shortest payload of a content header: class, weight, body size, flags.
const CONTENT_HEADER: u32 = 14;
/// The class of all contents.
const BASIC: u16 = 60;

/// Types of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameType {
    /// 1
    Method,
    /// 2
    Header,
    /// 3
    Body,
    /// 8
    Heartbeat,
}

impl FrameType {
    /// By the octet on the wire.
    #[must_use]
    pub const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Method),
            2 => Some(Self::Header),
            3 => Some(Self::Body),
            8 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// The first seven octets of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Type of the frame.
    pub kind: FrameType,
    /// Channel.
    pub channel: u16,
    /// Size of the payload.
    pub size: u32,
}

/// A header, if seven octets are there: `Some(None)` is not a frame.
#[must_use]
pub(super) fn header(data: &[u8]) -> Option<Option<FrameHeader>> {
    let &[kind, c1, c0, s3, s2, s1, s0] = data.first_chunk::<FRAME_HEADER>()?;
    Some(FrameType::from_octet(kind).and_then(|kind| {
        let size = u32::from_be_bytes([s3, s2, s1, s0]);
        let channel = u16::from_be_bytes([c1, c0]);
        let fits = match kind {
            FrameType::Method | FrameType::Header | FrameType::Body => size <= MAX_PAYLOAD,
            FrameType::Heartbeat => size == 0 && channel == 0,
        };
        fits.then_some(FrameHeader {
            kind,
            channel,
            size,
        })
    }))
}

/// What is known about a place in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A frame begins here, of this length over all.
    Frame(usize),
    /// Nothing speaks against it so far.
    Open,
    /// No frame.
    No,
}

fn short(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?
        .first_chunk::<2>()
        .map(|&octets| u16::from_be_bytes(octets))
}

/// Whether what follows a header can be its payload, as far as it is there.
fn payload_fits(found: FrameHeader, data: &[u8]) -> bool {
    let first = short(data, FRAME_HEADER);
    let second = short(data, FRAME_HEADER + 2);
    match found.kind {
        FrameType::Method => {
            found.size >= 4
                && match (first, second) {
                    (Some(class), Some(number)) => {
                        method::lookup(class, number).is_some()
                            && (class == 10) == (found.channel == 0)
                    }
                    _ => true,
                }
        }
        FrameType::Header => {
            found.channel != 0
                && found.size >= CONTENT_HEADER
                && first.is_none_or(|class| class == BASIC)
                && second.is_none_or(|weight| weight == 0)
        }
        FrameType::Body => found.channel != 0 && found.size > 0,
        FrameType::Heartbeat => true,
    }
}

/// Judges whether a frame begins at the first byte.
pub(crate) fn judge(data: &[u8]) -> Verdict {
    match header(data) {
        None => match data.first() {
            Some(&kind) if FrameType::from_octet(kind).is_none() => Verdict::No,
            _ => Verdict::Open,
        },
        Some(None) => Verdict::No,
        Some(Some(found)) => {
            if found.size > MAX_SEARCHED_PAYLOAD || !payload_fits(found, data) {
                return Verdict::No;
            }
            let Ok(size) = usize::try_from(found.size) else {
                return Verdict::No;
            };
            match data.get(FRAME_HEADER.saturating_add(size)) {
                Some(&FRAME_END) => Verdict::Frame(FRAME_HEADER + size + 1),
                Some(_) => Verdict::No,
                None => Verdict::Open,
            }
        }
    }
}

/// Judges whether frames can be followed from the first byte: a frame that is
/// not a body, and what is there of the next one.
fn judge_place(data: &[u8]) -> Verdict {
    if data
        .first()
        .is_some_and(|&kind| FrameType::from_octet(kind) == Some(FrameType::Body))
    {
        return Verdict::No;
    }
    match judge(data) {
        Verdict::Frame(length) => match judge(data.get(length..).unwrap_or_default()) {
            Verdict::No => Verdict::No,
            Verdict::Frame(_) | Verdict::Open => Verdict::Frame(length),
        },
        other => other,
    }
}

/// The search for the next frame. Offsets are those of the stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    next: u64,
    open: VecDeque<u64>,
}

impl Search {
    /// Begins at an offset.
    pub(crate) fn at(offset: u64) -> Self {
        Self {
            next: offset,
            open: VecDeque::new(),
        }
    }

    /// The first offset that is still of interest.
    pub(crate) fn keep(&self) -> u64 {
        self.open.front().copied().unwrap_or(self.next)
    }

    /// Whether a frame may have begun whose end is not there yet.
    fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// Looks at the bytes from `offset` on; the place where frames begin.
    pub(crate) fn run(&mut self, offset: u64, data: &[u8]) -> Option<u64> {
        let from = |place: u64| -> &[u8] {
            usize::try_from(place.saturating_sub(offset))
                .ok()
                .and_then(|skip| data.get(skip..))
                .unwrap_or_default()
        };
        let mut found = None;
        self.open.retain(|&place| {
            if found.is_some() {
                return true;
            }
            match judge_place(from(place)) {
                Verdict::Frame(_) => {
                    found = Some(place);
                    true
                }
                Verdict::Open => true,
                Verdict::No => false,
            }
        });
        let end = offset.saturating_add(data.len() as u64);
        while found.is_none() && self.next.saturating_add(FRAME_HEADER as u64) <= end {
            let place = self.next;
            self.next = self.next.saturating_add(1);
            match judge_place(from(place)) {
                Verdict::Frame(_) => found = Some(place),
                Verdict::Open => {
                    if self.open.len() >= MAX_CANDIDATES {
                        self.open.pop_front();
                    }
                    self.open.push_back(place);
                }
                Verdict::No => {}
            }
        }
        found
    }
}

/// What the first bytes of a direction say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// The client's protocol header (section 4.2.2).
    Client,
    /// The server's connection.start.
    Server,
    /// A direction picked up in the middle.
    Frames,
    /// Too few bytes to tell: a frame may have begun.
    More,
    /// Nothing of AMQP 0-9-1 in these bytes. In the middle of a long body that
    /// is so until the next frame.
    No,
}

/// The client's first bytes.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// Most bytes that [`probe`] looks at.
pub const MAX_PROBED: usize = 1 << 18;

/// Complete frames in a row from the first byte, and whether the bytes end
/// where it stops or inside a plausible frame.
fn chain(mut data: &[u8]) -> (usize, bool) {
    let mut count = 0;
    loop {
        match judge(data) {
            Verdict::Frame(length) => {
                count += 1;
                data = data.get(length..).unwrap_or_default();
            }
            Verdict::Open => return (count, true),
            Verdict::No => return (count, false),
        }
    }
}

/// Tells by content whether a direction is AMQP 0-9-1. The bytes are the
/// first ones seen, from the beginning of the connection or not.
#[must_use]
pub fn probe(data: &[u8]) -> Probe {
    let data = data.get(..MAX_PROBED).unwrap_or(data);
    if data.starts_with(&PROTOCOL_HEADER) {
        return Probe::Client;
    }
    if PROTOCOL_HEADER.starts_with(data) {
        return Probe::More;
    }
    let is_start = data.first() == Some(&1)
        && short(data, 1) == Some(0)
        && short(data, FRAME_HEADER) == Some(10)
        && short(data, FRAME_HEADER + 2) == Some(10);
    if is_start && judge(data) != Verdict::No {
        return Probe::Server;
    }
    let (count, fits) = chain(data);
    if count >= PROOF || (count > 0 && fits) {
        return Probe::Frames;
    }
    let mut search = Search::at(0);
    let mut rest = data;
    let mut offset = 0_u64;
    while let Some(place) = search.run(offset, rest) {
        let skip = usize::try_from(place.saturating_sub(offset)).unwrap_or(usize::MAX);
        let from = rest.get(skip..).unwrap_or_default();
        let (count, fits) = chain(from);
        if count >= PROOF || (count > 0 && fits && from.len() > FRAME_HEADER + 1) {
            return Probe::Frames;
        }
        rest = from.get(1..).unwrap_or_default();
        offset = place.saturating_add(1);
        search = Search::at(offset);
    }
    if search.is_waiting() || data.len() < FRAME_HEADER {
        Probe::More
    } else {
        Probe::No
    }
}
