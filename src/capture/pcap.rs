//! libpcap's file format. Source: draft-ietf-opsawg-pcap.

use pcap_parser::nom::bytes::streaming::take;
use pcap_parser::nom::number::streaming::be_u32;
use pcap_parser::nom::{IResult, Parser};
use pcap_parser::{LegacyPcapBlock, PcapError, PcapHeader};

use super::block::Block;
use super::{Fault, Format, Interface, LinkType, MAX_FRAME, Record, damage, truncated};
use crate::time::Timestamp;

const HEADER_LEN: usize = 24;
const RECORD_LEN: usize = 16;
/// Records whose heads are asked for at once; each has two cache lines, bytes.
const WARM: u8 = 16;
const CACHE_LINE: usize = 64;
/// Kuznetzov's "modified" format has eight bytes more in each record.
const MODIFIED_RECORD_LEN: usize = 24;
/// First bytes of the modified format in big-endian order, which pcap-parser does not know; but for
/// them its header is that of [`PLAIN_BIG_ENDIAN`].
const MODIFIED_BIG_ENDIAN: [u8; 4] = [0xa1, 0xb2, 0xcd, 0x34];
const PLAIN_BIG_ENDIAN: [u8; 4] = [0xa1, 0xb2, 0xc3, 0xd4];

/// One of pcap-parser's record functions.
type ParseRecord =
    for<'a> fn(&'a [u8]) -> IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>>;

/// A file in libpcap's format.
#[derive(Debug)]
pub(super) struct Pcap {
    header: PcapHeader,
    link: LinkType,
    parse: ParseRecord,
    record_len: usize,
    /// Nanoseconds in one unit of the fraction.
    unit_ns: i64,
    /// Records to come whose heads have been asked for.
    warm: u8,
}

impl Pcap {
    pub(super) fn is_magic(first: &[u8]) -> bool {
        matches!(
            *first,
            [0xd4, 0xc3, 0xb2, 0xa1]
                | [0xa1, 0xb2, 0xc3, 0xd4]
                | [0x4d, 0x3c, 0xb2, 0xa1]
                | [0xa1, 0xb2, 0x3c, 0x4d]
                | [0x34, 0xcd, 0xb2, 0xa1]
                | [0xa1, 0xb2, 0xcd, 0x34]
        )
    }

    pub(super) fn new(block: &mut Block) -> Result<Self, Fault> {
        let mut head = block.want(HEADER_LEN)?.to_vec();
        head.truncate(HEADER_LEN);
        let modified_be = head.starts_with(&MODIFIED_BIG_ENDIAN);
        if modified_be {
            head.splice(..PLAIN_BIG_ENDIAN.len(), PLAIN_BIG_ENDIAN);
        }
        let Ok((_, header)) = pcap_parser::parse_pcap_header(&head) else {
            return Err(truncated(0, "the file ends inside its header"));
        };
        block.take(HEADER_LEN);
        let (parse, record_len): (ParseRecord, _) =
            match (header.is_modified_format(), header.is_bigendian()) {
                _ if modified_be => (parse_modified_be, MODIFIED_RECORD_LEN),
                (true, _) => (pcap_parser::parse_pcap_frame_modified, MODIFIED_RECORD_LEN),
                (_, true) => (pcap_parser::parse_pcap_frame_be, RECORD_LEN),
                _ => (pcap_parser::parse_pcap_frame, RECORD_LEN),
            };
        Ok(Self {
            link: LinkType::from_number(header.network.0 as u32),
            unit_ns: if header.is_nanosecond_precision() {
                1
            } else {
                1000
            },
            header,
            parse,
            record_len,
            warm: 0,
        })
    }

    pub(super) fn format(&self) -> Format {
        if self.unit_ns == 1 {
            Format::PcapNanos
        } else {
            Format::PcapMicros
        }
    }

    pub(super) fn version(&self) -> (u16, u16) {
        (self.header.version_major, self.header.version_minor)
    }

