//! Cuts one direction of a connection into RPC messages, from pieces of any size.
//!
//! In step, messages follow each other without a byte between them, so the length word says all.
//! A [`Framer`] loses step when a header cannot be one (encryption began, bytes were lost) and
//! then searches: a header found by searching counts only once a second one follows at its end,
//! or when its message ends with the piece it came in. Directly after lost bytes, a plausible
//! header is believed at once, for senders begin a message with a segment.
//!
//! Source: libvirt, `src/rpc/virnetprotocol.x` and `virnetmessage.c`.

use std::mem;

use memchr::memmem;

use super::header::{HEADER_LEN, Header, PROGRAM_QEMU, PROGRAM_REMOTE, Probe, probe};

/// Most payload bytes kept of one message. The largest that this program reads, a domain's XML
/// twice, is well below; what lies beyond is counted as missing.
pub const MAX_KEPT_PAYLOAD: usize = 1 << 20;

/// Stepped-over bytes are reported at least this often, so that [`Framer::resolved`] moves on in a
/// direction that never comes back into step.
pub const MAX_SKIPPED: u64 = 1 << 16;

/// A buffer larger than this is given back after its message.
const RETAINED_BUFFER: usize = 1 << 16;

/// First three bytes of the remote and qemu programs' numbers, the only ones searched for.
const PROGRAM_PREFIX: [u8; 3] = [0x20, 0x00, 0x80];

/// Where the program's number lies in a header.
const PROGRAM_AT: usize = 4;

/// What comes out of a [`Framer`]. Every byte pushed or lost is in exactly one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a, M> {
    /// A message has ended.
    Message {
        /// Its header.
        header: Header,
        /// Mark of the slice that held its first byte.
        begin: M,
        /// Mark of the slice that held the last byte seen of it.
        end: M,
        /// Stream offset of its first byte.
        offset: u64,
        /// The payload from its first byte on, up to the first byte that is absent, and at most
        /// [`MAX_KEPT_PAYLOAD`] bytes. Empty for stream data.
        payload: &'a [u8],
        /// How many bytes of the payload are in neither `payload` nor [`Item::StreamData`]: lost,
        /// cut off at the stream's end, beyond the limit, or after such a hole.
        missing: u32,
    },
    /// A piece of the payload of a STREAM message with status CONTINUE, as it came; the message's
    /// own item follows the last piece.
    StreamData {
        /// The message's header.
        header: Header,
        /// Mark of the slice that held the message's first byte.
        begin: M,
        /// Where in the payload this piece begins, in bytes; lost bytes count.
        position: u32,
        /// The piece; never empty.
        data: &'a [u8],
    },
    /// Bytes that belong to no message were stepped over, or lost outside a known message. At most
    /// [`MAX_SKIPPED`] of pushed bytes each; neighbouring items may belong to one hole.
    Skipped {
        /// Stream offset of the first of them.
        offset: u64,
        /// How many.
        length: u64,
    },
}

/// A message whose header is known.
#[derive(Debug, Clone)]
struct Current<M> {
    header: Header,
    begin: M,
    end: M,
    at: u64,
    /// Payload bytes gone by, lost ones included; never above the payload's length.
    passed: u32,
    /// Payload bytes that no item holds, for stream data.
    lost: u32,
    /// No payload byte has been lost yet.
    contiguous: bool,
    /// Found by searching, and not confirmed yet: nothing of it may be reported.
    trial: bool,
}

#[derive(Debug, Clone)]
enum State<M> {
    /// In step: the next byte begins, or goes on with, a header.
    Header,
    /// In a payload.
    Payload(Current<M>),
    /// A trial message has ended; the next bytes must be a header to confirm it.
    Confirm(Current<M>),
    /// Out of step.
    Search,
}

