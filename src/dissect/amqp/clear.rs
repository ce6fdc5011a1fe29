//! The bytes of one direction as `scrub` may show them: frames with everything blank that is not
//! on an allow list.

use std::collections::BTreeMap;
use std::fmt;

use phasescope_parsers::amqp::{
    FRAME_END, FRAME_HEADER, FrameType, MAX_BODY, MAX_HELD, PROTOCOL_HEADER, decode_header,
};
use phasescope_parsers::openstack::redact;

use crate::dissect::secret::keyed;

/// A body that is not complete.
#[derive(Clone, Default)]
struct Body {
    /// Bytes to come.
    left: u64,
    text: Vec<u8>,
    /// Offset and length of its pieces.
    places: Vec<(u64, usize)>,
}

/// Follows the frames that the decoder has found. Offsets are the decoder's.
#[derive(Clone, Default)]
pub(super) struct Clear {
    /// Bytes from `at` on.
    bytes: Vec<u8>,
    at: u64,
    bodies: BTreeMap<u16, Body>,
    held: usize,
    /// End octet of a body frame that misses bytes.
    torn: Option<u64>,
}

/// Shows no byte of the connection.
impl fmt::Debug for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clear({} bytes)", self.bytes.len())
    }
}

type Show<'s> = &'s mut dyn FnMut(u64, &[u8]);

impl Clear {
    /// The next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Everything before this offset has been shown or stays blank.
    pub(super) fn resolved(&self) -> u64 {
        let first = |b: &Body| b.places.first().map(|(at, _)| *at);
        self.bodies
            .values()
            .filter_map(first)
            .fold(self.at, u64::min)
    }

    /// Shows what is complete. The decoder has stepped over `skips` and stands at `consumed`.
    pub(super) fn walk(&mut self, skips: &[(u64, u64)], consumed: u64, show: Show<'_>) {
        for (offset, length) in skips {
            self.frames(*offset, show);
            self.give_up(show);
            self.drop_to(offset.saturating_add(*length));
        }
        self.frames(consumed, show);
    }

    /// Bytes are missing, or the direction has ended.
    pub(super) fn gap(&mut self, length: u64, show: Show<'_>) {
        let end = self.at.saturating_add(self.bytes.len() as u64);
        let next = end.saturating_add(length);
        match self.header() {
            Some((FrameType::Body, channel, size)) if length > 0 => {
                let last = self.at.saturating_add((FRAME_HEADER + size) as u64);
                let from = self.at.saturating_add(FRAME_HEADER as u64);
                if last >= next && end >= from {
                    show(self.at, &self.bytes[..FRAME_HEADER]);
                    let part = self.bytes[FRAME_HEADER..].to_vec();
                    self.piece(channel, from, &part, show);
                    self.finish(channel, show);
                    self.torn = Some(last);
                } else {
                    self.give_up(show);
                }
            }
            _ if self.torn.is_some_and(|last| last >= next) && length > 0 => {}
            _ => {
                self.torn = None;
                self.give_up(show);
            }
        }
        self.bytes.clear();
        self.at = next;
    }

    /// Kind, channel and payload size of the frame at the front.
    fn header(&self) -> Option<(FrameType, u16, usize)> {
        let [kind, c1, c0, s3, s2, s1, s0] = *self.bytes.first_chunk::<FRAME_HEADER>()?;
        let size = usize::try_from(u32::from_be_bytes([s3, s2, s1, s0])).ok()?;
        Some((
            FrameType::from_octet(kind)?,
            u16::from_be_bytes([c1, c0]),
            size,
        ))
    }

    fn drop_to(&mut self, offset: u64) {
        let n = offset.saturating_sub(self.at);
        let n = usize::try_from(n)
            .unwrap_or(usize::MAX)
            .min(self.bytes.len());
        self.bytes.drain(..n);
        self.at += n as u64;
    }

