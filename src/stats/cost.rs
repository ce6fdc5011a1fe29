//! What a migration put on the network, by cause. Bytes; together they are all bytes of its
//! connections' frames, both directions.

use serde::Serialize;

use crate::migration::{Connection, Migration, Role, Round, Transfer};

/// A share of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Name: see [`CAUSES`].
    pub cause: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// When a round's pages were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The first over memory, the guest running on the source.
    First,
    /// A later one.
    Later,
    /// With the guest stopped.
    Stopped,
    /// Behind the switch to post-copy: the guest runs on the destination, whatever the round says
    /// of the source.
    PostCopy,
    /// Partly before the switch to post-copy and partly behind it.
    Across,
}

/// When the pages of a round were sent.
pub fn pass(t: &Transfer, r: &Round) -> Pass {
    if let Some(p) = &t.postcopy {
        if r.start_frame >= p.switch.frame {
            return Pass::PostCopy;
        }
        if r.end_frame > p.switch.frame {
            return Pass::Across;
        }
    }
    match (r.stopped, r.index) {
        (true, _) => Pass::Stopped,
        (false, 1) => Pass::First,
        (false, _) => Pass::Later,
    }
}

/// Causes in their order, with what they mean.
pub const CAUSES: [(&str, &str); 10] = [
    ("first-round", "page records of the first pass over memory"),
    (
        "later-rounds",
        "page records of later passes, the guest running",
    ),
    ("stop-and-copy", "page records sent with the guest stopped"),
    (
        "post-copy",
        "page records behind the switch to post-copy, the guest running on the destination",
    ),
    (
        "other-pages",
        "page records of no round, or of one that the switch to post-copy cuts",
    ),
    ("device-state", "sections of the devices"),
    (
        "stream-rest",
        "section heads, block list, description, return path",
    ),
    ("storage", "payload of the disks' connections"),
    ("control", "payload of libvirt's connections"),
    (
        "network",
        "headers of frames, retransmissions, acknowledgements",
    ),
];

/// The split of a migration's bytes; `None` where its transfer was not seen.
pub fn split(m: &Migration) -> Option<Vec<Cost>> {
    let t = m.transfer.as_ref()?;
    let sum = |of: fn(&Connection) -> u64, roles: &[Role]| {
        let members = t.connections.iter().filter(|c| roles.contains(&c.role));
        members.map(of).fold(0, u64::saturating_add)
    };
    let stream = [Role::Main, Role::Multifd, Role::PostcopyPreempt];
    let payload = sum(|c| c.payload_bytes, &stream);
    let storage = sum(|c| c.payload_bytes, &[Role::Nbd]);
    let control = sum(|c| c.payload_bytes, &[Role::Control]);
    let all = |parts: &[u64]| parts.iter().copied().fold(0, u64::saturating_add);
    let of = |p: Pass| {
        let rounds = t.rounds.iter().filter(|r| pass(t, r) == p);
        rounds.map(|r| r.bytes).fold(0, u64::saturating_add)
    };
    let (first, later, stopped) = (of(Pass::First), of(Pass::Later), of(Pass::Stopped));
    let behind = of(Pass::PostCopy);
    let rounds = all(&[first, later, stopped, behind]);
    let other = t.page_bytes.saturating_sub(rounds);
    let inside = all(&[rounds, other, t.device_bytes]);
    let rest = payload.saturating_sub(inside);
    // A tunnelled stream is payload of libvirt's connection.
    let control = control.saturating_sub(inside.saturating_sub(payload));
    let wire = total(m)?;
    let parts = [
        first,
        later,
        stopped,
        behind,
        other,
        t.device_bytes,
        rest,
        storage,
        control,
        u64::MAX,
    ];
    // Every byte belongs to one cause. Pages that a lossy capture holds in part count in full, so
    // that there may be more of them than was seen.
    let mut left = wire;
    let causes = CAUSES.iter().zip(parts).map(|((cause, _), bytes)| {
        let bytes = bytes.min(left);
        left -= bytes;
        Cost { cause, bytes }
    });
    Some(causes.collect())
}

/// Bytes of one cause.
pub fn of(m: &Migration, cause: &str) -> Option<u64> {
    split(m)?.iter().find(|c| c.cause == cause).map(|c| c.bytes)
}

/// Bytes of all frames of the migration's connections.
pub fn total(m: &Migration) -> Option<u64> {
    let t = m.transfer.as_ref()?;
    let wire = t.connections.iter().map(|c| c.wire_bytes);
    Some(wire.fold(0, u64::saturating_add))
}
