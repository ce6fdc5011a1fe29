//! Records of the `ram` section: one 64-bit word of address and flags, then what the flags say.
//!
//! Source: QEMU `migration/ram.c` (`RAM_SAVE_FLAG_*`, `save_page_header`).

use nom::multi::length_data;
use nom::number::streaming::{be_u8, be_u16, be_u32, be_u64};
use nom::{IResult, Parser};

/// Flag bits of a record's word; the address stands above the target page size.
pub mod flag {
    /// A page of one repeated byte (formerly COMPRESS).
    pub const ZERO: u64 = 0x002;
    /// The list of RAM blocks.
    pub const MEM_SIZE: u64 = 0x004;
    /// A page in full.
    pub const PAGE: u64 = 0x008;
    /// End of this section's payload.
    pub const EOS: u64 = 0x010;
    /// Same block as the record before: no block name follows.
    pub const CONTINUE: u64 = 0x020;
    /// A delta to the page sent before.
    pub const XBZRLE: u64 = 0x040;
    /// A page compressed with zlib (QEMU 2.4 to 9.0).
    pub const COMPRESS_PAGE: u64 = 0x100;
    /// All multifd channels have been told to synchronise (QEMU 8.1).
    pub const MULTIFD_FLUSH: u64 = 0x200;
    /// Bits that can be flags at the smallest page size in use (1 KiB, old Arm machines).
    pub const MASK: u64 = 0x3ff;
}

/// How a page was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// All its bytes (QEMU's counter `normal`).
    Normal,
    /// One byte for all (QEMU's counter `duplicate`).
    Zero,
    /// XBZRLE delta.
    Xbzrle,
    /// zlib.
    Compressed,
}

/// What a record's word announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A page record.
    Page {
        /// Offset in the RAM block, bytes.
        address: u64,
        /// How the page comes.
        kind: PageKind,
        /// The block's name; `None` with CONTINUE: the block of the record before.
        block: Option<&'a [u8]>,
        /// Bytes of content that follow the record's head.
        content: u32,
    },
    /// The block list follows; total of all blocks' lengths, bytes.
    MemSize(u64),
    /// End of this section's payload.
    EndOfSection,
    /// Multifd synchronisation.
    MultifdFlush,
}

/// The head of one record; page contents are left to the caller to step over.
///
/// # Errors
/// `nom::Err::Error` where no QEMU could have written this word: the decoder is out of step.
pub fn record(input: &[u8], page_size: u32) -> IResult<&[u8], Record<'_>> {
    let out_of_step = || {
        Err(nom::Err::Error(nom::error::Error::new(
            input,
            nom::error::ErrorKind::Verify,
        )))
    };
    let (rest, word) = be_u64(input)?;
    let (flags, address) = (word & flag::MASK, word & !flag::MASK);
    let kind = match flags & !flag::CONTINUE {
        flag::PAGE => PageKind::Normal,
        flag::ZERO => PageKind::Zero,
        flag::XBZRLE => PageKind::Xbzrle,
        flag::COMPRESS_PAGE => PageKind::Compressed,
        flag::MEM_SIZE => return Ok((rest, Record::MemSize(address))),
        flag::EOS if word == flag::EOS => return Ok((rest, Record::EndOfSection)),
        flag::MULTIFD_FLUSH if word == flag::MULTIFD_FLUSH => {
            return Ok((rest, Record::MultifdFlush));
        }
        _ => return out_of_step(),
    };
    if address & u64::from(page_size.wrapping_sub(1)) != 0 {
        return out_of_step();
    }
    let (rest, block) = if flags & flag::CONTINUE == 0 {
        let (rest, name) = length_data(be_u8).parse(rest)?;
        if name.is_empty() || !name.iter().all(|b| (0x20..0x7f).contains(b)) {
            return out_of_step();
        }
        (rest, Some(name))
    } else {
        (rest, None)
    };
    let (rest, content) = match kind {
        PageKind::Normal => (rest, page_size),
        PageKind::Zero => (rest, 1),
        PageKind::Xbzrle => {
            let (rest, (version, n)) = (be_u8, be_u16).parse(rest)?;
            if version != 1 || u32::from(n) > page_size {
                return out_of_step();
            }
            (rest, u32::from(n))
        }
        PageKind::Compressed => {
            let (rest, n) = be_u32(rest)?;
            // compressBound() of one page stays far below twice the page.
            if n > page_size.saturating_mul(2) {
                return out_of_step();
            }
            (rest, n)
        }
    };
    let page = Record::Page {
        address,
        kind,
        block,
        content,
    };
    Ok((rest, page))
}

/// Page records and bytes, counted as QEMU counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// PAGE records (`ram.normal`).
    pub normal: u64,
    /// ZERO records (`ram.duplicate`).
    pub zero: u64,
    /// XBZRLE records (`xbzrle-cache.pages`).
    pub xbzrle: u64,
    /// COMPRESS_PAGE records (`compression.pages`).
    pub compressed: u64,
    /// Bytes of the page records, heads included.
    pub bytes: u64,
    /// Of these, bytes of XBZRLE and COMPRESS_PAGE records.
    pub encoded_bytes: u64,
}

impl Counts {
    /// All page records.
    pub fn pages(&self) -> u64 {
        self.normal + self.zero + self.xbzrle + self.compressed
    }

    /// Counts one record of `bytes` bytes, head included.
    pub fn add(&mut self, kind: PageKind, bytes: u64) {
        match kind {
            PageKind::Normal => self.normal += 1,
            PageKind::Zero => self.zero += 1,
            PageKind::Xbzrle => {
                self.xbzrle += 1;
                self.encoded_bytes += bytes;
            }
            PageKind::Compressed => {
                self.compressed += 1;
                self.encoded_bytes += bytes;
            }
        }
        self.bytes += bytes;
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, o: Self) {
        self.normal += o.normal;
        self.zero += o.zero;
        self.xbzrle += o.xbzrle;
        self.compressed += o.compressed;
        self.bytes += o.bytes;
        self.encoded_bytes += o.encoded_bytes;
    }
}