/// A push decoder for one direction of a connection.
///
/// `M` is a mark of the caller's choice (a frame number, a time) that it gives with every slice;
/// it is stored and handed back, nothing else. The items do not depend on how the bytes were cut
/// into slices, but for the pieces of stream data, and for the rules above that speak of slices
/// while out of step. Memory: at most [`MAX_KEPT_PAYLOAD`] and some hundred bytes.
#[derive(Debug, Clone)]
pub struct Framer<M: Copy> {
    state: State<M>,
    /// Payload of the message in work, as far as it must be kept.
    kept: Vec<u8>,
    /// The beginning of a header, when it came in pieces, and the mark of each byte.
    head: Vec<u8>,
    marks: Vec<M>,
    /// In search: `head` begins (or, if empty, the next byte lies) right after lost bytes.
    after_gap: bool,
    offset: u64,
    resolved: u64,
    resynchronisations: u64,
}

impl<M: Copy> Default for Framer<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Copy> Framer<M> {
    /// For a stream whose first byte begins a message.
    #[must_use]
    pub const fn new() -> Self {
        Self::in_state(State::Header)
    }

    /// For a stream that is met somewhere in its middle.
    #[must_use]
    pub const fn resynchronising() -> Self {
        Self::in_state(State::Search)
    }

    const fn in_state(state: State<M>) -> Self {
        Self {
            state,
            kept: Vec::new(),
            head: Vec::new(),
            marks: Vec::new(),
            after_gap: false,
            offset: 0,
            resolved: 0,
            resynchronisations: 0,
        }
    }

    /// Stream offset of the next byte: all bytes pushed and lost so far.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Stream offset up to which every byte has been reported in an item.
    #[must_use]
    pub const fn resolved(&self) -> u64 {
        self.resolved
    }

    /// Whether message boundaries are known at this point.
    #[must_use]
    pub const fn in_step(&self) -> bool {
        match &self.state {
            State::Header => true,
            State::Payload(current) => !current.trial,
            State::Confirm(_) | State::Search => false,
        }
    }

    /// How often step was lost.
    #[must_use]
    pub const fn resynchronisations(&self) -> u64 {
        self.resynchronisations
    }

