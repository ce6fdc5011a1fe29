//! What a protocol said, when, and in which frame.

use std::net::IpAddr;

use phasescope_parsers::libvirt::header::Header;
use phasescope_parsers::libvirt::message::Body;
use phasescope_parsers::qemu::element::ElementType;
use phasescope_parsers::qemu::ram::{Counts, PageKind};
use phasescope_parsers::qemu::return_path::Message;
use phasescope_parsers::qemu::stream::{BitmapCounts, DiskCounts};

use crate::net::tcp::Missing;
use crate::net::{Direction, FlowInfo, Mac, Stamp};

/// An application protocol that is recognised by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// libvirt's remote protocol.
    LibvirtRpc,
    /// Main channel of a QEMU migration stream.
    QemuMigration,
    /// A multifd channel of a QEMU migration.
    Multifd,
    /// A post-copy preempt channel of a QEMU migration.
    Preempt,
    /// Network block device: disks.
    Nbd,
    /// TLS around something.
    Tls,
    /// SSH around something.
    Ssh,
    /// AMQP 0-9-1.
    Amqp,
    /// HTTP/1.
    Http,
}

impl Protocol {
    /// Short name for people.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::LibvirtRpc => "libvirt-rpc",
            Protocol::QemuMigration => "qemu-migration",
            Protocol::Multifd => "qemu-multifd",
            Protocol::Preempt => "qemu-preempt",
            Protocol::Nbd => "nbd",
            Protocol::Tls => "tls",
            Protocol::Ssh => "ssh",
            Protocol::Amqp => "amqp",
            Protocol::Http => "http",
        }
    }
}

/// One thing that a protocol said.
#[derive(Debug, Clone)]
pub struct Event {
    /// The frame that completed it: the one in which Wireshark shows it.
    pub stamp: Stamp,
    /// The frame that holds its first byte.
    pub begin: Stamp,
    /// The connection and the direction; none for guest traffic.
    pub flow: Option<(u64, Direction)>,
    /// What.
    pub kind: Kind,
}

/// What was said.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A connection whose protocol is known: what the network showed of it so far.
    Recognised(Protocol, Box<FlowInfo>),
    /// A recognised connection has ended; its counters are final.
    Ended(Protocol, Box<FlowInfo>),
    /// One side of a recognised connection has said its last (FIN), or has reset it (RST).
    Closing {
        /// RST.
        reset: bool,
    },
    /// Bytes of a recognised connection are missing.
    Gap {
        /// Offset in the direction's stream, bytes.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Why.
        missing: Missing,
    },
    /// A libvirt RPC message.
    Rpc(Box<Rpc>),
    /// Something in a migration stream, or on its return path.
    Qemu(Qemu),
    /// Something on a multifd channel.
    Multifd(Multifd),
    /// Something on a post-copy preempt channel.
    Preempt(Preempt),
    /// Something on an NBD connection.
    Nbd(Nbd),
    /// What can be seen of a TLS connection.
    Tls(Tls),
    /// What can be seen of an SSH connection.
    Ssh(Ssh),
    /// A method or a message of AMQP.
    Amqp(Box<super::amqp::Amqp>),
    /// A request or a response of HTTP.
    Http(Box<super::http::Http>),
    /// Guest traffic.
    Guest(Guest),
}

impl From<Qemu> for Kind {
    fn from(what: Qemu) -> Self {
        Self::Qemu(what)
    }
}

impl From<Multifd> for Kind {
    fn from(what: Multifd) -> Self {
        Self::Multifd(what)
    }
}

impl From<Preempt> for Kind {
    fn from(what: Preempt) -> Self {
        Self::Preempt(what)
    }
}

impl From<Tls> for Kind {
    fn from(what: Tls) -> Self {
        Self::Tls(what)
    }
}

/// Something on a multifd channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Multifd {
    /// The channel's first packet.
    Initial {
        /// The guest's UUID.
        uuid: [u8; 16],
        /// Number of the channel.
        channel: u8,
    },
    /// A packet of pages.
    Packet(Box<MultifdPacket>),
    /// Device state.
    DeviceState {
        /// Device.
        device: String,
        /// Bytes.
        bytes: u32,
    },
    /// The channel synchronises with the others.
    Sync {
        /// Number over all channels.
        packet_num: u64,
    },
    /// Out of step.
    Lost,
    /// In step again.
    Found,
}

