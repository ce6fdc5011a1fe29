//! Joins segments that hold nothing but pages, as a host with segmentation offload would have
//! captured them, and leaves out the acknowledgements between them.
//!
//! No event lies in such a segment, so every boundary keeps its time. Frame numbers and frame
//! counts change.

use pnet_packet::util;

use super::Waiting;

/// Payload of a joined segment. Bytes.
const MAX_JOINED: usize = 60_000;

/// A joined segment spans no more than this. Nanoseconds.
const MAX_SPAN_NS: i64 = 2_000_000;

/// Nothing before this offset of a direction is joined: it is not worth it, and libvirt inside TLS
/// shows itself by the times of single segments. Bytes.
const FIRST_JOINED: i64 = 64 << 10;

/// Packets that wait behind a segment that may still grow.
const MAX_BEHIND: usize = 1024;

/// Fixed header lengths (RFC 791 without options, RFC 8200).
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// The stage behind the scrubber.
#[derive(Default)]
pub(super) struct Thinner {
    /// A segment that may grow.
    run: Option<Waiting>,
    /// Packets that follow it.
    behind: Vec<Waiting>,
}

impl Thinner {
    /// Takes the next packet; gives those that are ready now.
    pub(super) fn take(&mut self, w: Waiting, out: &mut Vec<Waiting>) {
        if let Some(run) = &mut self.run {
            if follows(run, &w) {
                run.grow(&w);
                return;
            }
            if acknowledges(run, &w) {
                return;
            }
            let same = w
                .place
                .zip(run.place)
                .is_some_and(|(a, b)| a.flow == b.flow);
            let late = w.time.since(run.time) > MAX_SPAN_NS;
            if same || late || self.behind.len() >= MAX_BEHIND {
                self.flush(out);
            } else {
                self.behind.push(w);
                return;
            }
        }
        if w.joinable() {
            self.run = Some(w);
        } else {
            out.push(w);
        }
    }

    /// Nothing more will come.
    pub(super) fn flush(&mut self, out: &mut Vec<Waiting>) {
        if let Some(mut run) = self.run.take() {
            run.fix_length();
            out.push(run);
        }
        out.append(&mut self.behind);
    }
}

/// Does `w` go on where `run` ends?
fn follows(run: &Waiting, w: &Waiting) -> bool {
    let (Some((_, end)), Some((from, _))) = (run.span(), w.span()) else {
        return false;
    };
    w.joinable()
        && run.place.map(|p| (p.flow, p.direction)) == w.place.map(|p| (p.flow, p.direction))
        && end == from
        && run.payload.len() + w.payload.len() <= MAX_JOINED
        && w.time.since(run.time) <= MAX_SPAN_NS
}

/// Is `w` a bare acknowledgement of the run's connection?
fn acknowledges(run: &Waiting, w: &Waiting) -> bool {
    let (Some(r), Some(a)) = (run.place, w.bare_acknowledgement) else {
        return false;
    };
    a.flow == r.flow && a.direction != r.direction
}

impl Waiting {
    /// A whole segment of pages alone, under a header whose length can be rewritten.
    fn joinable(&self) -> bool {
        self.plain
            && self.checksum.is_some()
            && self.span().is_some_and(|(from, _)| from >= FIRST_JOINED)
            && self.ip_header().is_some()
    }

    /// Where the IP header begins, and its version; only without options and tunnels.
    fn ip_header(&self) -> Option<(usize, u8)> {
        let tcp = self.checksum.as_ref()?.segment.start;
        [(IPV4_HEADER, 4), (IPV6_HEADER, 6)]
            .into_iter()
            .find_map(|(length, version)| {
                let at = tcp.checked_sub(length)?;
                let first = *self.data.get(at)?;
                let fits = match version {
                    4 => first == 0x45,
                    _ => first >> 4 == 6,
                };
                fits.then_some((at, version))
            })
    }

    fn grow(&mut self, w: &Waiting) {
        let Some(more) = w.data.get(w.payload.clone()) else {
            return;
        };
        self.data.truncate(self.payload.end);
        self.data.extend_from_slice(more);
        self.payload.end += more.len();
        if let Some(c) = &mut self.checksum {
            c.segment.end = self.payload.end;
        }
        self.wire_len = self.data.len() as u32;
    }

    /// Writes the IP length anew.
    fn fix_length(&mut self) {
        let Some((at, version)) = self.ip_header() else {
            return;
        };
        let end = self.payload.end;
        let (field, length) = match version {
            4 => (at + 2, end - at),
            _ => (at + 4, end - at - IPV6_HEADER),
        };
        if let (Some(f), Ok(length)) = (self.data.get_mut(field..field + 2), u16::try_from(length))
        {
            f.copy_from_slice(&length.to_be_bytes());
        }
        if version == 4
            && let Some(header) = self.data.get_mut(at..at + IPV4_HEADER)
        {
            let sum = util::checksum(header, 5);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
}
