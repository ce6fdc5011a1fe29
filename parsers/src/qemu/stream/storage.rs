//! Sections that carry storage inside the stream: `block` and `dirty-bitmap`.
//!
//! Their records have lengths, so contents are stepped over by counting. Where a record does not
//! fit, the section is taken for device state, whose end is searched.

use super::{Decoder, Sink, State, Step};
use crate::qemu::block::{self, BitmapAction, Record};
use crate::qemu::stream::Item;

/// Devices that are named of one `block` section.
pub const MAX_DEVICES: usize = 64;

/// What a `block` section held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Chunks with data, of [`block::CHUNK`] bytes each.
    pub chunks: u64,
    /// Chunks of zeroes, of which no data is sent.
    pub zero_chunks: u64,
    /// Bytes of the records, heads included.
    pub bytes: u64,
    /// Names of the chunks' devices, the first [`MAX_DEVICES`].
    pub devices: Vec<String>,
}

/// What a `dirty-bitmap` section held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BitmapCounts {
    /// Bitmaps that began.
    pub started: u64,
    /// Bitmaps that were completed.
    pub completed: u64,
    /// Bytes of the records, heads included.
    pub bytes: u64,
}

/// The counts of the open section.
#[derive(Debug, Clone)]
pub(super) enum Open<M> {
    /// `block`, and the mark of its latest chunk.
    Disks(DiskCounts, Option<M>),
    /// `dirty-bitmap`.
    Bitmaps(BitmapCounts),
}

impl<M> Open<M> {
    /// Counts for the section of this name, if it carries storage.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "block" => Some(Self::Disks(DiskCounts::default(), None)),
            "dirty-bitmap" => Some(Self::Bitmaps(BitmapCounts::default())),
            _ => None,
        }
    }
}

impl DiskCounts {
    fn chunk(&mut self, device: &[u8], content: u32) {
        if content > 0 {
            self.chunks += 1;
        } else {
            self.zero_chunks += 1;
        }
        let known = self.devices.iter().any(|d| d.as_bytes() == device);
        if !known && self.devices.len() < MAX_DEVICES {
            let name = String::from_utf8_lossy(device).into_owned();
            if !self.devices.contains(&name) {
                self.devices.push(name);
            }
        }
    }
}

impl<M: Copy> Decoder<M> {
    /// One record of the open section.
    pub(super) fn storage<S: Sink<M>>(&mut self, input: &[u8], begin: M, sink: &mut S) -> Step {
        let parsed = match &mut self.storage {
            Some(Open::Disks(counts, last)) => block::record(input).map(|(rest, record)| {
                let head = input.len() - rest.len();
                let content = match record {
                    Record::EndOfSection => None,
                    Record::Progress { .. } => Some(0),
                    Record::Chunk {
                        device, content, ..
                    } => {
                        counts.chunk(device, content);
                        *last = Some(begin);
                        Some(u64::from(content))
                    }
                };
                counts.bytes += head as u64 + content.unwrap_or(0);
                (head, content)
            }),
            Some(Open::Bitmaps(counts)) => block::bitmap_record(input).map(|(rest, record)| {
                let head = input.len() - rest.len();
                let content = match record.action {
                    BitmapAction::EndOfSection => None,
                    BitmapAction::Bits { content, .. } => Some(content),
                    BitmapAction::Start { .. } => {
                        counts.started += 1;
                        Some(0)
                    }
                    BitmapAction::Complete => {
                        counts.completed += 1;
                        Some(0)
                    }
                };
                counts.bytes += head as u64 + content.unwrap_or(0);
                (head, content)
            }),
            None => return Step::Lost,
        };
        match parsed {
            Err(nom::Err::Incomplete(_)) => Step::NeedMore,
            Err(_) => {
                self.tell_storage(false, begin, sink);
                self.state = State::Opaque;
                Step::Used(0)
            }
            Ok((head, None)) => {
                self.tell_storage(true, begin, sink);
                self.state = State::Footer;
                Step::Used(head)
            }
            Ok((head, Some(content))) => {
                sink.reveal(self.offset, &input[..head]);
                let here = (input.len() - head) as u64;
                if content < here {
                    return Step::Content(head + content as usize);
                }
                self.skip = content - here;
                Step::Content(input.len())
            }
        }
    }

    /// Hands on what the open section held. Where it breaks off, its mark is that of the latest
    /// chunk, as far as there was one.
    pub(super) fn tell_storage<S: Sink<M>>(&mut self, complete: bool, mark: M, sink: &mut S) {
        match self.storage.take() {
            Some(Open::Disks(mut counts, last)) => {
                // The stream ended within a chunk.
                if self.skip > 0 {
                    counts.chunks = counts.chunks.saturating_sub(1);
                    counts.bytes = counts.bytes.saturating_sub(self.skip);
                }
                let mark = last.filter(|_| !complete).unwrap_or(mark);
                sink.item(Item::Disks { counts, complete }, mark, self.offset);
            }
            Some(Open::Bitmaps(mut counts)) => {
                counts.bytes = counts.bytes.saturating_sub(self.skip);
                sink.item(Item::Bitmaps { counts, complete }, mark, self.offset);
            }
            None => {}
        }
    }
}
