//! The channels of one migration taken together: pages that were sent twice by mistake, and rounds.
//!
//! Between two synchronisations of all channels no page is sent twice on purpose. So packets are
//! looked at one epoch (the time between two SYNCs of a channel) after the other, in the order of
//! their numbers, when all channels have passed it.

use std::collections::BTreeMap;

use phasescope_parsers::qemu::DEFAULT_PAGE_SIZE;
use phasescope_parsers::qemu::ram::PageKind;

use super::records::MAX_ROUNDS;
use crate::dissect::event::{MultifdPacket, Round};
use crate::dissect::rounds::Rounds;
use crate::net::Stamp;

/// Pages of packets that wait for the other channels; past it the older half of the oldest epoch is
/// looked at as it is.
const MAX_WAITING_PAGES: usize = 1 << 20;

/// RAM blocks whose pages are watched.
const MAX_BLOCKS: usize = 256;

/// Bytes of page data that a packet has room for (`MULTIFD_PACKET_SIZE`, QEMU `migration/multifd.h`).
const PACKET_SIZE: u64 = 512 << 10;

/// The channels of one migration.
#[derive(Debug, Clone, Default)]
pub(super) struct Channels {
    /// Epoch of each connection.
    epochs: BTreeMap<u64, u64>,
    waiting: BTreeMap<u64, Vec<(Stamp, MultifdPacket)>>,
    waiting_pages: usize,
    /// Epoch and number of the latest packet that was looked at.
    looked: Option<(u64, u64)>,
    /// Bytes; 0 until a packet told it.
    page_size: u64,
    blocks: Vec<String>,
    watch: Rounds,
    /// Block and last page of the packet before, where that was full.
    last: Option<(String, u64)>,
    pub(super) rounds: Vec<Round>,
    /// Page data so far, bytes.
    pub(super) bytes: u64,
    /// Pages that came at the end of a full packet and again at the beginning of the next: a race
    /// in `multifd_queue_page` before QEMU 8.2, which QEMU does not count.
    pub(super) sent_twice: u64,
}

impl Channels {
    /// A channel has been opened.
    pub(super) fn opened(&mut self, flow: u64) {
        self.epochs.entry(flow).or_insert(0);
    }

    /// A packet on a channel. True where it comes too late, for too many waited and those behind it
    /// have been looked at: then its pages count, and prove nothing.
    pub(super) fn packet(&mut self, flow: u64, stamp: Stamp, packet: &MultifdPacket) -> bool {
        let epoch = *self.epochs.entry(flow).or_insert(0);
        self.bytes = self.bytes.saturating_add(u64::from(packet.data));
        if packet.pages.is_empty() {
            return false;
        }
        let place = (epoch, packet.packet_num);
        if self.looked.is_some_and(|looked| place < looked) {
            self.count(stamp, packet, None, 0);
            return true;
        }
        self.waiting_pages += packet.pages.len();
        self.waiting
            .entry(epoch)
            .or_default()
            .push((stamp, packet.clone()));
        while self.waiting_pages > MAX_WAITING_PAGES && self.look_at_first(true) {}
        false
    }

    /// A channel has synchronised.
    pub(super) fn sync(&mut self, flow: u64) {
        *self.epochs.entry(flow).or_insert(0) += 1;
        let passed = self.epochs.values().min().copied().unwrap_or(0);
        while self
            .waiting
            .first_key_value()
            .is_some_and(|(e, _)| *e < passed)
        {
            self.look_at_first(false);
        }
    }

    /// Nothing more will come.
    pub(super) fn finish(&mut self) {
        while self.look_at_first(false) {}
        let last = self.watch.finish();
        self.keep(last);
    }

    fn keep(&mut self, round: Option<Round>) {
        if let Some(round) = round {
            if self.rounds.len() < MAX_ROUNDS {
                self.rounds.push(round);
            } else if let Some(last) = self.rounds.last_mut() {
                last.end = round.end;
                last.counts += round.counts;
            }
        }
    }

    /// Looks at the oldest epoch, or at the older `half` of its packets: what the channels have not
    /// brought yet is mostly among the latest ones.
    fn look_at_first(&mut self, half: bool) -> bool {
        let Some(mut first) = self.waiting.first_entry() else {
            return false;
        };
        let epoch = *first.key();
        let packets = first.get_mut();
        packets.sort_by_key(|(_, p)| p.packet_num);
        let n = match half {
            true => packets.len().div_ceil(2),
            false => packets.len(),
        };
        let now: Vec<_> = packets.drain(..n).collect();
        if packets.is_empty() {
            first.remove();
        }
        for (stamp, packet) in now {
            self.waiting_pages -= packet.pages.len();
            self.looked = self.looked.max(Some((epoch, packet.packet_num)));
            self.look_at(stamp, &packet);
        }
        true
    }

    fn look_at(&mut self, stamp: Stamp, packet: &MultifdPacket) {
        if packet.page_size > 0 {
            self.page_size = u64::from(packet.page_size);
        }
        let full = packet.pages.len() as u64 * self.page_size() >= PACKET_SIZE;
        let before = self.last.take();
        let again = before.is_some_and(|(block, page)| {
            block == packet.block && packet.pages.first().is_some_and(|(p, _)| *p == page)
        });
        self.sent_twice += u64::from(again);
        let block = self.block(&packet.block);
        self.count(stamp, packet, block, usize::from(again));
        if full && let Some((page, _)) = packet.pages.last() {
            self.last = Some((packet.block.clone(), *page));
        }
    }

    fn page_size(&self) -> u64 {
        match self.page_size {
            0 => u64::from(DEFAULT_PAGE_SIZE),
            known => known,
        }
    }

    /// Adds the packet's pages, but for the first ones, to the round; of no `block`, none of them is
    /// watched for repeats.
    fn count(&mut self, stamp: Stamp, packet: &MultifdPacket, block: Option<u16>, skip: usize) {
        let page_size = self.page_size();
        let bytes = u64::from(packet.data) / u64::from(packet.normal.max(1));
        for (offset, zero) in packet.pages.iter().skip(skip) {
            let (kind, bytes) = match zero {
                true => (PageKind::Zero, 0),
                false => (PageKind::Normal, bytes),
            };
            let ended = self
                .watch
                .page(block, offset / page_size, kind, bytes, stamp);
            self.keep(ended);
        }
    }

    fn block(&mut self, name: &str) -> Option<u16> {
        if let Some(i) = self.blocks.iter().position(|b| b == name) {
            return u16::try_from(i).ok();
        }
        if self.blocks.len() >= MAX_BLOCKS {
            return None;
        }
        self.blocks.push(name.to_owned());
        u16::try_from(self.blocks.len() - 1).ok()
    }
}
