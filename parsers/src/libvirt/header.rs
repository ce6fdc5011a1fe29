//! The fixed header of every RPC message.
//!
//! Source: libvirt, `src/rpc/virnetprotocol.x`, `struct virNetMessageHeader`, and
//! `src/rpc/virnetmessage.c` (the length word before it).

use nom::Parser;

use crate::xdr;

use super::procedures;

/// Bytes of the length word and the header after it.
pub const HEADER_LEN: usize = 28;

/// Largest value of the length word: 32 MiB, and the four bytes of the word itself, which the
/// limit does not count (libvirt since 3.4.0, `VIR_NET_MESSAGE_MAX` and `VIR_NET_MESSAGE_LEN_MAX`).
pub const MAX_MESSAGE_LEN: u32 = 33_554_432 + 4;

/// Smallest value of the length word: a header without payload.
const MIN_MESSAGE_LEN: u32 = 28;

/// The only protocol version of every program so far.
const PROTOCOL_VERSION: u32 = 1;

/// Largest serial that a header found by searching may have. A client counts its calls from 0, so
/// even one call a millisecond reaches this only after three days.
const MAX_PLAUSIBLE_SERIAL: u32 = 1 << 28;

/// Largest payload of a STREAM message that carries data, for headers found by searching:
/// `VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX`. libvirt sends at most this much at once.
const MAX_PLAUSIBLE_STREAM_LEN: u32 = 262_144 + 28;

/// The `remote` program: everything the public API does.
pub const PROGRAM_REMOTE: u32 = 0x2000_8086;
/// The `qemu` program: monitor passthrough and other calls of libvirt-qemu.
pub const PROGRAM_QEMU: u32 = 0x2000_8087;
/// The `lxc` program.
pub const PROGRAM_LXC: u32 = 0x0006_8000;
/// The `admin` program; on a UNIX socket only.
pub const PROGRAM_ADMIN: u32 = 0x0690_0690;
/// The `keepalive` program; the number spells "keep".
pub const PROGRAM_KEEPALIVE: u32 = 0x6b65_6570;

/// Program numbers and names (libvirt, `src/*/*_protocol.x`, the `…_PROGRAM` constants).
pub const PROGRAMS: [(u32, &str); 5] = [
    (PROGRAM_REMOTE, "REMOTE"),
    (PROGRAM_QEMU, "QEMU"),
    (PROGRAM_LXC, "LXC"),
    (PROGRAM_ADMIN, "ADMIN"),
    (PROGRAM_KEEPALIVE, "KEEPALIVE"),
];

/// The name of a program, or nothing if it is not libvirt's.
#[must_use]
pub fn program_name(program: u32) -> Option<&'static str> {
    PROGRAMS
        .iter()
        .find(|&&(number, _)| number == program)
        .map(|&(_, name)| name)
}

/// What a message is (`enum virNetMessageType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// 0: a request; the peer owes a reply of the same procedure and serial.
    Call,
    /// 1: the answer to a call.
    Reply,
    /// 2: an event or a keepalive; nobody answers, serial 0.
    Message,
    /// 3: data, end or abort of the stream that a call opened; procedure and serial are the call's.
    Stream,
    /// 4: a call that passes file descriptors (UNIX sockets only).
    CallWithFds,
    /// 5: a reply that passes file descriptors (UNIX sockets only).
    ReplyWithFds,
    /// 6: a hole in a stream (since 3.4.0).
    StreamHole,
}

impl MessageType {
    /// From the number on the wire.
    #[must_use]
    pub(crate) const fn from_wire(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Call,
            1 => Self::Reply,
            2 => Self::Message,
            3 => Self::Stream,
            4 => Self::CallWithFds,
            5 => Self::ReplyWithFds,
            6 => Self::StreamHole,
            _ => return None,
        })
    }
}

/// How it went (`enum virNetMessageStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 0: fine; in a STREAM message, its end.
    Ok,
    /// 1: the payload is an error.
    Error,
    /// 2: in a STREAM message, data follows.
    Continue,
}

impl Status {
    /// From the number on the wire.
    #[must_use]
    pub(crate) const fn from_wire(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Ok,
            1 => Self::Error,
            2 => Self::Continue,
            _ => return None,
        })
    }
}

/// The header of a message, with the length word before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Bytes of the whole message, these four included; 28 to [`MAX_MESSAGE_LEN`].
    pub length: u32,
    /// One of [`PROGRAMS`].
    pub program: u32,
    /// Version of the program; always 1.
    pub version: u32,
    /// Procedure within the program, above 0; see [`procedures`].
    pub procedure: i32,
    /// What the message is.
    pub kind: MessageType,
    /// The client's count of calls; a reply and every stream message repeat the call's.
    pub serial: u32,
    /// How it went.
    pub status: Status,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderError {
    /// Fewer than [`HEADER_LEN`] bytes.
    Short,
    /// A length below 28 or above [`MAX_MESSAGE_LEN`].
    Length,
    /// A program that is not in [`PROGRAMS`].
    Program,
    /// A version other than 1.
    Version,
    /// A procedure below 1.
    Procedure,
    /// An unknown message type.
    Kind,
    /// An unknown status.
    Status,
}

