//! Marker packets: sent through the measured network to part a trace into experiments.
//!
//! A UDP payload in network order, source port 2065. Markers are frames like others.

use super::inside::{Layer, udp};
use super::{be32, before_nul, escape};
use crate::capture::LinkType;

/// UDP source port of markers.
const MARKER_PORT: u16 = 0x0811;
const MAGIC: u32 = 0x9f7a_3c83;
/// Bytes without the comment.
const FIXED_LEN: usize = 32;
/// Longest comment, bytes.
const COMMENT_LEN: usize = 64;
/// Flag: the experiment is over.
const TERMINATE: u8 = 1;

/// A marker packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// Version of its layout.
    pub version: u8,
    /// Nothing is to be recorded until the next one.
    pub terminate: bool,
    /// Experiment.
    pub experiment: u32,
    /// Run.
    pub run: u32,
    /// Key.
    pub key: u32,
    /// Sequence number.
    pub sequence: u32,
    /// Seconds since 1970 by its sender's clock.
    pub seconds: u64,
    /// Comment, as far as it was captured; bytes that cannot be printed as `\xNN`.
    pub comment: String,
    /// UDP port it was sent to.
    pub port: u16,
}

impl Marker {
    /// The marker that a frame is, if it is one.
    pub fn find(link: LinkType, frame: &[u8]) -> Option<Self> {
        let Layer::Ip(at) = Layer::of(link, frame)? else {
            return None;
        };
        let datagram = udp(frame, at)?;
        if datagram.source_port != MARKER_PORT {
            return None;
        }
        let p = frame.get(datagram.payload.clone())?;
        if be32(p, 0)? != MAGIC || p.len() < FIXED_LEN {
            return None;
        }
        let comment = p.get(FIXED_LEN..).unwrap_or_default();
        let comment = comment.get(..COMMENT_LEN).unwrap_or(comment);
        Some(Self {
            version: *p.get(4)?,
            terminate: p.get(5)? & TERMINATE != 0,
            experiment: be32(p, 8)?,
            run: be32(p, 12)?,
            key: be32(p, 16)?,
            sequence: be32(p, 20)?,
            seconds: (u64::from(be32(p, 24)?) << 32) | u64::from(be32(p, 28)?),
            comment: escape(before_nul(comment)),
            port: datagram.destination_port,
        })
    }
}
