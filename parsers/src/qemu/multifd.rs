//! Push decoder of one multifd channel: an initial packet of 64 bytes, then packets of a header
//! of fixed length and data. The layout is that of QEMU 4.0 to 10.2; the experimental one of 3.0
//! and 3.1 is refused.
//!
//! Source: QEMU `migration/multifd.h` (`MultiFDPacket_t`, `MultiFDPacketDeviceState_t`),
//! `migration/multifd.c`, `migration/multifd-nocomp.c`, `migration/multifd-device-state.c`.

mod packet;

use memchr::memmem;

use super::Probe;
use crate::intake::{Intake, Step, be32, be64, begins_with};
use packet::{
    DEVICE_STATE_HEAD, EXPERIMENTAL_INITIAL, Head, INITIAL, MAX_OFFSET, MAX_PAGES, NAME,
    PACKET_SIZE, SIGNATURE, SIGNATURE_WORD, device_state, head_length, valid_capacity,
};

/// Flag bits of a packet (`MULTIFD_FLAG_*`).
pub mod flag {
    /// The channel synchronises.
    pub const SYNC: u32 = 0x01;
    /// The compression field (`MULTIFD_FLAG_COMPRESSION_MASK`).
    pub const COMPRESSION: u32 = 0x3e;
    /// Device state, not RAM (QEMU 10.0).
    pub const DEVICE_STATE: u32 = 0x40;
    /// All bits in use.
    pub const MASK: u32 = 0x7f;
}

/// How the pages of a packet were compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// zlib (QEMU 5.0).
    Zlib,
    /// zstd (QEMU 5.0).
    Zstd,
    /// Intel QPL (QEMU 9.1).
    Qpl,
    /// UADK (QEMU 9.1).
    Uadk,
    /// QATzip (QEMU 9.2).
    Qatzip,
}

impl Compression {
    fn of(flags: u32) -> Option<Self> {
        Some(match flags & flag::COMPRESSION {
            0x00 => Self::None,
            0x02 => Self::Zlib,
            0x04 => Self::Zstd,
            0x08 => Self::Qpl,
            0x10 => Self::Uadk,
            0x20 => Self::Qatzip,
            _ => return None,
        })
    }
}

/// What the decoder found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// The initial packet.
    Initial {
        /// UUID of the guest; the same on all channels of a migration.
        uuid: [u8; 16],
        /// Number of the channel.
        channel: u8,
    },
    /// A packet with pages.
    Packet {
        /// All flags.
        flags: u32,
        /// How its pages were compressed.
        compression: Compression,
        /// SYNC flag: an item [`Item::Sync`] follows.
        sync: bool,
        /// Number over all channels.
        packet_num: u64,
        /// Pages sent in full (`normal_pages`).
        normal: u32,
        /// Zero pages, of which only the offset is sent (QEMU 9.0).
        zero: u32,
        /// RAM block.
        block: &'a str,
        /// Bytes of data that follow the header.
        data: u32,
    },
    /// A packet of device state.
    DeviceState {
        /// Device (`idstr`).
        device: &'a str,
        /// Instance of the device.
        instance: u32,
        /// Bytes of data that follow the header.
        data: u32,
    },
    /// The channel synchronises with the others.
    Sync {
        /// Number over all channels.
        packet_num: u64,
    },
    /// Out of step from here; what follows is searched for a packet.
    Lost,
    /// In step again.
    Found,
}

/// Receives what the decoder finds. `M` is the caller's mark of a slice.
pub trait Sink<M> {
    /// An item whose first byte lay in the slice marked `begin`, at stream offset `offset`.
    fn item(&mut self, item: Item<'_>, begin: M, offset: u64);

    /// One page of the packet that came last: its offset in `block`, bytes.
    fn page(&mut self, block: &[u8], offset: u64, zero: bool) {
        let _ = (block, offset, zero);
    }

    /// Bytes at `offset` that are structure. Every byte that is not revealed is content.
    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        let _ = (offset, bytes);
    }
}

