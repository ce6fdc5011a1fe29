//! A multifd channel: packets of pages beside the main stream.

use phasescope_parsers::qemu::multifd::{Channel, Compression, Item, Sink as Listen};

use super::Sink;
use super::event::{Multifd, MultifdPacket};
use super::out::Out;
use crate::net::{Direction, Stamp};

/// State of one channel. Only one side ever sends.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    source: Direction,
    channel: Channel<Stamp>,
    /// The packet whose pages are being named.
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Open {
    begin: Stamp,
    packet: MultifdPacket,
    /// The channel synchronises after it.
    sync: bool,
}

struct Adapter<'a, 'b, S> {
    out: &'b mut Out<'a, S>,
    open: &'b mut Option<Open>,
}

impl<S: Sink> Adapter<'_, '_, S> {
    fn close(&mut self) {
        if let Some(Open {
            begin,
            packet,
            sync,
        }) = self.open.take()
        {
            let packet_num = packet.packet_num;
            self.out.event(begin, Multifd::Packet(Box::new(packet)));
            if sync {
                self.out.event(begin, Multifd::Sync { packet_num });
            }
        }
    }
}

impl<S: Sink> Listen<Stamp> for Adapter<'_, '_, S> {
    fn item(&mut self, item: Item<'_>, begin: Stamp, _offset: u64) {
        // Told before the pages of its packet, and meant for after them.
        if let (Item::Sync { .. }, Some(open)) = (&item, self.open.as_mut()) {
            open.sync = true;
            return;
        }
        self.close();
        match item {
            Item::Initial { uuid, channel } => {
                self.out.event(begin, Multifd::Initial { uuid, channel })
            }
            Item::Packet {
                compression,
                packet_num,
                normal,
                zero,
                block,
                data,
                ..
            } => {
                let compressed = compression != Compression::None;
                *self.open = Some(Open {
                    begin,
                    sync: false,
                    packet: MultifdPacket {
                        packet_num,
                        normal,
                        zero,
                        compressed,
                        block: block.to_owned(),
                        data,
                        pages: Vec::new(),
                        // Pages in full tell their size.
                        page_size: match data.checked_div(normal) {
                            Some(size) if !compressed => size,
                            _ => 0,
                        },
                    },
                });
                if normal == 0 && zero == 0 {
                    self.close();
                }
            }
            Item::DeviceState { device, data, .. } => self.out.event(
                begin,
                Multifd::DeviceState {
                    device: device.to_owned(),
                    bytes: data,
                },
            ),
            Item::Sync { packet_num } => self.out.event(begin, Multifd::Sync { packet_num }),
            Item::Lost => self.out.event(begin, Multifd::Lost),
            Item::Found => self.out.event(begin, Multifd::Found),
        }
    }

    fn page(&mut self, _block: &[u8], offset: u64, zero: bool) {
        // The decoder bounds the pages of a packet.
        if let Some(Open { packet, .. }) = self.open {
            packet.pages.push((offset, zero));
            if packet.pages.len() as u64 >= u64::from(packet.normal) + u64::from(packet.zero) {
                self.close();
            }
        }
    }

    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.out.reveal(offset, bytes);
    }
}

impl Connection {
    /// `middle`: the offset from which on it is seen, where that is not its beginning.
    pub(super) fn new(source: Direction, middle: Option<u64>) -> Self {
        Self {
            source,
            channel: middle.map_or_else(Channel::new, Channel::in_the_middle),
            open: None,
        }
    }

    fn with<S: Sink>(
        &mut self,
        out: &mut Out<'_, S>,
        f: impl FnOnce(&mut Channel<Stamp>, &mut Adapter<'_, '_, S>),
    ) {
        if out.direction != self.source {
            return;
        }
        let mut adapter = Adapter {
            out: &mut *out,
            open: &mut self.open,
        };
        f(&mut self.channel, &mut adapter);
        out.sink
            .resolved(out.flow, out.direction, self.channel.resolved());
    }

    pub(super) fn data<S: Sink>(&mut self, bytes: &[u8], out: &mut Out<'_, S>) {
        let stamp = out.stamp;
        self.with(out, |c, out| c.push(stamp, bytes, out));
    }

    pub(super) fn gap<S: Sink>(&mut self, length: u64, out: &mut Out<'_, S>) {
        let stamp = out.stamp;
        self.with(out, |c, out| c.gap(length, stamp, out));
    }

    pub(super) fn end<S: Sink>(&mut self, out: &mut Out<'_, S>) {
        out.direction = self.source;
        self.with(out, |c, out| {
            c.finish();
            out.close();
        });
    }
}
