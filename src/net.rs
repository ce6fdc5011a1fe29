//! From frames to bytes in order: link, IP and tunnel layers, TCP reassembly. Knows no
//! application.

pub mod flow;
pub mod packet;
pub mod tcp;

use std::fmt;

use crate::time::Timestamp;

pub use flow::{Chunk, Direction, FlowInfo, Flows, Handler, Place, What};
pub use packet::{Body, Mac, Packet};

/// Which frame, and when. Ordered by frame: clocks may step back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    /// Number of the frame, from 1 over the whole input.
    pub frame: u64,
    /// Time of the frame.
    pub time: Timestamp,
}

/// Named, counted irregularities of the traffic. None is fatal.
///
/// The list is short and static, so a sorted vector is enough.
#[derive(Debug, Clone, Default)]
pub struct Oddities(Vec<(&'static str, u64)>);

impl Oddities {
    /// Counts one more of `name`.
    pub fn note(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// Counts `n` more of `name`; none leaves no entry.
    pub fn add(&mut self, name: &'static str, n: u64) {
        match self.0.binary_search_by_key(&name, |(n, _)| n) {
            Ok(i) => self.0[i].1 += n,
            Err(i) if n > 0 => self.0.insert(i, (name, n)),
            Err(_) => {}
        }
    }

    /// Names and counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().copied()
    }
}

/// `10.0.0.1:49152`, `[fd00::1]:49152`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address.
    pub ip: std::net::IpAddr,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.ip, self.port).fmt(f)
    }
}
