//! HTTP/1.1, one direction of a connection (RFC 9110, RFC 9112): requests or
//! responses with an allow list of header fields. Tokens appear as keyed
//! hashes only, bodies are kept for the next decoder if they are JSON.

pub(crate) mod head;

use std::collections::VecDeque;

pub use head::{
    HIDDEN, Headers, MAX_HEAD, MAX_HEADERS, MAX_QUERY, MAX_TARGET, MAX_VALUE, Method, Side,
};

use crate::window::{Body, Window};
use head::{Framing, Head, Line, Start};

/// Bytes of a JSON body that are kept.
pub const MAX_BODY: usize = 256 << 10;
/// Most requests whose responses are awaited.
pub const MAX_EXPECTED: usize = 256;
/// Longest line with the size of a chunk (RFC 9112, section 7.1).
pub const MAX_CHUNK_LINE: usize = 1 << 10;
/// Bytes of trailer fields behind the last chunk.
pub const MAX_TRAILERS: usize = 16 << 10;

/// What a direction consists of. `begin` and `end` are the marks of the first
/// and the last byte, `offset` is the first byte's place in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a, M> {
    /// A request.
    Request(Request<'a, M>),
    /// A response, interim ones (1xx) too.
    Response(Response<'a, M>),
    /// Bytes that were captured and could not be decoded.
    Skipped {
        /// Offset of the first byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a, M> {
    /// Method.
    pub method: Method,
    /// Path; a segment that is a token is replaced by [`HIDDEN`], one that is on no allow list is
    /// blank.
    pub path: String,
    /// Names of the query parameters.
    pub query: Vec<String>,
    /// Header fields.
    pub headers: Headers,
    /// The body.
    pub content: Content<'a, M>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a, M> {
    /// Status code.
    pub status: u16,
    /// Method of the request, if it was announced.
    pub request: Option<Method>,
    /// Header fields.
    pub headers: Headers,
    /// The body.
    pub content: Content<'a, M>,
}

/// The body of a message and the message's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<'a, M> {
    /// The body from its first byte on, if it is JSON, up to [`MAX_BODY`] and
    /// up to the first byte that is missing.
    pub body: Body<'a>,
    /// Size of the body without its framing, with the bytes that are missing.
    pub length: u64,
    /// Bytes of the body that were not captured.
    pub missing: u64,
    /// Whether the message's end was seen.
    pub complete: bool,
    /// Mark of the first byte.
    pub begin: M,
    /// Mark of the last byte.
    pub end: M,
    /// Offset of the first byte.
    pub offset: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// At a message's first byte; the bytes before `scanned` have no end of
    /// a head.
    Head { scanned: usize },
    /// In a body of known length.
    Length { left: u64 },
    /// Before the line with a chunk's size.
    ChunkSize,
    /// In a chunk.
    Chunk { left: u64 },
    /// Before the end of line behind a chunk.
    ChunkEnd,
    /// In the trailer fields, so many bytes of them read.
    Trailers { read: usize },
    /// In a body that lasts until the connection closes.
    UntilClose,
    /// Out of step.
    Search,
    /// Another protocol.
    Tunnel,
}

#[derive(Clone)]
struct Message<M> {
    head: Head,
    request: Option<Method>,
    json: bool,
    body: Vec<u8>,
    length: u64,
    missing: u64,
    broken: bool,
    begin: M,
    end: M,
    offset: u64,
}

impl<M> Message<M> {
    fn append(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len() as u64);
        if !self.json || self.broken {
            return;
        }
        let kept = bytes.len().min(MAX_BODY.saturating_sub(self.body.len()));
        self.broken = kept < bytes.len();
        self.body
            .extend_from_slice(bytes.get(..kept).unwrap_or_default());
    }

    fn lose(&mut self, length: u64) {
        self.length = self.length.saturating_add(length);
        self.missing = self.missing.saturating_add(length);
        self.broken = true;
    }
}

