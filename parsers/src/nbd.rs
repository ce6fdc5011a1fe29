//! Network Block Device, by which libvirt has QEMU copy disks (`--copy-storage-*`): push
//! decoders of both directions of a connection. The server speaks first.
//!
//! Source: the NBD protocol (`doc/proto.md` of the NetworkBlockDevice project); QEMU
//! `include/block/nbd.h`, `nbd/nbd-internal.h`, `nbd/server.c`, `nbd/client.c`.

mod client;
mod server;
pub mod table;

use crate::intake::{Intake, begins_with};
use crate::qemu::Probe;
use table::{Command, IHAVEOPT, NBDMAGIC, OLDSTYLE_MAGIC};

use std::collections::VecDeque;

/// Requests that may wait for their reply; QEMU's client has 16 (`MAX_NBD_REQUESTS`). The oldest
/// is forgotten first.
pub const MAX_OUTSTANDING: usize = 1024;

/// Longest data of a request, reply or option that is believed; QEMU allows 32 MiB
/// (`NBD_MAX_BUFFER_SIZE`), other servers 64 MiB. Bytes.
pub const MAX_PAYLOAD: u32 = 64 << 20;

/// Longest data of an option or of its reply that is read; longer ones are stepped over. Bytes.
pub const MAX_OPTION: usize = 16 << 10;

/// Longest export name (`NBD_MAX_STRING_SIZE`). Bytes.
pub const MAX_EXPORT_NAME: usize = 4096;

/// A direction of the connection, named by who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The source of the copy.
    Client,
    /// The destination of the copy.
    Server,
}

/// How the server greets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// With options.
    New,
    /// With the export's size at once (before 2011).
    Old,
}

/// What the decoder found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// The server's greeting.
    Greeting {
        /// Old or new.
        style: Style,
        /// Handshake flags, `NBD_FLAG_*`.
        flags: u32,
    },
    /// The client asks for an option.
    Option {
        /// Number.
        number: u32,
        /// Name without `NBD_OPT_`; empty where unknown.
        name: &'static str,
        /// Export, where the option names one.
        export: Option<&'a str>,
    },
    /// The handshake has finished, requests follow. From the server's answer; where that was
    /// not seen, before the first request.
    Ready,
    /// A request.
    Request {
        /// Command.
        kind: Command,
        /// First byte on the disk.
        offset: u64,
        /// Bytes of the disk.
        length: u64,
        /// Joins it with its reply.
        cookie: u64,
    },
    /// A request has been answered in full.
    Reply {
        /// Of the request.
        cookie: u64,
        /// An errno number of Linux; 0 means success.
        error: u32,
    },
    /// The client ends the connection (`NBD_CMD_DISC`, `NBD_OPT_ABORT`).
    Disconnect,
    /// From here on this direction is TLS.
    Tls,
    /// This direction is out of step; what follows is searched for a request or reply.
    Lost,
    /// In step again.
    Found,
}

