//! Measurement streams inside an ordinary capture: the captured frames instead of the frames that
//! carry them.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use super::{Notes, Points, StreamCounts, StreamDecoder, be16};
use crate::capture::block::Block;
use crate::capture::open::Records;
use crate::capture::{Fault, Interface, LinkType, Record};

/// EtherType of measurement frames, and UDP port of measurement datagrams.
const STREAM: u16 = 0x0810;

/// Streams whose sequence numbers are watched; the records of later ones are used all the same.
const MAX_STREAMS: usize = 4096;

/// VLAN tags that are looked behind.
const MAX_TAGS: usize = 4;

/// EtherTypes (IEEE 802 numbers).
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const VLAN_TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
}

/// IP protocol number (IANA).
const UDP: u8 = 17;

/// Bytes of link headers, and where the EtherType stands in them.
const LINKS: [(LinkType, usize, usize); 3] = [
    (LinkType::Ethernet, 14, 12),
    (LinkType::LinuxSll, 16, 14),
    (LinkType::LinuxSll2, 20, 0),
];
/// Bytes of the address family before the packet on BSD loopback.
const FAMILY_LEN: usize = 4;

/// What a frame carries, and where that begins. Bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layer {
    /// A measurement frame.
    Stream(usize),
    /// An IPv4 packet.
    Ip(usize),
}

impl Layer {
    pub(super) fn of(link: LinkType, frame: &[u8]) -> Option<Self> {
        let Some((_, mut at, field)) = LINKS.into_iter().find(|(l, ..)| *l == link) else {
            let at = match link {
                LinkType::Raw | LinkType::Ipv4 => 0,
                LinkType::Null | LinkType::Loop => FAMILY_LEN,
                _ => return None,
            };
            return (frame.get(at)? >> 4 == 4).then_some(Layer::Ip(at));
        };
        let mut kind = be16(frame, field)?;
        for _ in 0..MAX_TAGS {
            if !ethertype::VLAN_TAGS.contains(&kind) {
                break;
            }
            kind = be16(frame, at + 2)?;
            at += 4;
        }
        match kind {
            STREAM => Some(Layer::Stream(at)),
            ethertype::IPV4 => Some(Layer::Ip(at)),
            _ => None,
        }
    }
}

/// A UDP datagram over IPv4 that is not in fragments.
#[derive(Debug)]
pub(super) struct Datagram {
    /// Source and destination address.
    pub(super) addresses: [u8; 8],
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    /// Where its payload lies in the frame.
    pub(super) payload: Range<usize>,
}

/// The datagram in the IPv4 packet at `at`. Lengths are bounded by the frame, not checked: records
/// of consumers carry them in host order.
pub(super) fn udp(frame: &[u8], at: usize) -> Option<Datagram> {
    let ip = frame.get(at..)?;
    let header = usize::from(ip.first()? & 0x0f) * 4;
    // Flags and offset: all but "don't fragment" and the reserved bit.
    let fragment = be16(ip, 6)? & 0x3fff;
    if ip.first()? >> 4 != 4 || header < 20 || *ip.get(9)? != UDP || fragment != 0 {
        return None;
    }
    let begin = header + 8;
    let length = usize::from(be16(ip, header + 4)?);
    let end = if length < 8 {
        ip.len()
    } else {
        ip.len().min(header + length)
    };
    (begin <= end).then_some(Datagram {
        addresses: ip.get(12..20)?.try_into().ok()?,
        source_port: be16(ip, header)?,
        destination_port: be16(ip, header + 2)?,
        payload: at + begin..at + end,
    })
}

/// Who sends to whom: each pair has its own sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Ethernet([u8; 12]),
    Udp([u8; 8]),
}

/// Takes the streams out of a file's frames. Sequence numbers are followed within the file.
#[derive(Debug, Default)]
pub(in crate::capture) struct Inside {
    streams: HashMap<Key, StreamDecoder>,
    points: Points,
    notes: Notes,
    /// Frames of the measurement frame in hand; they lie in the block.
    waiting: VecDeque<Record>,
}

impl Inside {
    pub(in crate::capture) fn interface(&self, n: u32) -> Interface {
        self.points.interface(n)
    }

    /// With those of the file around, where it is a DPMI file itself.
    pub(in crate::capture) fn notes(&self, file: Option<&Notes>) -> Notes {
        let mut counts = StreamCounts::default();
        for s in self.streams.values() {
            counts.add(s.counts());
        }
        Notes {
            streams: Some(counts),
            odd_times: self.notes.odd_times,
            surplus: self.notes.surplus,
            ..file.cloned().unwrap_or_default()
        }
    }

    pub(in crate::capture) fn next_record(
        &mut self,
        records: &mut Records,
        block: &mut Block,
    ) -> Result<Option<Record>, Fault> {
        loop {
            if let Some(record) = self.waiting.pop_front() {
                return Ok(Some(record));
            }
            let Some(outer) = records.next_record(block)? else {
                return Ok(None);
            };
            self.open(&outer, block.bytes(&outer.range));
        }
    }

    fn open(&mut self, outer: &Record, frame: &[u8]) {
        let Some((key, place)) = find(outer.link, frame) else {
            return;
        };
        let Some(payload) = frame.get(place.clone()) else {
            return;
        };
        let full = self.streams.len() >= MAX_STREAMS && !self.streams.contains_key(&key);
        let mut spare = StreamDecoder::default();
        let decoder = if full {
            &mut spare
        } else {
            self.streams.entry(key).or_default()
        };
        let base = outer.range.start + place.start;
        decoder.push(payload, &mut |r| {
            self.notes.count(&r.header);
            let from = base + r.at;
            self.waiting.push_back(Record {
                time: r.header.time(),
                interface: self.points.number(&r.header),
                link: LinkType::Ethernet,
                wire_len: r.header.wire_len,
                range: from..from + r.data.len(),
            });
        });
    }
}

/// The measurement frame that a frame carries: its stream, and where it begins and ends.
fn find(link: LinkType, frame: &[u8]) -> Option<(Key, Range<usize>)> {
    match Layer::of(link, frame)? {
        Layer::Stream(at) => {
            // Cooked captures have no destination; what they say of the sender must do.
            let key = frame.get(..12)?.try_into().ok()?;
            Some((Key::Ethernet(key), at..frame.len()))
        }
        Layer::Ip(at) => {
            let datagram = udp(frame, at)?;
            (datagram.destination_port == STREAM)
                .then_some((Key::Udp(datagram.addresses), datagram.payload))
        }
    }
}
