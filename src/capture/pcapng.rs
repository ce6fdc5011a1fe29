//! pcapng. Source: draft-ietf-opsawg-pcapng.

use pcap_parser::InterfaceDescriptionBlock;
use pcap_parser::pcapng::{Block as NgBlock, parse_block_be, parse_block_le};
use pcap_parser::traits::PcapNGPacketBlock as _;

use super::block::Block;
use super::{Fault, Interface, LinkType, MAX_FRAME, MAX_INTERFACES, Record, damage, truncated};
use crate::time::Timestamp;

/// Longest block that is read as a whole; longer ones that hold no packet are stepped over. Bytes.
const MAX_BLOCK: u32 = (MAX_FRAME as u32) + (1 << 16);

/// Interfaces of one section; packets of later ones cannot be read.
const MAX_SECTION_INTERFACES: usize = 4096;

/// Block types that matter (section 11.1 of the draft).
mod block_type {
    pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    /// The obsolete Packet Block.
    pub(super) const PACKET: u32 = 2;
    pub(super) const SIMPLE_PACKET: u32 = 3;
    pub(super) const ENHANCED_PACKET: u32 = 6;
}

/// The byte-order magic of a section as its own writer sees it.
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// `if_tsresol` where the file gives none: microseconds.
const DEFAULT_RESOLUTION: u8 = 6;

#[derive(Debug, Clone)]
struct Described {
    interface: Interface,
    resolution: u8,
    /// Seconds to add to each time.
    offset_s: i64,
}

/// A pcapng file.
#[derive(Debug)]
pub(super) struct Pcapng {
    big_endian: bool,
    /// Of the first section.
    version: Option<(u16, u16)>,
    /// Interfaces of all sections, as far as there are numbers; those of the current one begin at
    /// `base`.
    interfaces: Vec<Described>,
    base: usize,
    last: Timestamp,
}

impl Pcapng {
    pub(super) fn new(block: &mut Block) -> Result<Self, Fault> {
        let mut new = Self {
            big_endian: false,
            version: None,
            interfaces: Vec::new(),
            base: 0,
            last: Timestamp::default(),
        };
        new.section(block)?;
        Ok(new)
    }

    pub(super) fn version(&self) -> Option<(u16, u16)> {
        self.version
    }

