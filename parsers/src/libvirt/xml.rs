//! Blanks XML in place but for a list of places, and reads what is left.
//!
//! Both [`super::message::decode`] and [`super::redact::redact`] look at XML only after
//! [`scrub`], so that the one cannot read what the other blanks.

use std::{ops::Range, str};

use memchr::{memchr, memmem};

use crate::BLANK;

/// Deepest nesting of elements; a domain's XML needs about ten.
const MAX_DEPTH: usize = 64;

/// Longest name of an element or attribute.
const MAX_NAME: usize = 128;

/// Most nodes of a document; a domain with a hundred disks has some thousand.
const MAX_NODES: u32 = 1 << 16;

/// A place in a document whose value stays.
pub(super) struct Rule {
    /// Names of the elements around, from the root.
    parents: &'static [&'static str],
    /// Names of the element, any of which will do.
    elements: &'static [&'static str],
    /// An attribute of the element, or its text.
    attribute: Option<&'static str>,
    /// What the value must look like.
    class: Class,
}

impl Rule {
    pub(super) const fn new(
        parents: &'static [&'static str],
        elements: &'static [&'static str],
        attribute: Option<&'static str>,
        class: Class,
    ) -> Self {
        Self {
            parents,
            elements,
            attribute,
            class,
        }
    }
}

/// What a value that stays must look like, blanks around it aside.
#[derive(Clone, Copy)]
pub(super) enum Class {
    /// Anything.
    Any,
    /// A decimal number, maybe with a sign.
    Number,
    /// Letters, digits, and what joins them in identifiers.
    Identifier,
    /// Hexadecimal digits with dashes or colons.
    Hexadecimal,
}

impl Class {
    fn holds(self, value: &[u8]) -> bool {
        let value = value.trim_ascii();
        match self {
            Self::Any => true,
            Self::Number => {
                let digits = value.strip_prefix(b"-").unwrap_or(value);
                digits.iter().all(u8::is_ascii_digit)
            }
            Self::Identifier => value.iter().all(|&byte| identifier(byte)),
            Self::Hexadecimal => value
                .iter()
                .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b':')),
        }
    }
}

/// Whether a byte may stand in an identifier.
pub(super) const fn identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':')
}

/// Blanks every value and text that no rule names. The markup stays, and so does white space in
/// texts; comments, CDATA sections and processing instructions stay as empty of meaning. What is
/// no XML, or has a document type, is blanked as a whole. Does nothing more the second time.
pub(super) fn scrub(xml: &mut [u8], rules: &[Rule]) {
    if scan(xml, rules).is_none() {
        xml.fill(BLANK);
    }
}

/// Parses what [`scrub`] has left and hands it to `read`.
pub(super) fn read<T>(
    scrubbed: &[u8],
    read: impl FnOnce(roxmltree::Node<'_, '_>) -> Option<T>,
) -> Option<T> {
    let text = String::from_utf8_lossy(scrubbed);
    let options = roxmltree::ParsingOptions {
        allow_dtd: false,
        nodes_limit: MAX_NODES,
        ..roxmltree::ParsingOptions::default()
    };
    let document = roxmltree::Document::parse_with_options(&text, options).ok()?;
    read(document.root_element())
}

