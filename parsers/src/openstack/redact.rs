//! Redaction in place and of the same length, for captures that are passed
//! on: what the decoders keep stays, everything else is blanked. A token is
//! replaced by its keyed hash, so that equal tokens stay equal.
//!
//! The decoders read the same from a redacted message as from the original,
//! apart from the hashes of tokens.

use std::ops::Range;

use super::fields;
use super::redact_json::{blank, redact_json};
use crate::BLANK;
use crate::amqp::payload::{Property, Value, arguments, fixed, numbers, properties};
use crate::amqp::{lookup, table};
use crate::http::head::{
    Field, Framing, announces_token, field, head_length, is_parameter, parse, path_start, printable,
};
use crate::http::{Hash, MAX_BODY, MAX_HEAD, MAX_HEADERS, Method, Side};
use crate::json::{Rules, is_identifier};
use crate::oslo;

/// In place of text whose key is on an allow list and whose shape is not:
/// no identifier has it.
pub const REFUSED: u8 = b'*';
/// In place of header values whose field is on the allow list and that are
/// not printable.
const UNPRINTABLE: u8 = 0xFF;

/// Where a part lies inside the whole that it was cut from.
fn range_of(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    start..start.saturating_add(part.len())
}

fn fill(text: &mut [u8], range: Range<usize>, with: u8) {
    if let Some(part) = text.get_mut(range) {
        part.fill(with);
    }
}

/// Replaces a token by its keyed hash in hexadecimal, repeated.
pub(crate) fn hide_token(token: &mut [u8], hash: Hash<'_>) {
    let digits = format!("{:016x}", hash(token));
    for (byte, digit) in token.iter_mut().zip(digits.bytes().cycle()) {
        *byte = digit;
    }
}

/// Redacts the body of a REST message: JSON by the allow list of
/// [`fields::RULES`], anything else as a whole.
pub fn redact_http_body(body: &mut [u8], hash: Hash<'_>) {
    let is_json =
        body.len() <= MAX_BODY && serde_json::from_slice::<serde_json::Value>(body).is_ok();
    json_or_blank(body, fields::RULES, is_json, hash);
}

/// Redacts the body of an AMQP message: an envelope of oslo.messaging by the
/// allow list of [`oslo::RULES`], anything else as a whole. So is a body with
/// errors, if the decoder would not read the same from it afterwards.
pub fn redact_amqp_body(body: &mut [u8], hash: Hash<'_>) {
    let original = oslo::decode(body);
    json_or_blank(body, oslo::RULES, original.is_some(), hash);
    if original.is_some() && oslo::decode(body) != original {
        blank(body, BLANK);
    }
}

fn json_or_blank(body: &mut [u8], rules: Rules, is_json: bool, hash: Hash<'_>) {
    if is_json {
        redact_json(body, rules, hash);
    } else {
        blank(body, BLANK);
    }
}

/// Text arguments of methods that are kept, by position.
const KEPT: &[(u16, u16, &[usize])] = &[
    (10, 10, &[3, 4]),
    (10, 11, &[1, 3]),
    (10, 40, &[0]),
    (40, 10, &[1, 2]),
    (40, 20, &[1]),
    (40, 30, &[1, 2, 3]),
    (40, 40, &[1, 2, 3]),
    (50, 10, &[1]),
    (50, 11, &[0]),
    (50, 20, &[1, 2, 3]),
    (50, 30, &[1]),
    (50, 40, &[1]),
    (50, 50, &[1, 2, 3]),
    (60, 20, &[1, 2]),
    (60, 21, &[0]),
    (60, 30, &[0]),
    (60, 31, &[0]),
    (60, 40, &[1, 2]),
    (60, 50, &[2, 3]),
    (60, 60, &[0, 3, 4]),
    (60, 70, &[1]),
    (60, 71, &[2, 3]),
];

/// Methods with SASL data: connection.start-ok, secure, secure-ok and
/// update-secret. All text that is not in [`KEPT`] becomes zero.
const SASL: &[(u16, u16)] = &[(10, 11), (10, 20), (10, 21), (10, 70)];

