//! What the push decoders share: items collected over the borders of slices, contents stepped
//! over by arithmetic.

use crate::qemu::Probe;

/// What a decoder made of the bytes in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `used` bytes are done with, and `skip` bytes of content follow them. With both zero the
    /// decoder must have changed its state.
    Done { used: usize, skip: u64 },
    /// The item has this many bytes in all, more than are here.
    Need(usize),
}

impl Step {
    pub(crate) const AGAIN: Step = Step::used(0);

    pub(crate) const fn used(used: usize) -> Step {
        Step::Done { used, skip: 0 }
    }
}

/// Changes of state at one place, after which a byte is given up: no input may hold a decoder.
const MAX_IDLE: usize = 8;

/// Holds back the bytes of an item that is not complete.
#[derive(Debug, Clone)]
pub(crate) struct Intake<M> {
    /// Offset of the first byte that is not yet done with.
    offset: u64,
    /// Content still to be stepped over; then nothing is pending.
    skip: u64,
    pending: Vec<u8>,
    /// Bytes that the pending item has in all.
    need: usize,
    /// Mark of the first pending byte.
    begin: Option<M>,
}

impl<M: Copy> Intake<M> {
    pub(crate) fn new(offset: u64) -> Self {
        Self {
            offset,
            skip: 0,
            pending: Vec::new(),
            need: 0,
            begin: None,
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Is there content to come, or a part of something that is not decided?
    pub(crate) fn inside(&self) -> bool {
        self.skip > 0 || !self.pending.is_empty()
    }

    pub(crate) fn held(&self) -> usize {
        self.pending.len()
    }

    /// Mark of the byte at [`Self::offset`], where `mark` is that of what comes now.
    fn mark(&self, mark: M) -> M {
        match self.begin {
            Some(begin) if !self.pending.is_empty() => begin,
            _ => mark,
        }
    }

    /// Feeds the next bytes. `step` gets the bytes at hand, the mark of the first of them and
    /// its offset.
    pub(crate) fn push(
        &mut self,
        mark: M,
        mut data: &[u8],
        mut step: impl FnMut(&[u8], M, u64) -> Step,
    ) {
        let mut idle = 0;
        let mut step = |input: &[u8], begin, offset| {
            let done = step(input, begin, offset);
            idle = if done == Step::AGAIN { idle + 1 } else { 0 };
            if idle > MAX_IDLE { Step::used(1) } else { done }
        };
        loop {
            if self.pending.is_empty() {
                data = self.pass(data);
                if data.is_empty() {
                    return;
                }
                match step(data, mark, self.offset) {
                    Step::Done { used, skip } => {
                        let used = used.min(data.len());
                        data = &data[used..];
                        self.offset = self.offset.saturating_add(used as u64);
                        self.skip = skip;
                    }
                    Step::Need(n) => {
                        self.need = n.max(data.len() + 1);
                        self.begin = Some(mark);
                        self.pending.extend_from_slice(data);
                        return;
                    }
                }
                continue;
            }
            let had = self.pending.len();
            let (more, rest) = data.split_at(self.need.saturating_sub(had).min(data.len()));
            self.pending.extend_from_slice(more);
            data = rest;
            if self.pending.len() < self.need {
                return;
            }
            match step(&self.pending, self.begin.unwrap_or(mark), self.offset) {
                Step::Done { used, skip } => {
                    let used = used.min(self.pending.len());
                    let over = (self.pending.len() - used) as u64;
                    let passed = used + usize::try_from(skip.min(over)).unwrap_or(0);
                    self.pending.drain(..passed);
                    self.offset = self.offset.saturating_add(passed as u64);
                    self.skip = skip.saturating_sub(over);
                    self.need = 0;
                    if passed >= had {
                        self.begin = Some(mark);
                    }
                }
                Step::Need(n) => self.need = n.max(self.pending.len() + 1),
            }
        }
    }

    fn pass<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        let n = usize::try_from(self.skip)
            .unwrap_or(usize::MAX)
            .min(data.len());
        self.skip -= n as u64;
        self.offset = self.offset.saturating_add(n as u64);
        &data[n..]
    }

    /// `length` bytes are missing behind what came, which was marked `mark`. Unless all of them
    /// were content: mark and offset of the byte at which the decoder loses step.
    pub(crate) fn gap(&mut self, length: u64, mark: M) -> Option<(M, u64)> {
        if length == 0 {
            return None;
        }
        if self.pending.is_empty() && length <= self.skip {
            self.skip -= length;
            self.offset = self.offset.saturating_add(length);
            return None;
        }
        let lost = (self.mark(mark), self.offset);
        self.let_go();
        self.skip = 0;
        self.offset = self.offset.saturating_add(length);
        Some(lost)
    }

    /// Whatever is pending, and `skip` bytes after it, count as content.
    pub(crate) fn pass_over(&mut self, skip: u64) {
        self.let_go();
        self.skip = skip;
    }

    /// Gives up what is pending; returns how many bytes that were.
    pub(crate) fn let_go(&mut self) -> usize {
        let held = self.pending.len();
        self.offset = self.offset.saturating_add(held as u64);
        self.pending.clear();
        self.need = 0;
        held
    }
}

/// Big-endian `u16` at a position.
pub(crate) fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(
        b.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

/// Big-endian `u32` at a position.
pub(crate) fn be32(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(
        b.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

/// Big-endian `u64` at a position.
pub(crate) fn be64(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(
        b.get(at..at.checked_add(8)?)?.try_into().ok()?,
    ))
}

/// Does the input begin with `want`, as far as it goes?
pub(crate) fn begins_with(input: &[u8], want: &[u8]) -> Probe {
    let n = input.len().min(want.len());
    match (input[..n] == want[..n], n == want.len()) {
        (true, true) => Probe::Yes,
        (true, false) => Probe::NeedMore,
        (false, _) => Probe::No,
    }
}
