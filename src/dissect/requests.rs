//! Post-copy page requests and the pages that answer them.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use phasescope_parsers::qemu::stream::RamBlock;

use super::event::Requests;
use crate::net::Stamp;

/// Requests that wait for their page.
const MAX_WAITING: usize = 65_536;

/// Latencies that are kept; later ones only count.
const MAX_LATENCIES: usize = 262_144;

/// Pages that one request can ask for.
const MAX_PAGES: u64 = 1 << 18;

/// Watches one stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    /// Block of the request before.
    block: Option<u16>,
    waiting: HashMap<(u16, u64), Stamp, RandomState>,
    latencies: Vec<i64>,
    seen: Requests,
}

impl Watch {
    /// The destination asks for `length` bytes from `start` on, in the named block or in that of
    /// the request before.
    pub(super) fn asked(
        &mut self,
        blocks: &[RamBlock],
        block: Option<&str>,
        (start, length): (u64, u64),
        page_shift: u32,
        stamp: Stamp,
    ) {
        if let Some(name) = block {
            let at = blocks.iter().position(|b| b.name == name);
            self.block = at.and_then(|i| u16::try_from(i).ok());
        }
        let pages = (length >> page_shift).clamp(1, MAX_PAGES);
        self.seen.requests += pages;
        let Some(block) = self.block else { return };
        for n in 0..pages {
            if self.waiting.len() >= MAX_WAITING {
                return;
            }
            self.waiting
                .entry((block, (start >> page_shift).saturating_add(n)))
                .or_insert(stamp);
        }
    }

    /// A page goes by.
    #[inline]
    pub(super) fn page(&mut self, block: Option<u16>, page: u64, stamp: Stamp) {
        if self.waiting.is_empty() {
            return;
        }
        if let Some(asked) = block.and_then(|b| self.waiting.remove(&(b, page))) {
            self.seen.answered += 1;
            if self.latencies.len() < MAX_LATENCIES {
                self.latencies.push(stamp.time.since(asked.time));
            }
        }
    }

    /// What came of them; `None` where there were none.
    pub(super) fn finish(&mut self, blocks: &[RamBlock], page_shift: u32) -> Option<Requests> {
        if self.seen.requests == 0 {
            return None;
        }
        let name = |block: u16| blocks.get(usize::from(block)).map(|b| b.name.clone());
        Some(Requests {
            latencies: std::mem::take(&mut self.latencies),
            waiting: self
                .waiting
                .drain()
                .filter_map(|((block, page), at)| Some((name(block)?, page << page_shift, at)))
                .collect(),
            ..std::mem::take(&mut self.seen)
        })
    }
}
