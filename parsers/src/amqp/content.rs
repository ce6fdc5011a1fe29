//! Contents: the header with its properties and the assembly of bodies
//! (AMQP 0-9-1, sections 2.3.5.2 and 2.3.5.3).

use nom::Parser;
use nom::bytes::complete::take;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64};

use super::table;
use crate::json::is_identifier;

/// Bytes of a body that are kept; the rest is counted as missing.
pub const MAX_BODY: usize = 1 << 20;

/// The properties of a content that are kept. `user-id` and the values of
/// `headers` are not, save the name of the compression.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// `content-type`
    pub content_type: Option<String>,
    /// `content-encoding`
    pub content_encoding: Option<String>,
    /// `compression` in the headers (kombu's `compression.py`)
    pub compression: Option<String>,
    /// `delivery-mode`
    pub delivery_mode: Option<u8>,
    /// `priority`
    pub priority: Option<u8>,
    /// `correlation-id`
    pub correlation_id: Option<String>,
    /// `reply-to`
    pub reply_to: Option<String>,
    /// `expiration`
    pub expiration: Option<String>,
    /// `message-id`
    pub message_id: Option<String>,
    /// `timestamp`
    pub timestamp: Option<u64>,
    /// `type`
    pub kind: Option<String>,
    /// `app-id`
    pub app_id: Option<String>,
}

/// A decoded content header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHeader {
    /// Class, 60 for basic.
    pub class: u16,
    /// Size of the body.
    pub body_size: u64,
    /// Properties.
    pub properties: Properties,
}

/// The properties in the order of the wire: mask of the flag and type of the
/// value (o octet, L 64 bits, s short string, F table).
const PROPERTIES: [(u16, Property, u8); 14] = [
    (0x8000, Property::ContentType, b's'),
    (0x4000, Property::ContentEncoding, b's'),
    (0x2000, Property::Headers, b'F'),
    (0x1000, Property::DeliveryMode, b'o'),
    (0x0800, Property::Priority, b'o'),
    (0x0400, Property::CorrelationId, b's'),
    (0x0200, Property::ReplyTo, b's'),
    (0x0100, Property::Expiration, b's'),
    (0x0080, Property::MessageId, b's'),
    (0x0040, Property::Timestamp, b'L'),
    (0x0020, Property::Type, b's'),
    (0x0010, Property::UserId, b's'),
    (0x0008, Property::AppId, b's'),
    (0x0004, Property::ClusterId, b's'),
];

/// Names of the properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Property {
    ContentType,
    ContentEncoding,
    Headers,
    DeliveryMode,
    Priority,
    CorrelationId,
    ReplyTo,
    Expiration,
    MessageId,
    Timestamp,
    Type,
    UserId,
    AppId,
    ClusterId,
}