/// Names of table fields whose strings are kept.
const TABLE_KEPT: &[&str] = &[
    "product",
    "version",
    "connection_name",
    "compression",
    "x-queue-type",
];
/// Deepest nesting of tables and arrays.
const MAX_DEPTH: usize = 8;

/// Redacts the payload of a method frame.
pub fn redact_amqp_method(payload: &mut [u8], _hash: Hash<'_>) {
    const NUMBERS: usize = 4;
    let copy = payload.to_vec();
    let Some((class, method, rest)) = numbers(&copy) else {
        payload.fill(0);
        return;
    };
    let Some(info) = lookup(class, method) else {
        fill(payload, NUMBERS..copy.len(), 0);
        return;
    };
    let Some(values) = arguments(info.signature, rest) else {
        // With the greatest lengths of all, the arguments still do not fit.
        fill(payload, NUMBERS..copy.len(), u8::MAX);
        return;
    };
    let kept = KEPT
        .iter()
        .find(|&&(c, m, _)| (c, m) == (class, method))
        .map_or(&[] as &[usize], |&(_, _, kept)| kept);
    let with = if SASL.contains(&(class, method)) {
        0
    } else {
        BLANK
    };
    let mut end = NUMBERS;
    for (index, value) in values.iter().enumerate() {
        match *value {
            Value::Text(text) => {
                let range = range_of(&copy, text);
                end = range.end;
                if !kept.contains(&index) {
                    fill(payload, range, with);
                }
            }
            Value::Table(fields) => {
                let range = range_of(&copy, fields);
                end = range.end;
                redact_table(payload, &copy, fields, MAX_DEPTH);
            }
            Value::Number(_) | Value::Bit(_) => {}
        }
    }
    // Octets behind the last string that the signature does not explain.
    fill(
        payload,
        end.saturating_add(tail(info.signature))..copy.len(),
        0,
    );
}

/// Octets of the numbers and bits behind a signature's last string.
fn tail(signature: &str) -> usize {
    let behind = signature
        .rfind(['s', 'S', 'F'])
        .map_or(0, |at| at.saturating_add(1));
    let mut octets = 0_usize;
    let mut bits = 0_usize;
    for kind in signature.bytes().skip(behind) {
        bits = if kind == b'b' { bits + 1 } else { 0 };
        octets += match kind {
            b'o' => 1,
            b'h' => 2,
            b'l' => 4,
            b'L' => 8,
            b'b' if bits % 8 == 1 => 1,
            _ => 0,
        };
    }
    octets
}

/// Redacts the payload of a content header frame.
pub fn redact_amqp_header(payload: &mut [u8], _hash: Hash<'_>) {
    let copy = payload.to_vec();
    let Some((_, _, flags, rest)) = fixed(&copy) else {
        payload.fill(0);
        return;
    };
    let rest = properties(flags, rest, |property, kind, found| {
        let range = range_of(&copy, found);
        match (kind, property) {
            (b'F', _) => redact_table(payload, &copy, found, MAX_DEPTH),
            (b's', Property::UserId | Property::ClusterId) => fill(payload, range, BLANK),
            (b's', _) if !is_text(found) => fill(payload, range, REFUSED),
            _ => {}
        }
    });
    fill(payload, range_of(&copy, rest), 0);
}

fn is_text(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(is_identifier)
}

/// Blanks the strings of a field table; `fields` lies inside `copy`.
fn redact_table(payload: &mut [u8], copy: &[u8], fields: &[u8], depth: usize) {
    let mut end = range_of(copy, fields).start;
    let whole = range_of(copy, fields);
    for found in table::fields(fields) {
        end = range_of(copy, found.value).end;
        let kept = TABLE_KEPT.iter().any(|name| name.as_bytes() == found.name);
        redact_value(payload, copy, found.kind, found.value, kept, depth);
    }
    fill(payload, end..whole.end, 0);
}

