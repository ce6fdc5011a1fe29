//! The scanner that blanks strings of a JSON text in place. JSON inside a
//! string is scanned like the text around it, up to [`MAX_NESTING`].

use super::fields::{TOKEN_KEY, TOKEN_OBJECT};
use super::redact::{REFUSED, hide_token};
use crate::BLANK;
use crate::http::Hash;
use crate::json::{Rules, Shape, character};

/// Deepest nesting of JSON inside strings.
const MAX_NESTING: usize = 4;
/// Deepest nesting of objects and arrays in one text.
const MAX_DEPTH: usize = 256;
/// Longest key that is kept.
const MAX_KEY: usize = 64;
/// Literals besides numbers and strings (RFC 8259, section 3).
const LITERALS: [&[u8]; 3] = [b"true", b"false", b"null"];

/// Fills a text.
pub(crate) fn blank(text: &mut [u8], with: u8) {
    text.fill(with);
}

/// Blanks every string of a JSON text that the allow list does not name.
pub(crate) fn redact_json(text: &mut [u8], rules: Rules, hash: Hash<'_>) {
    scan(text, rules, hash, MAX_NESTING);
}

/// An open object or array.
struct Level {
    object: bool,
    /// In an object: whether the next string is a key.
    key: bool,
    /// Shape for the strings that follow.
    shape: Option<Shape>,
    /// Whether this is an object under the key `token`.
    token: bool,
    /// Whether the last key was `token`.
    token_next: bool,
}

/// A string without its escapes, and where each byte lies on the wire.
struct Text {
    bytes: Vec<u8>,
    places: Vec<(usize, usize)>,
    /// Position behind the closing quote, or the end of the text.
    end: usize,
    closed: bool,
}

fn string(text: &[u8], start: usize) -> Text {
    let mut found = Text {
        bytes: Vec::new(),
        places: Vec::new(),
        end: text.len(),
        closed: false,
    };
    let mut at = start;
    while let Some((bytes, used, length)) = text.get(at..).and_then(character) {
        if length == 1 && bytes.first() == Some(&b'"') {
            found.end = at.saturating_add(1);
            found.closed = true;
            break;
        }
        for (index, byte) in bytes.iter().take(used).enumerate() {
            found.bytes.push(*byte);
            found.places.push((at, if index == 0 { length } else { 0 }));
        }
        at = at.saturating_add(length);
    }
    if !found.closed {
        // What is left of a broken escape belongs to the last place.
        let left = text.len().saturating_sub(at);
        if left > 0 {
            found.bytes.push(0);
            found.places.push((at, left));
        }
    }
    found
}

impl Text {
    /// Writes back the bytes that differ from what was read.
    fn write(&self, text: &mut [u8], new: &[u8]) {
        for ((old, new), &(at, length)) in self.bytes.iter().zip(new).zip(&self.places) {
            if old != new
                && let Some(place) = text.get_mut(at..at.saturating_add(length))
            {
                place.fill(*new);
            }
        }
    }

    fn fill(&self, text: &mut [u8], with: u8) {
        for &(at, length) in &self.places {
            if let Some(place) = text.get_mut(at..at.saturating_add(length)) {
                place.fill(with);
            }
        }
    }
}

/// Whether a key is kept.
fn is_key(key: &[u8]) -> bool {
    key.len() <= MAX_KEY && std::str::from_utf8(key).is_ok_and(crate::json::is_identifier)
}

fn scan(text: &mut [u8], rules: Rules, hash: Hash<'_>, nesting: usize) {
    let mut levels: Vec<Level> = Vec::new();
    let mut at = 0_usize;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                let found = string(text, at.saturating_add(1));
                at = found.end;
                match levels.last_mut() {
                    Some(level) if level.object && level.key => {
                        level.key = false;
                        take_key(level, text, &found, rules);
                    }
                    level => {
                        let shape = level.and_then(|level| level.shape);
                        value(text, &found, shape, rules, hash, nesting);
                    }
                }
                continue;
            }
            b'{' | b'[' => {
                if levels.len() >= MAX_DEPTH {
                    blank(text.get_mut(at..).unwrap_or_default(), BLANK);
                    return;
                }
                let (shape, token) = levels
                    .last()
                    .map_or((None, false), |level| (level.shape, level.token_next));
                let object = byte == b'{';
                levels.push(Level {
                    object,
                    key: object,
                    shape: if object { None } else { shape },
                    token: object && token,
                    token_next: false,
                });
            }
            b'}' | b']' => {
                levels.pop();
            }
            b',' => {
                if let Some(level) = levels.last_mut().filter(|level| level.object) {
                    level.key = true;
                    level.shape = None;
                    level.token_next = false;
                }
            }
            b':'
            | b' '
            | b'\t'
            | b'\r'
            | b'\n'
            | b'0'..=b'9'
            | b'+'
            | b'-'
            | b'.'
            | b'e'
            | b'E' => {}
            _ => {
                let rest = text.get(at..).unwrap_or_default();
                match LITERALS.iter().find(|literal| rest.starts_with(literal)) {
                    Some(literal) => {
                        at = at.saturating_add(literal.len());
                        continue;
                    }
                    None => {
                        if let Some(byte) = text.get_mut(at) {
                            *byte = BLANK;
                        }
                    }
                }
            }
        }
        at = at.saturating_add(1);
    }
}

fn take_key(level: &mut Level, text: &mut [u8], found: &Text, rules: Rules) {
    let key = std::str::from_utf8(&found.bytes).unwrap_or_default();
    level.token_next = key == TOKEN_OBJECT;
    level.shape = if level.token && key == TOKEN_KEY {
        Some(Shape::Token)
    } else {
        rules.shape(key)
    };
    if !found.closed || !is_key(&found.bytes) {
        found.fill(text, BLANK);
    }
}

fn value(
    text: &mut [u8],
    found: &Text,
    shape: Option<Shape>,
    rules: Rules,
    hash: Hash<'_>,
    nesting: usize,
) {
    let Some(shape) = shape else {
        found.fill(text, BLANK);
        return;
    };
    match shape {
        Shape::Json if nesting > 0 && is_json(found) => {
            let mut inner = found.bytes.clone();
            scan(&mut inner, rules, hash, nesting.saturating_sub(1));
            found.write(text, &inner);
        }
        Shape::Token if found.closed => {
            let mut token = found.bytes.clone();
            hide_token(&mut token, hash);
            found.write(text, &token);
        }
        Shape::Json | Shape::Token => found.fill(text, BLANK),
        _ => {
            let kept = std::str::from_utf8(&found.bytes).is_ok_and(|value| shape.accepts(value));
            if !found.closed {
                found.fill(text, BLANK);
            } else if !kept {
                found.fill(text, REFUSED);
            }
        }
    }
}

/// Whether a string holds JSON, or the beginning of it when it is cut off.
fn is_json(found: &Text) -> bool {
    let bytes = &found.bytes;
    if found.closed {
        serde_json::from_slice::<serde_json::Value>(bytes).is_ok()
    } else {
        matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'['))
    }
}
