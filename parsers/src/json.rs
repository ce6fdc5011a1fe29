//! The allow lists for JSON: which strings may be kept, by key and shape, and
//! the reading of texts that were cut off.

use serde_json::{Map, Value};

/// Longest string that is kept.
pub const MAX_TEXT: usize = 255;
/// Deepest nesting followed in a text that was cut off.
const MAX_DEPTH: usize = 127;

/// Octets of an identifier besides letters and digits.
const PUNCTUATION: &[u8] = b"-_.:/@+,()";
/// Places of the hyphens in a UUID (RFC 9562, section 4).
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const UUID_LENGTH: usize = 36;
/// Names of external events (`nova/objects/external_event.py`).
pub const EVENTS: &[&str] = &[
    "network-changed",
    "network-vif-plugged",
    "network-vif-unplugged",
    "network-vif-deleted",
    "volume-extended",
    "volume-reimaged",
    "power-update",
    "accelerator-request-bound",
];

/// Whether a text is an identifier: letters, digits and a few marks, no
/// spaces, no longer than [`MAX_TEXT`].
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_TEXT
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || PUNCTUATION.contains(&byte))
}

/// Whether a text is a UUID with hyphens.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    text.len() == UUID_LENGTH
        && text.bytes().enumerate().all(|(index, byte)| {
            if HYPHENS.contains(&index) {
                byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        })
}

/// What a string must look like to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// See [`is_identifier`].
    Identifier,
    /// See [`is_uuid`].
    Uuid,
    /// One of [`EVENTS`].
    Event,
    /// Digits and dots.
    Version,
    /// Nova's way to name migration methods and flags: `auto`, `True`, …
    Word,
    /// JSON inside a string; never kept itself.
    Json,
    /// A token; never kept itself.
    Token,
}

/// Values of [`Shape::Word`].
const WORDS: &[&str] = &["auto", "true", "false", "True", "False"];

impl Shape {
    /// Whether a string may be kept.
    #[must_use]
    pub(crate) fn accepts(self, text: &str) -> bool {
        match self {
            Self::Identifier => is_identifier(text),
            Self::Uuid => is_uuid(text),
            Self::Event => EVENTS.contains(&text),
            Self::Version => {
                is_identifier(text) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.'))
            }
            Self::Word => WORDS.contains(&text),
            Self::Json | Self::Token => false,
        }
    }
}

/// An allow list: keys, and the shape that a string under the key must have.
/// Strings in an array stand under the array's key.
#[derive(Debug, Clone, Copy)]
pub struct Rules(pub &'static [(&'static str, Shape)]);

impl Rules {
    /// The shape for a key, if the key is on the list.
    #[must_use]
    pub fn shape(self, key: &str) -> Option<Shape> {
        self.0
            .iter()
            .find(|&&(known, _)| known == key)
            .map(|&(_, shape)| shape)
    }

    /// The string under a key, if it may be kept.
    #[must_use]
    pub fn text(self, object: &Map<String, Value>, key: &str) -> Option<String> {
        self.value(key, object.get(key)?)
    }

    /// A value found under a key, if it is a string that may be kept.
    #[must_use]
    pub fn value(self, key: &str, value: &Value) -> Option<String> {
        let text = value.as_str()?;
        self.shape(key)?.accepts(text).then(|| text.to_owned())
    }
}

/// Reads a text that may have been cut off: the members that are complete.
#[must_use]
pub fn parse_prefix(text: &[u8]) -> Option<Value> {
    let mut closers: Vec<u8> = Vec::new();
    // The last place where the text can end. Every change of the open brackets
    // is such a place, so `closers` always belongs to it.
    let mut cut = None;
    let mut index = 0_usize;
    while let Some(&byte) = text.get(index) {
        index = index.saturating_add(1);
        match byte {
            b'"' => match string_length(text.get(index..).unwrap_or_default()) {
                Some(length) => index = index.saturating_add(length),
                None => break,
            },
            b'{' | b'[' => {
                if closers.len() >= MAX_DEPTH {
                    break;
                }
                closers.push(if byte == b'{' { b'}' } else { b']' });
                cut = Some(index);
            }
            b'}' | b']' => {
                if closers.pop() != Some(byte) {
                    return None;
                }
                cut = Some(index);
                if closers.is_empty() {
                    break;
                }
            }
            b',' => cut = Some(index.saturating_sub(1)),
            _ => {}
        }
    }
    let mut whole = text.get(..cut?)?.to_vec();
    whole.extend(closers.iter().rev());
    serde_json::from_slice(&whole).ok()
}

/// Length of a string up to and with the closing quote, if it is complete.
fn string_length(input: &[u8]) -> Option<usize> {
    let mut length = 0_usize;
    loop {
        let (bytes, _, wire) = character(input.get(length..)?)?;
        length = length.saturating_add(wire);
        if wire == 1 && bytes.first() == Some(&b'"') {
            return Some(length);
        }
    }
}

/// One character of a JSON string (RFC 8259, section 7): its bytes in UTF-8,
/// how many they are, and the length on the wire. A broken escape is `None`.
pub(crate) fn character(input: &[u8]) -> Option<([u8; 4], usize, usize)> {
    let (&first, rest) = input.split_first()?;
    if first != b'\\' {
        return Some(([first, 0, 0, 0], 1, 1));
    }
    let plain = match *rest.first()? {
        byte @ (b'"' | b'\\' | b'/') => byte,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unicode(rest.get(1..)?),
        _ => return None,
    };
    Some(([plain, 0, 0, 0], 1, 2))
}

fn hex(input: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(input.first_chunk::<4>()?).ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

fn unicode(digits: &[u8]) -> Option<([u8; 4], usize, usize)> {
    let high = hex(digits)?;
    let (code, length) = if (0xD800..0xDC00).contains(&high) {
        let low = digits
            .get(4..)?
            .strip_prefix(b"\\u")
            .and_then(hex)
            .filter(|low| (0xDC00..0xE000).contains(low))?;
        let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        (code, 12)
    } else {
        (high, 6)
    };
    let mut bytes = [0_u8; 4];
    let used = char::from_u32(code)?.encode_utf8(&mut bytes).len();
    Some((bytes, used, length))
}

/// The text of a JSON string whose opening quote is gone, up to the closing
/// one or as far as it can be read.
pub(crate) fn unescape_prefix(mut input: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(input.len());
    while let Some((bytes, used, length)) = character(input) {
        if length == 1 && bytes.first() == Some(&b'"') {
            break;
        }
        text.extend_from_slice(bytes.get(..used).unwrap_or_default());
        input = input.get(length..).unwrap_or_default();
    }
    text
}