/// A property's value in the payload: strings and tables without length.
fn value(kind: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    type Error<'a> = nom::error::Error<&'a [u8]>;
    match kind {
        b'o' => take::<_, _, Error<'_>>(1_usize)(input).ok(),
        b'L' => take::<_, _, Error<'_>>(8_usize)(input).ok(),
        b's' => length_data(be_u8::<_, Error<'_>>).parse(input).ok(),
        _ => length_data(be_u32::<_, Error<'_>>).parse(input).ok(),
    }
}

/// Gives the properties that there are, with their kinds, up to the first that does not fit;
/// returns what is behind them.
pub(crate) fn properties<'a>(
    flags: u16,
    mut rest: &'a [u8],
    mut give: impl FnMut(Property, u8, &'a [u8]),
) -> &'a [u8] {
    for (_, property, kind) in PROPERTIES.iter().filter(|(mask, ..)| flags & mask != 0) {
        let Some((after, found)) = value(*kind, rest) else {
            break;
        };
        rest = after;
        give(*property, *kind, found);
    }
    rest
}

/// Class, body size, flags and the bytes of the properties.
pub(crate) fn fixed(payload: &[u8]) -> Option<(u16, u64, u16, &[u8])> {
    type Error<'a> = nom::error::Error<&'a [u8]>;
    let (rest, (class, _weight, size, flags)) = (be_u16::<_, Error<'_>>, be_u16, be_u64, be_u16)
        .parse(payload)
        .ok()?;
    Some((class, size, flags, rest))
}

fn text(value: &[u8]) -> Option<String> {
    std::str::from_utf8(value)
        .ok()
        .filter(|value| is_identifier(value))
        .map(str::to_owned)
}

impl Properties {
    fn set(&mut self, property: Property, value: &[u8]) {
        match property {
            Property::ContentType => self.content_type = text(value),
            Property::ContentEncoding => self.content_encoding = text(value),
            Property::Headers => {
                self.compression = table::string(value, "compression").and_then(text);
            }
            Property::DeliveryMode => self.delivery_mode = value.first().copied(),
            Property::Priority => self.priority = value.first().copied(),
            Property::CorrelationId => self.correlation_id = text(value),
            Property::ReplyTo => self.reply_to = text(value),
            Property::Expiration => self.expiration = text(value),
            Property::MessageId => self.message_id = text(value),
            Property::Timestamp => {
                self.timestamp = value
                    .first_chunk::<8>()
                    .map(|&octets| u64::from_be_bytes(octets));
            }
            Property::Type => self.kind = text(value),
            Property::AppId => self.app_id = text(value),
            Property::UserId | Property::ClusterId => {}
        }
    }
}

/// Decodes the payload of a content header frame. Properties that do not fit
/// are left out.
#[must_use]
pub(super) fn decode(payload: &[u8]) -> Option<ContentHeader> {
    let (class, body_size, flags, rest) = fixed(payload)?;
    let mut kept = Properties::default();
    properties(flags, rest, |property, _, found| kept.set(property, found));
    Some(ContentHeader {
        class,
        body_size,
        properties: kept,
    })
}

/// The method that a content belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentMethod {
    /// basic.publish
    Publish,
    /// basic.deliver
    Deliver,
    /// basic.get-ok
    GetOk,
    /// basic.return
    Return,
    /// The method was not seen.
    Unknown,
}

/// A content whose body is not yet complete.
#[derive(Clone)]
pub(crate) struct Pending<M> {
    pub(crate) method: ContentMethod,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) redelivered: bool,
    pub(crate) begin: M,
    pub(crate) end: M,
    pub(crate) offset: u64,
    pub(crate) header: Option<ContentHeader>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body that went by, kept or not.
    pub(crate) seen: u64,
    /// Whether a byte before the end of `body` is missing.
    pub(crate) broken: bool,
}

impl<M: Copy> Pending<M> {
    pub(crate) const fn new(method: ContentMethod, begin: M, end: M, offset: u64) -> Self {
        Self {
            method,
            exchange: String::new(),
            routing_key: String::new(),
            redelivered: false,
            begin,
            end,
            offset,
            header: None,
            body: Vec::new(),
            seen: 0,
            broken: false,
        }
    }

    /// Appends bytes of the body, as many as `room` and [`MAX_BODY`] allow;
    /// the number kept.
    pub(crate) fn append(&mut self, bytes: &[u8], room: usize) -> usize {
        let left = self.size().saturating_sub(self.seen);
        let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.seen = self.seen.saturating_add(count as u64);
        if self.broken {
            return 0;
        }
        let kept = count
            .min(MAX_BODY.saturating_sub(self.body.len()))
            .min(room);
        self.broken = kept < count;
        self.body
            .extend_from_slice(bytes.get(..kept).unwrap_or_default());
        kept
    }

    /// Counts bytes of the body that were not captured.
    pub(crate) fn lose(&mut self, length: u64) {
        self.seen = self.seen.saturating_add(length).min(self.size());
        self.broken = true;
    }

    fn size(&self) -> u64 {
        self.header.as_ref().map_or(0, |header| header.body_size)
    }

    pub(crate) fn complete(&self) -> bool {
        self.header.is_some() && self.seen >= self.size()
    }

    pub(crate) fn missing(&self) -> u64 {
        self.size().saturating_sub(self.body.len() as u64)
    }
}
