//! A copy of a capture without the guest's memory and without secrets.
//!
//! Everything is blank unless a decoder has said that it is structure. Packets wait until their
//! bytes are decided; sizes, times, order and interfaces stay, checksums are made right again.

mod thin;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;

use foldhash::fast::RandomState;
use pnet_packet::ip::IpNextHeaderProtocols as protocol;
use pnet_packet::util;

use crate::capture::{Capture, CaptureError, Format, Frame, LinkType};
use crate::dissect::{Dissector, Event, Sink};
use crate::net::{Body, Direction, Packet, Place};
use crate::time::Timestamp;

/// Bytes of packets that wait; past it the oldest goes out with what is known of it.
const MAX_WAITING: usize = 64 << 20;

/// Bytes of payloads that have gone out and are remembered, for the same segment may come from
/// another tap. It comes at once, so that these are few.
const MAX_REMEMBERED: usize = 4 << 20;

/// Bytes of a frame that are link, network and transport headers at most; a frame that was not
/// understood keeps none.
const ICMP_HEADER: usize = 8;

/// ICMPv6 types of neighbour discovery (RFC 4861), which hold addresses only.
const NEIGHBOR_DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

/// Where a transport checksum lies in its header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
const ICMP_CHECKSUM: usize = 2;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets written.
    pub packets: u64,
    /// Their captured bytes.
    pub bytes: u64,
    /// Packets that could not wait any longer and lost structure.
    pub hurried: u64,
}

/// Why a capture could not be scrubbed.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// Reading.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Writing.
    #[error("writing failed: {0}")]
    Write(#[from] std::io::Error),
}

/// A packet that waits for its bytes to be decided.
struct Waiting {
    number: u64,
    time: Timestamp,
    interface: u32,
    link: LinkType,
    wire_len: u32,
    data: Vec<u8>,
    /// The original payload stands here, blank so far.
    payload: Range<usize>,
    place: Option<Place>,
    checksum: Option<Checksum>,
    /// Decided: it can go.
    done: bool,
    /// Nothing but pages: no event was seen in it.
    plain: bool,
    /// A segment with no payload and no flag but ACK.
    bare_acknowledgement: Option<Place>,
}

/// How to make a checksum right.
struct Checksum {
    /// From the transport header to the packet's end.
    segment: Range<usize>,
    /// Of the checksum in the segment.
    at: usize,
    addresses: (IpAddr, IpAddr),
    protocol: pnet_packet::ip::IpNextHeaderProtocol,
}