    /// The whole frames before `until`.
    fn frames(&mut self, until: u64, show: Show<'_>) {
        if let Some(last) = self.torn {
            if until <= last {
                self.drop_to(until);
                return;
            }
            self.torn = None;
            self.drop_to(last);
            show(last, &[FRAME_END]);
            self.drop_to(last + 1);
        }
        // Frames are taken from the front; the bytes move once.
        let bytes = std::mem::take(&mut self.bytes);
        let start = self.at;
        let mut used = 0;
        while self.at < until {
            let rest = &bytes[used..];
            let n = self.frame(rest, until, show);
            if n == 0 {
                break;
            }
            used += n;
            self.at = start + used as u64;
        }
        self.bytes = bytes;
        self.bytes.drain(..used);
    }

    /// The frame at the front of `rest`; its length, or 0 where it is not complete.
    fn frame(&mut self, rest: &[u8], until: u64, show: Show<'_>) -> usize {
        if rest.starts_with(&PROTOCOL_HEADER[..4]) {
            let header = rest.get(..PROTOCOL_HEADER.len()).unwrap_or_default();
            show(self.at, header);
            return header.len();
        }
        let Some(&[kind, c1, c0, s3, s2, s1, s0]) = rest.first_chunk::<FRAME_HEADER>() else {
            return 0;
        };
        let size = u32::from_be_bytes([s3, s2, s1, s0]) as usize;
        let whole = FRAME_HEADER + size + 1;
        let Some(frame) = rest.get(..whole) else {
            return 0;
        };
        if self.at + whole as u64 > until {
            return 0;
        }
        let channel = u16::from_be_bytes([c1, c0]);
        let from = self.at + FRAME_HEADER as u64;
        let mut payload = frame[FRAME_HEADER..whole - 1].to_vec();
        show(self.at, &frame[..FRAME_HEADER]);
        match FrameType::from_octet(kind) {
            Some(FrameType::Method) => {
                self.finish(channel, show);
                redact::redact_amqp_method(&mut payload, &keyed);
                show(from, &payload);
            }
            Some(FrameType::Header) => {
                self.finish(channel, show);
                let body = decode_header(&payload).map_or(0, |h| h.body_size);
                redact::redact_amqp_header(&mut payload, &keyed);
                show(from, &payload);
                if body > 0 {
                    let body = Body {
                        left: body,
                        ..Body::default()
                    };
                    self.bodies.insert(channel, body);
                }
            }
            Some(FrameType::Body) => self.piece(channel, from, &payload, show),
            Some(FrameType::Heartbeat) | None => {}
        }
        show(self.at + whole as u64 - 1, &[FRAME_END]);
        whole
    }

    /// A piece of a body.
    fn piece(&mut self, channel: u16, at: u64, bytes: &[u8], show: Show<'_>) {
        let Some(body) = self.bodies.get_mut(&channel) else {
            return;
        };
        let kept = bytes
            .len()
            .min(MAX_BODY.saturating_sub(body.text.len()))
            .min(MAX_HELD.saturating_sub(self.held));
        body.text
            .extend_from_slice(bytes.get(..kept).unwrap_or_default());
        body.places.push((at, kept));
        self.held += kept;
        body.left = body.left.saturating_sub(bytes.len() as u64);
        if body.left == 0 {
            self.finish(channel, show);
        }
    }

    /// Shows a body as far as it is there.
    fn finish(&mut self, channel: u16, show: Show<'_>) {
        let Some(mut body) = self.bodies.remove(&channel) else {
            return;
        };
        self.held = self.held.saturating_sub(body.text.len());
        redact::redact_amqp_body(&mut body.text, &keyed);
        let mut rest = body.text.as_slice();
        for (at, length) in body.places {
            let Some((piece, behind)) = rest.split_at_checked(length) else {
                return;
            };
            show(at, piece);
            rest = behind;
        }
    }

    fn give_up(&mut self, show: Show<'_>) {
        while let Some((channel, _)) = self.bodies.first_key_value() {
            let channel = *channel;
            self.finish(channel, show);
        }
    }
}
