//! An AMQP 0-9-1 connection: methods and messages both ways, and what oslo.messaging wrote into
//! them.

mod clear;

use phasescope_parsers::amqp::{Arguments, Content, ContentMethod, Decoder, Item, Method};
use phasescope_parsers::oslo::{self, Envelope};

use super::Sink;
use super::event::{Event, Kind};
use crate::net::{Direction, FlowInfo, Stamp};
use clear::Clear;

/// Something said on an AMQP connection. Only fields of the allow lists are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amqp {
    /// Channel.
    pub channel: u16,
    /// What.
    pub what: Said,
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The protocol header with its version: id, major, minor, revision.
    ProtocolHeader([u8; 4]),
    /// A method that carries no message.
    Method {
        /// Class and method number.
        number: (u16, u16),
        /// `class.method`, where known.
        name: Option<&'static str>,
        /// Fields that are kept, by name.
        fields: Vec<(&'static str, String)>,
    },
    /// A message: published, delivered, fetched or returned.
    Message(Box<Message>),
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What carried it.
    pub method: ContentMethod,
    /// Exchange; empty: the default one.
    pub exchange: String,
    /// Routing key.
    pub routing_key: String,
    /// Delivered before.
    pub redelivered: bool,
    /// Size of the body, bytes.
    pub body_size: u64,
    /// Bytes of the body that were not captured or not kept.
    pub missing: u64,
    /// The body is compressed, and not read.
    pub compressed: bool,
    /// What oslo.messaging wrote, where it did.
    pub envelope: Option<Envelope>,
}

/// State of one AMQP connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    halves: [Half; 2],
    /// Bytes that were no frames were stepped over.
    skipped: u64,
}

/// One direction.
#[derive(Debug, Clone)]
struct Half {
    decoder: Decoder<Stamp>,
    /// Offset in the direction's stream of the decoder's first byte.
    base: Option<u64>,
    /// A frame was found.
    found: bool,
    clear: Clear,
}

impl Connection {
    /// At its first bytes, or picked up in the middle.
    pub(super) fn new(middle: bool) -> Self {
        let half = || Half {
            decoder: if middle {
                Decoder::in_the_middle()
            } else {
                Decoder::new()
            },
            base: None,
            found: false,
            clear: Clear::default(),
        };
        Self {
            halves: [half(), half()],
            skipped: 0,
        }
    }

