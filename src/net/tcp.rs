//! One direction of a TCP connection, put in order.
//!
//! The expected segment goes straight through; only early ones wait, in a bounded buffer. A hole
//! becomes a gap when the receiver has acknowledged it (then the capture missed it), when the
//! buffer is full, or when the connection ends. Source: RFC 9293.

use std::collections::BTreeMap;

use super::Stamp;

/// Bytes of early segments that one direction holds before its first hole is given up.
pub const MAX_EARLY_BYTES: usize = 2 << 20;

/// Early segments that one direction holds before its first hole is given up.
pub const MAX_EARLY_SEGMENTS: usize = 4096;

/// Segments seen after a hole was acknowledged until it is given up: a capture may show an
/// acknowledgement a little before the data.
const ACKED_PATIENCE: u32 = 16;

/// Why bytes are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Not in the capture.
    Lost,
    /// Cut off by the snap length.
    Cut,
}

/// A piece of the stream, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes at this stream offset.
    Data(u64, &'a [u8]),
    /// So many bytes from this stream offset on are missing.
    Gap(u64, u64, Missing),
}

/// What one direction has seen; bytes are payload bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HalfStats {
    /// Bytes of the stream, each counted once, captured or not.
    pub payload_bytes: u64,
    /// Bytes not in the capture.
    pub missing_bytes: u64,
    /// Bytes cut off by the snap length.
    pub cut_bytes: u64,
    /// Bytes seen again.
    pub retransmitted_bytes: u64,
    /// Segments that came after later ones: reordered, or sent again after a loss on the way to
    /// the capture.
    pub reordered_packets: u64,
    /// Holes that were given up because the buffer was full.
    pub buffer_overflows: u64,
}

/// A segment that came early.
#[derive(Debug, Clone)]
struct Early {
    bytes: Box<[u8]>,
    wire_len: u64,
    stamp: Stamp,
}

/// What is known of a direction's FIN, which takes a sequence number but is no byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Fin {
    /// Maybe none was sent.
    #[default]
    Unknown,
    /// The stream ends at this offset.
    At(u64),
    /// One was sent, but not seen.
    NotSeen,
}

/// One direction.
#[derive(Debug, Clone, Default)]
pub struct Half {
    /// Sequence number of `offset`; `None` before the first segment.
    next: Option<u32>,
    /// Stream offset of the next byte to deliver; 0 is the first byte after the SYN, or the first
    /// byte seen.
    offset: u64,
    /// The first byte of the stream is known to be offset 0.
    from_start: bool,
    early: BTreeMap<u64, Early>,
    early_bytes: usize,
    /// Offset up to which the receiver has acknowledged.
    acknowledged: u64,
    patience: u32,
    fin: Fin,
    /// Stamp of the latest delivered byte: bytes are not available before those in front of them.
    latest: Stamp,
    /// Nobody wants the bytes: hold none.
    count_only: bool,
    stats: HalfStats,
}

impl Half {
    /// Stream offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Was the stream seen from its SYN (or its acknowledgement) on?
    pub fn from_start(&self) -> bool {
        self.from_start
    }

    /// Counters.
    pub fn stats(&self) -> HalfStats {
        HalfStats {
            payload_bytes: self.offset,
            ..self.stats
        }
    }

    /// Bytes held back.
    pub fn held(&self) -> usize {
        self.early_bytes
    }

    /// The SYN's sequence number: the stream begins one later.
    pub fn syn(&mut self, sequence: u32) {
        if self.next.is_none() {
            self.next = Some(sequence.wrapping_add(1));
            self.from_start = true;
        }
    }

    /// The first FIN; `sequence` is its own number, behind the last byte.
    pub fn fin(&mut self, sequence: u32) {
        if self.next.is_some()
            && self.fin == Fin::Unknown
            && let Ok(at) = u64::try_from(self.place(sequence))
        {
            self.fin = Fin::At(at);
        }
    }

    /// A FIN was sent that the capture does not show: the last number acknowledged may be its.
    pub fn fin_not_seen(&mut self) {
        if self.fin == Fin::Unknown {
            self.fin = Fin::NotSeen;
        }
    }

    /// From now on the bytes are counted, not held.
    pub fn count_only(&mut self, yes: bool) {
        self.count_only = yes;
    }

    /// Is this SYN the one that began (or a repeat of it)?
    pub fn repeats_syn(&self, sequence: u32) -> bool {
        self.next.is_none() || (self.from_start && self.place(sequence) == -1)
    }

    /// Where a sequence number lies in the stream; negative: before its beginning.
    pub fn place(&self, sequence: u32) -> i64 {
        // RFC 9293, section 3.4: comparison modulo 2^32.
        let ahead = sequence.wrapping_sub(self.next.unwrap_or(sequence)) as i32;
        (self.offset as i64).saturating_add(i64::from(ahead))
    }

