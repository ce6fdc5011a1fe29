//! A migration connection: the stream one way, the return path the other.

use std::collections::VecDeque;

use phasescope_parsers::qemu::command;
use phasescope_parsers::qemu::element::ElementType;
use phasescope_parsers::qemu::ram::{Counts, PageKind};
use phasescope_parsers::qemu::return_path::{Message, ReturnPath};
use phasescope_parsers::qemu::stream::{self, Decoder, Item};
use phasescope_parsers::qemu::vmdesc;

use super::Sink;
use super::event::Qemu;
use super::out::Out;
use super::requests;
use super::rounds::Rounds;
use crate::net::{Direction, Stamp};

/// Device lengths that are kept to compare with the description.
const MAX_DEVICES: usize = 4096;

/// State of one migration connection.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// The side that sends the stream.
    source: Direction,
    decoder: Decoder<Stamp>,
    return_path: ReturnPath<Stamp>,
    watch: Watch,
}

/// What is remembered between items.
#[derive(Debug, Clone, Default)]
struct Watch {
    rounds: Rounds,
    /// The open `ram` section.
    ram: Option<ElementType>,
    /// Counts at the last [`Qemu::RamPart`].
    told: Counts,
    /// Kind and name of the open device section.
    device: Option<(ElementType, String)>,
    /// Names and lengths of the FULL sections, in order.
    devices: Vec<(String, u64)>,
    page_shift: u32,
    progress: Progress,
    stopped: bool,
    /// Post-copy has begun: there are no syncs any more.
    postcopy: bool,
    requests: requests::Watch,
}

/// When the latest bytes of the stream went by.
///
/// The source writes into its socket's buffer, so what is on the wire may have been written up to
/// a buffer's length earlier: the guest was still running when the byte that lies so far back
/// passed by.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// First stamp of each [`PROGRESS_STEP`] of the stream, the latest last.
    steps: VecDeque<(u64, Stamp)>,
}

/// Bytes of the stream between two stamps.
const PROGRESS_STEP: u64 = 64 << 10;

/// Largest send buffer that is assumed: Linux's default for `net.ipv4.tcp_wmem`. Bytes.
const SEND_BUFFER: u64 = 4 << 20;

impl Progress {
    #[inline]
    fn passed(&mut self, offset: u64, stamp: Stamp) {
        let step = offset / PROGRESS_STEP;
        if self.steps.back().is_none_or(|(s, _)| *s < step) {
            if self.steps.len() as u64 > SEND_BUFFER / PROGRESS_STEP {
                self.steps.pop_front();
            }
            self.steps.push_back((step, stamp));
        }
    }

    /// When the byte a buffer's length before `offset` passed by.
    fn written_after(&self, offset: u64) -> Option<Stamp> {
        let step = offset.saturating_sub(SEND_BUFFER) / PROGRESS_STEP;
        let before = self.steps.iter().rev().find(|(s, _)| *s <= step);
        before.or(self.steps.front()).map(|(_, stamp)| *stamp)
    }
}

/// Is this sent only with the guest stopped? (reference: QEMU `migration_completion`,
/// `postcopy_start`; a FULL section alone may come early.)
fn proves_stop(item: &Item<'_>) -> bool {
    match item {
        Item::SectionBegin { kind, .. } => *kind == ElementType::SectionEnd,
        Item::Command(c) => matches!(
            c.number,
            command::SWITCHOVER_START | command::POSTCOPY_RAM_DISCARD | command::PACKAGED
        ),
        _ => false,
    }
}

/// Post-copy begins with a sync, whose pages the destination is told to discard, and the device
/// state in one package (QEMU `migration/migration.c`, `postcopy_start`).
fn begins_postcopy(item: &Item<'_>) -> bool {
    matches!(
        item,
        Item::Command(c) if matches!(c.number, command::POSTCOPY_RAM_DISCARD | command::PACKAGED)
    )
}

struct Adapter<'a, 'b, S> {
    out: &'b mut Out<'a, S>,
    watch: &'b mut Watch,
}

impl Connection {
    /// A stream whose first byte `source` sends; `offset` where it is picked up in the middle.
    pub(super) fn new(source: Direction, middle: Option<u64>) -> Self {
        Self {
            source,
            decoder: middle.map_or_else(Decoder::new, Decoder::in_the_middle),
            return_path: ReturnPath::new(),
            watch: Watch::default(),
        }
    }

