//! Methods and their arguments (AMQP 0-9-1, section 1.3; numbers as in
//! RabbitMQ's `amqp-rabbitmq-0.9.1.json`).

use std::borrow::Cow;

use nom::Parser;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64};

use super::table;
use crate::json::is_identifier;

/// One row of the table of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodInfo {
    /// Class number.
    pub class: u16,
    /// Method number inside the class.
    pub method: u16,
    /// `class.method`, as the specification spells it.
    pub name: &'static str,
    /// Types of the arguments: o octet, h short, l long, L longlong, s short
    /// string, S long string, F table, b bit.
    pub signature: &'static str,
    /// Whether a content follows.
    pub content: bool,
}

const fn row(
    class: u16,
    method: u16,
    name: &'static str,
    signature: &'static str,
    content: bool,
) -> MethodInfo {
    MethodInfo {
        class,
        method,
        name,
        signature,
        content,
    }
}

/// All methods of AMQP 0-9-1 and RabbitMQ's extensions, sorted by number.
pub const METHODS: &[MethodInfo] = &[
    row(10, 10, "connection.start", "ooFSS", false),
    row(10, 11, "connection.start-ok", "FsSs", false),
    row(10, 20, "connection.secure", "S", false),
    row(10, 21, "connection.secure-ok", "S", false),
    row(10, 30, "connection.tune", "hlh", false),
    row(10, 31, "connection.tune-ok", "hlh", false),
    row(10, 40, "connection.open", "ssb", false),
    row(10, 41, "connection.open-ok", "s", false),
    row(10, 50, "connection.close", "hshh", false),
    row(10, 51, "connection.close-ok", "", false),
    row(10, 60, "connection.blocked", "s", false),
    row(10, 61, "connection.unblocked", "", false),
    row(10, 70, "connection.update-secret", "Ss", false),
    row(10, 71, "connection.update-secret-ok", "", false),
    row(20, 10, "channel.open", "s", false),
    row(20, 11, "channel.open-ok", "S", false),
    row(20, 20, "channel.flow", "b", false),
    row(20, 21, "channel.flow-ok", "b", false),
    row(20, 40, "channel.close", "hshh", false),
    row(20, 41, "channel.close-ok", "", false),
    row(30, 10, "access.request", "sbbbbb", false),
    row(30, 11, "access.request-ok", "h", false),
    row(40, 10, "exchange.declare", "hssbbbbbF", false),
    row(40, 11, "exchange.declare-ok", "", false),
    row(40, 20, "exchange.delete", "hsbb", false),
    row(40, 21, "exchange.delete-ok", "", false),
    row(40, 30, "exchange.bind", "hsssbF", false),
    row(40, 31, "exchange.bind-ok", "", false),
    row(40, 40, "exchange.unbind", "hsssbF", false),
    row(40, 51, "exchange.unbind-ok", "", false),
    row(50, 10, "queue.declare", "hsbbbbbF", false),
    row(50, 11, "queue.declare-ok", "sll", false),
    row(50, 20, "queue.bind", "hsssbF", false),
    row(50, 21, "queue.bind-ok", "", false),
    row(50, 30, "queue.purge", "hsb", false),
    row(50, 31, "queue.purge-ok", "l", false),
    row(50, 40, "queue.delete", "hsbbb", false),
    row(50, 41, "queue.delete-ok", "l", false),
    row(50, 50, "queue.unbind", "hsssF", false),
    row(50, 51, "queue.unbind-ok", "", false),
    row(60, 10, "basic.qos", "lhb", false),
    row(60, 11, "basic.qos-ok", "", false),
    row(60, 20, "basic.consume", "hssbbbbF", false),
    row(60, 21, "basic.consume-ok", "s", false),
    row(60, 30, "basic.cancel", "sb", false),
    row(60, 31, "basic.cancel-ok", "s", false),
    row(60, 40, "basic.publish", "hssbb", true),
    row(60, 50, "basic.return", "hsss", true),
    row(60, 60, "basic.deliver", "sLbss", true),
    row(60, 70, "basic.get", "hsb", false),
    row(60, 71, "basic.get-ok", "Lbssl", true),
    row(60, 72, "basic.get-empty", "s", false),
    row(60, 80, "basic.ack", "Lb", false),
    row(60, 90, "basic.reject", "Lb", false),
    row(60, 100, "basic.recover-async", "b", false),
    row(60, 110, "basic.recover", "b", false),
    row(60, 111, "basic.recover-ok", "", false),
    row(60, 120, "basic.nack", "Lbb", false),
    row(85, 10, "confirm.select", "b", false),
    row(85, 11, "confirm.select-ok", "", false),
    row(90, 10, "tx.select", "", false),
    row(90, 11, "tx.select-ok", "", false),
    row(90, 20, "tx.commit", "", false),
    row(90, 21, "tx.commit-ok", "", false),
    row(90, 30, "tx.rollback", "", false),
    row(90, 31, "tx.rollback-ok", "", false),
];

