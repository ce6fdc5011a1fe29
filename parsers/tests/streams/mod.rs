//! A sink that keeps everything, for any decoder.

use phasescope_parsers::qemu::multifd;
use phasescope_parsers::{nbd, tls};

/// What was found, in a form that two runs can be compared by.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// `offset item`.
    pub(crate) items: Vec<String>,
    /// Every revealed byte, by side and offset.
    revealed: [Vec<Option<u8>>; 2],
}

impl Log {
    fn add(&mut self, item: String, begin: u64, offset: u64) {
        assert!(begin <= offset, "the mark is that of the first byte");
        self.items.push(format!("{offset} {item}"));
    }

    fn show(&mut self, side: bool, offset: u64, bytes: &[u8]) {
        let (from, seen) = (offset as usize, &mut self.revealed[usize::from(side)]);
        let to = from + bytes.len();
        seen.resize(seen.len().max(to), None);
        for (place, b) in seen[from..to].iter_mut().zip(bytes) {
            assert!(place.is_none_or(|old| old == *b), "revealed twice");
            *place = Some(*b);
        }
    }

    /// Has a byte of this value been revealed?
    pub(crate) fn shown(&self, value: u8) -> bool {
        self.revealed.iter().flatten().any(|b| *b == Some(value))
    }

    /// How often items with this beginning came.
    pub(crate) fn count(&self, name: &str) -> usize {
        let is = |i: &&String| i.split_once(' ').is_some_and(|(_, i)| i.starts_with(name));
        self.items.iter().filter(is).count()
    }
}

impl multifd::Sink<u64> for Log {
    fn item(&mut self, item: multifd::Item<'_>, begin: u64, offset: u64) {
        self.add(format!("{item:?}"), begin, offset);
    }
    fn page(&mut self, block: &[u8], offset: u64, zero: bool) {
        let block = String::from_utf8_lossy(block);
        self.items
            .push(format!("- Page {block} {offset:#x} zero {zero}"));
    }
    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.show(false, offset, bytes);
    }
}

impl tls::Sink<u64> for Log {
    fn item(&mut self, item: tls::Item<'_>, begin: u64, offset: u64) {
        self.add(format!("{item:?}"), begin, offset);
    }
    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.show(false, offset, bytes);
    }
}

impl nbd::Sink<u64> for Log {
    fn item(&mut self, side: nbd::Side, item: nbd::Item<'_>, begin: u64, offset: u64) {
        self.add(format!("{item:?} {side:?}"), begin, offset);
    }
    fn reveal(&mut self, side: nbd::Side, offset: u64, bytes: &[u8]) {
        self.show(side == nbd::Side::Server, offset, bytes);
    }
}

/// `data` in slices of `size`, each with its offset.
pub(crate) fn slices(data: &[u8], size: usize) -> impl Iterator<Item = (u64, &[u8])> {
    data.chunks(size)
        .enumerate()
        .map(move |(i, c)| ((i * size) as u64, c))
}
