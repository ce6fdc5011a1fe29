//! The QEMU migration stream (QEMU 2.0 to 10.2). Everything on the wire is big-endian.
//!
//! Sources: QEMU `migration/savevm.c`, `migration/ram.c`, `migration/migration.c`,
//! `migration/multifd.c`; `docs/devel/migration/main.rst`.

pub mod block;
pub mod command;
pub mod element;
pub mod multifd;
pub mod ram;
pub mod resync;
pub mod return_path;
pub mod stream;
pub mod vmdesc;

/// What a decoder says about the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// These bytes begin such a stream.
    Yes,
    /// They do not.
    No,
    /// Too few bytes to tell, and nothing against it yet.
    NeedMore,
}

/// `QEVM`, the first four bytes of a migration stream (`QEMU_VM_FILE_MAGIC`, savevm.h).
pub const MAGIC: u32 = 0x5145_564d;

/// The only stream version in use (`QEMU_VM_FILE_VERSION`, savevm.h); 2 is from before 2009.
pub const VERSION: u32 = 3;

/// Page size of x86, s390x, ppc64 and usually aarch64 guests, assumed until the stream says
/// otherwise. Bytes.
pub const DEFAULT_PAGE_SIZE: u32 = 4096;

/// Is this the beginning of a migration stream's main channel?
pub fn probe(input: &[u8]) -> Probe {
    let magic = [0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3];
    let n = input.len().min(magic.len());
    match (input[..n] == magic[..n], n == magic.len()) {
        (true, true) => Probe::Yes,
        (true, false) => Probe::NeedMore,
        (false, _) => Probe::No,
    }
}

/// Does a connection begin like a post-copy preempt channel (QEMU 7.1)? It carries page records
/// alone; the first one names its block (QEMU `migration/ram.c`, `save_page_header`).
pub fn preempt(input: &[u8]) -> Probe {
    use ram::flag;
    // No RAM block is larger than 16 TiB.
    if input.iter().take(2).any(|b| *b != 0) || input.get(2).is_some_and(|b| *b > 0x0f) {
        return Probe::No;
    }
    let Some(word) = input.first_chunk::<8>().map(|w| u64::from_be_bytes(*w)) else {
        return Probe::NeedMore;
    };
    let in_page = word & u64::from(DEFAULT_PAGE_SIZE - 1);
    if in_page != flag::PAGE && in_page != flag::ZERO {
        return Probe::No;
    }
    let Some(&length) = input.get(8) else {
        return Probe::NeedMore;
    };
    let name = &input[9..input.len().min(9 + usize::from(length))];
    if length == 0 || !name.iter().all(u8::is_ascii_graphic) {
        return Probe::No;
    }
    match name.len() == usize::from(length) {
        true => Probe::Yes,
        false => Probe::NeedMore,
    }
}

/// Does a connection begin like one on which a broken post-copy is resumed? There is no header:
/// the source asks, block by block, which pages have arrived (RECV_BITMAP; QEMU
/// `migration/ram.c`, `ram_dirty_bitmap_sync_all`).
pub fn resumes(input: &[u8]) -> Probe {
    const HEAD: [u8; 4] = [0x08, 0, command::RECV_BITMAP as u8, 0];
    let n = input.len().min(HEAD.len());
    if input[..n] != HEAD[..n] {
        return Probe::No;
    }
    // The command's length, the name's length, the name.
    let Some((&length, &name)) = input.get(4).zip(input.get(5)) else {
        return Probe::NeedMore;
    };
    if name == 0 || u16::from(length) != u16::from(name) + 1 {
        return Probe::No;
    }
    let name = usize::from(name);
    match input.get(6..6 + name) {
        Some(text) if text.iter().all(u8::is_ascii_graphic) => Probe::Yes,
        Some(_) => Probe::No,
        None => Probe::NeedMore,
    }
}
