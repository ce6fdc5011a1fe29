//! Records of the sections `block` (`migrate -b`, until QEMU 9.0) and `dirty-bitmap`
//! (QEMU 2.12).
//!
//! Source: QEMU `migration/block.c` (8.2), `migration/block-dirty-bitmap.c`.

use nom::error::{Error, ErrorKind};
use nom::multi::length_data;
use nom::number::streaming::{be_u8, be_u32, be_u64};
use nom::{IResult, Parser};

/// Bytes of one chunk of a disk, even at the disk's end (`BLK_MIG_BLOCK_SIZE`).
pub const CHUNK: u32 = 1 << 20;

/// Bits of a record's word that are flags; the rest is a value (`BDRV_SECTOR_BITS`).
const VALUE_SHIFT: u32 = 9;

/// Largest piece of a dirty bitmap that is believed. Bytes.
const MAX_BITS: u64 = 64 << 20;

/// Flag bits of a `block` record's word (`BLK_MIG_FLAG_*`).
pub mod flag {
    /// A chunk of a device.
    pub const DEVICE_BLOCK: u64 = 0x01;
    /// End of this section's payload.
    pub const EOS: u64 = 0x02;
    /// Progress of the bulk copy.
    pub const PROGRESS: u64 = 0x04;
    /// With DEVICE_BLOCK: a chunk of zeroes, of which no data is sent.
    pub const ZERO_BLOCK: u64 = 0x08;
    /// All bits that can be flags.
    pub const MASK: u64 = 0x1ff;
}

/// Flag bits of a `dirty-bitmap` record (`DIRTY_BITMAP_MIG_FLAG_*`).
pub mod bitmap_flag {
    /// End of this section's payload.
    pub const EOS: u8 = 0x01;
    /// With BITS: all zero, no data.
    pub const ZEROES: u8 = 0x02;
    /// The bitmap's name follows.
    pub const BITMAP_NAME: u8 = 0x04;
    /// The device's name follows.
    pub const DEVICE_NAME: u8 = 0x08;
    /// A bitmap begins.
    pub const START: u8 = 0x10;
    /// A bitmap is complete.
    pub const COMPLETE: u8 = 0x20;
    /// A piece of a bitmap.
    pub const BITS: u8 = 0x40;
    /// More bytes of flags follow; no QEMU sends any.
    pub const EXTRA_FLAGS: u8 = 0x80;
}

/// A record of the `block` section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A chunk of a device.
    Chunk {
        /// First sector, of 512 bytes.
        sector: u64,
        /// Device name.
        device: &'a [u8],
        /// Bytes of data that follow: [`CHUNK`], or 0 for zeroes.
        content: u32,
    },
    /// Progress of the bulk copy.
    Progress {
        /// Per cent.
        percent: u64,
    },
    /// End of this section's payload.
    EndOfSection,
}

/// What a record of the `dirty-bitmap` section says about its bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BitmapAction {
    /// A bitmap begins.
    Start {
        /// Bytes that one bit stands for.
        granularity: u32,
        /// `DIRTY_BITMAP_MIG_START_FLAG_*`: 1 enabled, 2 persistent.
        flags: u8,
    },
    /// A piece.
    Bits {
        /// First sector, of 512 bytes.
        sector: u64,
        /// Sectors.
        sectors: u32,
        /// Bytes of the bitmap that follow; 0: the piece is all zero.
        content: u64,
    },
    /// The bitmap is complete.
    Complete,
    /// End of this section's payload.
    EndOfSection,
}

/// A record of the `dirty-bitmap` section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitmapRecord<'a> {
    /// Device; `None`: that of the record before.
    pub device: Option<&'a [u8]>,
    /// Bitmap; `None`: that of the record before.
    pub bitmap: Option<&'a [u8]>,
    /// What is said.
    pub action: BitmapAction,
}

fn refuse<T>(input: &[u8]) -> IResult<&[u8], T> {
    Err(nom::Err::Error(Error::new(input, ErrorKind::Verify)))
}

fn name(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let (rest, name) = length_data(be_u8).parse(input)?;
    if name.is_empty() || name.iter().any(|b| b.is_ascii_control()) {
        return refuse(input);
    }
    Ok((rest, name))
}

fn optional_name(input: &[u8], present: bool) -> IResult<&[u8], Option<&[u8]>> {
    if !present {
        return Ok((input, None));
    }
    let (rest, n) = name(input)?;
    Ok((rest, Some(n)))
}

/// One record of the `block` section, without the data of a chunk.
///
/// # Errors
/// `nom::Err::Error` where no QEMU could have written this word.
pub fn record(input: &[u8]) -> IResult<&[u8], Record<'_>> {
    let (rest, word) = be_u64(input)?;
    let (value, flags) = (word >> VALUE_SHIFT, word & flag::MASK);
    let content = match flags {
        flag::DEVICE_BLOCK => CHUNK,
        f if f == flag::DEVICE_BLOCK | flag::ZERO_BLOCK => 0,
        flag::EOS if value == 0 => return Ok((rest, Record::EndOfSection)),
        flag::PROGRESS if value <= 100 => {
            return Ok((rest, Record::Progress { percent: value }));
        }
        _ => return refuse(input),
    };
    let (rest, device) = name(rest)?;
    let record = Record::Chunk {
        sector: value,
        device,
        content,
    };
    Ok((rest, record))
}

/// One record of the `dirty-bitmap` section, without the bytes of a piece.
///
/// # Errors
/// `nom::Err::Error` for flags or a length that QEMU does not send.
pub fn bitmap_record(input: &[u8]) -> IResult<&[u8], BitmapRecord<'_>> {
    use bitmap_flag as f;
    let (rest, flags) = be_u8(input)?;
    let named = flags & (f::DEVICE_NAME | f::BITMAP_NAME);
    let (rest, device) = match flags & !(named | f::ZEROES) {
        f::EOS if flags == f::EOS => (rest, None),
        f::START | f::COMPLETE if flags & f::ZEROES == 0 => {
            optional_name(rest, flags & f::DEVICE_NAME != 0)?
        }
        f::BITS => optional_name(rest, flags & f::DEVICE_NAME != 0)?,
        _ => return refuse(input),
    };
    let (rest, bitmap) = optional_name(rest, flags & f::BITMAP_NAME != 0)?;
    let (rest, action) = if flags & f::START != 0 {
        let (rest, (granularity, flags)) = (be_u32, be_u8).parse(rest)?;
        if !granularity.is_power_of_two() {
            return refuse(input);
        }
        (rest, BitmapAction::Start { granularity, flags })
    } else if flags & f::BITS != 0 {
        let (rest, (sector, sectors)) = (be_u64, be_u32).parse(rest)?;
        let (rest, content) = if flags & f::ZEROES != 0 {
            (rest, 0)
        } else {
            be_u64(rest)?
        };
        if content > MAX_BITS {
            return refuse(input);
        }
        let action = BitmapAction::Bits {
            sector,
            sectors,
            content,
        };
        (rest, action)
    } else if flags & f::COMPLETE != 0 {
        (rest, BitmapAction::Complete)
    } else {
        (rest, BitmapAction::EndOfSection)
    };
    let record = BitmapRecord {
        device,
        bitmap,
        action,
    };
    Ok((rest, record))
}