impl Waiting {
    fn frame(&self) -> Frame<'_> {
        Frame {
            number: self.number,
            time: self.time,
            interface: self.interface,
            link: self.link,
            wire_len: self.wire_len,
            data: &self.data,
        }
    }

    /// Stream offsets of the payload.
    fn span(&self) -> Option<(i64, i64)> {
        let p = self.place?;
        Some((p.offset, p.offset.saturating_add(self.payload.len() as i64)))
    }

    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        let Some((from, to)) = self.span() else {
            return;
        };
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let end = offset.saturating_add(bytes.len() as i64);
        let (a, b) = (from.max(offset), to.min(end));
        if a >= b {
            return;
        }
        let n = (b - a) as usize;
        let (into, out_of) = ((a - from) as usize, (a - offset) as usize);
        let target = self.payload.start + into;
        if let (Some(target), Some(source)) = (
            self.data.get_mut(target..target + n),
            bytes.get(out_of..out_of + n),
        ) {
            target.copy_from_slice(source);
        }
    }

    fn fix_checksum(&mut self) {
        let Some(c) = self.checksum.take() else {
            return;
        };
        let Some(segment) = self.data.get_mut(c.segment) else {
            return;
        };
        let Some(field) = segment.get(c.at..c.at + 2) else {
            return;
        };
        // UDP without a checksum (RFC 768).
        if c.protocol == protocol::Udp && field == [0, 0] {
            return;
        }
        let word = c.at / 2;
        let sum = match (c.addresses, c.protocol) {
            (_, protocol::Icmp) => util::checksum(segment, word),
            ((IpAddr::V4(s), IpAddr::V4(d)), p) => {
                util::ipv4_checksum(segment, word, &[], &s, &d, p)
            }
            ((IpAddr::V6(s), IpAddr::V6(d)), p) => {
                util::ipv6_checksum(segment, word, &[], &s, &d, p)
            }
            _ => return,
        };
        let sum = if sum == 0 && c.protocol == protocol::Udp {
            0xffff
        } else {
            sum
        };
        if let Some(field) = segment.get_mut(c.at..c.at + 2) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// A segment: connection, direction and stream offset.
type Segment = (u64, Direction, i64);

/// Payloads as they went out.
#[derive(Default)]
struct Remembered {
    /// With the number of their interface.
    payloads: HashMap<Segment, (u32, Vec<u8>), RandomState>,
    order: VecDeque<Segment>,
    bytes: usize,
}

impl Remembered {
    fn keep(&mut self, segment: Segment, interface: u32, payload: &[u8]) {
        if payload.is_empty() || self.payloads.contains_key(&segment) {
            return;
        }
        self.bytes += payload.len();
        self.payloads.insert(segment, (interface, payload.to_vec()));
        self.order.push_back(segment);
        while self.bytes > MAX_REMEMBERED {
            let Some(old) = self.order.pop_front() else {
                return;
            };
            let gone = self.payloads.remove(&old);
            self.bytes -= gone.map_or(0, |(_, p)| p.len());
        }
    }
}

/// Packets that wait, and what the decoders have said of them.
#[derive(Default)]
struct Scrubber {
    remembered: Remembered,
    waiting: VecDeque<Waiting>,
    /// Number of the packet at the front of `waiting`.
    front: u64,
    bytes: usize,
    /// Packets that wait, by connection and direction.
    index: HashMap<(u64, Direction), VecDeque<u64>, RandomState>,
    resolved: HashMap<(u64, Direction), u64, RandomState>,
    said: Vec<Said>,
    summary: Summary,
}

/// What a decoder says while a frame goes through it; the frame itself is not among those that
/// wait yet.
enum Said {
    Reveal(u64, Direction, u64, Vec<u8>),
    Resolved(u64, Direction, u64),
    Over(u64),
    Event(u64),
}

impl Sink for Scrubber {
    fn event(&mut self, event: Event) {
        self.said.push(Said::Event(event.begin.frame));
        self.said.push(Said::Event(event.stamp.frame));
    }

    fn wants_bytes(&self) -> bool {
        true
    }

    fn reveal(&mut self, flow: u64, direction: Direction, offset: u64, bytes: &[u8]) {
        self.said
            .push(Said::Reveal(flow, direction, offset, bytes.to_vec()));
    }

    fn resolved(&mut self, flow: u64, direction: Direction, offset: u64) {
        self.said.push(Said::Resolved(flow, direction, offset));
    }

    fn over(&mut self, flow: u64) {
        self.said.push(Said::Over(flow));
    }
}

impl Scrubber {
    fn hold_frame(&mut self, frame: &Frame<'_>, read: Option<(Packet<'_>, Option<Place>)>) {
        let mut packet = prepare(frame, read);
        if let Some(p) = packet.place {
            let resolved = self.resolved.get(&(p.flow, p.direction)).copied();
            self.inherit(&mut packet, p);
            // Old bytes again: no decoder will speak of them any more.
            packet.done = packet
                .span()
                .is_none_or(|(_, end)| end <= 0 || resolved.is_some_and(|r| end as u64 <= r));
        }
        self.hold(packet);
    }

    /// The same segment was seen before, at another tap: what was said of it holds here too.
    fn inherit(&mut self, packet: &mut Waiting, p: Place) {
        let Ok(offset) = u64::try_from(p.offset) else {
            return;
        };
        let segment = (p.flow, p.direction, p.offset);
        if let Some((interface, known)) = self.remembered.payloads.get(&segment) {
            if *interface != packet.interface {
                packet.reveal(offset, known);
            }
            return;
        }
        let waiting = |n: &u64| {
            let i = usize::try_from(n.checked_sub(self.front)?).ok()?;
            self.waiting.get(i)
        };
        let held = self.index.get(&(p.flow, p.direction));
        // What goes on where the last one ends has not been seen yet.
        let next = held.and_then(|h| waiting(h.back()?)?.span());
        if next.is_none_or(|(_, end)| end <= p.offset) {
            return;
        }
        let mut twins = held.into_iter().flatten().rev().filter_map(waiting);
        let twin = twins.find(|w| w.place.map(|q| q.offset) == Some(p.offset));
        let twin = twin.filter(|w| w.interface != packet.interface);
        if let Some(known) = twin.and_then(|w| w.data.get(w.payload.clone())) {
            packet.reveal(offset, known);
        }
    }

    fn hold(&mut self, packet: Waiting) {
        let n = self.front + self.waiting.len() as u64;
        if let (Some(p), false) = (packet.place, packet.done) {
            self.index
                .entry((p.flow, p.direction))
                .or_default()
                .push_back(n);
        }
        self.bytes += packet.data.len();
        self.waiting.push_back(packet);
    }

    fn at(&mut self, n: u64) -> Option<&mut Waiting> {
        let i = usize::try_from(n.checked_sub(self.front)?).ok()?;
        self.waiting.get_mut(i)
    }

    /// Applies what the decoders said.
    fn apply(&mut self) {
        let mut said = std::mem::take(&mut self.said);
        for s in said.drain(..) {
            match s {
                Said::Reveal(flow, direction, offset, bytes) => {
                    let held = self.index.remove(&(flow, direction)).unwrap_or_default();
                    for n in &held {
                        if let Some(w) = self.at(*n) {
                            w.reveal(offset, &bytes);
                        }
                    }
                    self.index.insert((flow, direction), held);
                }
                Said::Resolved(flow, direction, offset) => {
                    self.resolved.insert((flow, direction), offset);
                    self.release(flow, direction, offset);
                }
                Said::Event(frame) => {
                    if let Ok(i) = self.waiting.binary_search_by_key(&frame, |w| w.number)
                        && let Some(w) = self.waiting.get_mut(i)
                    {
                        w.plain = false;
                    }
                }
                Said::Over(flow) => {
                    for d in [Direction::ToServer, Direction::ToClient] {
                        self.release(flow, d, u64::MAX);
                        self.resolved.remove(&(flow, d));
                    }
                }
            }
        }
        self.said = said;
    }

    /// Packets of this direction that end before `offset` are decided.
    fn release(&mut self, flow: u64, direction: Direction, offset: u64) {
        let Some(mut held) = self.index.remove(&(flow, direction)) else {
            return;
        };
        held.retain(|n| {
            let Some(w) = self.at(*n) else { return false };
            let decided = w
                .span()
                .is_none_or(|(_, end)| end <= 0 || end as u64 <= offset);
            w.done |= decided;
            !decided
        });
        if !held.is_empty() {
            self.index.insert((flow, direction), held);
        }
    }

    /// Takes the packets at the front that are decided; `all`: whatever is left.
    fn drain(&mut self, all: bool, out: &mut Vec<Waiting>) {
        while let Some(first) = self.waiting.front() {
            let full = self.bytes > MAX_WAITING;
            if !(first.done || all || full) {
                return;
            }
            self.summary.hurried += u64::from(!first.done && !all);
            self.front += 1;
            self.bytes -= first.data.len();
            if let (Some(p), Some(payload)) = (first.place, first.data.get(first.payload.clone())) {
                let segment = (p.flow, p.direction, p.offset);
                self.remembered.keep(segment, first.interface, payload);
            }
            out.extend(self.waiting.pop_front());
        }
    }
}