/// Looks for a packet anywhere in the middle of a connection.
pub fn search(input: &[u8]) -> Probe {
    let mut more = false;
    for at in memmem::find_iter(input, &SIGNATURE) {
        match believe(input.get(at..).unwrap_or_default(), None) {
            Probe::Yes => return Probe::Yes,
            Probe::NeedMore => more = true,
            Probe::No => {}
        }
    }
    if more { Probe::NeedMore } else { Probe::No }
}

/// Is it a packet's head that begins with this signature? What is always zero in one, and
/// the capacity where it is known, tell.
fn believe(input: &[u8], capacity: Option<u32>) -> Probe {
    let Some(flags) = be32(input, 8) else {
        return Probe::NeedMore;
    };
    if flags & !flag::MASK != 0 {
        return Probe::No;
    }
    let length = head_length(flags);
    let Some(bytes) = input.get(..length) else {
        return Probe::NeedMore;
    };
    let believed = if length == DEVICE_STATE_HEAD {
        device_state(bytes).is_some()
    } else {
        let reserved = bytes.get(36..NAME).unwrap_or_default();
        reserved.iter().all(|b| *b == 0)
            && Head::read(bytes).is_some_and(|h| {
                let same = |n| capacity.is_none_or(|c| c == n);
                h.capacity.map_or(capacity.is_some(), same)
            })
    };
    if believed { Probe::Yes } else { Probe::No }
}

