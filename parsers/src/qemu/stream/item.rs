//! What the stream decoder finds, and who hears of it.

use crate::qemu::command::Command;
use crate::qemu::element::ElementType;
use crate::qemu::ram::{Counts, PageKind};
use crate::qemu::stream::storage::{BitmapCounts, DiskCounts};

/// A RAM block as the stream's list gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamBlock {
    /// Name, for example `pc.ram`.
    pub name: String,
    /// Bytes in use; `None` where the list was not seen.
    pub used_length: Option<u64>,
}

/// What the decoder found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// Magic and version.
    Header,
    /// Machine type of the source, for example `pc-q35-9.2`.
    Configuration {
        /// Machine name.
        machine: &'a [u8],
    },
    /// The guest's UUID, from the configuration.
    Uuid(&'a [u8]),
    /// A section begins.
    SectionBegin {
        /// START, PART, END or FULL.
        kind: ElementType,
        /// Section id.
        id: u32,
        /// Device name; empty where its START was not seen.
        name: &'a str,
        /// True inside PACKAGED.
        packaged: bool,
    },
    /// The block list, complete so far: see [`super::Decoder::blocks`].
    RamBlocks {
        /// Blocks.
        count: usize,
        /// Their bytes in use.
        bytes: u64,
    },
    /// The payload of a `ram` section has ended.
    RamEnd {
        /// What it held.
        counts: Counts,
    },
    /// The records of a `block` section have ended.
    Disks {
        /// What it held.
        counts: DiskCounts,
        /// False where the stream broke off or was lost inside the section.
        complete: bool,
    },
    /// The records of a `dirty-bitmap` section have ended.
    Bitmaps {
        /// What it held.
        counts: BitmapCounts,
        /// False where the stream broke off or was lost inside the section.
        complete: bool,
    },
    /// A device section ended, payload and head together `length` bytes.
    DeviceEnd {
        /// Section id.
        id: u32,
        /// From the section's type byte to its footer, bytes.
        length: u64,
    },
    /// A command.
    Command(Command<'a>),
    /// The nested list of PACKAGED has ended.
    PackagedEnd,
    /// End of the element list.
    EndOfStream,
    /// The description of the device state, `length` bytes; the JSON itself where it was kept.
    VmDescription {
        /// Bytes.
        length: u32,
        /// At most [`super::MAX_VMDESC`] bytes.
        json: Option<&'a [u8]>,
    },
    /// Multifd channels were told to synchronise.
    MultifdFlush,
    /// Out of step from here; what follows is searched for an anchor.
    Lost,
    /// In step again.
    Found,
}

/// Receives what the decoder finds. `M` is the caller's mark of a slice.
pub trait Sink<M> {
    /// An item whose first byte lay in the slice marked `begin`, at stream offset `offset`.
    fn item(&mut self, item: Item<'_>, begin: M, offset: u64);

    /// One page record. `block` counts as in [`super::Decoder::blocks`], `None` where the name is
    /// unknown; `address` is the offset in the block, `bytes` the record's length, head included.
    fn page(&mut self, block: Option<u16>, address: u64, kind: PageKind, bytes: u64);

    /// Bytes at `offset` that are structure, not the guest's memory or device state. Every byte
    /// that is not revealed before the decoder passes it is content.
    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        let _ = (offset, bytes);
    }
}