    pub(super) fn interface(&self, n: u32) -> Interface {
        self.interfaces.get(n as usize).map_or(
            Interface {
                link: LinkType::Other(u16::MAX),
                name: None,
                point: None,
                snap_length: 0,
            },
            |d| d.interface.clone(),
        )
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u32> {
        let b = <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?;
        Some(if self.big_endian {
            u32::from_be_bytes(b)
        } else {
            u32::from_le_bytes(b)
        })
    }

    /// Byte order and length of the section header that begins here; steps over it.
    fn section(&mut self, block: &mut Block) -> Result<(), Fault> {
        let offset = block.offset();
        let head = block.want(16)?;
        self.big_endian = match head.get(8..12) {
            Some(magic) if magic == BYTE_ORDER_MAGIC.to_be_bytes() => true,
            Some(magic) if magic == BYTE_ORDER_MAGIC.to_le_bytes() => false,
            Some(_) => return Err(damage(offset, "a section header without byte-order magic")),
            None => return Err(truncated(offset, "the file ends inside a section header")),
        };
        let length = self.word(head, 4).unwrap_or(0);
        if length < 28 || !length.is_multiple_of(4) {
            return Err(damage(
                offset,
                &format!("a section header of {length} bytes"),
            ));
        }
        if let (None, Some(v)) = (self.version, self.word(head, 12)) {
            let (low, high) = (v as u16, (v >> 16) as u16);
            self.version = Some(if self.big_endian {
                (high, low)
            } else {
                (low, high)
            });
        }
        if self.interfaces.len() < MAX_INTERFACES {
            self.base = self.interfaces.len();
        } else {
            // They get the numbers of the section before.
            self.interfaces.truncate(self.base);
        }
        if block.skip(length.into())? {
            Ok(())
        } else {
            Err(truncated(offset, "the file ends inside a section header"))
        }
    }

    pub(super) fn next_record(&mut self, block: &mut Block) -> Result<Option<Record>, Fault> {
        loop {
            let offset = block.offset();
            let head = block.want(8)?;
            if head.is_empty() {
                return Ok(None);
            }
            let (Some(kind), Some(length)) = (self.word(head, 0), self.word(head, 4)) else {
                return Err(truncated(offset, "the file ends inside a block's header"));
            };
            if kind == block_type::SECTION_HEADER {
                self.section(block)?;
                continue;
            }
            if length < 12 || !length.is_multiple_of(4) {
                return Err(damage(
                    offset,
                    &format!("corrupt block: a length of {length} bytes"),
                ));
            }
            let wanted = matches!(
                kind,
                block_type::INTERFACE
                    | block_type::PACKET
                    | block_type::SIMPLE_PACKET
                    | block_type::ENHANCED_PACKET
            );
            if !wanted {
                if !block.skip(length.into())? {
                    return Err(truncated(offset, "the file ends inside a block"));
                }
                continue;
            }
            if length > MAX_BLOCK {
                let what = format!("corrupt block: {length} bytes are more than a frame can have");
                return Err(damage(offset, &what));
            }
            let length = length as usize;
            let Some(bytes) = block.want(length)?.get(..length) else {
                return Err(truncated(offset, "the file ends inside a block"));
            };
            // The obsolete kind is not known to pcap-parser.
            let found = if kind == block_type::PACKET {
                self.old_packet(bytes)
            } else {
                self.read(bytes)
            };
            let found = found.map_err(|what| damage(offset, &what))?;
            let place = block.take(length);
            if let Some((mut record, at)) = found {
                let from = place.start + at.start;
                record.range = from..from + at.len();
                return Ok(Some(record));
            }
        }
    }

    /// One block: a packet's record and where its bytes lie, or an interface learned.
    fn read(&mut self, bytes: &[u8]) -> Result<Option<(Record, std::ops::Range<usize>)>, String> {
        let parse = if self.big_endian {
            parse_block_be
        } else {
            parse_block_le
        };
        let (_, parsed) = parse(bytes).map_err(|_| "corrupt block".to_owned())?;
        match parsed {
            NgBlock::InterfaceDescription(idb) => {
                self.describe(&idb);
                Ok(None)
            }
            NgBlock::EnhancedPacket(epb) => {
                let time = (u64::from(epb.ts_high) << 32) | u64::from(epb.ts_low);
                let len = (epb.caplen as usize).min(epb.data.len());
                // Data follows five words and the head.
                self.packet(epb.if_id, Some(time), epb.origlen, 28..28 + len)
            }
            NgBlock::SimplePacket(spb) => {
                let len = spb.packet_data().len();
                let snap = self
                    .interfaces
                    .get(self.base)
                    .map_or(0, |d| d.interface.snap_length as usize);
                let len = if snap > 0 { len.min(snap) } else { len };
                self.packet(0, None, spb.origlen, 12..12 + len)
            }
            _ => Ok(None),
        }
    }

    /// Packet Block: interface and drops as 16-bit numbers, then as in the enhanced one.
    fn old_packet(
        &mut self,
        bytes: &[u8],
    ) -> Result<Option<(Record, std::ops::Range<usize>)>, String> {
        let field = |at| self.word(bytes, at).ok_or("corrupt block");
        let b = bytes.get(8..10).ok_or("corrupt block")?;
        let interface = if self.big_endian {
            u16::from_be_bytes([b[0], b[1]])
        } else {
            u16::from_le_bytes([b[0], b[1]])
        };
        let time = (u64::from(field(12)?) << 32) | u64::from(field(16)?);
        let (len, wire) = (field(20)? as usize, field(24)?);
        let len = len.min(bytes.len().saturating_sub(32));
        self.packet(interface.into(), Some(time), wire, 28..28 + len)
    }

    fn packet(
        &mut self,
        interface: u32,
        time: Option<u64>,
        wire_len: u32,
        place: std::ops::Range<usize>,
    ) -> Result<Option<(Record, std::ops::Range<usize>)>, String> {
        let n = self.base + interface as usize;
        let described = self.interfaces.get(n).ok_or_else(|| {
            match (interface as usize) < MAX_SECTION_INTERFACES {
                true => format!("corrupt block: a packet of interface {interface}, which is not described"),
                false => format!("a packet of interface {interface}: more than {MAX_SECTION_INTERFACES} in a section are not read"),
            }
        })?;
        if place.len() > MAX_FRAME {
            return Err("corrupt block: too long a packet".to_owned());
        }
        // A simple packet has no time of its own.
        let time = time.map_or(self.last, |t| {
            stamp(t, described.resolution, described.offset_s)
        });
        self.last = time;
        let record = Record {
            time,
            interface: n as u32,
            link: described.interface.link,
            wire_len: wire_len.max(place.len() as u32),
            range: 0..0,
        };
        Ok(Some((record, place)))
    }

    fn describe(&mut self, idb: &InterfaceDescriptionBlock<'_>) {
        if self.interfaces.len() - self.base >= MAX_SECTION_INTERFACES {
            return;
        }
        let name = idb.if_name().and_then(Result::ok).map(str::to_owned);
        self.interfaces.push(Described {
            interface: Interface {
                link: LinkType::from_number(idb.linktype.0 as u32),
                name,
                point: None,
                snap_length: idb.snaplen,
            },
            resolution: match idb.if_tsresol() {
                Some(Ok(r)) => r,
                _ => DEFAULT_RESOLUTION,
            },
            // pcap-parser reads it as little-endian in any section.
            offset_s: if self.big_endian {
                idb.if_tsoffset.swap_bytes()
            } else {
                idb.if_tsoffset
            },
        });
    }
}

/// A time in units of 10^-n seconds, or 2^-n where the top bit of `resolution` is set
/// (`if_tsresol`, section 4.2 of the draft).
fn stamp(time: u64, resolution: u8, offset_s: i64) -> Timestamp {
    let exponent = u32::from(resolution & 0x7f);
    let per_second = if resolution & 0x80 == 0 {
        10u128.checked_pow(exponent)
    } else {
        1u128.checked_shl(exponent)
    };
    // Units too fine for 64 bits to reach one of them are all zero.
    let Some(per_second) = per_second.filter(|p| *p > 0) else {
        return Timestamp::from_picos(offset_s, 0);
    };
    let time = u128::from(time);
    let picos = (time % per_second).saturating_mul(1_000_000_000_000) / per_second;
    let seconds = i64::try_from(time / per_second).unwrap_or(i64::MAX);
    Timestamp::from_picos(seconds.saturating_add(offset_s), picos as u64)
}