    /// Did it lose step?
    pub(super) fn lost_step(&self) -> bool {
        self.skipped > 0
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
        let wanted = sink.wants_bytes();
        let half = &mut self.halves[direction.index()];
        half.base.get_or_insert(offset);
        if wanted {
            half.clear.push(bytes);
        }
        self.with(flow, direction, sink, |decoder, mut out| {
            decoder.push(stamp, bytes, &mut out);
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
        let half = &mut self.halves[direction.index()];
        half.base.get_or_insert(offset);
        self.with(flow, direction, sink, |decoder, mut out| {
            decoder.gap(length, &mut out);
        });
        let half = &mut self.halves[direction.index()];
        let base = half.base.unwrap_or(offset);
        if sink.wants_bytes() {
            half.clear.gap(length, &mut |at, bytes| {
                sink.reveal(flow.id, direction, base + at, bytes);
            });
            sink.resolved(flow.id, direction, base + half.clear.resolved());
        }
    }

    /// The connection has ended.
    pub(super) fn end(&mut self, flow: &FlowInfo, sink: &mut impl Sink) {
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.with(flow, direction, sink, |decoder, mut out| {
                decoder.finish(&mut out);
            });
            let half = &mut self.halves[direction.index()];
            if sink.wants_bytes() {
                let base = half.base.unwrap_or(0);
                half.clear.gap(0, &mut |at, bytes| {
                    sink.reveal(flow.id, direction, base + at, bytes);
                });
            }
        }
    }

    fn with<S: Sink>(
        &mut self,
        flow: &FlowInfo,
        direction: Direction,
        sink: &mut S,
        f: impl FnOnce(&mut Decoder<Stamp>, &mut dyn FnMut(Item<'_, Stamp>)),
    ) {
        let Half {
            decoder,
            base,
            found,
            clear,
        } = &mut self.halves[direction.index()];
        let skipped = &mut self.skipped;
        let mut skips = Vec::new();
        let mut say = |begin, stamp, channel, what| {
            sink.event(Event {
                stamp,
                begin,
                flow: Some((flow.id, direction)),
                kind: Kind::Amqp(Box::new(Amqp { channel, what })),
            });
        };
        f(decoder, &mut |item| match item {
            Item::ProtocolHeader {
                version,
                begin,
                end,
                ..
            } => {
                *found = true;
                say(begin, end, 0, Said::ProtocolHeader(version));
            }
            Item::Method {
                channel,
                method,
                begin,
                end,
                ..
            } => {
                *found = true;
                if !carries(&method) {
                    say(begin, end, channel, said(&method));
                }
            }
            Item::Content(content) => {
                let what = Said::Message(Box::new(message(&content)));
                say(content.begin, content.end, content.channel, what);
            }
            Item::Heartbeat { .. } => *found = true,
            Item::Skipped { offset, length } => {
                // What stands before the first frame of a direction is no fault.
                *skipped += if *found { length } else { 0 };
                skips.push((offset, length));
            }
        });
        let base = base.unwrap_or(0);
        if sink.wants_bytes() {
            clear.walk(&skips, decoder.consumed(), &mut |at, bytes| {
                sink.reveal(flow.id, direction, base + at, bytes);
            });
            sink.resolved(flow.id, direction, base + clear.resolved());
        }
    }
}

/// Will a message follow that tells all that the method says?
fn carries(method: &Method<'_>) -> bool {
    matches!(
        method.arguments,
        Arguments::Publish { .. } | Arguments::Deliver { .. } | Arguments::Return { .. }
    )
}

/// The fields of a method that are kept.
fn said(method: &Method<'_>) -> Said {
    let fields = match &method.arguments {
        Arguments::Start { product, version } => [("product", product), ("version", version)]
            .into_iter()
            .filter_map(|(name, v)| Some((name, v.as_ref()?.to_string())))
            .collect(),
        Arguments::StartOk {
            mechanism,
            connection_name,
        } => {
            let mut fields = vec![("mechanism", mechanism.to_string())];
            fields.extend(
                connection_name
                    .as_ref()
                    .map(|n| ("connection_name", n.to_string())),
            );
            fields
        }
        Arguments::Tune {
            channel_max,
            frame_max,
            heartbeat,
        } => vec![
            ("channel_max", channel_max.to_string()),
            ("frame_max", frame_max.to_string()),
            ("heartbeat", heartbeat.to_string()),
        ],
        Arguments::Open { vhost } => vec![("vhost", vhost.to_string())],
        Arguments::Close { reply_code, .. } => vec![("reply_code", reply_code.to_string())],
        Arguments::ExchangeDeclare { exchange, kind } => {
            vec![
                ("exchange", exchange.to_string()),
                ("type", kind.to_string()),
            ]
        }
        Arguments::QueueDeclare { queue } | Arguments::Consume { queue } => {
            vec![("queue", queue.to_string())]
        }
        Arguments::QueueBind {
            queue,
            exchange,
            routing_key,
        } => vec![
            ("queue", queue.to_string()),
            ("exchange", exchange.to_string()),
            ("routing_key", routing_key.to_string()),
        ],
        Arguments::Ack {
            delivery_tag,
            multiple,
        } => {
            let mut fields = vec![("delivery_tag", delivery_tag.to_string())];
            if *multiple {
                fields.push(("multiple", "true".to_owned()));
            }
            fields
        }
        Arguments::Malformed => vec![("malformed", "true".to_owned())],
        _ => vec![],
    };
    Said::Method {
        number: (method.class, method.method),
        name: method.name,
        fields,
    }
}

fn message(content: &Content<'_, Stamp>) -> Message {
    let compressed = content.properties.is_some_and(|p| p.compression.is_some());
    Message {
        method: content.method,
        exchange: content.exchange.to_owned(),
        routing_key: content.routing_key.to_owned(),
        redelivered: content.redelivered,
        body_size: content.body_size,
        missing: content.missing,
        compressed,
        envelope: (!compressed)
            .then(|| oslo::decode(content.body.bytes()))
            .flatten(),
    }
}
