//! An SSH connection: after the identification lines only the sizes and times of what either side
//! sends can be seen.

use phasescope_parsers::ssh::{MAX_LINE, identification};

use super::Sink;
use super::event::{Kind, Ssh};
use super::out::Out;
use super::turns::Turns;
use crate::net::Stamp;

/// State of one connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// The first bytes of each direction, until its line has ended.
    lines: [Option<Line>; 2],
    turns: Turns,
}

/// A line that has not ended.
#[derive(Debug, Clone, Default)]
struct Line {
    bytes: Vec<u8>,
    begin: Option<Stamp>,
}

impl Connection {
    pub(super) fn new() -> Self {
        Self {
            lines: [Some(Line::default()), Some(Line::default())],
            turns: Turns::new(|bytes| Kind::Ssh(Ssh::Data { bytes })),
        }
    }

    pub(super) fn data<S: Sink>(&mut self, bytes: &[u8], offset: u64, out: &mut Out<'_, S>) {
        self.turns.add(out.stamp, bytes.len() as u64, out);
        self.line(bytes, offset, out);
        let end = match &self.lines[out.direction.index()] {
            Some(line) => offset + bytes.len() as u64 - line.bytes.len() as u64,
            None => u64::MAX,
        };
        out.sink.resolved(out.flow, out.direction, end);
    }

    /// The identification line comes first, in one segment or in several.
    fn line<S: Sink>(&mut self, bytes: &[u8], offset: u64, out: &mut Out<'_, S>) {
        let kept = &mut self.lines[out.direction.index()];
        let Some(line) = kept else { return };
        let begin = *line.begin.get_or_insert(out.stamp);
        let start = offset.saturating_sub(line.bytes.len() as u64);
        let room = MAX_LINE - line.bytes.len();
        line.bytes.extend(bytes.iter().take(room));
        if start != 0 {
            *kept = None;
        } else if let Some(found) = identification(&line.bytes) {
            let said = Ssh::Identification {
                protocol: found.protocol.to_owned(),
                software: found.software.to_owned(),
            };
            out.event(begin, Kind::Ssh(said));
            let end = memchr::memchr(b'\n', &line.bytes).map_or(0, |n| n + 1);
            out.reveal(0, &line.bytes[..end]);
            *kept = None;
        } else if line.bytes.len() == MAX_LINE || line.bytes.contains(&b'\n') {
            *kept = None;
        }
    }

    /// A hole has a length, though not a moment of its own.
    pub(super) fn gap<S: Sink>(&mut self, length: u64, out: &mut Out<'_, S>) {
        self.lines[out.direction.index()] = None;
        self.turns.add(out.stamp, length, out);
        out.sink.resolved(out.flow, out.direction, u64::MAX);
    }

    pub(super) fn end<S: Sink>(&mut self, out: &mut Out<'_, S>) {
        self.turns.tell(out);
    }
}
