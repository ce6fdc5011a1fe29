//! libvirt's RPC protocol: framing, the messages that concern a migration, and blanking.
//!
//! A connection is decoded in two steps, each direction for itself: [`framing::Framer`] cuts the
//! bytes into messages, [`message::decode`] reads one message's payload. [`redact::redact`] blanks
//! whatever `decode` does not read. Everything on the wire is XDR, big-endian.
//!
//! Source: libvirt, `src/rpc/virnetprotocol.x` (framing), `src/remote/remote_protocol.x` (payloads).

pub mod cookie;
pub mod domain;
pub mod framing;
pub mod header;
pub mod message;
pub mod procedures;
pub mod redact;
pub mod uri;

mod parameters;
mod reader;
mod xml;