/// The caller's keyed hash for tokens.
pub type Hash<'h> = &'h dyn Fn(&[u8]) -> u64;

/// Push decoder of one direction of a connection.
#[derive(Clone)]
pub struct Decoder<M> {
    side: Side,
    window: Window<M>,
    state: State,
    message: Option<Message<M>>,
    expected: VecDeque<Method>,
    /// Responses were lost, so that only the last request counts.
    lost: bool,
}

/// Shows no byte of the connection.
impl<M> std::fmt::Debug for Decoder<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

impl<M: Copy> Decoder<M> {
    /// A decoder of a direction.
    #[must_use]
    pub const fn new(side: Side) -> Self {
        Self {
            side,
            window: Window::new(),
            state: State::Head { scanned: 0 },
            message: None,
            expected: VecDeque::new(),
            lost: false,
        }
    }

    /// A decoder of a direction that was picked up later.
    #[must_use]
    pub fn in_the_middle(side: Side) -> Self {
        Self {
            state: State::Search,
            lost: true,
            ..Self::new(side)
        }
    }

    /// Announces a request whose response will follow. Without it, responses
    /// to HEAD and CONNECT cannot be told.
    pub fn expect(&mut self, method: Method) {
        if self.expected.len() >= MAX_EXPECTED {
            self.expected.pop_front();
        }
        self.expected.push_back(method);
    }

    /// Offset below which no further item begins.
    #[must_use]
    pub fn resolved(&self) -> u64 {
        self.message
            .as_ref()
            .map_or(self.window.offset(), |message| message.offset)
    }

