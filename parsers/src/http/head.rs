//! Heads of HTTP/1.1 messages (RFC 9112, sections 2 to 5).

use crate::BLANK;
use crate::json::is_identifier;
use crate::openstack::{classify, is_kept};

/// Longest head, from the start line to the empty line.
pub const MAX_HEAD: usize = 64 << 10;
/// Most header fields of one head.
pub const MAX_HEADERS: usize = 128;
/// Longest request target.
pub const MAX_TARGET: usize = 8 << 10;
/// Most names of query parameters that are kept.
pub const MAX_QUERY: usize = 32;
/// Longest text of a header field that is kept.
pub const MAX_VALUE: usize = 255;

/// Request methods (RFC 9110, section 9; RFC 5789).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// PATCH
    Patch,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// CONNECT
    Connect,
}

/// The methods by name.
const METHODS: &[(&str, Method)] = &[
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("DELETE", Method::Delete),
    ("PATCH", Method::Patch),
    ("OPTIONS", Method::Options),
    ("TRACE", Method::Trace),
    ("CONNECT", Method::Connect),
];

impl Method {
    /// By the name on the wire.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        METHODS
            .iter()
            .find(|&&(known, _)| known == name)
            .map(|&(_, method)| method)
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        METHODS
            .iter()
            .find(|&&(_, method)| method == self)
            .map_or("", |&(name, _)| name)
    }
}

/// The two directions of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From the client.
    Requests,
    /// From the server.
    Responses,
}

/// Whether bytes can be the beginning of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The start line is complete.
    Good,
    /// As far as it is there, it fits.
    Open,
    /// No.
    Bad,
}

/// Takes a literal: `Err(true)` when the input is only its beginning.
fn literal<'a>(input: &'a [u8], text: &[u8]) -> Result<&'a [u8], bool> {
    match input.strip_prefix(text) {
        Some(rest) => Ok(rest),
        None => Err(text.starts_with(input)),
    }
}

fn digit(input: &[u8], allowed: std::ops::RangeInclusive<u8>) -> Result<&[u8], bool> {
    match input.split_first() {
        Some((first, rest)) if allowed.contains(first) => Ok(rest),
        Some(_) => Err(false),
        None => Err(true),
    }
}

fn status_line(input: &[u8]) -> Result<(), bool> {
    let rest = literal(input, b"HTTP/1.")?;
    let rest = digit(rest, b'0'..=b'1')?;
    let rest = literal(rest, b" ")?;
    let rest = digit(rest, b'1'..=b'9')?;
    let rest = digit(rest, b'0'..=b'9')?;
    let rest = digit(rest, b'0'..=b'9')?;
    match rest.first() {
        Some(b' ' | b'\r' | b'\n') => Ok(()),
        Some(_) => Err(false),
        None => Err(true),
    }
}

fn request_line(input: &[u8]) -> Result<(), bool> {
    let mut outcome = Err(false);
    for (name, _) in METHODS {
        match literal(input, name.as_bytes()) {
            Ok(rest) => {
                outcome = Ok(rest);
                break;
            }
            Err(open) => outcome = outcome.map_err(|before| before || open),
        }
    }
    let rest = literal(outcome?, b" ")?;
    let window = rest.get(..MAX_TARGET).unwrap_or(rest);
    let length = window
        .iter()
        .position(|&byte| byte <= b' ' || byte == 0x7F)
        .ok_or(rest.len() < MAX_TARGET)?;
    if length == 0 {
        return Err(false);
    }
    let rest = literal(rest.get(length..).unwrap_or_default(), b" HTTP/1.")?;
    let rest = digit(rest, b'0'..=b'1')?;
    match rest.first() {
        Some(b'\r' | b'\n') => Ok(()),
        Some(_) => Err(false),
        None => Err(true),
    }
}

/// Judges the beginning of a message.
pub(crate) fn start(input: &[u8], side: Side) -> Start {
    let line = match side {
        Side::Requests => request_line(input),
        Side::Responses => status_line(input),
    };
    match line {
        Ok(()) => Start::Good,
        Err(true) => Start::Open,
        Err(false) => Start::Bad,
    }
}

/// Length of a head with its empty line, looking from `scanned` on.
pub(crate) fn head_length(data: &[u8], scanned: usize) -> Option<usize> {
    let from = scanned.saturating_sub(3);
    let rest = data.get(from..)?;
    memchr::memchr_iter(b'\n', rest).find_map(|at| {
        let after = rest.get(at.saturating_add(1)..)?;
        let empty = if after.starts_with(b"\r\n") {
            2
        } else if after.starts_with(b"\n") {
            1
        } else {
            return None;
        };
        Some(from.saturating_add(at).saturating_add(1 + empty))
    })
}