/// Is this the beginning of a multifd channel? The layout of 3.0 and 3.1 is told by the first
/// packet, which stands where today's initial packet still goes on.
pub fn probe(input: &[u8]) -> Probe {
    match begins_with(input, &SIGNATURE) {
        Probe::Yes => match begins_with(
            input.get(EXPERIMENTAL_INITIAL..).unwrap_or_default(),
            &SIGNATURE,
        ) {
            Probe::Yes => Probe::No,
            Probe::No => Probe::Yes,
            Probe::NeedMore => Probe::NeedMore,
        },
        other => other,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offsets {
    /// Offsets read so far.
    read: u32,
    normal: u32,
    /// `normal` and zero pages.
    pages: u32,
    data: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Initial,
    Head,
    Offsets(Offsets),
    /// Behind the head of a SYNC packet while N is unknown: so many zero words so far.
    Measure(u32),
    Lost,
}

/// A block's name, kept while its pages are read.
#[derive(Debug, Clone, Copy)]
struct Name {
    bytes: [u8; 256],
    length: usize,
}

impl Name {
    fn set(&mut self, name: &[u8]) {
        self.length = name.len().min(self.bytes.len());
        for (to, from) in self.bytes.iter_mut().zip(name) {
            *to = *from;
        }
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The decoder of one channel. See the module's text.
#[derive(Debug, Clone)]
pub struct Channel<M> {
    intake: Intake<M>,
    core: Core,
}

#[derive(Debug, Clone)]
struct Core {
    state: State,
    /// N: pages that a header has room for.
    capacity: Option<u32>,
    /// A packet stood where N said.
    confirmed: bool,
    block: Name,
    whole: bool,
}

impl<M: Copy> Default for Channel<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Copy> Channel<M> {
    /// At the first byte of a channel.
    pub fn new() -> Self {
        Self {
            intake: Intake::new(0),
            core: Core {
                state: State::Initial,
                capacity: None,
                confirmed: false,
                block: Name {
                    bytes: [0; 256],
                    length: 0,
                },
                whole: true,
            },
        }
    }

    /// Somewhere in the middle of a channel: looks for a packet first. `offset` numbers the
    /// first byte that will be pushed.
    pub fn in_the_middle(offset: u64) -> Self {
        let mut c = Self::new();
        c.intake = Intake::new(offset);
        c.core.state = State::Lost;
        c.core.whole = false;
        c
    }

    /// Offset up to which every byte has been understood or is known to be content.
    pub fn resolved(&self) -> u64 {
        self.intake.offset()
    }

    /// True while no byte with structure was lost: counts are exact then.
    pub fn whole(&self) -> bool {
        self.core.whole
    }

    /// Target page size, bytes; `None` until a packet has told it.
    pub fn page_size(&self) -> Option<u32> {
        PACKET_SIZE.checked_div(self.core.capacity?)
    }

    /// Feeds the next bytes.
    pub fn push<S: Sink<M>>(&mut self, mark: M, data: &[u8], sink: &mut S) {
        let Self { intake, core } = self;
        intake.push(mark, data, |input, begin, offset| {
            core.step(input, begin, offset, sink)
        });
    }

    /// `length` bytes are missing here.
    pub fn gap<S: Sink<M>>(&mut self, length: u64, mark: M, sink: &mut S) {
        if length == 0 {
            return;
        }
        // In a header whose length is known, offsets get lost but not the place.
        if let (State::Offsets(o), Some(n)) = (self.core.state, self.core.capacity) {
            let words = u64::from(n.saturating_sub(o.read)) * 8;
            let left = (words + u64::from(o.data)).saturating_sub(self.intake.held() as u64);
            if length <= left {
                self.core.whole = false;
                self.core.state = State::Head;
                self.intake.pass_over(left);
            }
        }
        if let Some((mark, offset)) = self.intake.gap(length, mark) {
            self.core.lose(mark, offset, sink);
        }
    }

    /// The connection has ended.
    pub fn finish(&mut self) {
        if self.intake.let_go() > 0 {
            self.core.whole = false;
        }
    }
}

impl Core {
    fn lose<M: Copy, S: Sink<M>>(&mut self, mark: M, offset: u64, sink: &mut S) {
        self.whole = false;
        if !self.confirmed {
            self.capacity = None;
        }
        if self.state != State::Lost {
            self.state = State::Lost;
            sink.item(Item::Lost, mark, offset);
        }
    }

    fn step<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        begin: M,
        offset: u64,
        sink: &mut S,
    ) -> Step {
        let step = match self.state {
            State::Initial => self.initial(input, begin, offset, sink),
            State::Head => self.head(input, begin, offset, sink),
            State::Offsets(o) => self.offsets(o, input, offset, sink),
            State::Measure(words) => self.measure(words, input, offset, sink),
            State::Lost => return self.search(input, begin, offset, sink),
        };
        step.unwrap_or_else(|| {
            self.lose(begin, offset, sink);
            Step::AGAIN
        })
    }

    fn initial<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        begin: M,
        offset: u64,
        sink: &mut S,
    ) -> Option<Step> {
        if probe(input) == Probe::No {
            return None;
        }
        let Some(packet) = input.get(..INITIAL) else {
            return Some(Step::Need(INITIAL));
        };
        sink.reveal(offset, packet);
        let uuid = packet.get(8..24)?.try_into().ok()?;
        let channel = *packet.get(24)?;
        sink.item(Item::Initial { uuid, channel }, begin, offset);
        self.state = State::Head;
        Some(Step::used(INITIAL))
    }

    fn head<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        begin: M,
        offset: u64,
        sink: &mut S,
    ) -> Option<Step> {
        match begins_with(input, &SIGNATURE) {
            Probe::Yes => {}
            Probe::NeedMore => return Some(Step::Need(SIGNATURE.len())),
            Probe::No => return None,
        }
        let Some(flags) = be32(input, 8) else {
            return Some(Step::Need(12));
        };
        let length = head_length(flags);
        let Some(bytes) = input.get(..length) else {
            return Some(Step::Need(length));
        };
        if flags & flag::DEVICE_STATE != 0 {
            let (device, instance, data) = device_state(bytes)?;
            self.confirmed |= self.capacity.is_some();
            sink.reveal(offset, bytes);
            let item = Item::DeviceState {
                device,
                instance,
                data,
            };
            sink.item(item, begin, offset);
            return Some(Step::Done {
                used: length,
                skip: u64::from(data),
            });
        }
        let head = Head::read(bytes)?;
        match (self.capacity, head.capacity) {
            (Some(known), Some(told)) if self.confirmed && known != told => return None,
            (known, told) => {
                self.confirmed |= known.is_some() && known == told.or(known);
                self.capacity = told.or(known);
            }
        }
        sink.reveal(offset, bytes);
        let sync = flags & flag::SYNC != 0;
        let pages = head.normal + head.zero;
        if pages > 0 || !sync {
            let item = Item::Packet {
                flags,
                compression: head.compression,
                sync,
                packet_num: head.packet_num,
                normal: head.normal,
                zero: head.zero,
                block: head.block,
                data: head.data,
            };
            sink.item(item, begin, offset);
        }
        if sync {
            let packet_num = head.packet_num;
            sink.item(Item::Sync { packet_num }, begin, offset);
        }
        self.block.set(head.block.as_bytes());
        self.state = if self.capacity.is_some() {
            State::Offsets(Offsets {
                read: 0,
                normal: head.normal,
                pages,
                data: head.data,
            })
        } else {
            State::Measure(0)
        };
        Some(Step::used(length))
    }

    fn offsets<M: Copy, S: Sink<M>>(
        &mut self,
        mut o: Offsets,
        input: &[u8],
        offset: u64,
        sink: &mut S,
    ) -> Option<Step> {
        let capacity = self.capacity?;
        let page_size = u64::from(PACKET_SIZE.checked_div(capacity)?);
        let mut used = 0;
        while o.read < o.pages {
            let Some(address) = be64(input, used) else {
                break;
            };
            if address >= MAX_OFFSET || address % page_size != 0 {
                // What came before holds; then this word stands first and is refused.
                if used == 0 {
                    return None;
                }
                break;
            }
            sink.page(self.block.get(), address, o.read >= o.normal);
            o.read += 1;
            used += 8;
        }
        sink.reveal(offset, input.get(..used)?);
        if o.read < o.pages {
            self.state = State::Offsets(o);
            return Some(if used == 0 {
                Step::Need(8)
            } else {
                Step::used(used)
            });
        }
        // The unused places are on the wire too; what they hold means nothing.
        self.state = State::Head;
        let unused = u64::from(capacity.checked_sub(o.pages)?) * 8;
        let skip = unused + u64::from(o.data);
        Some(Step::Done { used, skip })
    }

    /// N is the number of zero words up to the next packet: a SYNC packet has no data.
    fn measure<M: Copy, S: Sink<M>>(
        &mut self,
        words: u32,
        input: &[u8],
        offset: u64,
        sink: &mut S,
    ) -> Option<Step> {
        let Some(word) = be64(input, 0) else {
            return Some(Step::Need(8));
        };
        if word == SIGNATURE_WORD && valid_capacity(words) {
            self.capacity = Some(words);
            self.state = State::Head;
            return Some(Step::AGAIN);
        }
        if word != 0 || words >= MAX_PAGES {
            return None;
        }
        sink.reveal(offset, input.get(..8)?);
        self.state = State::Measure(words + 1);
        Some(Step::used(8))
    }

    fn search<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        begin: M,
        offset: u64,
        sink: &mut S,
    ) -> Step {
        let Some(at) = memmem::find(input, &SIGNATURE) else {
            // A signature may have begun in the last seven bytes.
            return match input.len().saturating_sub(SIGNATURE.len() - 1) {
                0 => Step::Need(SIGNATURE.len()),
                n => Step::used(n),
            };
        };
        if at > 0 {
            return Step::used(at);
        }
        match believe(input, self.capacity) {
            Probe::Yes => {}
            Probe::No => return Step::used(1),
            Probe::NeedMore => return Step::Need(input.len() + 1),
        }
        self.state = State::Head;
        sink.item(Item::Found, begin, offset);
        Step::AGAIN
    }
}
