//! Which connection belongs to which attempt: by time, place, and the hosts' addresses.

use std::net::IpAddr;

use super::Tracker;
use crate::migration::encrypted::{MIN_STREAM, is_control};
use crate::migration::markers::Signal;
use crate::migration::records::{Attempt, Companion, CompanionKind, Side, Stream};
use crate::net::{Direction, FlowInfo};
use crate::time::Timestamp;

/// What a connection carries for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cargo {
    Memory,
    Disk,
}

/// How well a connection fits an attempt: the greater, the better. Several migrations may run at
/// once between the same hosts, both ways, and each host counts its ports from the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    /// It goes to the host that was named, or to the destination's daemon's.
    to: bool,
    /// It comes from the source.
    from: bool,
    /// The latest attempt that was prepared before it.
    prepared: Option<Timestamp>,
}

impl Tracker {
    pub(super) fn streams_ended(&self, a: &Attempt) -> bool {
        self.streams
            .values()
            .filter(|s| !s.ended && s.info.id != a.session)
            .all(|s| !self.claims(a, &s.info, opener(s)))
    }

    /// Does this connection carry the memory of this attempt?
    pub(super) fn claims(&self, a: &Attempt, info: &FlowInfo, opener: Direction) -> bool {
        self.best(Cargo::Memory, a, info, opener)
    }

    /// Is this the attempt's stream? A tunnelled one goes through the daemons' own connection.
    pub(super) fn carries(&self, a: &Attempt, s: &Stream) -> bool {
        s.info.id == a.session || self.claims(a, &s.info, opener(s))
    }

    /// Is this one of the attempt's connections beside the stream? `alone`: no stream was seen.
    pub(super) fn accompanies(&self, a: &Attempt, alone: bool, c: &Companion) -> bool {
        let client = Direction::ToServer;
        match c.kind {
            CompanionKind::Multifd(_) | CompanionKind::Preempt(_) => {
                self.claims(a, &c.info, client)
            }
            CompanionKind::Nbd(_) => self.best(Cargo::Disk, a, &c.info, client),
            // TLS where the stream was expected: the stream itself.
            CompanionKind::Tls(_) if alone && !is_control(c) => {
                // One that nothing announced must be large.
                let large = a.inferred && c.info.wire_bytes >= MIN_STREAM;
                (a.uri.is_some() || large) && self.claims(a, &c.info, client)
            }
            CompanionKind::Tls(_) | CompanionKind::Ssh(_) => false,
        }
    }

    /// Does it fit this attempt, and no other one better?
    fn best(&self, cargo: Cargo, a: &Attempt, info: &FlowInfo, opener: Direction) -> bool {
        let Some(fit) = self.fit(cargo, a, info, opener) else {
            return false;
        };
        self.attempts
            .iter()
            .filter(|other| !std::ptr::eq(*other, a))
            .filter_map(|other| self.fit(cargo, other, info, opener))
            .all(|other| other <= fit)
    }

    fn fit(&self, cargo: Cargo, a: &Attempt, info: &FlowInfo, opener: Direction) -> Option<Fit> {
        let (client, server) = (info.sender(opener), info.sender(opener.reverse()));
        // The destination's daemon names the place where its hypervisor listens.
        let (port, host) = match cargo {
            Cargo::Memory => {
                let host = a.uri.as_ref().and_then(|u| u.host.as_deref());
                let host: Option<IpAddr> = host.and_then(|h| h.parse().ok());
                (a.uri.as_ref().and_then(|u| u.port), host)
            }
            Cargo::Disk => (a.nbd_port, None),
        };
        let begins = info.first.time;
        let from = a
            .time(Signal::PrepareCall)
            .or_else(|| a.time(Signal::PerformCall));
        let after = from.is_none_or(|t| begins >= t);
        let until = a.finish_call().or_else(|| a.mark(Signal::PerformReply));
        let before = until.is_none_or(|m| begins <= m.stamp.time) && !a.has(Signal::PrepareError);
        if info.id == a.session || !after || !before || port.is_some_and(|p| p != server.port) {
            return None;
        }
        let (source, destination) = self.hosts(a)?;
        let (client, server) = (client.ip, server.ip);
        let to = host == Some(server) || destination == Some(server);
        // A name, or another network: then the port must say it.
        if !to && (host.is_some() || port.is_none()) {
            return None;
        }
        Some(Fit {
            to,
            from: source == Some(client),
            prepared: from,
        })
    }

    /// The addresses by which the source and the destination are known from libvirt's own
    /// connections.
    fn hosts(&self, a: &Attempt) -> Option<(Option<IpAddr>, Option<IpAddr>)> {
        let info = &self.sessions.get(&a.session)?.info;
        Some(match (a.side, a.source_address) {
            (Side::Source, _) => (Some(info.server.ip), None),
            (Side::Destination, Some(source)) => (Some(source), Some(info.server.ip)),
            (Side::Destination, None) => (Some(info.client.ip), Some(info.server.ip)),
        })
    }
}

/// The source opens the connection that it sends memory on. Where the SYN was not captured, who is
/// the client was only guessed from the ports; the memory's direction is better.
pub(super) fn opener(s: &Stream) -> Direction {
    match s.info.opened.or(s.info.accepted) {
        Some(_) => Direction::ToServer,
        None => s.source,
    }
}
