//! An HTTP/1.1 connection: requests and responses in pairs, and which call of OpenStack each is.

mod clear;

use std::collections::VecDeque;

use phasescope_parsers::http::{
    self as parser, Decoder, Item, MAX_BODY, MAX_EXPECTED, Method, Request as Asked,
    Response as Answered, Side,
};
use phasescope_parsers::openstack::{
    Classified, Fields, classify, request_fields, response_fields,
};

use super::Sink;
use super::event::{Event, Kind};
use super::secret::{Token, keyed};
use crate::net::{Direction, FlowInfo, Stamp};
use clear::{Clear, Piece};

/// A message on an HTTP connection. Only fields of the allow lists are kept; of the path only the
/// ids that its class names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// The request: what a response answers.
    pub request: Option<Request>,
    /// The response, in its own event.
    pub response: Option<Response>,
    /// From `X-OpenStack-Request-ID`: in a request the global id, in a response the request's own.
    pub request_id: Option<String>,
    /// Fields of the body.
    pub fields: Fields,
    /// Size of the body, bytes.
    pub length: u64,
    /// Bytes of a JSON body that were too many to be kept, and are not read.
    pub unread: u64,
    /// The message's end was seen, and all between.
    pub complete: bool,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Number on the connection, from 1.
    pub number: u64,
    /// Method.
    pub method: Method,
    /// Which call of which service.
    pub call: Option<Classified>,
    /// A query parameter `name` is given.
    pub by_name: bool,
    /// `OpenStack-API-Version`, or Nova's older header.
    pub api_version: Option<String>,
    /// From `X-OpenStack-Request-ID`.
    pub request_id: Option<String>,
    /// The program that asks, to tell programs apart.
    pub user_agent: Option<String>,
    /// From `X-Auth-Token`.
    pub token: Option<Token>,
    /// From `X-Subject-Token`.
    pub subject_token: Option<Token>,
    /// What an action asks for; the rest of the body stands in the request's own event.
    pub fields: Fields,
    /// First byte.
    pub begin: Stamp,
    /// Last byte.
    pub end: Stamp,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// `X-Compute-Request-ID`
    pub compute_request_id: Option<String>,
    /// A token that is issued, in a header or in the body.
    pub token: Option<Token>,
}

/// State of one HTTP connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// Who asks. Ports may have told it wrong where the beginning was not captured.
    asks: Direction,
    middle: bool,
    halves: [Half; 2],
    /// Requests that wait for their responses.
    open: VecDeque<Request>,
    requests: u64,
    /// Bytes are missing: only the latest request can be the one that is answered next.
    lost: bool,
    spoken: bool,
}

/// One direction.
#[derive(Debug, Clone)]
struct Half {
    decoder: Decoder<Stamp>,
    /// Offset in the direction's stream of the decoder's first byte.
    base: Option<u64>,
    clear: Clear,
}

fn halves(asks: Direction, middle: bool) -> [Half; 2] {
    [Direction::ToServer, Direction::ToClient].map(|d| {
        let side = side(asks, d);
        Half {
            decoder: if middle {
                Decoder::in_the_middle(side)
            } else {
                Decoder::new(side)
            },
            base: None,
            clear: Clear::default(),
        }
    })
}

fn side(asks: Direction, direction: Direction) -> Side {
    if direction == asks {
        Side::Requests
    } else {
        Side::Responses
    }
}

impl Connection {
    /// At its first bytes, or picked up in the middle.
    pub(super) fn new(middle: bool) -> Self {
        let asks = Direction::ToServer;
        Self {
            asks,
            middle,
            halves: halves(asks, middle),
            open: VecDeque::new(),
            requests: 0,
            lost: middle,
            spoken: false,
        }
    }

    /// Bytes in order.
    pub(super) fn data(
        &mut self,
        flow: &FlowInfo,
        direction: Direction,
        stamp: Stamp,
        offset: u64,
        bytes: &[u8],
        sink: &mut impl Sink,
    ) {
        if !self.spoken
            && let Some(found) = parser::probe(bytes)
        {
            self.spoken = true;
            if found != side(self.asks, direction) {
                self.asks = self.asks.reverse();
                self.halves = halves(self.asks, self.middle);
            }
        }
        let half = &mut self.halves[direction.index()];
        half.base.get_or_insert(offset);
        if sink.wants_bytes() {
            half.clear.push(bytes);
        }
        self.with(flow, direction, sink, |decoder, mut out| {
            decoder.push(stamp, bytes, &keyed, &mut out);
        });
    }

    /// Missing bytes.
    pub(super) fn gap(
        &mut self,
        flow: &FlowInfo,
        direction: Direction,
        (offset, length): (u64, u64),
        sink: &mut impl Sink,
    ) {
        self.lost = true;
        let half = &mut self.halves[direction.index()];
        half.base.get_or_insert(offset);
        if sink.wants_bytes() {
            half.clear.gap(length);
        }
        self.with(flow, direction, sink, |decoder, mut out| {
            decoder.gap(length, &mut out);
        });
    }