/// The row of a method.
#[must_use]
pub fn lookup(class: u16, method: u16) -> Option<&'static MethodInfo> {
    METHODS
        .binary_search_by_key(&(class, method), |row| (row.class, row.method))
        .ok()
        .and_then(|index| METHODS.get(index))
}

/// The arguments that matter, by method. Everything else, the SASL response
/// first of all, is never kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arguments<'a> {
    /// connection.start
    Start {
        /// Server property `product`.
        product: Option<Cow<'a, str>>,
        /// Server property `version`.
        version: Option<Cow<'a, str>>,
    },
    /// connection.start-ok
    StartOk {
        /// SASL mechanism.
        mechanism: Cow<'a, str>,
        /// Client property `connection_name` (`program:pid:uuid`).
        connection_name: Option<Cow<'a, str>>,
    },
    /// connection.tune and connection.tune-ok
    Tune {
        /// Highest channel number.
        channel_max: u16,
        /// Largest frame, with its 8 bytes of overhead.
        frame_max: u32,
        /// Seconds between heartbeats.
        heartbeat: u16,
    },
    /// connection.open
    Open {
        /// Virtual host.
        vhost: Cow<'a, str>,
    },
    /// connection.close and channel.close
    Close {
        /// Reply code.
        reply_code: u16,
        /// Class of the method that failed, or 0.
        class: u16,
        /// Method that failed, or 0.
        method: u16,
    },
    /// exchange.declare
    ExchangeDeclare {
        /// Name of the exchange.
        exchange: Cow<'a, str>,
        /// Type of the exchange.
        kind: Cow<'a, str>,
    },
    /// queue.declare and queue.declare-ok
    QueueDeclare {
        /// Name of the queue.
        queue: Cow<'a, str>,
    },
    /// queue.bind
    QueueBind {
        /// Name of the queue.
        queue: Cow<'a, str>,
        /// Name of the exchange.
        exchange: Cow<'a, str>,
        /// Routing key.
        routing_key: Cow<'a, str>,
    },
    /// basic.consume
    Consume {
        /// Name of the queue.
        queue: Cow<'a, str>,
    },
    /// basic.publish
    Publish {
        /// Name of the exchange, empty for the default one.
        exchange: Cow<'a, str>,
        /// Routing key.
        routing_key: Cow<'a, str>,
    },
    /// basic.return
    Return {
        /// Reply code, 312 for "no route".
        reply_code: u16,
        /// Name of the exchange.
        exchange: Cow<'a, str>,
        /// Routing key.
        routing_key: Cow<'a, str>,
    },
    /// basic.deliver and basic.get-ok
    Deliver {
        /// Delivery tag of the channel.
        delivery_tag: u64,
        /// Whether the message was delivered before.
        redelivered: bool,
        /// Name of the exchange, empty for the default one.
        exchange: Cow<'a, str>,
        /// Routing key.
        routing_key: Cow<'a, str>,
    },
    /// basic.ack, basic.reject and basic.nack
    Ack {
        /// Delivery tag of the channel.
        delivery_tag: u64,
        /// Whether all tags up to this one are meant (ack, nack).
        multiple: bool,
    },
    /// A method whose arguments do not matter.
    Other,
    /// The arguments do not fit the signature.
    Malformed,
}

/// A decoded method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method<'a> {
    /// Class number.
    pub class: u16,
    /// Method number.
    pub method: u16,
    /// `class.method`, or nothing for numbers that are not in the table.
    pub name: Option<&'static str>,
    /// The arguments that matter.
    pub arguments: Arguments<'a>,
}

/// A raw argument; strings and tables without their length.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bit(bool),
    Text(&'a [u8]),
    Table(&'a [u8]),
}

type Parsed<'a, T> = Option<(&'a [u8], T)>;

fn argument(kind: u8, input: &[u8]) -> Parsed<'_, Value<'_>> {
    type Error<'a> = nom::error::Error<&'a [u8]>;
    let parsed = match kind {
        b'o' => be_u8::<_, Error<'_>>
            .map(|n| Value::Number(n.into()))
            .parse(input),
        b'h' => be_u16.map(|n| Value::Number(n.into())).parse(input),
        b'l' => be_u32.map(|n| Value::Number(n.into())).parse(input),
        b'L' => be_u64.map(Value::Number).parse(input),
        b's' => length_data(be_u8).map(Value::Text).parse(input),
        b'S' => length_data(be_u32).map(Value::Text).parse(input),
        b'F' => length_data(be_u32).map(Value::Table).parse(input),
        _ => return None,
    };
    parsed.ok()
}

