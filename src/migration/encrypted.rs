//! libvirt inside TLS: only the sizes and times of records are visible.
//!
//! In a peer-to-peer migration the source's daemon makes small calls, then sends the guest's
//! definition with PREPARE, and once more with FINISH (libvirt `src/qemu/qemu_migration.c`,
//! `qemuMigrationSrcPerformPeer2Peer3`). The two large uploads and the answers to them are the
//! boundaries, as far as sizes can tell.

use super::markers::Signal;
use super::records::{
    Attempt, Companion, CompanionKind, MAX_TURNS, Mark, Session, TlsRecord, Turn,
};
use crate::net::{Direction, FlowInfo, Stamp};

/// libvirt's TLS port (IANA: unassigned; libvirt `src/remote/remote_driver.h`).
const LIBVIRT_TLS_PORT: u16 = 16514;

/// A definition is larger than this; every other call of a migration is smaller. Bytes.
const MIN_DEFINITION: u64 = 4096;

/// An answer to PREPARE or FINISH holds a cookie; a keepalive does not. Bytes.
const MIN_ANSWER: u64 = 200;

/// Calls between CONNECT_OPEN and PREPARE: five features, the close callback, and OPEN itself.
const OPEN_BEFORE_PREPARE: usize = 7;

/// Is this as large as PREPARE and FINISH are, and goes to a libvirt daemon?
pub(super) fn is_upload(info: &FlowInfo, t: &Turn) -> bool {
    info.server.port == LIBVIRT_TLS_PORT
        && t.direction == Direction::ToServer
        && t.bytes >= MIN_DEFINITION
}

/// The attempt that a TLS connection to a libvirt daemon looks like, if it looks like one.
pub(super) fn attempt(companion: &Companion) -> Option<(Session, Attempt)> {
    let CompanionKind::Tls(tls) = &companion.kind else {
        return None;
    };
    // Behind an upload that was forgotten, which one is which cannot be told.
    let known = match tls.upload_forgotten {
        true => MAX_TURNS,
        false => tls.turns.len(),
    };
    let uploads: Vec<usize> = tls
        .turns
        .iter()
        .take(known)
        .enumerate()
        .filter(|(_, t)| is_upload(&companion.info, t))
        .map(|(i, _)| i)
        .collect();
    let prepare = *uploads.first()?;
    let mut attempt = Attempt::new(companion.info.id, true);
    attempt.inferred = true;
    let signal = |a: &mut Attempt, s, m: Option<Mark>| {
        if let Some(m) = m {
            a.signal(s, m);
        }
    };
    let sent = |i: usize| tls.turns.get(i).map(|t| mark(t.first, t.last));
    signal(&mut attempt, Signal::PrepareCall, sent(prepare));
    signal(&mut attempt, Signal::PrepareReply, answer(tls, prepare));
    if let Some(finish) = uploads.get(1) {
        signal(&mut attempt, Signal::FinishCall, sent(*finish));
        signal(&mut attempt, Signal::FinishReply, answer(tls, *finish));
    }
    let session = Session {
        info: companion.info.clone(),
        ended: companion.ended,
        open_reply: open_reply(tls, prepare),
        calls: Vec::new(),
        missing_bytes: companion.missing_bytes,
        attempts: 1,
        pings: [0; 2],
        tls: Some(tls.handshake()),
    };
    Some((session, attempt))
}

/// The boundary lies somewhere in a turn: its end, give or take its length.
fn mark(first: Stamp, last: Stamp) -> Mark {
    Mark {
        stamp: last,
        begin: first,
        uncertainty_ns: last.time.since(first.time).max(0),
    }
}

/// The first large answer after a turn.
fn answer(tls: &TlsRecord, after: usize) -> Option<Mark> {
    let t = tls
        .turns
        .iter()
        .skip(after + 1)
        .find(|t| t.direction == Direction::ToClient && t.bytes >= MIN_ANSWER)?;
    Some(mark(t.first, t.last))
}

/// The answer to CONNECT_OPEN, counted back from PREPARE; uncertain by the neighbouring calls, for
/// versions of libvirt differ in what they ask.
fn open_reply(tls: &TlsRecord, prepare: usize) -> Option<Mark> {
    let before = tls.turns.get(..prepare)?;
    let answers: Vec<&Turn> = before
        .iter()
        .filter(|t| t.direction == Direction::ToClient)
        .collect();
    let at = answers.len().checked_sub(OPEN_BEFORE_PREPARE)?;
    let open = answers.get(at)?;
    let near = |n: Option<usize>| n.and_then(|n| answers.get(n)).unwrap_or(open).last.time;
    let (from, to) = (near(at.checked_sub(2)), near(Some(at + 2)));
    Some(Mark {
        stamp: open.last,
        begin: open.first,
        uncertainty_ns: to.since(from).max(0),
    })
}
