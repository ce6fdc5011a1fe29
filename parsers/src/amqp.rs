//! AMQP 0-9-1: one direction of a connection, from bytes to methods and
//! contents. Chapter and section numbers are those of the specification.

mod content;
mod framing;
mod method;
pub(crate) mod table;

use std::collections::BTreeMap;

pub use content::{ContentHeader, ContentMethod, MAX_BODY, Properties};
pub use framing::{
    FRAME_END, FRAME_HEADER, FrameHeader, FrameType, MAX_PAYLOAD, MAX_PROBED, MAX_SEARCHED_PAYLOAD,
    PROTOCOL_HEADER, Probe, probe,
};
pub use method::{Arguments, METHODS, Method, MethodInfo, lookup};

/// The decoders of payloads, for the scrubber.
pub(crate) mod payload {
    pub(crate) use super::content::{Property, fixed, properties};
    pub(crate) use super::method::{Value, arguments, numbers};
}

use crate::window::{Body, Window};
use content::Pending;
use framing::Search;

/// Decodes the payload of a method frame.
#[must_use]
pub fn decode_method(payload: &[u8]) -> Option<Method<'_>> {
    method::decode(payload)
}

/// Decodes the payload of a content header frame.
#[must_use]
pub fn decode_header(payload: &[u8]) -> Option<ContentHeader> {
    content::decode(payload)
}

/// Most channels with a content under way.
pub const MAX_CHANNELS: usize = 256;
/// Bytes of bodies kept over all channels together.
pub const MAX_HELD: usize = 8 << 20;

/// What a direction consists of. `begin` and `end` are the marks of the first
/// and the last byte, `offset` is the first byte's place in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a, M> {
    /// A protocol header, of the client or of a server that refuses
    /// (section 4.2.2).
    ProtocolHeader {
        /// Octets 5 to 8: id, major, minor, revision.
        version: [u8; 4],
        /// Mark of the first byte.
        begin: M,
        /// Mark of the last byte.
        end: M,
        /// Offset of the first byte.
        offset: u64,
    },
    /// A method frame.
    Method {
        /// Channel.
        channel: u16,
        /// The method.
        method: Method<'a>,
        /// Mark of the first byte.
        begin: M,
        /// Mark of the last byte.
        end: M,
        /// Offset of the first byte.
        offset: u64,
    },
    /// A content: method, header and body of one message.
    Content(Content<'a, M>),
    /// A heartbeat frame.
    Heartbeat {
        /// Mark of the first byte.
        begin: M,
        /// Offset of the first byte.
        offset: u64,
    },
    /// Bytes that were captured and could not be decoded.
    Skipped {
        /// Offset of the first byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
}

/// A message: the content of a publish, deliver, get-ok or return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<'a, M> {
    /// Channel.
    pub channel: u16,
    /// The method that carried it.
    pub method: ContentMethod,
    /// Exchange of the method.
    pub exchange: &'a str,
    /// Routing key of the method.
    pub routing_key: &'a str,
    /// Whether a delivery is marked as redelivered.
    pub redelivered: bool,
    /// Properties; none if the content header was not seen.
    pub properties: Option<&'a Properties>,
    /// Size of the body in the content header.
    pub body_size: u64,
    /// The body from its first byte on, as far as it is known and kept.
    pub body: Body<'a>,
    /// Bytes that `body` lacks at its end.
    pub missing: u64,
    /// Mark of the first byte of the method frame.
    pub begin: M,
    /// Mark of the last byte seen.
    pub end: M,
    /// Offset of the first byte of the method frame.
    pub offset: u64,
}

#[derive(Clone)]
enum State {
    /// At the first byte of a connection.
    Start,
    /// At a frame's first byte.
    Frame,
    /// In the payload of a body frame.
    Body { channel: u16, left: u32 },
    /// Before the end octet of a body frame.
    BodyEnd { channel: u16 },
    /// Out of step.
    Search(Search),
    /// Another protocol.
    Foreign,
}

/// Push decoder of one direction of a connection.
#[derive(Clone)]
pub struct Decoder<M> {
    window: Window<M>,
    state: State,
    pending: BTreeMap<u16, Pending<M>>,
    held: usize,
}