/// A packet of pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultifdPacket {
    /// Number over all channels.
    pub packet_num: u64,
    /// Pages in full.
    pub normal: u32,
    /// Zero pages.
    pub zero: u32,
    /// Pages are compressed.
    pub compressed: bool,
    /// RAM block.
    pub block: String,
    /// Bytes of page data.
    pub data: u32,
    /// Offset in the block, and whether it is a zero page.
    pub pages: Vec<(u64, bool)>,
    /// Target page size, bytes; 0 where it is not known yet.
    pub page_size: u32,
}

/// Something on a post-copy preempt channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preempt {
    /// A page record; its head is in this frame.
    Page {
        /// RAM block.
        block: String,
        /// Offset in the block, bytes.
        address: u64,
        /// How the page comes.
        kind: PageKind,
        /// The record's bytes, head included.
        bytes: u64,
    },
    /// Out of step.
    Lost,
}

/// Something on an NBD connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nbd {
    /// The client asks for an option.
    Option {
        /// Its name.
        name: &'static str,
        /// The disk that it names.
        export: Option<String>,
    },
    /// Requests follow.
    Ready,
    /// Requests of a short time, summed up.
    Requests {
        /// How many.
        requests: u64,
        /// Bytes of WRITE.
        written: u64,
        /// Bytes of WRITE_ZEROES, which are not sent.
        zeroed: u64,
    },
    /// The client is done.
    Disconnect,
    /// TLS from here on.
    Tls,
    /// Out of step.
    Lost,
}

/// What can be seen of a TLS connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// The client's first message.
    ClientHello {
        /// The server that it wants.
        server_name: Option<String>,
        /// Highest version offered.
        offered: Option<u16>,
    },
    /// The server's first message.
    ServerHello {
        /// Version chosen.
        version: u16,
    },
    /// Records of application data in a row, from one side.
    Data {
        /// Their bytes.
        bytes: u64,
    },
    /// Out of step.
    Lost,
}

/// What can be seen of an SSH connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ssh {
    /// A side's first line.
    Identification {
        /// Protocol version.
        protocol: String,
        /// Software and its version.
        software: String,
    },
    /// What one side sent in a row.
    Data {
        /// Bytes, with their encryption.
        bytes: u64,
    },
}

/// A libvirt RPC message.
#[derive(Debug, Clone)]
pub struct Rpc {
    /// Its header.
    pub header: Header,
    /// Procedure name, where it is known.
    pub name: Option<&'static str>,
    /// Its decoded body.
    pub body: Body,
    /// Bytes of the body that were not captured.
    pub missing: u32,
}

