//! Anchors by which a decoder finds its place again in the middle of a stream.

use super::Probe;
use super::command;
use super::element::{self, ElementType, MAX_SECTION_ID};
use super::ram::{self, Record};
use memchr::memchr3;

/// Records that must follow one another before a place is believed. Each 64-bit word that fits by
/// chance has odds below 2^-20, so four leave no doubt.
const CHAIN: usize = 4;

/// What a search may hold back: a chain of full 64 KiB pages. Bytes.
pub const WINDOW: usize = CHAIN * (65_536 + 8 + 256);

/// Largest RAM block offset that is believed while the block list is unknown: 64 TiB. Bytes.
const MAX_ADDRESS: u64 = 1 << 46;

/// Result of [`search`]; numbers are positions in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No anchor begins before this position.
    Nothing(usize),
    /// A candidate stands here, but more bytes must tell.
    NeedMore(usize),
    /// A RAM record.
    Record(usize),
    /// A section footer.
    Footer(usize),
}

/// The first anchor in the input.
pub fn search(input: &[u8], page_size: u32, known: impl Fn(u32) -> bool) -> Found {
    // A page word ends with one of two flag bytes seven bytes after its first byte, a footer
    // begins with 0x7e.
    const WORD_END: usize = 7;
    let mut at = 0;
    while let Some(n) = memchr3(0x28, 0x22, 0x7e, &input[at..]) {
        let hit = at + n;
        at = hit + 1;
        if input[hit] == ElementType::SectionFooter as u8 {
            match any_footer(&input[hit..], &known) {
                Probe::Yes => return Found::Footer(hit),
                // The same byte may stand inside the word of a record.
                Probe::NeedMore => return Found::NeedMore(hit.saturating_sub(WORD_END)),
                Probe::No => {}
            }
        } else if let Some(start) = hit.checked_sub(WORD_END) {
            match chain(&input[start..], page_size) {
                Probe::Yes => return Found::Record(start),
                Probe::NeedMore => return Found::NeedMore(start),
                Probe::No => {}
            }
        }
    }
    // A word may have begun in the last seven bytes.
    Found::Nothing(match input.len().saturating_sub(WORD_END) {
        0 => return Found::NeedMore(0),
        n => n,
    })
}

/// Does a chain of records begin here: same block, ascending addresses?
fn chain(mut input: &[u8], page_size: u32) -> Probe {
    let mut last = None;
    for _ in 0..CHAIN {
        let (rest, record) = match ram::record(input, page_size) {
            Ok(ok) => ok,
            Err(nom::Err::Incomplete(_)) => return Probe::NeedMore,
            Err(_) => return Probe::No,
        };
        match record {
            Record::Page {
                address,
                block: None,
                content,
                ..
            } if address < MAX_ADDRESS && last.is_none_or(|l| address > l) => {
                last = Some(address);
                match rest.get(content as usize..) {
                    Some(r) => input = r,
                    None => return Probe::NeedMore,
                }
            }
            _ => return Probe::No,
        }
    }
    Probe::Yes
}

/// Footer of the section `id`, followed by what may follow it?
pub fn footer(input: &[u8], id: u32, known: impl Fn(u32) -> bool) -> Probe {
    let mut want = [0x7e, 0, 0, 0, 0];
    want[1..].copy_from_slice(&id.to_be_bytes());
    let n = input.len().min(want.len());
    if input[..n] != want[..n] {
        return Probe::No;
    }
    if n < want.len() {
        return Probe::NeedMore;
    }
    next_element(&input[5..], known)
}

/// Footer of any section, followed by a new section or a known one? The stream's end does not
/// count here: five bytes and a zero are too weak an anchor in the midst of guest memory.
fn any_footer(input: &[u8], known: impl Fn(u32) -> bool) -> Probe {
    let Some(id) = word(&input[1..]) else {
        return if input[1..].iter().all(|b| *b == 0) || input.len() < 4 {
            Probe::NeedMore
        } else {
            Probe::No
        };
    };
    if id >= MAX_SECTION_ID {
        return Probe::No;
    }
    match input.get(5) {
        None => Probe::NeedMore,
        Some(0x01..=0x04) => next_element(&input[5..], |i| known(i) || i == id),
        Some(_) => Probe::No,
    }
}

fn word(b: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(b.get(..4)?.try_into().ok()?))
}

/// Does an element begin here that can follow a section?
fn next_element(input: &[u8], known: impl Fn(u32) -> bool) -> Probe {
    let Some(kind) = input.first() else {
        return Probe::NeedMore;
    };
    match kind {
        0x00 => match input.get(1) {
            None => Probe::NeedMore,
            Some(0x06) => match input.get(2) {
                // A description is shorter than 16 MiB.
                None => Probe::NeedMore,
                Some(0) => Probe::Yes,
                Some(_) => Probe::No,
            },
            Some(_) => Probe::No,
        },
        0x01 | 0x04 => new_section_head(&input[1..]),
        0x02 | 0x03 => match word(&input[1..]) {
            None => Probe::NeedMore,
            Some(id) if known(id) => Probe::Yes,
            Some(_) => Probe::No,
        },
        0x08 => match input.get(1..5) {
            None => Probe::NeedMore,
            Some(&[a, b, c, d]) => {
                let number = u16::from_be_bytes([a, b]);
                let length = usize::from(u16::from_be_bytes([c, d]));
                if command::head_plausible(number, length) {
                    Probe::Yes
                } else {
                    Probe::No
                }
            }
            Some(_) => Probe::No,
        },
        _ => Probe::No,
    }
}

fn new_section_head(input: &[u8]) -> Probe {
    // The id is judged before the name is waited for.
    if word(input).is_some_and(|id| id >= MAX_SECTION_ID) {
        return Probe::No;
    }
    match element::section_head(input) {
        Ok((_, head)) if head.plausible() => Probe::Yes,
        Ok(_) => Probe::No,
        Err(nom::Err::Incomplete(_)) => {
            let name = input.get(5..).unwrap_or_default();
            let stated = usize::from(*input.get(4).unwrap_or(&1));
            let printable = name.iter().take(stated).all(|b| (0x20..0x7f).contains(b));
            if stated > 0 && printable {
                Probe::NeedMore
            } else {
                Probe::No
            }
        }
        Err(_) => Probe::No,
    }
}

/// A FULL section that has not been seen before (streams without footers).
pub(crate) fn new_section(input: &[u8], known: impl Fn(u32) -> bool) -> Probe {
    match input.first() {
        Some(0x04) => {}
        Some(_) => return Probe::No,
        None => return Probe::NeedMore,
    }
    match word(&input[1..]) {
        Some(id) if known(id) => Probe::No,
        _ => new_section_head(&input[1..]),
    }
}

/// `00 06`, a length below 16 MiB and JSON's brace: the end of a list without footers.
pub(crate) fn vmdesc_head(input: &[u8]) -> Probe {
    let want = [Some(0), Some(6), Some(0), None, None, None, Some(b'{')];
    let fits = |(b, w): (&u8, &Option<u8>)| w.is_none_or(|w| *b == w);
    match (input.iter().zip(&want).all(fits), input.len() < want.len()) {
        (false, _) => Probe::No,
        (true, true) => Probe::NeedMore,
        (true, false) => Probe::Yes,
    }
}
