//! libvirt inside TLS or SSH: only sizes and times are visible.
//!
//! The source's daemon, or a client, makes small calls, then sends the guest's definition with
//! PREPARE, and a cookie with FINISH (libvirt `src/qemu/qemu_migration.c`,
//! `qemuMigrationSrcPerformPeer2Peer3`). These uploads and the answers to them are the boundaries,
//! as far as sizes can tell. A tunnelled stream lies between them.

use super::markers::Signal;
use super::outcome::one_sided;
use super::records::{Attempt, Companion, CompanionKind, Mark, Session, Turn};
use crate::net::{Direction, FlowInfo, Stamp};

/// libvirt's TLS port (IANA: unassigned; libvirt `src/remote/remote_driver.h`).
const LIBVIRT_TLS_PORT: u16 = 16514;

/// A definition is larger than this; the calls before it are smaller. Bytes.
const MIN_DEFINITION: u64 = 4096;

/// FINISH, and an answer to it or to PREPARE, are larger than this; keepalives and small calls are
/// not, with their encryption. Bytes.
pub(super) const MIN_MESSAGE: u64 = 200;

/// So much between PREPARE and FINISH is guest memory. Bytes.
pub(super) const MIN_STREAM: u64 = 1 << 20;

/// Calls between CONNECT_OPEN and PREPARE: five features, the close callback, and OPEN itself.
const OPEN_BEFORE_PREPARE: usize = 7;

/// So many calls before PREPARE are small, whoever drives.
const SMALL_BEFORE_PREPARE: usize = 4;

/// What a connection looks like.
pub(super) struct Found {
    pub(super) session: Session,
    pub(super) attempt: Attempt,
    /// So many of its turns are this attempt's and what came before it.
    pub(super) turns: usize,
    /// Turns were forgotten, and what lay beyond them could not be told.
    pub(super) forgotten: bool,
}

/// May libvirt's calls go through it?
pub(super) fn is_control(c: &Companion) -> bool {
    match c.kind {
        CompanionKind::Tls(_) => c.info.server.port == LIBVIRT_TLS_PORT,
        CompanionKind::Ssh(_) => true,
        _ => false,
    }
}

/// Does it go to the host that this memory goes to, and from the host that it comes from? `None`:
/// not to that host; `false`: from a third one, where a client drives.
pub(super) fn beside(control: &FlowInfo, memory: &FlowInfo) -> Option<bool> {
    let there = control.server.ip == memory.server.ip && control.first <= memory.first;
    there.then_some(control.client.ip == memory.client.ip)
}