/// Header fields on the allow list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    /// `Host`
    pub host: Option<String>,
    /// `User-Agent`
    pub user_agent: Option<String>,
    /// `Content-Type`
    pub content_type: Option<String>,
    /// `Content-Length`
    pub content_length: Option<u64>,
    /// `Content-Encoding`
    pub content_encoding: Option<String>,
    /// `X-OpenStack-Request-ID`: in a request the global id, in a response the
    /// request's own.
    pub request_id: Option<String>,
    /// `X-Compute-Request-ID`
    pub compute_request_id: Option<String>,
    /// `OpenStack-API-Version`, or Nova's older header.
    pub api_version: Option<String>,
    /// Keyed hash of `X-Auth-Token`.
    pub token: Option<u64>,
    /// Keyed hash of `X-Subject-Token`.
    pub subject_token: Option<u64>,
}

/// What a header field is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Host,
    UserAgent,
    ContentType,
    ContentLength,
    ContentEncoding,
    TransferEncoding,
    Connection,
    RequestId,
    ComputeRequestId,
    ApiVersion,
    NovaApiVersion,
    AuthToken,
    SubjectToken,
    OtherToken,
}

/// The allow list of header fields. Every other field is not read.
pub(crate) const FIELDS: &[(&str, Field)] = &[
    ("host", Field::Host),
    ("user-agent", Field::UserAgent),
    ("content-type", Field::ContentType),
    ("content-length", Field::ContentLength),
    ("content-encoding", Field::ContentEncoding),
    ("transfer-encoding", Field::TransferEncoding),
    ("connection", Field::Connection),
    ("x-openstack-request-id", Field::RequestId),
    ("x-compute-request-id", Field::ComputeRequestId),
    ("openstack-api-version", Field::ApiVersion),
    ("x-openstack-nova-api-version", Field::NovaApiVersion),
    ("x-auth-token", Field::AuthToken),
    ("x-subject-token", Field::SubjectToken),
    ("x-service-token", Field::OtherToken),
    ("x-storage-token", Field::OtherToken),
];

/// The use of a header field.
pub(crate) fn field(name: &str) -> Option<Field> {
    FIELDS
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
        .map(|&(_, field)| field)
}

/// A field's value, if it is a short text of printable ASCII.
pub(crate) fn printable(value: &[u8]) -> Option<&str> {
    let value = value.trim_ascii();
    (!value.is_empty()
        && value.len() <= MAX_VALUE
        && value.iter().all(|byte| (b' '..=b'~').contains(byte)))
    .then(|| std::str::from_utf8(value).ok())
    .flatten()
}

fn identifier(value: &[u8]) -> Option<String> {
    printable(value)
        .filter(|value| is_identifier(value))
        .map(str::to_owned)
}

/// How the end of a body is known (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
    Tunnel,
}

/// The start line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Request {
        method: Method,
        path: String,
        query: Vec<String>,
    },
    Status(u16),
}

/// A decoded head.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) line: Line,
    pub(crate) headers: Headers,
    chunked: bool,
    coded: bool,
}

/// Reads a whole head.
pub(crate) fn parse(data: &[u8], side: Side, hash: &dyn Fn(&[u8]) -> u64) -> Option<Head> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let (line, fields) = match side {
        Side::Requests => {
            let mut request = httparse::Request::new(&mut fields);
            request.parse(data).ok().filter(|s| s.is_complete())?;
            let method = Method::from_name(request.method?)?;
            let (path, query) = target(method, request.path?);
            let line = Line::Request {
                method,
                path,
                query,
            };
            (line, &*request.headers)
        }
        Side::Responses => {
            let mut response = httparse::Response::new(&mut fields);
            response.parse(data).ok().filter(|s| s.is_complete())?;
            (Line::Status(response.code?), &*response.headers)
        }
    };
    let mut head = Head {
        line,
        headers: Headers::default(),
        chunked: false,
        coded: false,
    };
    for header in fields {
        if let Some(field) = field(header.name) {
            head.set(field, header.value, hash)?;
        }
    }
    Some(head)
}

