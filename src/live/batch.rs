//! Frames on their way from a source to the analysis: copied once, many at a time.

use std::sync::{Arc, Mutex, PoisonError};

use crate::capture::{Frame, LinkType};
use crate::time::Timestamp;

/// A batch of so many bytes is full.
const FULL_BYTES: usize = 1 << 20;
/// So is one of so many frames.
const FULL_FRAMES: usize = 4096;
/// Empty batches kept for later.
const MAX_SPARE: usize = 64;

/// What is known of a frame besides its bytes.
#[derive(Debug, Clone, Copy)]
struct Head {
    number: u64,
    time: Timestamp,
    interface: u32,
    link: LinkType,
    wire_len: u32,
    /// Where its bytes end in the batch.
    end: usize,
}

/// Some frames in order.
#[derive(Debug, Default)]
pub struct Batch {
    heads: Vec<Head>,
    bytes: Vec<u8>,
}

impl Batch {
    /// Copies a frame.
    pub fn push(&mut self, frame: &Frame<'_>) {
        self.bytes.extend_from_slice(frame.data);
        self.heads.push(Head {
            number: frame.number,
            time: frame.time,
            interface: frame.interface,
            link: frame.link,
            wire_len: frame.wire_len,
            end: self.bytes.len(),
        });
    }

    /// It should be sent on.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL_BYTES || self.heads.len() >= FULL_FRAMES
    }

    /// It holds nothing.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Frames in it.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Its frames in order.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        (0..self.len()).filter_map(|n| self.frame(n))
    }

    /// One of them, counted from 0.
    pub fn frame(&self, n: usize) -> Option<Frame<'_>> {
        let from = match n.checked_sub(1) {
            Some(before) => self.heads.get(before)?.end,
            None => 0,
        };
        let h = self.heads.get(n)?;
        Some(Frame {
            number: h.number,
            time: h.time,
            interface: h.interface,
            link: h.link,
            wire_len: h.wire_len,
            data: self.bytes.get(from..h.end).unwrap_or_default(),
        })
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.bytes.clear();
    }
}

/// Empty batches, whose memory is used again.
#[derive(Debug, Default)]
pub struct Pool(Mutex<Vec<Batch>>);

impl Pool {
    /// An empty batch.
    pub fn take(&self) -> Batch {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_default()
    }

    /// Whoever is the last to hold a batch gives its memory back.
    pub fn give(&self, batch: Arc<Batch>) {
        if let Some(mut batch) = Arc::into_inner(batch) {
            batch.clear();
            let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < MAX_SPARE {
                spare.push(batch);
            }
        }
    }
}