    /// Takes the next bytes.
    pub fn push(
        &mut self,
        mark: M,
        data: &[u8],
        hash: Hash<'_>,
        out: &mut impl FnMut(Item<'_, M>),
    ) {
        self.window.push(mark, data);
        while self.step(mark, hash, out) {}
    }

    /// Passes over bytes that were not captured.
    pub fn gap(&mut self, length: u64, out: &mut impl FnMut(Item<'_, M>)) {
        if length == 0 {
            return;
        }
        let within = match &mut self.state {
            State::Length { left } | State::Chunk { left } if length <= *left => {
                *left = left.saturating_sub(length);
                true
            }
            State::UntilClose => true,
            _ => false,
        };
        if within {
            if let Some(message) = &mut self.message {
                message.lose(length);
            }
            self.window.skip(length);
            if matches!(self.state, State::Length { left: 0 }) {
                self.complete(out);
            }
            return;
        }
        self.skipped(self.window.end(), out);
        self.give(false, out);
        self.window.skip(length);
        self.lost = true;
        if !matches!(self.state, State::Tunnel) {
            self.state = State::Search;
        }
    }

    /// Ends the direction.
    pub fn finish(&mut self, out: &mut impl FnMut(Item<'_, M>)) {
        self.skipped(self.window.end(), out);
        self.window.skip(0);
        let closed = matches!(self.state, State::UntilClose);
        self.give(closed, out);
        self.state = State::Search;
    }

    fn skipped(&self, to: u64, out: &mut impl FnMut(Item<'_, M>)) {
        let offset = self.window.offset();
        let length = to.saturating_sub(offset);
        if length > 0 && self.message.is_none() {
            out(Item::Skipped { offset, length });
        }
    }

    /// Gives the message under way.
    fn give(&mut self, complete: bool, out: &mut impl FnMut(Item<'_, M>)) {
        let Some(message) = self.message.take() else {
            return;
        };
        let content = Content {
            body: Body::new(&message.body),
            length: message.length,
            missing: message.missing,
            complete,
            begin: message.begin,
            end: message.end,
            offset: message.offset,
        };
        let headers = message.head.headers;
        out(match message.head.line {
            Line::Request {
                method,
                path,
                query,
            } => Item::Request(Request {
                method,
                path,
                query,
                headers,
                content,
            }),
            Line::Status(status) => Item::Response(Response {
                status,
                request: message.request,
                headers,
                content,
            }),
        });
    }

    fn complete(&mut self, out: &mut impl FnMut(Item<'_, M>)) {
        self.give(true, out);
        self.state = State::Head { scanned: 0 };
    }

    /// Drops the byte at which no message begins and looks for the next one.
    fn out_of_step(&mut self, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        self.give(false, out);
        self.lost = true;
        self.skipped(self.window.offset().saturating_add(1), out);
        self.window.consume(1);
        self.state = State::Search;
        true
    }

    fn step(&mut self, mark: M, hash: Hash<'_>, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        match self.state {
            State::Head { scanned } => self.head(scanned, mark, hash, out),
            State::Length { left } => {
                let left = self.take(left, mark);
                self.state = State::Length { left };
                if left == 0 {
                    self.complete(out);
                }
                left == 0
            }
            State::ChunkSize => self.chunk_size(mark, out),
            State::Chunk { left } => {
                let left = self.take(left, mark);
                self.state = if left == 0 {
                    State::ChunkEnd
                } else {
                    State::Chunk { left }
                };
                left == 0
            }
            State::ChunkEnd => match self.line(MAX_CHUNK_LINE) {
                Some(Some((0, used))) => {
                    self.advance(used, mark);
                    self.state = State::ChunkSize;
                    true
                }
                Some(_) => self.out_of_step(out),
                None => false,
            },
            State::Trailers { read } => self.trailer(read, mark, out),
            State::UntilClose => {
                self.take(u64::MAX, mark);
                false
            }
            State::Search => self.search(out),
            State::Tunnel => {
                self.window.skip(0);
                false
            }
        }
    }

    /// Moves bytes into the body; how many of `left` remain.
    fn take(&mut self, left: u64, mark: M) -> u64 {
        let data = self.window.data();
        let count = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if let Some(message) = &mut self.message {
            message.append(data.get(..count).unwrap_or_default());
        }
        self.advance(count, mark);
        left.saturating_sub(count as u64)
    }

    /// Consumes bytes of the message under way.
    fn advance(&mut self, count: usize, mark: M) {
        if count == 0 {
            return;
        }
        let last = self
            .window
            .offset()
            .saturating_add(count as u64)
            .saturating_sub(1);
        if let Some(message) = &mut self.message {
            message.end = self.window.mark(last, mark);
        }
        self.window.consume(count);
    }

    /// The next line: its length without the end of line, and with it.
    /// `Some(None)` is a line that is too long.
    fn line(&self, limit: usize) -> Option<Option<(usize, usize)>> {
        let data = self.window.data();
        let data = data.get(..limit).unwrap_or(data);
        match memchr::memchr(b'\n', data) {
            Some(at) => {
                let line = data.get(..at).unwrap_or_default();
                let length = line.strip_suffix(b"\r").unwrap_or(line).len();
                Some(Some((length, at.saturating_add(1))))
            }
            None if data.len() >= limit => Some(None),
            None => None,
        }
    }

    fn chunk_size(&mut self, mark: M, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        let (length, used) = match self.line(MAX_CHUNK_LINE) {
            None => return false,
            Some(None) => return self.out_of_step(out),
            Some(Some(line)) => line,
        };
        let line = self.window.data().get(..length).unwrap_or_default();
        let size = line
            .split(|&byte| byte == b';')
            .next()
            .map(<[u8]>::trim_ascii)
            .filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let Some(size) = size else {
            return self.out_of_step(out);
        };
        self.advance(used, mark);
        self.state = if size == 0 {
            State::Trailers { read: 0 }
        } else {
            State::Chunk { left: size }
        };
        true
    }

    fn trailer(&mut self, read: usize, mark: M, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        match self.line(MAX_TRAILERS.saturating_sub(read)) {
            None => false,
            Some(None) => self.out_of_step(out),
            Some(Some((length, used))) => {
                self.advance(used, mark);
                self.state = State::Trailers {
                    read: read.saturating_add(used),
                };
                if length == 0 {
                    self.complete(out);
                }
                true
            }
        }
    }

    fn head(
        &mut self,
        scanned: usize,
        mark: M,
        hash: Hash<'_>,
        out: &mut impl FnMut(Item<'_, M>),
    ) -> bool {
        let data = self.window.data();
        if data.is_empty() {
            return false;
        }
        if matches!(data.first(), Some(b'\r' | b'\n')) {
            self.window.consume(1);
            return true;
        }
        if scanned == 0 {
            match head::start(data, self.side) {
                Start::Good => {}
                Start::Open => return false,
                Start::Bad => return self.out_of_step(out),
            }
        }
        let limit = data.get(..MAX_HEAD).unwrap_or(data);
        let Some(length) = head::head_length(limit, scanned) else {
            if data.len() >= MAX_HEAD {
                return self.out_of_step(out);
            }
            self.state = State::Head {
                scanned: data.len(),
            };
            return false;
        };
        let whole = data.get(..length).unwrap_or_default();
        let Some(parsed) = head::parse(whole, self.side, hash) else {
            return self.out_of_step(out);
        };
        self.begin(parsed, length, mark, out);
        true
    }

    fn begin(&mut self, head: Head, length: usize, mark: M, out: &mut impl FnMut(Item<'_, M>)) {
        let interim = matches!(head.line, Line::Status(100 | 102..=199));
        let request = match (self.side, interim) {
            (Side::Requests, _) => None,
            (Side::Responses, true) => self.expected.front().copied(),
            (Side::Responses, false) if self.lost => {
                let last = self.expected.pop_back();
                self.expected.clear();
                self.lost = false;
                last
            }
            (Side::Responses, false) => self.expected.pop_front(),
        };
        let framing = head.framing(request);
        let offset = self.window.offset();
        let begin = self.window.mark(offset, mark);
        self.message = Some(Message {
            json: head.is_json(),
            head,
            request,
            body: Vec::new(),
            length: 0,
            missing: 0,
            broken: false,
            begin,
            end: begin,
            offset,
        });
        self.advance(length, mark);
        match framing {
            Framing::None | Framing::Length(0) => self.complete(out),
            Framing::Length(left) => self.state = State::Length { left },
            Framing::Chunked => self.state = State::ChunkSize,
            Framing::UntilClose => self.state = State::UntilClose,
            Framing::Tunnel => {
                self.give(true, out);
                self.state = State::Tunnel;
            }
        }
    }

    /// Goes on to the next place where a message can begin.
    fn search(&mut self, out: &mut impl FnMut(Item<'_, M>)) -> bool {
        let data = self.window.data();
        let first: &[u8] = match self.side {
            Side::Requests => b"GHPDOTC",
            Side::Responses => b"H",
        };
        let found = (0..data.len()).find(|&at| {
            let rest = data.get(at..).unwrap_or_default();
            rest.first().is_some_and(|byte| first.contains(byte))
                && head::start(rest, self.side) != Start::Bad
        });
        let count = found.unwrap_or(data.len());
        self.skipped(self.window.offset().saturating_add(count as u64), out);
        self.window.consume(count);
        if found.is_some() {
            self.state = State::Head { scanned: 0 };
        }
        found.is_some()
    }
}

/// Whether bytes are the beginning of a start line that is not complete yet, long enough to tell
/// it from chance.
#[must_use]
pub fn may_begin(data: &[u8]) -> bool {
    /// `GET /` is the shortest that says anything.
    const ENOUGH: usize = 5;
    data.len() >= ENOUGH
        && [Side::Requests, Side::Responses]
            .into_iter()
            .any(|side| head::start(data, side) == Start::Open)
}

/// Tells by the first bytes of a direction whether it is HTTP/1, and which
/// side; nothing if it is not or if the start line is not complete.
#[must_use]
pub fn probe(data: &[u8]) -> Option<Side> {
    [Side::Requests, Side::Responses]
        .into_iter()
        .find(|&side| head::start(data, side) == Start::Good)
}