    pub(super) fn interface(&self) -> Interface {
        Interface {
            link: self.link,
            name: None,
            point: None,
            snap_length: self.header.snaplen,
        }
    }

    #[inline]
    pub(super) fn next_record(&mut self, block: &mut Block) -> Result<Option<Record>, Fault> {
        let window = block.want(self.record_len)?;
        if window.is_empty() {
            return Ok(None);
        }
        if let Ok((_, r)) = (self.parse)(window)
            && r.data.len() <= MAX_FRAME
        {
            let (time, wire_len, len) = (self.time(&r), r.origlen.max(r.caplen), r.data.len());
            self.warm = match self.warm.checked_sub(1) {
                Some(left) => left,
                None => warm(window, self.record_len + len),
            };
            return Ok(Some(self.record(block, time, wire_len, len)));
        }
        self.next_record_slowly(block)
    }

    fn record(&self, block: &mut Block, time: Timestamp, wire_len: u32, len: usize) -> Record {
        block.take(self.record_len);
        Record {
            time,
            interface: 0,
            link: self.link,
            wire_len,
            range: block.take(len),
        }
    }

    /// The record is not whole in the block, or not whole in the file, or no record.
    #[cold]
    fn next_record_slowly(&mut self, block: &mut Block) -> Result<Option<Record>, Fault> {
        let offset = block.offset();
        let window = block.want(self.record_len)?;
        let Some(length) = window.get(8..12).and_then(|b| <[u8; 4]>::try_from(b).ok()) else {
            return Err(truncated(offset, "the file ends inside a record's header"));
        };
        let length = if self.header.is_bigendian() {
            u32::from_be_bytes(length)
        } else {
            u32::from_le_bytes(length)
        };
        if length as usize > MAX_FRAME {
            let what =
                format!("corrupt record: {length} captured bytes are more than a frame can have");
            return Err(damage(offset, &what));
        }
        let window = block.want(self.record_len + length as usize)?;
        match (self.parse)(window) {
            Ok((_, r)) => {
                let (time, wire_len, len) = (self.time(&r), r.origlen.max(r.caplen), r.data.len());
                Ok(Some(self.record(block, time, wire_len, len)))
            }
            Err(_) => Err(truncated(offset, "the file ends inside a record")),
        }
    }

    #[inline]
    fn time(&self, r: &LegacyPcapBlock<'_>) -> Timestamp {
        Timestamp::from_nanos(
            i64::from(r.ts_sec) * 1_000_000_000 + i64::from(r.ts_usec) * self.unit_ns,
        )
    }
}

/// Asks for the heads of the records that follow, and says how many they are. Bulk traffic has
/// records of one length, and another core has just read them: waiting for their heads one after the
/// other takes longer than decoding them.
#[inline]
fn warm(window: &[u8], length: usize) -> u8 {
    let heads = (1..=usize::from(WARM)).flat_map(|n| [n * length, n * length + CACHE_LINE]);
    let bytes = heads.map(|at| window.get(at).copied().unwrap_or_default());
    // Nothing is made of them: it is the loads that count.
    std::hint::black_box(bytes.fold(0, |all, b| all ^ b));
    WARM - 1
}

/// A record of the modified format in big-endian order: as in libpcap's, then interface index,
/// protocol, packet type and padding (Wireshark, `wiretap/libpcap.h`).
fn parse_modified_be(i: &[u8]) -> IResult<&[u8], LegacyPcapBlock<'_>, PcapError<&[u8]>> {
    let (i, (ts_sec, ts_usec, caplen, origlen)) = (be_u32, be_u32, be_u32, be_u32).parse(i)?;
    let (i, _) = take(MODIFIED_RECORD_LEN - RECORD_LEN)(i)?;
    let (i, data) = take(caplen as usize)(i)?;
    let block = LegacyPcapBlock {
        ts_sec,
        ts_usec,
        caplen,
        origlen,
        data,
    };
    Ok((i, block))
}