/// A copy in the making: frames in, scrubbed ones out, some of them later.
#[derive(Default)]
pub struct Scrubbing {
    dissector: Dissector,
    scrubber: Scrubber,
    thinner: Option<thin::Thinner>,
    decided: Vec<Waiting>,
    ready: Vec<Waiting>,
}

impl Scrubbing {
    /// `thin` joins segments that hold nothing but pages.
    pub fn new(thin: bool) -> Self {
        Self {
            thinner: thin.then(thin::Thinner::default),
            ..Self::default()
        }
    }

    /// Takes the next frame.
    pub fn frame(&mut self, frame: &Frame<'_>) {
        let read = self.dissector.frame(frame, &mut self.scrubber);
        self.scrubber.hold_frame(frame, read);
        self.decide(false);
    }

    /// There are no more.
    pub fn finish(&mut self) {
        self.dissector.finish(&mut self.scrubber);
        self.decide(true);
    }

    fn decide(&mut self, ended: bool) {
        self.scrubber.apply();
        self.scrubber.drain(ended, &mut self.decided);
        match &mut self.thinner {
            Some(t) => {
                let ready = &mut self.ready;
                self.decided.drain(..).for_each(|w| t.take(w, ready));
                if ended {
                    t.flush(ready);
                }
            }
            None => self.ready.append(&mut self.decided),
        }
    }