impl Head {
    /// Takes one field over; nothing if the message cannot be framed.
    fn set(&mut self, field: Field, value: &[u8], hash: &dyn Fn(&[u8]) -> u64) -> Option<()> {
        let headers = &mut self.headers;
        let text = || printable(value).map(str::to_owned);
        match field {
            Field::Host => headers.host = identifier(value),
            Field::UserAgent => headers.user_agent = text(),
            Field::ContentType => headers.content_type = text(),
            Field::ContentLength => {
                let length = printable(value)
                    .filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))?
                    .parse()
                    .ok()?;
                if headers.content_length.is_some_and(|other| other != length) {
                    return None;
                }
                headers.content_length = Some(length);
            }
            Field::ContentEncoding => headers.content_encoding = identifier(value),
            Field::TransferEncoding => {
                let last = printable(value)?.rsplit(',').next()?.trim();
                self.chunked = last.eq_ignore_ascii_case("chunked");
                self.coded = !self.chunked || printable(value)?.contains(',');
            }
            Field::RequestId => headers.request_id = identifier(value),
            Field::ComputeRequestId => headers.compute_request_id = identifier(value),
            Field::ApiVersion => headers.api_version = text(),
            Field::NovaApiVersion => {
                if headers.api_version.is_none() {
                    headers.api_version = text();
                }
            }
            Field::AuthToken => headers.token = Some(hash(value.trim_ascii())),
            Field::SubjectToken => headers.subject_token = Some(hash(value.trim_ascii())),
            Field::Connection | Field::OtherToken => {}
        }
        Some(())
    }

    /// How the body ends; a response needs the method of its request.
    pub(crate) fn framing(&self, request: Option<Method>) -> Framing {
        let length = self.headers.content_length;
        match self.line {
            Line::Request { .. } if self.chunked => Framing::Chunked,
            Line::Request { .. } => length.map_or(Framing::None, Framing::Length),
            Line::Status(101) => Framing::Tunnel,
            Line::Status(200..=299) if request == Some(Method::Connect) => Framing::Tunnel,
            Line::Status(100..=199 | 204 | 304) => Framing::None,
            Line::Status(_) if request == Some(Method::Head) => Framing::None,
            Line::Status(_) if self.chunked => Framing::Chunked,
            Line::Status(_) if self.coded => Framing::UntilClose,
            Line::Status(_) => length.map_or(Framing::UntilClose, Framing::Length),
        }
    }

    /// Whether the body is JSON that can be read as it is.
    pub(crate) fn is_json(&self) -> bool {
        let plain = self
            .headers
            .content_encoding
            .as_deref()
            .is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
        plain
            && !self.coded
            && self
                .headers
                .content_type
                .as_deref()
                .is_some_and(is_json_type)
    }
}

/// `application/json` and types with the suffix `+json` (RFC 6839).
pub(crate) fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence
            .to_ascii_lowercase()
            .strip_prefix("application/")
            .is_some_and(|subtype| subtype.ends_with("+json"))
}

/// In place of a path segment that is a token.
pub const HIDDEN: &str = "*";

/// Whether the path segment behind this one is a token: `tokens`,
/// `os-console-auth-tokens`, `ec2tokens`.
pub(crate) fn announces_token(segment: &str) -> bool {
    segment.ends_with("tokens")
}

/// Where the path of a target begins, without scheme and authority.
pub(crate) fn path_start(target: &str) -> usize {
    target.find("://").map_or(0, |scheme| {
        let authority = scheme.saturating_add(3);
        target
            .get(authority..)
            .and_then(|rest| rest.find('/'))
            .map_or(target.len(), |path| authority.saturating_add(path))
    })
}

/// Path and names of the query parameters of a request target. Segments that
/// are tokens, and the parameters' values, are left out; segments that are on
/// no allow list are blank.
pub(crate) fn target(method: Method, target: &str) -> (String, Vec<String>) {
    let target = target.get(path_start(target)..).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.split('#').next().unwrap_or_default();
    let found = classify(method, path);
    let mut kept = String::with_capacity(path.len());
    let mut hide = false;
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            kept.push('/');
        }
        if hide && !segment.is_empty() {
            kept.push_str(HIDDEN);
        } else if is_kept(segment, found.as_ref()) {
            kept.push_str(segment);
        } else {
            kept.extend(segment.bytes().map(|_| char::from(BLANK)));
        }
        hide = announces_token(segment);
    }
    let names = query
        .split('&')
        .map(|pair| pair.split('=').next().unwrap_or_default())
        .filter(|name| is_parameter(name))
        .take(MAX_QUERY)
        .map(str::to_owned)
        .collect();
    (kept, names)
}

/// Whether the name of a query parameter is kept.
pub(crate) fn is_parameter(name: &str) -> bool {
    const MAX_NAME: usize = 64;
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.:%".contains(&byte))
}