/// The attempt that a connection looks like, if it looks like one. `memory`: the connection that
/// was opened for the guest's memory. SSH carries so much else that without it nothing is said,
/// unless a stream fits between PREPARE and FINISH and a guest was `announced` when that was over.
pub(super) fn attempt(
    control: &Companion,
    memory: Option<&FlowInfo>,
    announced: impl Fn(Stamp) -> bool,
) -> Option<Found> {
    let all = control.turns()?;
    let mut known = 0..all.len();
    let mut uploaded = 0;
    // Beyond what was forgotten, which one is which cannot be told, but for what ends a tunnel.
    match (all.forgotten, memory) {
        (Some(f), Some(m)) if m.first.time > f.from => known.start = f.between.1,
        (Some(f), None) if f.uploaded >= MIN_STREAM => uploaded = f.uploaded,
        (Some(f), _) => known.end = f.between.0,
        (None, _) => {}
    }
    let (first, forgotten) = (known.start, known.len() < all.len());
    let turns = all.get(known)?;
    let ssh = matches!(control.kind, CompanionKind::Ssh(_));
    let prepare = prepare(turns, memory)?;
    // Which upload is the first is known where nothing before it is missing.
    let from_start = control.info.from_start == [true; 2] && sound(turns, 0, prepare);
    let placed = memory.map_or(from_start, |m| m.opened.is_some());
    if !placed || one_sided(&control.info) || !sound(turns, prepare, prepare) {
        return None;
    }
    let prepared = answer(turns, prepare).filter(|i| sound(turns, prepare, *i));
    let finish = Finish::find(
        turns,
        prepared.unwrap_or(prepare) + 1,
        memory.is_none().then_some(uploaded),
    );
    let before = |i: usize| memory.is_none_or(|m| turns[i].first <= m.first);
    let after = |i: usize| memory.is_none_or(|m| turns[i].last >= m.first);
    let between = prepared.is_some_and(before) && finish.call.is_some_and(after);
    let mut attempt = Attempt::new(control.info.id, true);
    attempt.inferred = true;
    attempt.source_address = memory
        .map(|m| m.client.ip)
        .filter(|ip| *ip != control.info.client.ip);
    let at = |i: Option<usize>| i.map(|i| mark(turns[i].first, turns[i].last));
    let tunnel = match memory {
        None => finish.tunnel(turns),
        Some(_) => None,
    };
    let end = tunnel.and_then(|(_, end)| end);
    let evident = memory.is_some() || end.is_some_and(|end| announced(end.stamp));
    if ssh && !(evident && between && small_calls(turns, prepare)) {
        return None;
    }
    attempt.tunnelled = tunnel.is_some();
    let begin = tunnel.map(|(begin, _)| begin);
    for (signal, mark) in [
        (Signal::PrepareCall, at(Some(prepare))),
        (Signal::PrepareReply, at(prepared)),
        (Signal::VeiledTunnel, begin),
        (Signal::VeiledTunnelEnd, end),
        (Signal::FinishCall, at(finish.call)),
        (Signal::FinishReply, at(finish.answer)),
    ] {
        if let Some(mark) = mark {
            attempt.signal(signal, mark);
        }
    }
    let session = Session {
        info: control.info.clone(),
        ended: control.ended,
        open_reply: open_reply(turns, prepare),
        calls: Vec::new(),
        missing_bytes: control.missing_bytes,
        attempts: 0,
        pings: [0; 2],
        handshake: control.handshake(),
    };
    let last = finish.answer.or(finish.call).or(prepared);
    Some(Found {
        session,
        attempt,
        turns: first + last.unwrap_or(prepare) + 1,
        forgotten,
    })
}

/// Are there only small calls and answers directly before PREPARE?
fn small_calls(turns: &[Turn], prepare: usize) -> bool {
    let before = prepare.checked_sub(2 * SMALL_BEFORE_PREPARE);
    before
        .and_then(|from| turns.get(from..prepare))
        .is_some_and(|calls| calls.iter().all(|t| t.bytes < MIN_MESSAGE))
}

/// Is nothing missing in these turns or between them?
fn sound(turns: &[Turn], from: usize, to: usize) -> bool {
    turns
        .get(from..=to)
        .is_some_and(|all| all.iter().all(|t| !t.holed))
}

/// Does it look like a client's connection to the source's daemon? That one is asked for the
/// definition (BEGIN) before it is given one (PERFORM).
pub(super) fn is_to_source(control: &Companion) -> bool {
    let mut large = control
        .turns()
        .into_iter()
        .flat_map(|t| t.iter())
        .filter(|t| t.bytes >= MIN_DEFINITION);
    large
        .next()
        .is_some_and(|t| t.direction == Direction::ToClient)
        && large.any(|t| t.direction == Direction::ToServer)
}

/// The upload of the definition: the first one, or the last one before the memory.
fn prepare(turns: &[Turn], memory: Option<&FlowInfo>) -> Option<usize> {
    let large = |t: &Turn, d| t.direction == d && t.bytes >= MIN_DEFINITION;
    let definition = |t: &Turn| large(t, Direction::ToServer);
    match memory {
        Some(m) => {
            let until = turns.partition_point(|t| t.last <= m.first);
            turns[..until].iter().rposition(definition)
        }
        // The source's daemon is asked for the definition before it is given one.
        None => turns
            .iter()
            .position(|t| definition(t) || large(t, Direction::ToClient))
            .filter(|i| definition(&turns[*i])),
    }
}

/// What follows PREPARE's answer.
struct Finish {
    /// Uploads before the call: a tunnelled stream.
    from: usize,
    call: Option<usize>,
    answer: Option<usize>,
    /// Bytes of uploads that are not kept.
    forgotten: u64,
}