fn redact_value(payload: &mut [u8], copy: &[u8], kind: u8, value: &[u8], kept: bool, depth: usize) {
    let range = range_of(copy, value);
    match kind {
        b'S' | b'x' if kept && is_text(value) => {}
        b'S' | b'x' => fill(payload, range, if kept { REFUSED } else { BLANK }),
        b'F' if depth > 0 => redact_table(payload, copy, value, depth.saturating_sub(1)),
        b'A' if depth > 0 => {
            let mut rest = value;
            while let Ok((after, (kind, element))) = table::element(rest) {
                redact_value(payload, copy, kind, element, false, depth.saturating_sub(1));
                rest = after;
            }
            fill(payload, range_of(copy, rest), 0);
        }
        b'F' | b'A' => fill(payload, range, 0),
        _ => {}
    }
}

/// Redacts the head of an HTTP message, from the start line to the empty
/// line. A head that cannot be read is blanked as a whole.
pub fn redact_http_head(head: &mut [u8], side: Side, hash: Hash<'_>) {
    let copy = head.to_vec();
    if parse(&copy, side, hash).is_none() || redact_parts(head, &copy, side, hash).is_none() {
        blank(head, BLANK);
    }
}

fn redact_parts(head: &mut [u8], copy: &[u8], side: Side, hash: Hash<'_>) -> Option<()> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let headers = match side {
        Side::Requests => {
            let mut request = httparse::Request::new(&mut headers);
            request.parse(copy).ok()?;
            let method = request.method.and_then(Method::from_name);
            redact_target(head, copy, method, request.path?, hash);
            request.headers
        }
        Side::Responses => {
            let mut response = httparse::Response::new(&mut headers);
            response.parse(copy).ok()?;
            let reason = response.reason.unwrap_or_default();
            if !is_reason(reason) {
                fill(head, range_of(copy, reason.as_bytes()), BLANK);
            }
            response.headers
        }
    };
    for header in headers.iter().filter(|header| !header.value.is_empty()) {
        let range = range_of(copy, header.value);
        redact_field(head.get_mut(range)?, header.name, hash);
    }
    Some(())
}

/// Whether a reason phrase is kept: a few words.
fn is_reason(reason: &str) -> bool {
    const MAX_REASON: usize = 40;
    reason.len() <= MAX_REASON
        && reason
            .bytes()
            .all(|byte| byte.is_ascii_alphabetic() || byte == b' ')
}

fn redact_field(value: &mut [u8], name: &str, hash: Hash<'_>) {
    let text = printable(value);
    let with = match field(name) {
        None => Some(BLANK),
        Some(Field::AuthToken | Field::SubjectToken | Field::OtherToken) => {
            let trimmed = range_of(value, value.trim_ascii());
            if let Some(token) = value.get_mut(trimmed) {
                hide_token(token, hash);
            }
            None
        }
        Some(Field::Connection) => text
            .is_none_or(|text| !is_identifier(text))
            .then_some(BLANK),
        Some(Field::Host | Field::ContentEncoding | Field::RequestId | Field::ComputeRequestId) => {
            text.is_none_or(|text| !is_identifier(text))
                .then_some(REFUSED)
        }
        Some(
            Field::UserAgent
            | Field::ContentType
            | Field::ApiVersion
            | Field::NovaApiVersion
            | Field::ContentLength
            | Field::TransferEncoding,
        ) => text.is_none().then_some(UNPRINTABLE),
    };
    if let Some(with) = with {
        blank(value, with);
    }
}