    /// The next bytes of the stream.
    pub fn push(&mut self, mark: M, data: &[u8], sink: &mut impl FnMut(Item<'_, M>)) {
        let mut rest = data;
        while !rest.is_empty() {
            let used = match mem::replace(&mut self.state, State::Search) {
                State::Header => self.push_header(mark, rest, sink),
                State::Payload(current) => self.push_payload(current, mark, rest, sink),
                State::Confirm(current) => self.push_confirm(current, mark, rest, sink),
                State::Search => self.push_search(mark, rest, sink),
            };
            // Every step uses at least one byte; a step that did not would be a fault here.
            debug_assert!(used > 0 && used <= rest.len(), "no progress");
            rest = rest.get(used.max(1)..).unwrap_or_default();
        }
        // A message that ends with its slice needs no second header to be believed.
        if let State::Confirm(current) = &self.state
            && self.head.is_empty()
            && self.offset == end_of(current)
        {
            self.accept_trial(sink);
            self.state = State::Header;
        }
    }

    /// `length` bytes of the stream were lost.
    ///
    /// Within a message whose header is known they only make its payload incomplete, and the next
    /// header is found by arithmetic. Otherwise step is lost.
    pub fn gap(&mut self, length: u64, sink: &mut impl FnMut(Item<'_, M>)) {
        if length == 0 {
            return;
        }
        match mem::replace(&mut self.state, State::Search) {
            State::Payload(mut current) => {
                let left = current.header.payload_len().saturating_sub(current.passed);
                self.offset = self.offset.saturating_add(length);
                match u32::try_from(length) {
                    Ok(length) if length <= left => {
                        current.passed = current.passed.saturating_add(length);
                        current.lost = current.lost.saturating_add(length);
                        current.contiguous = false;
                        self.settle(current, sink);
                    }
                    _ if current.trial => self.lose_step(sink),
                    _ => {
                        self.emit(&current, sink);
                        self.lose_step(sink);
                    }
                }
            }
            State::Search => {
                self.offset = self.offset.saturating_add(length);
                self.search_after_gap(sink);
            }
            State::Header | State::Confirm(_) => {
                self.offset = self.offset.saturating_add(length);
                self.lose_step(sink);
            }
        }
    }

    /// The stream has ended. A message without its end is reported with what is known of it.
    pub fn finish(&mut self, sink: &mut impl FnMut(Item<'_, M>)) {
        if let State::Payload(current) = mem::replace(&mut self.state, State::Search)
            && !current.trial
        {
            self.emit(&current, sink);
        }
        self.clear_head();
        self.release();
        self.skip_to(self.offset, sink);
    }

    /// In step, at a header. Gives the number of bytes used.
    fn push_header(&mut self, mark: M, data: &[u8], sink: &mut impl FnMut(Item<'_, M>)) -> usize {
        if self.head.is_empty() && data.len() >= HEADER_LEN {
            let Ok(header) = Header::parse(data) else {
                return self.step_lost_at(mark, data, sink);
            };
            let at = self.offset;
            self.advance(HEADER_LEN);
            self.begin(header, mark, mark, at, false, sink);
            return HEADER_LEN
                + self.push_whole(mark, data.get(HEADER_LEN..).unwrap_or_default(), sink);
        }
        let used = self.fill_head(mark, data);
        match probe(&self.head) {
            Probe::NeedMore => self.state = State::Header,
            Probe::Yes => self.begin_from_head(mark, false, sink),
            Probe::No => {
                self.resynchronisations = self.resynchronisations.saturating_add(1);
                self.after_gap = false;
                self.sift(sink);
            }
        }
        used
    }

    /// The fast path: a payload that lies whole in the slice is lent out, not copied.
    fn push_whole(&mut self, mark: M, data: &[u8], sink: &mut impl FnMut(Item<'_, M>)) -> usize {
        let State::Payload(current) = &self.state else {
            return 0;
        };
        let (Ok(length), false) = (
            usize::try_from(current.header.payload_len()),
            current.header.is_stream_data(),
        ) else {
            return 0;
        };
        let Some(payload) = data.get(..length) else {
            return 0;
        };
        let payload = payload.get(..MAX_KEPT_PAYLOAD).unwrap_or(payload);
        let (header, begin, offset) = (current.header, current.begin, current.at);
        self.state = State::Header;
        self.advance(length);
        self.resolved = self.offset;
        let missing = header.payload_len().saturating_sub(count(payload));
        sink(Item::Message {
            header,
            begin,
            end: mark,
            offset,
            payload,
            missing,
        });
        length
    }

    /// Within a payload.
    fn push_payload(
        &mut self,
        mut current: Current<M>,
        mark: M,
        data: &[u8],
        sink: &mut impl FnMut(Item<'_, M>),
    ) -> usize {
        let left = current.header.payload_len().saturating_sub(current.passed);
        let piece = match usize::try_from(left) {
            Ok(left) => data.get(..left).unwrap_or(data),
            Err(_) => data,
        };
        let position = current.passed;
        current.passed = current.passed.saturating_add(count(piece));
        current.end = mark;
        self.advance(piece.len());
        if current.header.is_stream_data() && !current.trial {
            self.resolved = self.offset;
            let (header, begin) = (current.header, current.begin);
            sink(Item::StreamData {
                header,
                begin,
                position,
                data: piece,
            });
        } else if current.contiguous {
            self.keep(piece);
        }
        self.settle(current, sink);
        piece.len()
    }

    /// After a trial message: does a header follow?
    fn push_confirm(
        &mut self,
        current: Current<M>,
        mark: M,
        data: &[u8],
        sink: &mut impl FnMut(Item<'_, M>),
    ) -> usize {
        let used = self.fill_head(mark, data);
        match self.judge(&self.head, true) {
            Probe::NeedMore => self.state = State::Confirm(current),
            Probe::Yes => {
                self.state = State::Confirm(current);
                self.accept_trial(sink);
                self.begin_from_head(mark, false, sink);
            }
            Probe::No => {
                // The search goes on behind the false message, for its payload is not all kept.
                self.release();
                self.after_gap = false;
                self.sift(sink);
            }
        }
        used
    }

    /// Out of step.
    fn push_search(&mut self, mark: M, data: &[u8], sink: &mut impl FnMut(Item<'_, M>)) -> usize {
        if self.head.is_empty() {
            let from = if self.after_gap {
                Some(0)
            } else {
                first_candidate(data)
            };
            let jump = from.unwrap_or_else(|| data.len().saturating_sub(HEADER_LEN - 1));
            if jump > 0 {
                self.advance(jump);
                self.report_skipped(sink);
                self.state = State::Search;
                return jump;
            }
        }
        let Some(first) = data.first() else { return 0 };
        self.advance(1);
        self.head.push(*first);
        self.marks.push(mark);
        self.sift(sink);
        1
    }

    /// Drops bytes from the front of `head` until it may be a header, and begins its message once
    /// it is one.
    fn sift(&mut self, sink: &mut impl FnMut(Item<'_, M>)) {
        self.state = State::Search;
        while !self.head.is_empty() {
            match self.judge(&self.head, self.after_gap) {
                Probe::NeedMore => break,
                Probe::Yes => {
                    let trial = !mem::take(&mut self.after_gap);
                    let Some(&mark) = self.marks.last() else {
                        break;
                    };
                    self.skip_to(self.head_at(), sink);
                    self.begin_from_head(mark, trial, sink);
                    return;
                }
                Probe::No => {
                    self.head.remove(0);
                    self.marks.remove(0);
                    self.after_gap = false;
                }
            }
        }
        self.report_skipped(sink);
    }

    /// As [`probe`], but the header must be plausible, and where its place alone does not speak for
    /// it, of one of the two programs that are searched for.
    fn judge(&self, head: &[u8], placed: bool) -> Probe {
        match (probe(head), Header::parse(head)) {
            (Probe::Yes, Ok(header)) => {
                let searched = matches!(header.program, PROGRAM_REMOTE | PROGRAM_QEMU);
                if header.is_plausible() && (placed || searched) {
                    Probe::Yes
                } else {
                    Probe::No
                }
            }
            (Probe::Yes, Err(_)) => Probe::No,
            (other, _) => other,
        }
    }

    /// A header that was expected here is none: all its bytes go to the search.
    fn step_lost_at(&mut self, mark: M, data: &[u8], sink: &mut impl FnMut(Item<'_, M>)) -> usize {
        self.resynchronisations = self.resynchronisations.saturating_add(1);
        self.after_gap = false;
        self.state = State::Search;
        self.push_search(mark, data, sink)
    }

    /// Bytes were lost, and with them the place of the next header.
    fn lose_step(&mut self, sink: &mut impl FnMut(Item<'_, M>)) {
        self.resynchronisations = self.resynchronisations.saturating_add(1);
        self.search_after_gap(sink);
    }

    fn search_after_gap(&mut self, sink: &mut impl FnMut(Item<'_, M>)) {
        self.clear_head();
        self.release();
        self.state = State::Search;
        self.after_gap = true;
        self.skip_to(self.offset, sink);
    }

    /// Moves bytes into `head` until it holds a header's worth, and gives their number.
    fn fill_head(&mut self, mark: M, data: &[u8]) -> usize {
        let room = HEADER_LEN.saturating_sub(self.head.len());
        let piece = data.get(..room).unwrap_or(data);
        self.head.extend_from_slice(piece);
        self.marks.extend(piece.iter().map(|_| mark));
        self.advance(piece.len());
        piece.len()
    }

    /// Begins the message whose header fills `head`; `end` is the mark of its last byte.
    fn begin_from_head(&mut self, end: M, trial: bool, sink: &mut impl FnMut(Item<'_, M>)) {
        let (Ok(header), Some(&begin)) = (Header::parse(&self.head), self.marks.first()) else {
            self.state = State::Search;
            return;
        };
        let at = self.head_at();
        self.clear_head();
        self.begin(header, begin, end, at, trial, sink);
    }

    fn begin(
        &mut self,
        header: Header,
        begin: M,
        end: M,
        at: u64,
        trial: bool,
        sink: &mut impl FnMut(Item<'_, M>),
    ) {
        self.kept.clear();
        let current = Current {
            header,
            begin,
            end,
            at,
            passed: 0,
            lost: 0,
            contiguous: true,
            trial,
        };
        // The fast path wants the state, and a message without payload is already at its end.
        if header.payload_len() == 0 {
            self.settle(current, sink);
        } else {
            self.state = State::Payload(current);
        }
    }

    /// Goes on to the state after some payload has passed.
    fn settle(&mut self, current: Current<M>, sink: &mut impl FnMut(Item<'_, M>)) {
        if current.passed < current.header.payload_len() {
            self.state = State::Payload(current);
        } else if current.trial {
            self.state = State::Confirm(current);
        } else {
            self.emit(&current, sink);
            self.state = State::Header;
        }
    }

    /// Reports the trial message that waits for confirmation.
    fn accept_trial(&mut self, sink: &mut impl FnMut(Item<'_, M>)) {
        let State::Confirm(mut current) = mem::replace(&mut self.state, State::Header) else {
            return;
        };
        current.trial = false;
        if current.header.is_stream_data() {
            current.lost = current
                .header
                .payload_len()
                .saturating_sub(count(&self.kept));
            let (header, begin) = (current.header, current.begin);
            if !self.kept.is_empty() {
                sink(Item::StreamData {
                    header,
                    begin,
                    position: 0,
                    data: &self.kept,
                });
            }
        }
        self.emit(&current, sink);
    }

    /// Reports a message, whole or not, and empties the buffer.
    fn emit(&mut self, current: &Current<M>, sink: &mut impl FnMut(Item<'_, M>)) {
        let &Current {
            header,
            begin,
            end,
            at: offset,
            passed,
            lost,
            ..
        } = current;
        let length = header.payload_len();
        let (payload, missing) = if header.is_stream_data() {
            (&[][..], lost.saturating_add(length.saturating_sub(passed)))
        } else {
            (&self.kept[..], length.saturating_sub(count(&self.kept)))
        };
        self.resolved = end_of(current).min(self.offset);
        sink(Item::Message {
            header,
            begin,
            end,
            offset,
            payload,
            missing,
        });
        self.release();
    }

    /// Adds to the kept payload, within its limit, and without the slack of doubling beyond it.
    fn keep(&mut self, piece: &[u8]) {
        let room = MAX_KEPT_PAYLOAD.saturating_sub(self.kept.len());
        let piece = piece.get(..room).unwrap_or(piece);
        let wanted = self.kept.len().saturating_add(piece.len());
        if wanted > self.kept.capacity() {
            let capacity = self
                .kept
                .capacity()
                .saturating_mul(2)
                .clamp(wanted, MAX_KEPT_PAYLOAD);
            self.kept
                .reserve_exact(capacity.saturating_sub(self.kept.len()));
        }
        self.kept.extend_from_slice(piece);
    }

    fn release(&mut self) {
        self.kept.clear();
        if self.kept.capacity() > RETAINED_BUFFER {
            self.kept = Vec::new();
        }
    }

    fn clear_head(&mut self) {
        self.head.clear();
        self.marks.clear();
    }

    fn advance(&mut self, bytes: usize) {
        self.offset = self.offset.saturating_add(bytes as u64);
    }

    /// Stream offset of the first byte in `head`.
    fn head_at(&self) -> u64 {
        self.offset.saturating_sub(self.head.len() as u64)
    }

    /// Reports bytes that no header can begin in any more, in full portions only, lest the items
    /// depend on the slices.
    fn report_skipped(&mut self, sink: &mut impl FnMut(Item<'_, M>)) {
        while self.head_at().saturating_sub(self.resolved) >= MAX_SKIPPED {
            self.skip_to(self.resolved.saturating_add(MAX_SKIPPED), sink);
        }
    }

    fn skip_to(&mut self, to: u64, sink: &mut impl FnMut(Item<'_, M>)) {
        let length = to.saturating_sub(self.resolved);
        if length > 0 {
            let offset = self.resolved;
            self.resolved = to;
            sink(Item::Skipped { offset, length });
        }
    }
}

/// The first place where a header of a searched program can begin and lies whole in `data`.
fn first_candidate(data: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let programs = data.get(from + PROGRAM_AT..)?;
        let at = from + memmem::find(programs, &PROGRAM_PREFIX)?;
        let head = data.get(at..at + HEADER_LEN)?;
        if Header::parse(head).is_ok() {
            return Some(at);
        }
        from = at + 1;
    }
}

fn end_of<M>(current: &Current<M>) -> u64 {
    current.at.saturating_add(u64::from(current.header.length))
}

/// A slice's length as the wire counts; slices here never come near the limit of 32 bits.
fn count(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