impl Finish {
    /// `tunnel`: a stream may lie before it, of which so many bytes are forgotten. Then FINISH is what comes last: inside SSH, answers to
    /// a stream may be large as well (windows, new keys).
    fn find(turns: &[Turn], from: usize, tunnel: Option<u64>) -> Self {
        let uploads = || (from..turns.len()).filter(|i| is_upload(&turns[*i]));
        let all: u64 = uploads().map(|i| turns[i].bytes).sum();
        let (call, answer) = if tunnel.is_some_and(|t| t + all >= MIN_STREAM) {
            // The end of the stream and what stands beside it.
            let call = uploads().next_back();
            let answer = call.and_then(|i| answer(turns, i));
            let whole = |i: &usize| answer.is_some_and(|a| sound(turns, i.saturating_sub(2), a));
            let call = call.filter(whole);
            (call, answer.filter(|_| call.is_some()))
        } else {
            let answer = answer(turns, from.saturating_sub(1));
            let before = |i: &usize| answer.is_none_or(|a| *i < a);
            let call = match answer {
                Some(_) => uploads().rfind(before),
                None => uploads().next(),
            };
            let last = answer.or(call).unwrap_or(from);
            match sound(turns, from.saturating_sub(1), last) {
                true => (call, answer),
                false => (None, None),
            }
        };
        Self {
            from,
            call,
            answer,
            forgotten: tunnel.unwrap_or(0),
        }
    }

    /// The first and the last of a stream between PREPARE and FINISH.
    fn tunnel(&self, turns: &[Turn]) -> Option<(Mark, Option<Mark>)> {
        let inside = turns.get(self.from..self.call.unwrap_or(turns.len()))?;
        let uploads = || inside.iter().filter(|t| is_upload(t));
        if uploads().map(|t| t.bytes).sum::<u64>() + self.forgotten < MIN_STREAM {
            return None;
        }
        let (first, last) = (uploads().next()?, uploads().next_back()?);
        // The destination acknowledges the stream's end.
        let end = inside.last().map_or(last.last, |t| t.last);
        let begin = Mark {
            uncertainty_ns: crate::dissect::MESSAGE_PAUSE_NS,
            ..Mark::at(first.first)
        };
        Some((begin, self.call.map(|_| mark(last.last, end))))
    }
}

fn is_upload(t: &Turn) -> bool {
    t.direction == Direction::ToServer && t.bytes >= MIN_MESSAGE
}

/// The boundary lies somewhere in a turn: its end, give or take its length.
fn mark(first: Stamp, last: Stamp) -> Mark {
    Mark {
        stamp: last,
        begin: first,
        uncertainty_ns: last.time.since(first.time).abs(),
    }
}

/// The first large answer after a turn.
fn answer(turns: &[Turn], after: usize) -> Option<usize> {
    let large = |t: &Turn| t.direction == Direction::ToClient && t.bytes >= MIN_MESSAGE;
    let found = turns.iter().skip(after + 1).position(large)?;
    Some(after + 1 + found)
}

/// The answer to CONNECT_OPEN, counted back from PREPARE; uncertain by the neighbouring calls, for
/// versions of libvirt differ in what they ask.
fn open_reply(turns: &[Turn], prepare: usize) -> Option<Mark> {
    let answers: Vec<&Turn> = turns
        .get(..prepare)?
        .iter()
        .filter(|t| t.direction == Direction::ToClient)
        .collect();
    let at = answers.len().checked_sub(OPEN_BEFORE_PREPARE)?;
    let open = answers.get(at)?;
    let first = turns
        .iter()
        .position(|t| t.first == answers[at.saturating_sub(2)].first)?;
    if !sound(turns, first, prepare) {
        return None;
    }
    let near = |n: Option<usize>| n.and_then(|n| answers.get(n)).unwrap_or(open).last.time;
    let (from, to) = (near(at.checked_sub(2)), near(Some(at + 2)));
    Some(Mark {
        stamp: open.last,
        begin: open.first,
        uncertainty_ns: to.since(from).max(0),
    })
}
