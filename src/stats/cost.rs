//! What a migration put on the network, by cause. Bytes; together they are all bytes of its
//! connections' frames, both directions.

use serde::Serialize;

use crate::migration::{Connection, Migration, Role};

/// A share of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Name: see [`CAUSES`].
    pub cause: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// Causes in their order, with what they mean.
pub const CAUSES: [(&str, &str); 9] = [
    ("first-round", "page records of the first pass over memory"),
    (
        "later-rounds",
        "page records of later passes, the guest running",
    ),
    ("stop-and-copy", "page records sent with the guest stopped"),
    ("other-pages", "page records outside the rounds (post-copy)"),
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
    let (mut first, mut later, mut stopped) = (0, 0_u64, 0_u64);
    for r in &t.rounds {
        match (r.stopped, r.index) {
            (true, _) => stopped = stopped.saturating_add(r.bytes),
            (false, 1) => first = r.bytes,
            (false, _) => later = later.saturating_add(r.bytes),
        }
    }
    let all = |parts: &[u64]| parts.iter().copied().fold(0, u64::saturating_add);
    let rounds = all(&[first, later, stopped]);
    let other = t.page_bytes.saturating_sub(rounds);
    let inside = all(&[rounds, other, t.device_bytes]);
    let rest = payload.saturating_sub(inside);
    // A tunnelled stream is payload of libvirt's connection.
    let control = control.saturating_sub(inside.saturating_sub(payload));
    let counted = all(&[inside, rest, storage, control]);
    let wire = total(m)?;
    let all = [
        first,
        later,
        stopped,
        other,
        t.device_bytes,
        rest,
        storage,
        control,
        wire.saturating_sub(counted),
    ];
    Some(
        CAUSES
            .iter()
            .zip(all)
            .map(|((cause, _), bytes)| Cost { cause, bytes })
            .collect(),
    )
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