/// Shows no byte of the connection.
impl<M> std::fmt::Debug for Decoder<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("contents", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl<M: Copy> Default for Decoder<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Copy> Decoder<M> {
    /// A decoder that is given the first byte of the connection.
    #[must_use]
    pub fn new() -> Self {
        Self::with(State::Start)
    }

    /// A decoder for a connection that was picked up later.
    #[must_use]
    pub fn in_the_middle() -> Self {
        Self::with(State::Search(Search::at(0)))
    }

    const fn with(state: State) -> Self {
        Self {
            window: Window::new(),
            state,
            pending: BTreeMap::new(),
            held: 0,
        }
    }

    /// Offset below which no further item begins.
    #[must_use]
    pub fn resolved(&self) -> u64 {
        self.pending
            .values()
            .map(|pending| pending.offset)
            .fold(self.window.offset(), u64::min)
    }

    /// Offset of the first byte that is not decoded yet: a frame's, or one inside a body frame.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        self.window.offset()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mark: M, data: &[u8], out: &mut impl FnMut(Item<'_, M>)) {
        self.window.push(mark, data);
        while self.step(mark, out) {}
    }

    /// Passes over bytes that were not captured.
    pub fn gap(&mut self, length: u64, out: &mut impl FnMut(Item<'_, M>)) {
        if length == 0 {
            return;
        }
        if let State::Body { channel, left } = &mut self.state
            && let Ok(lost) = u32::try_from(length)
            && lost <= *left
        {
            if let Some(pending) = self.pending.get_mut(channel) {
                pending.lose(length);
            }
            *left -= lost;
            self.window.skip(length);
            return;
        }
        self.skipped(self.window.end(), out);
        self.give_up(out);
        self.window.skip(length);
        if !matches!(self.state, State::Foreign) {
            self.state = State::Search(Search::at(self.window.offset()));
        }
    }

    /// Ends the direction; contents under way are given with what is missing.
    pub fn finish(&mut self, out: &mut impl FnMut(Item<'_, M>)) {
        self.skipped(self.window.end(), out);
        self.give_up(out);
        self.window.skip(0);
    }

    fn skipped(&self, to: u64, out: &mut impl FnMut(Item<'_, M>)) {
        let offset = self.window.offset();
        let length = to.saturating_sub(offset);
        if length > 0 {
            out(Item::Skipped { offset, length });
        }
    }

    fn give_up(&mut self, out: &mut impl FnMut(Item<'_, M>)) {
        for (channel, pending) in std::mem::take(&mut self.pending) {
            emit(channel, &pending, out);
        }
        self.held = 0;
    }

    fn out_of_step(&mut self, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        self.give_up(out);
        self.state = State::Search(Search::at(self.window.offset()));
        true
    }

    fn step(&mut self, mark: M, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        match self.state {
            State::Start => self.start(mark, out),
            State::Frame => self.frame(mark, out),
            State::Body { channel, left } => self.body(mark, channel, left),
            State::BodyEnd { channel } => self.body_end(mark, channel, out),
            State::Search(_) => self.search(out),
            State::Foreign => {
                self.window.skip(0);
                false
            }
        }
    }

    fn start(&mut self, mark: M, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        let data = self.window.data();
        if data.is_empty() {
            return false;
        }
        let name = b"AMQP";
        if !data.starts_with(name) && !name.starts_with(data) {
            self.state = State::Frame;
            return true;
        }
        let Some(&[_, _, _, _, id, major, minor, revision]) = data.first_chunk::<8>() else {
            return false;
        };
        let offset = self.window.offset();
        out(Item::ProtocolHeader {
            version: [id, major, minor, revision],
            begin: self.window.mark(offset, mark),
            end: self.window.mark(offset.saturating_add(7), mark),
            offset,
        });
        self.state = if data.starts_with(&PROTOCOL_HEADER) {
            State::Frame
        } else {
            State::Foreign
        };
        self.window.consume(PROTOCOL_HEADER.len());
        true
    }

    fn frame(&mut self, mark: M, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        let data = self.window.data();
        let Some(&first) = data.first() else {
            return false;
        };
        if FrameType::from_octet(first).is_none() {
            return self.out_of_step(out);
        }
        let found = match framing::header(data) {
            None => return false,
            Some(None) => return self.out_of_step(out),
            Some(Some(found)) => found,
        };
        let FrameHeader {
            kind,
            channel,
            size,
        } = found;
        if kind == FrameType::Body {
            self.window.consume(FRAME_HEADER);
            self.state = State::Body {
                channel,
                left: size,
            };
            return true;
        }
        let Some(end) = usize::try_from(size)
            .ok()
            .and_then(|size| size.checked_add(FRAME_HEADER))
        else {
            return self.out_of_step(out);
        };
        match data.get(end) {
            None => return false,
            Some(&FRAME_END) => {}
            Some(_) => return self.out_of_step(out),
        }
        let payload = data.get(FRAME_HEADER..end).unwrap_or_default();
        let offset = self.window.offset();
        let begin = self.window.mark(offset, mark);
        let last = self.window.mark(offset.saturating_add(end as u64), mark);
        match kind {
            FrameType::Heartbeat => out(Item::Heartbeat { begin, offset }),
            FrameType::Method => {
                if let Some(unfinished) = self.pending.remove(&channel) {
                    self.held = self.held.saturating_sub(unfinished.body.len());
                    emit(channel, &unfinished, out);
                }
                if let Some(method) = method::decode(payload) {
                    if self.pending.len() < MAX_CHANNELS
                        && let Some(pending) = announced(&method, begin, last, offset)
                    {
                        self.pending.insert(channel, pending);
                    }
                    out(Item::Method {
                        channel,
                        method,
                        begin,
                        end: last,
                        offset,
                    });
                }
            }
            FrameType::Header | FrameType::Body => {
                if let Some(header) = content::decode(payload) {
                    let room = self.pending.len() < MAX_CHANNELS;
                    let mut pending = match self.pending.remove(&channel) {
                        Some(pending) if pending.header.is_none() => Some(pending),
                        Some(unfinished) => {
                            self.held = self.held.saturating_sub(unfinished.body.len());
                            emit(channel, &unfinished, out);
                            None
                        }
                        None => None,
                    }
                    .unwrap_or_else(|| Pending::new(ContentMethod::Unknown, begin, last, offset));
                    pending.end = last;
                    pending.header = Some(header);
                    if pending.complete() || !room {
                        emit(channel, &pending, out);
                    } else {
                        self.pending.insert(channel, pending);
                    }
                }
            }
        }
        self.window.consume(end.saturating_add(1));
        true
    }

    fn body(&mut self, mark: M, channel: u16, left: u32) -> bool {
        let data = self.window.data();
        let count = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = data.get(..count).unwrap_or_default();
        let last = self.window.offset().saturating_add(count as u64);
        if count > 0
            && let Some(pending) = self.pending.get_mut(&channel)
        {
            pending.end = self.window.mark(last.saturating_sub(1), mark);
            let kept = pending.append(bytes, MAX_HELD.saturating_sub(self.held));
            self.held = self.held.saturating_add(kept);
        }
        self.window.consume(count);
        let left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        self.state = if left == 0 {
            State::BodyEnd { channel }
        } else {
            State::Body { channel, left }
        };
        left == 0
    }

    fn body_end(&mut self, mark: M, channel: u16, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        match self.window.data().first() {
            None => return false,
            Some(&FRAME_END) => {}
            Some(_) => return self.out_of_step(out),
        }
        if self.pending.get(&channel).is_some_and(Pending::complete)
            && let Some(mut done) = self.pending.remove(&channel)
        {
            done.end = self.window.mark(self.window.offset(), mark);
            self.held = self.held.saturating_sub(done.body.len());
            emit(channel, &done, out);
        }
        self.window.consume(1);
        self.state = State::Frame;
        true
    }

    fn search(&mut self, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        let State::Search(search) = &mut self.state else {
            return false;
        };
        let found = search.run(self.window.offset(), self.window.data());
        let keep = found.unwrap_or_else(|| search.keep());
        self.skipped(keep, out);
        self.window.consume_to(keep);
        if found.is_some() {
            self.state = State::Frame;
        }
        found.is_some()
    }
}

/// The content that a method announces.
fn announced<M: Copy>(method: &Method<'_>, begin: M, end: M, offset: u64) -> Option<Pending<M>> {
    let (kind, exchange, routing_key, redelivered) = match &method.arguments {
        Arguments::Publish {
            exchange,
            routing_key,
        } => (ContentMethod::Publish, exchange, routing_key, false),
        Arguments::Return {
            exchange,
            routing_key,
            ..
        } => (ContentMethod::Return, exchange, routing_key, false),
        Arguments::Deliver {
            exchange,
            routing_key,
            redelivered,
            ..
        } => {
            let kind = if method.method == 71 {
                ContentMethod::GetOk
            } else {
                ContentMethod::Deliver
            };
            (kind, exchange, routing_key, *redelivered)
        }
        _ => return None,
    };
    Some(Pending {
        exchange: exchange.clone().into_owned(),
        routing_key: routing_key.clone().into_owned(),
        redelivered,
        ..Pending::new(kind, begin, end, offset)
    })
}

fn emit<M: Copy>(channel: u16, pending: &Pending<M>, out: &mut impl FnMut(Item<'_, M>)) {
    out(Item::Content(Content {
        channel,
        method: pending.method,
        exchange: &pending.exchange,
        routing_key: &pending.routing_key,
        redelivered: pending.redelivered,
        properties: pending.header.as_ref().map(|header| &header.properties),
        body_size: pending.header.as_ref().map_or(0, |header| header.body_size),
        body: Body::new(&pending.body),
        missing: pending.missing(),
        begin: pending.begin,
        end: pending.end,
        offset: pending.offset,
    }));
}
