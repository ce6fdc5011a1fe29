//! Pre-copy rounds, inferred: the wire does not mark them.
//!
//! A page is sent again only after a dirty-bitmap sync, so the same page seen twice proves a sync
//! in between; the END of `ram` comes after one more. This gives a lower bound on the rounds and
//! the latest possible start of each.
//! Source: QEMU `migration/ram.c` (`migration_bitmap_sync`, `ram_save_complete`).

use phasescope_parsers::qemu::ram::{Counts, PageKind};

use super::event::Round;
use crate::net::Stamp;

/// Bitmap words over all RAM blocks of one stream: 512 GiB of guest memory at 4 KiB a page.
pub(super) const MAX_WORDS: usize = 2 << 20;

/// Rounds of one stream that are told apart; later ones count to the last.
pub(super) const MAX_ROUNDS: u32 = 10_000;

/// Watches the page records of one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rounds {
    /// One bit a page, per block: seen in this round.
    seen: Vec<Vec<u64>>,
    words: usize,
    overflow: bool,
    current: Option<Round>,
    ended: u32,
}

impl Rounds {
    /// One page record. Gives the round that it ended, if it did.
    #[inline]
    pub(crate) fn page(
        &mut self,
        block: Option<u16>,
        page: u64,
        kind: PageKind,
        bytes: u64,
        stamp: Stamp,
    ) -> Option<Round> {
        let repeated = block.is_some_and(|b| self.mark(usize::from(b), page));
        let ended = if repeated {
            let ended = self.next(false);
            if let Some(block) = block {
                self.mark(usize::from(block), page);
            }
            ended
        } else {
            None
        };
        let index = self.ended + 1;
        let round = self.current.get_or_insert(Round {
            index,
            start: stamp,
            end: stamp,
            counts: Counts::default(),
            stopped: false,
        });
        round.end = stamp;
        round.counts.add(kind, bytes);
        ended
    }

    /// A sync is known to have happened: the END of `ram` begins, with the guest stopped.
    pub(crate) fn stopped(&mut self, stamp: Stamp) -> Option<Round> {
        let ended = self.next(false);
        self.current = Some(Round {
            index: self.ended + 1,
            start: stamp,
            end: stamp,
            counts: Counts::default(),
            stopped: true,
        });
        ended
    }

    /// A sync is known to have happened: the switch to post-copy. What follows is one round.
    pub(crate) fn switched(&mut self) -> Option<Round> {
        self.next(false)
    }

    /// The stream has ended.
    pub(crate) fn finish(&mut self) -> Option<Round> {
        self.next(true)
    }

    /// Sets the page's bit; true if it was set.
    #[inline]
    fn mark(&mut self, block: usize, page: u64) -> bool {
        let word = (page / 64) as usize;
        let bit = 1u64 << (page % 64);
        if let Some(w) = self.seen.get_mut(block).and_then(|b| b.get_mut(word)) {
            let was = *w & bit != 0;
            *w |= bit;
            return was;
        }
        self.grow(block, word, bit);
        false
    }

    #[cold]
    fn grow(&mut self, block: usize, word: usize, bit: u64) {
        if self.seen.len() <= block {
            self.seen.resize_with(block + 1, Vec::new);
        }
        let Some(b) = self.seen.get_mut(block) else {
            return;
        };
        // Doubling, so that a block costs few moves; words that cannot be had are not watched.
        let want = (word + 1).next_power_of_two().max(64);
        let more = want - b.len();
        if self.words + more > MAX_WORDS {
            self.overflow = true;
            return;
        }
        b.resize(want, 0);
        self.words += more;
        b[word] |= bit;
    }

    fn next(&mut self, last: bool) -> Option<Round> {
        if self.ended >= MAX_ROUNDS && !last {
            return None;
        }
        let ended = self.current.take()?;
        self.ended += 1;
        for block in &mut self.seen {
            block.fill(0);
        }
        Some(ended)
    }
}
