//! The bytes of one direction as `scrub` may show them: messages with everything blank that is
//! not on an allow list.

use std::fmt;

use phasescope_parsers::http::{Method, Side};
use phasescope_parsers::openstack::redact;

use crate::dissect::secret::keyed;

/// Bytes of one message that are held until it is complete; of a longer one only the head is
/// shown.
const MAX_MESSAGE: usize = 2 << 20;

/// A part of the direction, by the offset where it begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece {
    /// A message; the method that a response answers.
    Message(u64, Option<Method>),
    /// Bytes that are no message.
    Skipped(u64),
}

impl Piece {
    fn offset(self) -> u64 {
        match self {
            Self::Message(at, _) | Self::Skipped(at) => at,
        }
    }
}

/// Holds the bytes of the message under way. Offsets are the decoder's.
#[derive(Clone, Default)]
pub(super) struct Clear {
    /// Bytes from `at` on; missing ones are zero.
    bytes: Vec<u8>,
    at: u64,
    /// The message under way is too long: its bytes go by.
    flooded: bool,
}

/// Shows no byte of the connection.
impl fmt::Debug for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clear({} bytes)", self.bytes.len())
    }
}

impl Clear {
    /// The next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Missing bytes.
    pub(super) fn gap(&mut self, length: u64) {
        let end = self.at.saturating_add(self.bytes.len() as u64);
        match usize::try_from(length) {
            Ok(n) if n <= MAX_MESSAGE => self.bytes.resize(self.bytes.len() + n, 0),
            _ => {
                self.bytes.clear();
                self.at = end.saturating_add(length);
                self.flooded = true;
            }
        }
    }

    /// Shows the messages that have ended, of which the decoder has told. It holds the message
    /// that begins at `open`. Gives back the offset before which everything is decided.
    pub(super) fn walk(
        &mut self,
        side: Side,
        pieces: &[Piece],
        open: u64,
        show: &mut dyn FnMut(u64, &[u8]),
    ) -> u64 {
        for (i, piece) in pieces.iter().enumerate() {
            let end = pieces.get(i + 1).map_or(open, |p| p.offset());
            self.drop_to(piece.offset());
            let length = end.saturating_sub(self.at);
            let length = usize::try_from(length)
                .unwrap_or(usize::MAX)
                .min(self.bytes.len());
            if let (Piece::Message(at, request), false) = (piece, self.flooded)
                && *at == self.at
            {
                let mut message: Vec<u8> = self.bytes.drain(..length).collect();
                redact::redact_http(&mut message, side, *request, &keyed);
                show(self.at, &message);
                self.at += length as u64;
            }
            self.flooded = false;
            self.drop_to(end);
        }
        // A message of which nothing will be told yet may still be too long.
        if pieces.is_empty() || self.at < open {
            self.drop_to(open);
        }
        if self.bytes.len() > MAX_MESSAGE {
            if !self.flooded {
                self.head(side, show);
            }
            self.flooded = true;
        }
        if self.flooded {
            self.at += self.bytes.len() as u64;
            self.bytes.clear();
        }
        self.at
    }

    /// Shows the head alone.
    fn head(&self, side: Side, show: &mut dyn FnMut(u64, &[u8])) {
        let end = memchr::memmem::find(&self.bytes, b"\r\n\r\n");
        let head = end.and_then(|n| self.bytes.get(..n + 4));
        if let Some(mut head) = head.map(<[u8]>::to_vec) {
            redact::redact_http_head(&mut head, side, &keyed);
            show(self.at, &head);
        }
    }

    fn drop_to(&mut self, offset: u64) {
        let n = offset.saturating_sub(self.at);
        let n = usize::try_from(n)
            .unwrap_or(usize::MAX)
            .min(self.bytes.len());
        self.bytes.drain(..n);
        self.at += n as u64;
    }
}