    /// A connection on which a broken post-copy goes on.
    pub(super) fn resumed(source: Direction) -> Self {
        Self {
            decoder: Decoder::resumed(),
            // The guest was stopped, and moved, on the connection before.
            watch: Watch {
                stopped: true,
                postcopy: true,
                ..Watch::default()
            },
            ..Self::new(source, None)
        }
    }

    /// Offset of the stream up to which everything is understood or known to be content.
    pub(super) fn resolved(&self) -> u64 {
        self.decoder.resolved()
    }

    /// Bytes in order.
    pub(super) fn data(
        &mut self,
        flow: u64,
        direction: Direction,
        stamp: Stamp,
        offset: u64,
        bytes: &[u8],
        sink: &mut impl Sink,
    ) {
        let mut out = Out {
            sink,
            flow,
            direction,
            stamp,
        };
        if direction == self.source {
            self.watch.progress.passed(offset, stamp);
            self.watch.page_shift = self.decoder.page_size().trailing_zeros();
            let mut adapter = Adapter {
                out: &mut out,
                watch: &mut self.watch,
            };
            self.decoder.push(stamp, bytes, &mut adapter);
            let resolved = self.decoder.resolved();
            sink.resolved(flow, direction, resolved);
        } else {
            let from = offset - self.return_path.pending() as u64;
            let (blocks, watch) = (self.decoder.blocks(), &mut self.watch);
            self.return_path
                .push(stamp, bytes, &mut |m, begin, at, raw| {
                    if let Some(Message::ReqPages {
                        block,
                        start,
                        length,
                    }) = &m
                    {
                        let span = (*start, u64::from(*length));
                        let block = block.as_deref();
                        watch
                            .requests
                            .asked(blocks, block, span, watch.page_shift, stamp);
                    }
                    if let Some(m) = m {
                        out.event(begin, Qemu::ReturnPath(m));
                    }
                    out.reveal(from + at, raw);
                });
            let done = offset + bytes.len() as u64 - self.return_path.pending() as u64;
            sink.resolved(flow, direction, done);
        }
    }

    /// Missing bytes.
    pub(super) fn gap(
        &mut self,
        flow: u64,
        direction: Direction,
        stamp: Stamp,
        length: u64,
        sink: &mut impl Sink,
    ) {
        let mut out = Out {
            sink,
            flow,
            direction,
            stamp,
        };
        if direction == self.source {
            let mut adapter = Adapter {
                out: &mut out,
                watch: &mut self.watch,
            };
            self.decoder.gap(length, stamp, &mut adapter);
            let resolved = self.decoder.resolved();
            sink.resolved(flow, direction, resolved);
        } else {
            self.return_path.gap(length);
        }
    }

    /// The connection has ended.
    pub(super) fn end(&mut self, flow: u64, stamp: Stamp, sink: &mut impl Sink) {
        let mut out = Out {
            sink,
            flow,
            direction: self.source,
            stamp,
        };
        let mut adapter = Adapter {
            out: &mut out,
            watch: &mut self.watch,
        };
        self.decoder.finish(stamp, &mut adapter);
        let counts = self.watch.untold(self.decoder.counts());
        if counts.pages() > 0 {
            let kind = self.watch.ram.take();
            let complete = false;
            out.event(
                stamp,
                Qemu::RamPart {
                    kind,
                    counts,
                    complete,
                },
            );
        }
        if let Some(round) = self.watch.rounds.finish() {
            out.event(stamp, Qemu::Round(round));
        }
        let (blocks, shift) = (self.decoder.blocks(), self.watch.page_shift);
        if let Some(requests) = self.watch.requests.finish(blocks, shift) {
            out.event(stamp, Qemu::Requests(requests));
        }
        let resolved = self.decoder.resolved();
        sink.resolved(flow, self.source, resolved);
    }
}

impl Watch {
    /// Pages that no event has told yet.
    fn untold(&mut self, total: Counts) -> Counts {
        let t = self.told;
        self.told = total;
        Counts {
            normal: total.normal - t.normal,
            zero: total.zero - t.zero,
            xbzrle: total.xbzrle - t.xbzrle,
            compressed: total.compressed - t.compressed,
            bytes: total.bytes - t.bytes,
            encoded_bytes: total.encoded_bytes - t.encoded_bytes,
        }
    }
}