/// Something in a migration stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Qemu {
    /// Magic and version.
    Header,
    /// Machine type.
    Configuration {
        /// For example `pc-q35-9.2`.
        machine: String,
    },
    /// The guest's UUID, from the configuration.
    Uuid([u8; 16]),
    /// A section begins.
    Section {
        /// START, PART, END or FULL.
        kind: ElementType,
        /// Section id.
        id: u32,
        /// Device name.
        name: String,
        /// Inside PACKAGED.
        packaged: bool,
    },
    /// The RAM block list.
    RamBlocks {
        /// Blocks.
        count: usize,
        /// Their bytes in use.
        bytes: u64,
        /// Target page size, as far as it is known; bytes.
        page_size: u32,
    },
    /// A `ram` section's records have ended.
    RamPart {
        /// START, PART or END; `None` where its beginning was not seen.
        kind: Option<ElementType>,
        /// What it held.
        counts: Counts,
        /// False where the stream broke off or was lost inside the section.
        complete: bool,
    },
    /// Records of a `block` section (`migrate -b`) have ended: disks inside the stream.
    Disks {
        /// START, PART or END; `None` where its beginning was not seen.
        kind: Option<ElementType>,
        /// What it held.
        counts: DiskCounts,
        /// False where the stream broke off or was lost inside the section.
        complete: bool,
    },
    /// Records of a `dirty-bitmap` section have ended.
    Bitmaps {
        /// What it held.
        counts: BitmapCounts,
        /// False where the stream broke off or was lost inside the section.
        complete: bool,
    },
    /// A device's state has ended.
    Device {
        /// Device name.
        name: String,
        /// Bytes, head included.
        length: u64,
    },
    /// A command.
    Command {
        /// Number.
        number: u16,
        /// QEMU's name.
        name: &'static str,
        /// Its value, for PING and PACKAGED.
        value: Option<u32>,
    },
    /// The nested list of PACKAGED has ended.
    PackagedEnd,
    /// End of the element list.
    EndOfStream,
    /// Description of the device state.
    VmDescription {
        /// Bytes of JSON.
        length: u32,
        /// FULL sections whose length agrees with the description, and all that it lists.
        agreeing: Option<(usize, usize)>,
    },
    /// The multifd channels were told to synchronise.
    MultifdFlush,
    /// A pre-copy round has ended (inferred from repeated pages).
    Round(Round),
    /// The guest has been stopped: this is sent only then. It ran still before the stamp, when
    /// bytes left that were written before it stopped.
    Stopped {
        /// `None` where the stream was picked up in the middle.
        since: Option<Stamp>,
    },
    /// What came of the destination's page requests; at the end of the stream.
    Requests(Requests),
    /// Out of step.
    Lost,
    /// In step again.
    Found,
    /// A message of the destination.
    ReturnPath(Message),
}

/// Page requests of post-copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// Pages asked for.
    pub requests: u64,
    /// Of these, pages that came afterwards.
    pub answered: u64,
    /// From the request to the page, nanoseconds.
    pub latencies: Vec<i64>,
    /// Pages that did not come on this connection: block, offset in it (bytes), request.
    pub waiting: Vec<(String, u64, Stamp)>,
}

/// One pass over the guest's memory, as far as repeats of pages show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// From 1.
    pub index: u32,
    /// Its first page record.
    pub start: Stamp,
    /// Its last page record.
    pub end: Stamp,
    /// Pages by kind, and bytes of their records.
    pub counts: Counts,
    /// The guest was stopped: this round lies in the END of `ram`.
    pub stopped: bool,
}

/// Guest traffic that shows whether, and where, the guest lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// ICMP or ICMPv6 echo.
    Echo(Echo),
    /// A reverse ARP request: QEMU announces the guest's new place.
    Rarp {
        /// The guest's address.
        mac: Mac,
    },
    /// ARP; gratuitous where sender and target address are equal.
    Arp {
        /// Sender's hardware address.
        mac: Mac,
        /// Sender's protocol address.
        address: IpAddr,
        /// Announces itself.
        gratuitous: bool,
    },
    /// Unsolicited neighbour advertisement (RFC 4861, section 7.2.6).
    NeighborAdvertisement {
        /// Sender's hardware address.
        mac: Mac,
        /// Target address.
        address: IpAddr,
    },
    /// A hardware address was silent for a while, and is heard again now.
    Silence {
        /// Whose.
        mac: Mac,
        /// Its last frame before.
        last: Stamp,
        /// What ended the silence.
        by: Sign,
        /// The way its last frame before came, and the way of this one.
        paths: (Path, Path),
    },
}

/// What kind of frame ended a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// QEMU's announcement, which may precede the guest's return by some milliseconds.
    Rarp,
    /// The guest's own frame.
    Frame,
}

/// The way that a frame came: capture interface and, in a tunnel, the host that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// Capture interface.
    pub interface: u32,
    /// Sender of the outer packet.
    pub tunnel_source: Option<IpAddr>,
}

/// An echo request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// Reply or request.
    pub reply: bool,
    /// Who pings (sender of the request).
    pub pinger: IpAddr,
    /// Who is pinged.
    pub target: IpAddr,
    /// Hardware address of the pinged side, where the frame shows one.
    pub target_mac: Option<Mac>,
    /// Identifier.
    pub id: u16,
    /// Sequence number.
    pub sequence: u16,
    /// The way it came.
    pub path: Path,
}