/// Receives what the decoder finds. `M` is the caller's mark of a slice.
pub trait Sink<M> {
    /// An item whose first byte lay in the slice marked `begin`, at `offset` of its direction.
    fn item(&mut self, side: Side, item: Item<'_>, begin: M, offset: u64);

    /// Bytes at `offset` that are structure. Every byte that is not revealed is content.
    fn reveal(&mut self, side: Side, offset: u64, bytes: &[u8]) {
        let _ = (side, offset, bytes);
    }
}

/// Are these the first bytes of an NBD server?
pub fn probe(input: &[u8]) -> Probe {
    match begins_with(input, &NBDMAGIC) {
        Probe::Yes => {}
        other => return other,
    }
    let rest = input.get(NBDMAGIC.len()..).unwrap_or_default();
    match (
        begins_with(rest, &IHAVEOPT),
        begins_with(rest, &OLDSTYLE_MAGIC),
    ) {
        (Probe::No, old) => old,
        (new, _) => new,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outstanding {
    cookie: u64,
    /// Data that a simple reply brings.
    data: u32,
    /// Of the error chunk so far.
    error: u32,
}

/// What each direction must know of the other.
#[derive(Debug, Clone, Default)]
struct Shared {
    outstanding: VecDeque<Outstanding>,
    /// `Item::Ready` was given.
    ready: bool,
    /// The client asked for STARTTLS.
    starttls: bool,
    /// The connection has gone over to TLS.
    tls: bool,
    /// The client's last option was EXPORT_NAME.
    export_name: bool,
}

impl Shared {
    fn ask(&mut self, cookie: u64, data: u32) {
        if self.outstanding.len() >= MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(Outstanding {
            cookie,
            data,
            error: 0,
        });
    }

    fn find(&mut self, cookie: u64) -> Option<&mut Outstanding> {
        self.outstanding.iter_mut().find(|o| o.cookie == cookie)
    }

    fn answer(&mut self, cookie: u64) -> Option<Outstanding> {
        let i = self.outstanding.iter().position(|o| o.cookie == cookie)?;
        self.outstanding.remove(i)
    }
}

/// A sink bound to one direction and to the bytes at hand.
struct Out<'s, M, S> {
    side: Side,
    sink: &'s mut S,
    begin: M,
    offset: u64,
}

impl<M: Copy, S: Sink<M>> Out<'_, M, S> {
    fn item(&mut self, item: Item<'_>) {
        self.sink.item(self.side, item, self.begin, self.offset);
    }

    fn reveal(&mut self, bytes: &[u8]) {
        self.sink.reveal(self.side, self.offset, bytes);
    }

    fn ready(&mut self, shared: &mut Shared) {
        if !shared.ready {
            shared.ready = true;
            self.item(Item::Ready);
        }
    }
}

/// Both directions of one connection. The caller pushes in the order of the capture, so that a
/// request comes before its reply.
#[derive(Debug, Clone)]
pub struct Connection<M> {
    client_in: Intake<M>,
    server_in: Intake<M>,
    client: client::Client,
    server: server::Server,
    shared: Shared,
}

impl<M: Copy> Default for Connection<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Copy> Connection<M> {
    /// At the first byte of both directions.
    pub fn new() -> Self {
        Self {
            client_in: Intake::new(0),
            server_in: Intake::new(0),
            client: client::Client::new(),
            server: server::Server::new(),
            shared: Shared::default(),
        }
    }

    /// Somewhere in the middle: looks for a request and a reply first. The offsets number the
    /// first bytes that will be pushed.
    pub fn in_the_middle(client: u64, server: u64) -> Self {
        Self {
            client_in: Intake::new(client),
            server_in: Intake::new(server),
            client: client::Client::lost(),
            server: server::Server::lost(),
            shared: Shared {
                ready: true,
                ..Shared::default()
            },
        }
    }

    /// Offset in a direction up to which every byte has been understood or is known to be
    /// content.
    pub fn resolved(&self, side: Side) -> u64 {
        match side {
            Side::Client => self.client_in.offset(),
            Side::Server => self.server_in.offset(),
        }
    }

    /// True while no byte with structure was lost in this direction.
    pub fn whole(&self, side: Side) -> bool {
        match side {
            Side::Client => self.client.whole,
            Side::Server => self.server.whole,
        }
    }

    /// True once the connection has gone over to TLS; then nothing but [`Item::Tls`] of either
    /// direction comes.
    pub fn tls(&self) -> bool {
        self.shared.tls
    }

    /// Feeds the next bytes of a direction.
    pub fn push<S: Sink<M>>(&mut self, side: Side, mark: M, data: &[u8], sink: &mut S) {
        let Self {
            client_in,
            server_in,
            client,
            server,
            shared,
        } = self;
        match side {
            Side::Client => client_in.push(mark, data, |input, begin, offset| {
                let mut out = Out {
                    side,
                    sink,
                    begin,
                    offset,
                };
                client.step(input, shared, &mut out)
            }),
            Side::Server => server_in.push(mark, data, |input, begin, offset| {
                let mut out = Out {
                    side,
                    sink,
                    begin,
                    offset,
                };
                server.step(input, shared, &mut out)
            }),
        }
    }

    /// `length` bytes of a direction are missing here.
    pub fn gap<S: Sink<M>>(&mut self, side: Side, length: u64, mark: M, sink: &mut S) {
        let intake = match side {
            Side::Client => &mut self.client_in,
            Side::Server => &mut self.server_in,
        };
        let Some((begin, offset)) = intake.gap(length, mark) else {
            return;
        };
        let mut out = Out {
            side,
            sink,
            begin,
            offset,
        };
        match side {
            Side::Client => self.client.lose(&mut out),
            Side::Server => self.server.lose(&mut out),
        }
    }

    /// A direction has ended.
    pub fn finish(&mut self, side: Side) {
        match side {
            Side::Client => self.client.whole &= self.client_in.let_go() == 0,
            Side::Server => self.server.whole &= self.server_in.let_go() == 0,
        }
    }
}