impl<S: Sink> stream::Sink<Stamp> for Adapter<'_, '_, S> {
    fn item(&mut self, item: Item<'_>, begin: Stamp, offset: u64) {
        if !self.watch.stopped && proves_stop(&item) {
            self.watch.stopped = true;
            let since = self.watch.progress.written_after(offset);
            self.out.event(begin, Qemu::Stopped { since });
        }
        if !self.watch.postcopy && begins_postcopy(&item) {
            self.watch.postcopy = true;
            if let Some(round) = self.watch.rounds.switched() {
                self.out.event(begin, Qemu::Round(round));
            }
        }
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let event = match item {
            Item::Header => Qemu::Header,
            Item::Configuration { machine } => Qemu::Configuration {
                machine: text(machine),
            },
            Item::Uuid(uuid) => match uuid.try_into() {
                Ok(uuid) => Qemu::Uuid(uuid),
                Err(_) => return,
            },
            Item::SectionBegin {
                kind,
                id,
                name,
                packaged,
            } => {
                let name = name.to_owned();
                if name == "ram" {
                    self.watch.ram = Some(kind);
                    if kind == ElementType::SectionEnd
                        && !self.watch.postcopy
                        && let Some(round) = self.watch.rounds.stopped(begin)
                    {
                        self.out.event(begin, Qemu::Round(round));
                    }
                } else {
                    self.watch.device = Some((kind, name.clone()));
                }
                Qemu::Section {
                    kind,
                    id,
                    name,
                    packaged,
                }
            }
            Item::RamBlocks { count, bytes } => Qemu::RamBlocks {
                count,
                bytes,
                page_size: 1 << self.watch.page_shift,
            },
            Item::RamEnd { counts } => {
                self.watch.told += counts;
                Qemu::RamPart {
                    kind: self.watch.ram.take(),
                    counts,
                    complete: true,
                }
            }
            Item::Disks { counts, complete } => {
                let kind = self.watch.device.as_ref().map(|(kind, _)| *kind);
                // Behind a record that does not fit, the section goes on as a device.
                if complete {
                    self.watch.device = None;
                }
                Qemu::Disks {
                    kind,
                    counts,
                    complete,
                }
            }
            Item::Bitmaps { counts, complete } => {
                if complete {
                    self.watch.device = None;
                }
                Qemu::Bitmaps { counts, complete }
            }
            Item::DeviceEnd { length, .. } => {
                let (kind, name) = self
                    .watch
                    .device
                    .take()
                    .unwrap_or((ElementType::SectionPart, String::new()));
                if kind == ElementType::SectionFull && self.watch.devices.len() < MAX_DEVICES {
                    self.watch.devices.push((name.clone(), length));
                }
                Qemu::Device { name, length }
            }
            Item::Command(c) => Qemu::Command {
                number: c.number,
                name: c.name(),
                value: matches!(c.number, command::PING | command::PACKAGED)
                    .then(|| c.value())
                    .flatten(),
            },
            Item::PackagedEnd => Qemu::PackagedEnd,
            Item::EndOfStream => Qemu::EndOfStream,
            Item::VmDescription { length, json } => Qemu::VmDescription {
                length,
                agreeing: json
                    .and_then(vmdesc::parse)
                    .map(|d| agreement(&d, &self.watch.devices)),
            },
            Item::MultifdFlush => Qemu::MultifdFlush,
            Item::Lost => Qemu::Lost,
            Item::Found => Qemu::Found,
        };
        self.out.event(begin, event);
    }

    #[inline]
    fn page(&mut self, block: Option<u16>, address: u64, kind: PageKind, bytes: u64) {
        let page = address >> self.watch.page_shift;
        let stamp = self.out.stamp;
        self.watch.requests.page(block, page, stamp);
        if let Some(round) = self.watch.rounds.page(block, page, kind, bytes, stamp) {
            self.out.event(stamp, Qemu::Round(round));
        }
    }

    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        let out = &mut *self.out;
        out.reveal(offset, bytes);
    }
}

/// How many device sections have the length that the description implies.
fn agreement(d: &vmdesc::VmDescription, seen: &[(String, u64)]) -> (usize, usize) {
    // A FULL section's head: type, id, name with its length byte, instance, version; the footer
    // is not counted.
    let head = |name: &str| 1 + 4 + 1 + name.len() as u64 + 4 + 4;
    let agreeing = d
        .devices
        .iter()
        .zip(seen)
        .filter(|(d, s)| d.name == s.0 && d.payload.is_some_and(|p| p + head(&d.name) == s.1))
        .count();
    (agreeing, d.devices.len())
}