/// Blanks what is not kept of a request target: the authority, path segments
/// that are tokens, values of query parameters.
fn redact_target(
    head: &mut [u8],
    copy: &[u8],
    method: Option<Method>,
    target: &str,
    hash: Hash<'_>,
) {
    let start = path_start(target);
    if let Some(scheme) = target.find("://") {
        let authority = target
            .get(scheme.saturating_add(3)..start)
            .unwrap_or_default();
        fill(head, range_of(copy, authority.as_bytes()), BLANK);
    }
    let rest = target.get(start..).unwrap_or_default();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (path, fragment) = path.split_once('#').unwrap_or((path, ""));
    if !fragment.is_empty() {
        fill(head, range_of(copy, fragment.as_bytes()), BLANK);
    }
    let found = method.and_then(|method| super::classify(method, path));
    let mut hide = false;
    for segment in path.split('/') {
        let range = range_of(copy, segment.as_bytes());
        if !hide && !super::is_kept(segment, found.as_ref()) {
            fill(head, range, BLANK);
        } else if hide
            && !segment.is_empty()
            && let Some(token) = head.get_mut(range)
        {
            hide_token(token, hash);
        }
        hide = announces_token(segment);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !name.is_empty() && !is_parameter(name) {
            fill(head, range_of(copy, name.as_bytes()), REFUSED);
        }
        if !value.is_empty() {
            fill(head, range_of(copy, value.as_bytes()), BLANK);
        }
    }
}

/// Redacts one whole HTTP message, head and body; `request` is the method
/// that a response answers.
pub fn redact_http(message: &mut [u8], side: Side, request: Option<Method>, hash: Hash<'_>) {
    let limit = message.get(..MAX_HEAD).unwrap_or(message);
    let parsed = head_length(limit, 0)
        .and_then(|length| Some((length, parse(message.get(..length)?, side, hash)?)));
    let Some((length, parsed)) = parsed else {
        blank(message, BLANK);
        return;
    };
    let Some((head, body)) = message.split_at_mut_checked(length) else {
        return;
    };
    redact_http_head(head, side, hash);
    match parsed.framing(request) {
        Framing::None | Framing::Tunnel => blank(body, BLANK),
        Framing::Length(_) | Framing::UntilClose if parsed.is_json() => {
            redact_http_body(body, hash);
        }
        Framing::Length(_) | Framing::UntilClose => blank(body, BLANK),
        Framing::Chunked => redact_chunks(body, parsed.is_json(), hash),
    }
}

/// Redacts a body in chunks (RFC 9112, section 7.1): the sizes stay, chunk
/// extensions and trailer fields are blanked.
fn redact_chunks(body: &mut [u8], json: bool, hash: Hash<'_>) {
    let mut at = 0_usize;
    let mut data: Vec<u8> = Vec::new();
    let mut places: Vec<Range<usize>> = Vec::new();
    loop {
        let rest = body.get(at..).unwrap_or_default();
        let Some(line) = memchr::memchr(b'\n', rest) else {
            break;
        };
        let digits = rest
            .iter()
            .take(line)
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let size = rest
            .get(..digits)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let Some(size) = size else { break };
        let extension = at.saturating_add(digits)..at.saturating_add(line);
        let start = at.saturating_add(line).saturating_add(1);
        if let Some(extension) = body.get_mut(extension) {
            keep_framing(extension);
        }
        at = start;
        if size == 0 {
            break;
        }
        let end = start.saturating_add(size).min(body.len());
        data.extend_from_slice(body.get(start..end).unwrap_or_default());
        places.push(start..end);
        let behind = body.get(end..).unwrap_or_default();
        at = end
            + if behind.starts_with(b"\r\n") {
                2
            } else {
                usize::from(behind.starts_with(b"\n"))
            };
    }
    if let Some(trailers) = body.get_mut(at..) {
        blank_lines(trailers);
    }
    if json {
        redact_http_body(&mut data, hash);
    } else {
        blank(&mut data, BLANK);
    }
    let mut from = data.as_slice();
    for place in places {
        if let Some(part) = body.get_mut(place)
            && let Some((head, rest)) = from.split_at_checked(part.len())
        {
            part.copy_from_slice(head);
            from = rest;
        }
    }
}

/// Blanks a chunk extension: `;` and the carriage return stay.
fn keep_framing(extension: &mut [u8]) {
    for byte in extension {
        if !matches!(*byte, b';' | b'\r' | b' ' | b'\t') {
            *byte = BLANK;
        }
    }
}

fn blank_lines(lines: &mut [u8]) {
    for byte in lines {
        if !matches!(*byte, b'\r' | b'\n') {
            *byte = BLANK;
        }
    }
}