    /// A segment's payload: `bytes` captured of `wire_len`.
    pub fn segment(
        &mut self,
        sequence: u32,
        bytes: &[u8],
        wire_len: u32,
        stamp: Stamp,
        out: &mut dyn FnMut(Stamp, Piece<'_>),
    ) {
        if wire_len == 0 {
            return;
        }
        if self.next.is_none() {
            self.next = Some(sequence);
        }
        let bytes = &bytes[..bytes.len().min(wire_len as usize)];
        let wire_len = u64::from(wire_len);
        if self.next == Some(sequence) && self.early.is_empty() {
            self.deliver(bytes, wire_len, stamp, out);
            return;
        }
        let place = self.place(sequence);
        let end = place.saturating_add(wire_len as i64);
        if end <= self.offset as i64 {
            self.stats.retransmitted_bytes += wire_len;
            return;
        }
        if place > self.offset as i64 {
            self.keep_early(place as u64, bytes, wire_len, stamp);
            self.give_up_holes(out);
            return;
        }
        // It overlaps or touches the next byte.
        let again = (self.offset as i64 - place) as u64;
        self.stats.retransmitted_bytes += again;
        if !self.early.is_empty() {
            self.stats.reordered_packets += 1;
        }
        let from = usize::try_from(again)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.patience = 0;
        self.deliver(&bytes[from..], wire_len - again, stamp, out);
        self.release(out);
    }

    /// The other side has acknowledged everything before `acknowledgment`.
    pub fn acknowledge(&mut self, acknowledgment: u32, out: &mut dyn FnMut(Stamp, Piece<'_>)) {
        if self.next.is_none() {
            return;
        }
        let place = self.place(acknowledgment);
        if place > self.acknowledged as i64 {
            self.acknowledged = place as u64;
        }
        if !self.early.is_empty() {
            self.give_up_holes(out);
        }
    }

    /// The connection has ended: what is held comes out, with the holes before it, and the bytes
    /// that were acknowledged but never seen.
    pub fn finish(&mut self, stamp: Stamp, out: &mut dyn FnMut(Stamp, Piece<'_>)) {
        while let Some(first) = self.first_early() {
            self.gap_to(first, self.latest, out);
            self.release(out);
        }
        let unseen = self.acknowledged.saturating_sub(self.offset);
        let end = match self.fin {
            Fin::At(end) => self.acknowledged.min(end),
            Fin::NotSeen => self.acknowledged.saturating_sub(1),
            // A single number may be that of a FIN; of more, at most one byte is none.
            Fin::Unknown if unseen == 1 => self.offset,
            Fin::Unknown => self.acknowledged,
        };
        if end > self.offset {
            self.gap_to(end, stamp, out);
        }
    }

    fn first_early(&self) -> Option<u64> {
        self.early.first_key_value().map(|(at, _)| *at)
    }

    fn keep_early(&mut self, at: u64, bytes: &[u8], wire_len: u64, stamp: Stamp) {
        if let Some(held) = self.early.get(&at)
            && held.wire_len >= wire_len
        {
            self.stats.retransmitted_bytes += wire_len;
            return;
        }
        let bytes = if self.count_only { &[] } else { bytes };
        let new = Early {
            bytes: bytes.into(),
            wire_len,
            stamp,
        };
        self.early_bytes += bytes.len();
        if let Some(old) = self.early.insert(at, new) {
            self.early_bytes -= old.bytes.len();
            self.stats.retransmitted_bytes += old.wire_len;
        }
    }

    fn give_up_holes(&mut self, out: &mut dyn FnMut(Stamp, Piece<'_>)) {
        while let Some(first) = self.first_early() {
            let full = self.early_bytes > MAX_EARLY_BYTES || self.early.len() > MAX_EARLY_SEGMENTS;
            if full {
                self.stats.buffer_overflows += 1;
            } else if self.acknowledged >= first {
                self.patience += 1;
                if self.patience <= ACKED_PATIENCE {
                    return;
                }
            } else {
                return;
            }
            self.patience = 0;
            let early = self.early.get(&first).map(|e| e.stamp);
            self.gap_to(first, early.unwrap_or_default().max(self.latest), out);
            self.release(out);
        }
    }

    fn gap_to(&mut self, to: u64, stamp: Stamp, out: &mut dyn FnMut(Stamp, Piece<'_>)) {
        let length = to - self.offset;
        self.stats.missing_bytes += length;
        out(stamp, Piece::Gap(self.offset, length, Missing::Lost));
        self.move_on(length);
    }

    fn move_on(&mut self, n: u64) {
        self.offset += n;
        self.next = self.next.map(|s| s.wrapping_add(n as u32));
    }

    /// Held segments that the hole before them no longer keeps.
    fn release(&mut self, out: &mut dyn FnMut(Stamp, Piece<'_>)) {
        while let Some(entry) = self.early.first_entry() {
            let at = *entry.key();
            if at > self.offset {
                return;
            }
            let early = entry.remove();
            self.early_bytes -= early.bytes.len();
            let again = (self.offset - at).min(early.wire_len);
            self.stats.retransmitted_bytes += again;
            let from = usize::try_from(again)
                .unwrap_or(usize::MAX)
                .min(early.bytes.len());
            let rest = early.wire_len - again;
            if rest > 0 {
                self.deliver(&early.bytes[from..], rest, early.stamp, out);
            }
        }
    }

    fn deliver(
        &mut self,
        bytes: &[u8],
        wire_len: u64,
        stamp: Stamp,
        out: &mut dyn FnMut(Stamp, Piece<'_>),
    ) {
        self.latest = self.latest.max(stamp);
        let at = self.offset;
        self.move_on(wire_len);
        if !bytes.is_empty() {
            out(self.latest, Piece::Data(at, bytes));
        }
        let cut = wire_len - bytes.len() as u64;
        if cut > 0 && !self.count_only {
            self.stats.cut_bytes += cut;
            let from = at + bytes.len() as u64;
            out(self.latest, Piece::Gap(from, cut, Missing::Cut));
        }
    }
}
