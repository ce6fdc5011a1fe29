//! The same segment, seen at several places: it counts once.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::RandomState;

use crate::net::{Body, Packet};
use crate::time::Timestamp;

/// The way from one tap to another takes no longer, nor do their clocks differ more. Nanoseconds.
const APART_NS: i64 = 1_000_000_000;

/// Segments that are remembered.
const MAX_SEGMENTS: usize = 16_384;

/// Where the checksum stands in the header: on the sending host itself it may not be right yet.
const CHECKSUM: std::ops::Range<usize> = 16..18;

/// Remembers the segments of the last moments.
#[derive(Debug, Clone, Default)]
pub(super) struct Taps {
    /// There is more than one.
    several: bool,
    seen: HashMap<u64, (u32, Timestamp), RandomState>,
    order: VecDeque<u64>,
    hasher: RandomState,
}

impl Taps {
    /// Was this segment seen at another capture interface just before?
    pub(super) fn repeats(&mut self, packet: &Packet<'_>, interface: u32, at: Timestamp) -> bool {
        self.several |= interface > 0;
        let (true, Body::Tcp(segment)) = (self.several, &packet.body) else {
            return false;
        };
        let mut hasher = self.hasher.build_hasher();
        packet.addresses.hash(&mut hasher);
        segment.wire_len.hash(&mut hasher);
        let header = segment.header;
        header.get(..CHECKSUM.start).hash(&mut hasher);
        header.get(CHECKSUM.end..).hash(&mut hasher);
        let key = hasher.finish();
        match self.seen.get(&key) {
            Some((first, time)) if *first != interface => {
                return at.since(*time).abs() <= APART_NS;
            }
            Some(_) => {}
            None => {
                if self.order.len() >= MAX_SEGMENTS
                    && let Some(old) = self.order.pop_front()
                {
                    self.seen.remove(&old);
                }
                self.order.push_back(key);
            }
        }
        self.seen.insert(key, (interface, at));
        false
    }
}
