//! Headers of multifd packets, read and judged; lengths and limits.

use super::{Compression, flag};
use crate::intake::{be32, be64};

/// `MULTIFD_MAGIC` and `MULTIFD_VERSION`: the initial packet and every packet begin with them.
pub(super) const SIGNATURE: [u8; 8] = [0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1];

/// [`SIGNATURE`] as one word.
pub(super) const SIGNATURE_WORD: u64 = u64::from_be_bytes(SIGNATURE);

/// Length of the initial packet (`MultiFDInit_t`), bytes.
pub(super) const INITIAL: usize = 64;

/// Length of the initial packet of QEMU 3.0 and 3.1, bytes.
pub(super) const EXPERIMENTAL_INITIAL: usize = 25;

/// Header without the offsets (`sizeof(MultiFDPacket_t)`), bytes.
pub(super) const HEAD: usize = 320;

/// Where the block name stands in the header, bytes.
pub(super) const NAME: usize = 64;

/// Header of a DEVICE_STATE packet (`sizeof(MultiFDPacketDeviceState_t)`), bytes.
pub(super) const DEVICE_STATE_HEAD: usize = 276;

/// Pages of one packet together (`MULTIFD_PACKET_SIZE`), bytes.
pub(super) const PACKET_SIZE: u32 = 512 * 1024;

/// Most pages of a packet: at the smallest page, 1 KiB.
pub(super) const MAX_PAGES: u32 = 512;

/// Fewest: at the largest page, 64 KiB.
const MIN_PAGES: u32 = 8;

/// Most data behind a compressed packet: far above what any method makes of [`PACKET_SIZE`].
/// Bytes.
const MAX_COMPRESSED: u32 = 2 * PACKET_SIZE;

/// Most data behind a DEVICE_STATE packet that is believed. Bytes.
const MAX_DEVICE_STATE: u32 = 1 << 30;

/// Largest offset in a RAM block that is believed: 64 TiB. Bytes.
pub(super) const MAX_OFFSET: u64 = 1 << 46;

/// A name in a field that is padded with NULs.
fn padded_name(field: &[u8]) -> Option<&str> {
    let n = field.iter().position(|b| *b == 0)?;
    let (name, padding) = field.split_at(n);
    let clean = name.iter().all(|b| (0x20..0x7f).contains(b)) && padding.iter().all(|b| *b == 0);
    std::str::from_utf8(name).ok().filter(|_| clean)
}

/// Capacity of packets at a page size that QEMU has.
pub(super) fn valid_capacity(pages: u32) -> bool {
    pages.is_power_of_two() && (MIN_PAGES..=MAX_PAGES).contains(&pages)
}

/// Header of a packet, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) flags: u32,
    pub(super) compression: Compression,
    /// N, from `pages_alloc`; `None` in the zeroed SYNC packets of QEMU 10.0.
    pub(super) capacity: Option<u32>,
    pub(super) packet_num: u64,
    pub(super) normal: u32,
    pub(super) zero: u32,
    pub(super) block: &'a str,
    pub(super) data: u32,
}

impl<'a> Head<'a> {
    /// Of a header's first [`HEAD`] bytes. `None`: no QEMU sends this.
    pub(super) fn read(b: &'a [u8]) -> Option<Self> {
        let flags = be32(b, 8)?;
        let (allocated, normal) = (be32(b, 12)?, be32(b, 16)?);
        let (next_packet_size, zero) = (be32(b, 20)?, be32(b, 32)?);
        let block = padded_name(b.get(NAME..HEAD)?)?;
        let capacity = (allocated != 0).then_some(allocated);
        let pages = normal.checked_add(zero)?;
        let compression = Compression::of(flags)?;
        if flags & !flag::MASK != 0
            || capacity.is_some_and(|n| !valid_capacity(n))
            || pages > allocated
            || (allocated == 0 && flags & flag::SYNC == 0)
            || (pages > 0 && block.is_empty())
        {
            return None;
        }
        // Without normal pages there is no data: up to QEMU 8.1 `next_packet_size` keeps the
        // value of an earlier packet then.
        let data = if normal > 0 { next_packet_size } else { 0 };
        let fits = match compression {
            _ if normal == 0 => true,
            Compression::None => {
                normal.checked_mul(PACKET_SIZE.checked_div(allocated)?) == Some(data)
            }
            _ => data <= MAX_COMPRESSED,
        };
        fits.then_some(Self {
            flags,
            compression,
            capacity,
            packet_num: be64(b, 24)?,
            normal,
            zero,
            block,
            data,
        })
    }
}

/// Header of a DEVICE_STATE packet: device, instance, bytes of data.
pub(super) fn device_state(b: &[u8]) -> Option<(&str, u32, u32)> {
    let flags = be32(b, 8)?;
    let device = padded_name(b.get(12..268)?)?;
    let (instance, data) = (be32(b, 268)?, be32(b, 272)?);
    (flags & !(flag::DEVICE_STATE | flag::SYNC) == 0
        && !device.is_empty()
        && data <= MAX_DEVICE_STATE)
        .then_some((device, instance, data))
}

/// Which packet stands where a signature was found.
pub(super) fn head_length(flags: u32) -> usize {
    if flags & flag::DEVICE_STATE == 0 {
        HEAD
    } else {
        DEVICE_STATE_HEAD
    }
}