    /// The connection has ended.
    pub(super) fn end(&mut self, flow: &FlowInfo, sink: &mut impl Sink) {
        for direction in [self.asks, self.asks.reverse()] {
            self.with(flow, direction, sink, |decoder, mut out| {
                decoder.finish(&mut out);
            });
        }
    }

    fn with<S: Sink>(
        &mut self,
        flow: &FlowInfo,
        direction: Direction,
        sink: &mut S,
        f: impl FnOnce(&mut Decoder<Stamp>, &mut dyn FnMut(Item<'_, Stamp>)),
    ) {
        let side = side(self.asks, direction);
        let mut pieces = Vec::new();
        let mut asked = Vec::new();
        let Self {
            halves,
            open,
            requests,
            lost,
            ..
        } = self;
        let half = &mut halves[direction.index()];
        f(&mut half.decoder, &mut |item| {
            let (begin, stamp, http) = match item {
                Item::Request(r) => {
                    pieces.push(Piece::Message(r.content.offset, None));
                    asked.push(r.method);
                    *requests += 1;
                    let (begin, stamp) = (r.content.begin, r.content.end);
                    let http = request(*requests, r);
                    if open.len() >= MAX_EXPECTED {
                        open.pop_front();
                    }
                    open.extend(http.request.clone());
                    (begin, stamp, http)
                }
                Item::Response(r) => {
                    pieces.push(Piece::Message(r.content.offset, r.request));
                    let interim = matches!(r.status, 100 | 102..=199);
                    let request = match (interim, *lost) {
                        (true, _) => open.front().cloned(),
                        (false, false) => open.pop_front(),
                        (false, true) => {
                            *lost = false;
                            let last = open.pop_back();
                            open.clear();
                            last
                        }
                    };
                    (r.content.begin, r.content.end, response(request, r))
                }
                Item::Skipped { offset, .. } => {
                    pieces.push(Piece::Skipped(offset));
                    return;
                }
            };
            sink.event(Event {
                stamp,
                begin,
                flow: Some((flow.id, direction)),
                kind: Kind::Http(Box::new(http)),
            });
        });
        let base = half.base.unwrap_or(0);
        if sink.wants_bytes() {
            let resolved =
                half.clear
                    .walk(side, &pieces, half.decoder.resolved(), &mut |at, bytes| {
                        sink.reveal(flow.id, direction, base + at, bytes);
                    });
            sink.resolved(flow.id, direction, base + resolved);
        }
        let answers = &mut halves[direction.reverse().index()].decoder;
        asked.into_iter().for_each(|m| answers.expect(m));
    }
}

fn unread(kept: &[u8], length: u64) -> u64 {
    match kept.len() >= MAX_BODY {
        true => length.saturating_sub(kept.len() as u64),
        false => 0,
    }
}

fn request(number: u64, r: Asked<'_, Stamp>) -> Http {
    let call = classify(r.method, &r.path);
    let body = r.content.body.bytes();
    let mut fields = call
        .as_ref()
        .map_or_else(Fields::default, |c| request_fields(c.call, body, &keyed));
    // A token in a body is never kept, not even its hash.
    fields.token = None;
    let request = Request {
        number,
        method: r.method,
        by_name: r.query.iter().any(|name| name == "name"),
        api_version: r.headers.api_version,
        request_id: r.headers.request_id.clone(),
        user_agent: r.headers.user_agent,
        token: r.headers.token.map(Token::new),
        subject_token: r.headers.subject_token.map(Token::new),
        fields: Fields {
            action: fields.action,
            host: fields.host.clone(),
            block_migration: fields.block_migration.clone(),
            ..Fields::default()
        },
        begin: r.content.begin,
        end: r.content.end,
        call,
    };
    Http {
        request: Some(request),
        response: None,
        request_id: r.headers.request_id,
        fields,
        length: r.content.length,
        unread: unread(body, r.content.length),
        complete: r.content.complete && r.content.missing == 0,
    }
}

fn response(request: Option<Request>, r: Answered<'_, Stamp>) -> Http {
    let call = request.as_ref().and_then(|q| q.call.as_ref());
    let body = r.content.body.bytes();
    let mut fields = call.map_or_else(Fields::default, |c| response_fields(c.call, body, &keyed));
    let token = fields.token.take().or(r.headers.subject_token);
    Http {
        response: Some(Response {
            status: r.status,
            compute_request_id: r.headers.compute_request_id,
            token: token.map(Token::new),
        }),
        request,
        request_id: r.headers.request_id,
        fields,
        length: r.content.length,
        unread: unread(body, r.content.length),
        complete: r.content.complete && r.content.missing == 0,
    }
}