impl Header {
    /// Reads the first [`HEADER_LEN`] bytes of a message.
    ///
    /// # Errors
    /// The first field that cannot be so in libvirt's protocol; a procedure without a name is fine.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let mut fields = (
            xdr::u32,
            xdr::u32,
            xdr::u32,
            xdr::i32,
            xdr::u32,
            xdr::u32,
            xdr::u32,
        );
        let (_, (length, program, version, procedure, kind, serial, status)) = fields
            .parse(bytes)
            .map_err(|_: nom::Err<nom::error::Error<&[u8]>>| HeaderError::Short)?;
        if !(MIN_MESSAGE_LEN..=MAX_MESSAGE_LEN).contains(&length) {
            return Err(HeaderError::Length);
        }
        if program_name(program).is_none() {
            return Err(HeaderError::Program);
        }
        if version != PROTOCOL_VERSION {
            return Err(HeaderError::Version);
        }
        if procedure < 1 {
            return Err(HeaderError::Procedure);
        }
        let kind = MessageType::from_wire(kind).ok_or(HeaderError::Kind)?;
        let status = Status::from_wire(status).ok_or(HeaderError::Status)?;
        Ok(Self {
            length,
            program,
            version,
            procedure,
            kind,
            serial,
            status,
        })
    }

    /// The header as it is on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let words = [
            self.length,
            self.program,
            self.version,
            self.procedure as u32,
            self.kind as u32,
            self.serial,
            self.status as u32,
        ];
        let mut bytes = [0; HEADER_LEN];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Bytes of payload after the header.
    #[must_use]
    pub const fn payload_len(&self) -> u32 {
        self.length.saturating_sub(MIN_MESSAGE_LEN)
    }

    /// The procedure's name, or nothing if it is newer than the tables.
    #[must_use]
    pub fn procedure_name(&self) -> Option<&'static str> {
        procedures::name(self.program, self.procedure)
    }

    /// Whether the payload is a piece of a stream's data.
    #[must_use]
    pub const fn is_stream_data(&self) -> bool {
        matches!(
            (self.kind, self.status),
            (MessageType::Stream, Status::Continue)
        )
    }

    /// Whether the fields also fit each other, to be asked of a header that was found by searching
    /// and not by counting: a named procedure, a status that the type can have, a likely serial.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        let fits = match self.kind {
            MessageType::Call | MessageType::CallWithFds => self.status == Status::Ok,
            MessageType::Reply | MessageType::ReplyWithFds => self.status != Status::Continue,
            MessageType::Message => self.status == Status::Ok && self.serial == 0,
            MessageType::Stream => {
                self.status != Status::Continue || self.length <= MAX_PLAUSIBLE_STREAM_LEN
            }
            MessageType::StreamHole => self.status == Status::Continue,
        };
        fits && self.procedure_name().is_some() && self.serial < MAX_PLAUSIBLE_SERIAL
    }
}

/// Whether the first bytes of a direction of a connection are libvirt RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// They are.
    Yes,
    /// They cannot be.
    No,
    /// Fewer than [`HEADER_LEN`] bytes, and nothing against it yet.
    NeedMore,
}

/// Looks at the first bytes of a connection, whatever its port. Says [`Probe::No`] at the first
/// byte that rules a header out, and [`Probe::Yes`] only for a whole header.
#[must_use]
pub fn probe(bytes: &[u8]) -> Probe {
    let starts = |at: usize, fits: &dyn Fn(u32, u32) -> bool| match bytes.get(at..) {
        Some(field) if !field.is_empty() => {
            let (lowest, highest) = bounds(field);
            fits(lowest, highest)
        }
        _ => true,
    };
    // A field cut short stands for a range of values: it fits if one in the range does.
    let overlaps =
        |from: u32, to: u32| move |lowest: u32, highest: u32| lowest <= to && from <= highest;
    let fits = starts(0, &overlaps(MIN_MESSAGE_LEN, MAX_MESSAGE_LEN))
        && starts(4, &|lowest, highest| {
            PROGRAMS
                .iter()
                .any(|&(number, _)| (lowest..=highest).contains(&number))
        })
        && starts(8, &overlaps(PROTOCOL_VERSION, PROTOCOL_VERSION))
        && starts(12, &overlaps(1, u32::MAX >> 1))
        && starts(16, &overlaps(0, 6))
        && starts(24, &overlaps(0, 2));
    match (fits, bytes.len() >= HEADER_LEN) {
        (false, _) => Probe::No,
        (true, false) => Probe::NeedMore,
        (true, true) => Probe::Yes,
    }
}

/// Lowest and highest big-endian number that begins with these bytes (of which four count).
fn bounds(bytes: &[u8]) -> (u32, u32) {
    let (mut lowest, mut highest) = ([0; 4], [0xff; 4]);
    for ((low, high), &byte) in lowest.iter_mut().zip(&mut highest).zip(bytes) {
        (*low, *high) = (byte, byte);
    }
    (u32::from_be_bytes(lowest), u32::from_be_bytes(highest))
}