    /// Gives the frames that are ready to `write`.
    ///
    /// # Errors
    /// That of `write`.
    pub fn write<E>(
        &mut self,
        mut write: impl FnMut(&Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for mut w in self.ready.drain(..) {
            w.fix_checksum();
            let summary = &mut self.scrubber.summary;
            summary.packets += 1;
            summary.bytes += w.data.len() as u64;
            write(&w.frame())?;
        }
        Ok(())
    }

    /// What was done so far.
    pub fn summary(&self) -> Summary {
        self.scrubber.summary
    }
}

/// Reads the whole capture and gives each packet, scrubbed, to `write`; `thin` joins segments that
/// hold nothing but pages.
///
/// # Errors
/// Reading or writing fails.
pub fn scrub(
    capture: &mut Capture,
    thin: bool,
    mut write: impl FnMut(&Capture, &Frame<'_>) -> std::io::Result<()>,
    mut proceed: impl FnMut(&Capture) -> bool,
) -> Result<Summary, ScrubError> {
    let mut scrubbing = Scrubbing::new(thin);
    let mut ended = false;
    while !ended {
        match capture.next_frame()? {
            Some(frame) => {
                let number = frame.number;
                scrubbing.frame(&frame);
                ended = number % 4096 == 0 && !proceed(capture);
            }
            None => ended = true,
        }
        if ended {
            scrubbing.finish();
        }
        scrubbing.write(|frame| write(capture, frame))?;
    }
    Ok(scrubbing.summary())
}

/// Where `part` lies in `whole`, if it does.
fn within(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let from = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let to = from.checked_add(part.len())?;
    (to <= whole.len()).then_some(from..to)
}

/// The packet with its payload blank.
fn prepare(frame: &Frame<'_>, read: Option<(Packet<'_>, Option<Place>)>) -> Waiting {
    let data = frame.data;
    let whole = data.len() >= frame.wire_len as usize;
    let mut payload = 0..data.len();
    let mut checksum = None;
    let mut place = None;
    if let Some((packet, at)) = &read {
        let find = |part: &[u8]| within(data, part).unwrap_or(0..data.len());
        let sum = |segment: Range<usize>, field, protocol| {
            let addresses = packet.addresses?;
            whole.then_some(Checksum {
                segment,
                at: field,
                addresses,
                protocol,
            })
        };
        payload = match &packet.body {
            Body::Tcp(t) => {
                let (head, body) = (find(t.header), find(t.payload));
                place = *at;
                if !body.is_empty() {
                    checksum = sum(head.start..body.end, TCP_CHECKSUM, protocol::Tcp);
                }
                body
            }
            Body::Udp(b) => {
                let body = find(b);
                let head = body.start.saturating_sub(8);
                checksum = sum(head..body.end, UDP_CHECKSUM, protocol::Udp);
                body
            }
            Body::Icmp(b) => {
                let r = find(b);
                checksum = sum(r.clone(), ICMP_CHECKSUM, protocol::Icmp);
                (r.start + ICMP_HEADER).min(r.end)..r.end
            }
            Body::Icmpv6(b) => {
                let r = find(b);
                match b.first() {
                    Some(kind) if NEIGHBOR_DISCOVERY.contains(kind) => r.end..r.end,
                    _ => {
                        checksum = sum(r.clone(), ICMP_CHECKSUM, protocol::Icmpv6);
                        (r.start + ICMP_HEADER).min(r.end)..r.end
                    }
                }
            }
            // 28 bytes of addresses.
            Body::Arp(b) | Body::Rarp(b) => {
                let r = find(b);
                (r.start + 28).min(r.end)..r.end
            }
            Body::Fragment(b) | Body::Other(b) => find(b),
        };
    }
    let mut blank = data.to_vec();
    // The payload, and whatever stands behind the packet in the frame.
    if let Some(rest) = blank.get_mut(payload.start..) {
        rest.fill(0);
    }
    let waits = place.is_some() && !payload.is_empty();
    let flagged = match read.as_ref().map(|(p, _)| &p.body) {
        Some(Body::Tcp(t)) => t.syn || t.fin || t.rst || t.acknowledgment.is_none(),
        _ => true,
    };
    Waiting {
        number: frame.number,
        time: frame.time,
        interface: frame.interface,
        link: frame.link,
        wire_len: frame.wire_len,
        data: blank,
        payload,
        place: place.filter(|_| waits),
        checksum,
        done: !waits,
        plain: waits && !flagged,
        bare_acknowledgement: place.filter(|_| !waits && !flagged),
    }
}

/// The format in which a copy loses nothing: pcapng where there are several interfaces or names.
pub fn format_for(capture: &Capture) -> Format {
    let mut formats = capture.files().iter().map(|f| f.format);
    match (formats.next(), formats.next()) {
        (Some(one), None) => one,
        _ => Format::Pcapng,
    }
}