/// The elements of a name directly below a node.
pub(super) fn children<'a, 'input: 'a>(
    node: roxmltree::Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = roxmltree::Node<'a, 'input>> {
    node.children()
        .filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The text of the first element of a name below a node, without white space around; empty texts
/// count as absent.
pub(super) fn child_text(node: roxmltree::Node<'_, '_>, name: &'static str) -> Option<String> {
    let text = children(node, name).next()?.text()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Hexadecimal digits as bytes, separators left out; nothing if there are not exactly `N` bytes.
pub(super) fn hexadecimal<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut digits = text.trim().chars().filter(|c| !matches!(c, '-' | ':'));
    for byte in &mut bytes {
        let high = digits.next()?.to_digit(16)?;
        let low = digits.next()?.to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

/// Goes through the document, blanking on its way. Nothing if it is none.
fn scan(xml: &mut [u8], rules: &[Rule]) -> Option<()> {
    // Names of the elements that are open, as ranges of `xml`; names are never blanked.
    let mut open: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < xml.len() {
        let rest = xml.get(at..)?;
        if !rest.starts_with(b"<") {
            let end = memchr(b'<', rest).map_or(xml.len(), |length| at.saturating_add(length));
            if !allowed(xml, &open, None, at..end, rules) {
                let text = xml.get_mut(at..end)?;
                for byte in text.iter_mut().filter(|byte| !byte.is_ascii_whitespace()) {
                    *byte = BLANK;
                }
            }
            at = end;
        } else if rest.starts_with(b"<!--") {
            at = section(xml, at, b"<!--", b"-->")?;
        } else if rest.starts_with(b"<![CDATA[") {
            at = section(xml, at, b"<![CDATA[", b"]]>")?;
        } else if rest.starts_with(b"<?") {
            at = section(xml, at, b"<?", b"?>")?;
        } else if rest.starts_with(b"</") {
            let name = name(xml, at.saturating_add(2))?;
            let opened = open.pop()?;
            if xml.get(name.clone())? != xml.get(opened)? {
                return None;
            }
            at = punctuation(xml, white_space(xml, name.end), b'>')?;
        } else {
            at = tag(xml, at.saturating_add(1), &mut open, rules)?;
        }
    }
    open.is_empty().then_some(())
}

/// A start tag, from its name on. Gives the place behind it.
fn tag(xml: &mut [u8], at: usize, open: &mut Vec<Range<usize>>, rules: &[Rule]) -> Option<usize> {
    if open.len() >= MAX_DEPTH {
        return None;
    }
    let element = name(xml, at)?;
    let mut at = element.end;
    open.push(element);
    loop {
        at = white_space(xml, at);
        match xml.get(at)? {
            b'>' => return Some(at.saturating_add(1)),
            b'/' => {
                open.pop();
                return punctuation(xml, at.saturating_add(1), b'>');
            }
            _ => {}
        }
        let attribute = name(xml, at)?;
        at = white_space(
            xml,
            punctuation(xml, white_space(xml, attribute.end), b'=')?,
        );
        let quote = *xml.get(at).filter(|byte| matches!(byte, b'"' | b'\''))?;
        let begin = at.saturating_add(1);
        let end = begin.saturating_add(memchr(quote, xml.get(begin..)?)?);
        if xml.get(begin..end)?.contains(&b'<') {
            return None;
        }
        if !allowed(xml, open, Some(attribute), begin..end, rules) {
            xml.get_mut(begin..end)?.fill(BLANK);
        }
        at = end.saturating_add(1);
    }
}

/// Whether a rule lets the value of an attribute, or of the innermost element's text, stay.
fn allowed(
    xml: &[u8],
    open: &[Range<usize>],
    attribute: Option<Range<usize>>,
    value: Range<usize>,
    rules: &[Rule],
) -> bool {
    let text = |range: &Range<usize>| {
        xml.get(range.clone())
            .and_then(|name| str::from_utf8(name).ok())
            .unwrap_or_default()
    };
    let Some((element, parents)) = open.split_last() else {
        return false;
    };
    let attribute = attribute.as_ref().map(text);
    let element = text(element);
    rules.iter().any(|rule| {
        rule.attribute == attribute
            && rule.elements.contains(&element)
            && rule.parents.iter().copied().eq(parents.iter().map(text))
            && xml
                .get(value.clone())
                .is_some_and(|value| rule.class.holds(value))
    })
}

/// Blanks what stands between two marks. Gives the place behind the second.
fn section(xml: &mut [u8], at: usize, from: &[u8], to: &[u8]) -> Option<usize> {
    let begin = at.saturating_add(from.len());
    let end = begin.saturating_add(memmem::find(xml.get(begin..)?, to)?);
    xml.get_mut(begin..end)?.fill(BLANK);
    Some(end.saturating_add(to.len()))
}

/// The name that begins at a place.
fn name(xml: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = xml.get(at..)?;
    let length = rest.iter().take_while(|&&byte| identifier(byte)).count();
    let begins = rest
        .first()
        .is_some_and(|&byte| byte.is_ascii_alphabetic() || byte == b'_');
    (begins && length <= MAX_NAME).then(|| at..at.saturating_add(length))
}

/// The place behind white space.
fn white_space(xml: &[u8], at: usize) -> usize {
    let rest = xml.get(at..).unwrap_or_default();
    at.saturating_add(
        rest.iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count(),
    )
}

/// The place behind a byte that must be here.
fn punctuation(xml: &[u8], at: usize, byte: u8) -> Option<usize> {
    (xml.get(at) == Some(&byte)).then(|| at.saturating_add(1))
}