/// The arguments by the signature; consecutive bits share octets.
pub(crate) fn arguments<'a>(signature: &str, mut input: &'a [u8]) -> Option<Vec<Value<'a>>> {
    let mut values = Vec::with_capacity(signature.len());
    let mut bits: Option<(u8, u32)> = None;
    for kind in signature.bytes() {
        if kind == b'b' {
            let (octet, index) = match bits {
                Some((octet, index)) if index < u8::BITS => (octet, index),
                _ => {
                    let (first, rest) = input.split_first()?;
                    input = rest;
                    (*first, 0)
                }
            };
            values.push(Value::Bit((octet >> index) & 1 == 1));
            bits = Some((octet, index + 1));
        } else {
            bits = None;
            let (rest, value) = argument(kind, input)?;
            input = rest;
            values.push(value);
        }
    }
    Some(values)
}

/// Access by position to arguments that were read by the signature.
struct Row<'a>(Vec<Value<'a>>);

impl<'a> Row<'a> {
    fn number(&self, index: usize) -> Option<u64> {
        match self.0.get(index)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    fn short(&self, index: usize) -> Option<u16> {
        self.number(index)?.try_into().ok()
    }

    fn bit(&self, index: usize) -> Option<bool> {
        match self.0.get(index)? {
            Value::Bit(bit) => Some(*bit),
            _ => None,
        }
    }

    fn text(&self, index: usize) -> Option<Cow<'a, str>> {
        match *self.0.get(index)? {
            Value::Text(text) => Some(String::from_utf8_lossy(text)),
            _ => None,
        }
    }

    fn property(&self, index: usize, name: &str) -> Option<Cow<'a, str>> {
        match *self.0.get(index)? {
            Value::Table(table) => table::string(table, name)
                .and_then(|value| std::str::from_utf8(value).ok())
                .filter(|value| is_identifier(value))
                .map(Cow::Borrowed),
            _ => None,
        }
    }
}

fn build<'a>(info: &MethodInfo, row: &Row<'a>) -> Option<Arguments<'a>> {
    Some(match (info.class, info.method) {
        (10, 10) => Arguments::Start {
            product: row.property(2, "product"),
            version: row.property(2, "version"),
        },
        (10, 11) => Arguments::StartOk {
            mechanism: row.text(1)?,
            connection_name: row.property(0, "connection_name"),
        },
        (10, 30 | 31) => Arguments::Tune {
            channel_max: row.short(0)?,
            frame_max: row.number(1)?.try_into().ok()?,
            heartbeat: row.short(2)?,
        },
        (10, 40) => Arguments::Open {
            vhost: row.text(0)?,
        },
        (10, 50) | (20, 40) => Arguments::Close {
            reply_code: row.short(0)?,
            class: row.short(2)?,
            method: row.short(3)?,
        },
        (40, 10) => Arguments::ExchangeDeclare {
            exchange: row.text(1)?,
            kind: row.text(2)?,
        },
        (50, 10) => Arguments::QueueDeclare {
            queue: row.text(1)?,
        },
        (50, 11) => Arguments::QueueDeclare {
            queue: row.text(0)?,
        },
        (50, 20) => Arguments::QueueBind {
            queue: row.text(1)?,
            exchange: row.text(2)?,
            routing_key: row.text(3)?,
        },
        (60, 20) => Arguments::Consume {
            queue: row.text(1)?,
        },
        (60, 40) => Arguments::Publish {
            exchange: row.text(1)?,
            routing_key: row.text(2)?,
        },
        (60, 50) => Arguments::Return {
            reply_code: row.short(0)?,
            exchange: row.text(2)?,
            routing_key: row.text(3)?,
        },
        (60, 60) => Arguments::Deliver {
            delivery_tag: row.number(1)?,
            redelivered: row.bit(2)?,
            exchange: row.text(3)?,
            routing_key: row.text(4)?,
        },
        (60, 71) => Arguments::Deliver {
            delivery_tag: row.number(0)?,
            redelivered: row.bit(1)?,
            exchange: row.text(2)?,
            routing_key: row.text(3)?,
        },
        (60, 80 | 120) => Arguments::Ack {
            delivery_tag: row.number(0)?,
            multiple: row.bit(1)?,
        },
        (60, 90) => Arguments::Ack {
            delivery_tag: row.number(0)?,
            multiple: false,
        },
        _ => Arguments::Other,
    })
}

/// Class and method number at the head of a payload, and the rest.
pub(crate) fn numbers(payload: &[u8]) -> Option<(u16, u16, &[u8])> {
    type Error<'a> = nom::error::Error<&'a [u8]>;
    let (rest, (class, method)) = (be_u16::<_, Error<'_>>, be_u16).parse(payload).ok()?;
    Some((class, method, rest))
}

/// Decodes the payload of a method frame (AMQP 0-9-1, section 2.3.5.1).
#[must_use]
pub(super) fn decode(payload: &[u8]) -> Option<Method<'_>> {
    let (class, method, rest) = numbers(payload)?;
    let info = lookup(class, method);
    let decoded = match info {
        None => Arguments::Other,
        Some(info) => arguments(info.signature, rest)
            .and_then(|values| build(info, &Row(values)))
            .unwrap_or(Arguments::Malformed),
    };
    Some(Method {
        class,
        method,
        name: info.map(|info| info.name),
        arguments: decoded,
    })
}
