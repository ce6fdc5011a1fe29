//! How it ended, and the cause as far as it is on the wire.

use phasescope_parsers::libvirt::message::RpcError;

use super::assemble::Parts;
use super::downtime::Subject;
use super::markers::Signal;
use super::openstack;
use super::records::{Attempt, Session, Side};
use super::{Outcome, OutcomeKind};
use crate::net::{Direction, FlowInfo};

/// `VIR_ERR_OPERATION_ABORTED`: a user aborted the job (libvirt `include/libvirt/virterror.h`).
const OPERATION_ABORTED: i32 = 78;

/// `VIR_ERR_MIGRATE_FINISH_OK`: "cleaned up as asked", the answer to a FINISH that cancels.
const MIGRATE_FINISH_OK: i32 = 93;

/// Error codes by which a daemon will not do a thing, rather than fail in doing it
/// (`virErrorNumber`, libvirt `include/libvirt/virterror.h`).
const REFUSALS: &[(i32, &str)] = &[
    (3, "NO_SUPPORT"),
    (8, "INVALID_ARG"),
    (20, "DOM_EXIST"),
    (29, "OPERATION_DENIED"),
    (42, "NO_DOMAIN"),
    (45, "AUTH_FAILED"),
    (55, "OPERATION_INVALID"),
    (67, "CONFIG_UNSUPPORTED"),
    (81, "MIGRATE_UNSAFE"),
    (84, "OPERATION_UNSUPPORTED"),
    (88, "ACCESS_DENIED"),
    (98, "CPU_INCOMPATIBLE"),
];

/// `VIR_ERR_OPERATION_FAILED`, which says little by itself.
const OPERATION_FAILED: i32 = 9;

/// `VIR_FROM_DOMAIN`: the destination's list of domains speaks, which has another domain of that
/// name or UUID (`virErrorDomain`, libvirt `src/conf/virdomainobjlist.c`).
const FROM_DOMAIN: i32 = 20;

/// A source that sends for so long without any answer talks to nobody: a retransmission comes after
/// 0.2 s, the next ones after 0.4 and 0.8 s (RFC 6298, Linux's least). Nanoseconds.
const MIN_SILENCE_NS: i64 = 1_000_000_000;

/// Will a daemon not do it, rather than fail in doing it?
fn refuses(e: &RpcError) -> bool {
    REFUSALS.iter().any(|(code, _)| *code == e.code)
        || (e.code, e.domain) == (OPERATION_FAILED, FROM_DOMAIN)
}

pub(super) const ONE_SIDED: &str = "only one direction of the connection is in the capture";

/// Was only one side of the connection heard?
pub(super) fn one_sided(info: &FlowInfo) -> bool {
    let [a, b] = info.halves.map(|h| h.payload_bytes > 0);
    // Without its answer to the SYN, the silent side was not only silent.
    a != b && (info.accepted.is_none() || info.opened.is_none())
}

fn is(result: OutcomeKind, reason: impl Into<String>) -> Outcome {
    Outcome {
        result,
        reason: Some(reason.into()),
    }
}

const COMPLETED: Outcome = Outcome {
    result: OutcomeKind::Completed,
    reason: None,
};

/// What the hosts show, and what a cloud says.
pub(super) fn of(parts: &Parts<'_>, subject: &Subject) -> Outcome {
    let seen = parts.attempt.is_some() || parts.main().is_some();
    match parts.story {
        None => of_hosts(parts, subject),
        Some(story) => {
            let hosts = seen.then(|| of_hosts(parts, subject));
            openstack::merge_outcome(story, hosts, parts.now)
        }
    }
}

fn of_hosts(parts: &Parts<'_>, subject: &Subject) -> Outcome {
    let Some(attempt) = parts.attempt else {
        return of_stream(parts, subject);
    };
    let error = attempt.error.as_ref();
    if attempt.has(Signal::PrepareError) {
        return match error.is_some_and(refuses) {
            true => is(
                OutcomeKind::Refused,
                with_text("PREPARE was refused", error),
            ),
            false => is(OutcomeKind::Failed, with_text("PREPARE failed", error)),
        };
    }
    if let Some(e) = &attempt.perform_error {
        return match e.code {
            OPERATION_ABORTED => is(
                OutcomeKind::Cancelled,
                with_text("the source says", Some(e)),
            ),
            _ => is(OutcomeKind::Failed, with_text("PERFORM failed", Some(e))),
        };
    }
    if attempt.inferred {
        return of_encrypted(parts, attempt, subject);
    }
    match (attempt.finish_ok, attempt.has(Signal::FinishCancelCall)) {
        (_, true) => called_off(parts, error),
        (Some(true), false) => COMPLETED,
        (Some(false), false) => is(OutcomeKind::Failed, with_text("FINISH failed", error)),
        (None, false) if attempt.side == Side::Source => of_source(attempt, parts),
        (None, false) => before_finish(attempt, parts),
    }
}

fn with_text(stage: &str, error: Option<&RpcError>) -> String {
    match error.and_then(|e| e.message.as_deref()) {
        Some(message) => format!("{stage}: {message}"),
        None => stage.to_owned(),
    }
}

/// FINISH asked the destination to give up. Who was the first to close the migration connection
/// tells whether the source wanted that, or had to.
fn called_off(parts: &Parts<'_>, error: Option<&RpcError>) -> Outcome {
    let told = error
        .filter(|e| e.code != MIGRATE_FINISH_OK)
        .and_then(|e| e.message.as_deref())
        .map_or_else(String::new, |m| format!("; the destination says: {m}"));
    if parts
        .main()
        .is_some_and(|s| matches!(s.loaded, Some((_, false))))
    {
        let why = "the destination could not load the guest; the source called it off";
        return is(OutcomeKind::Failed, format!("{why}{told}"));
    }
    if let Some(how) = broken_by_destination(parts) {
        return is(
            OutcomeKind::Failed,
            format!("{how}; the source called it off{told}"),
        );
    }
    let whole = parts.streams.iter().all(|s| s.end.is_some());
    let when = match whole {
        true => " after the stream was complete",
        false => "; the stream ends early",
    };
    is(
        OutcomeKind::Cancelled,
        format!("the source called it off{when}{told}"),
    )
}

/// The destination was the first to close a connection with memory.
fn broken_by_destination(parts: &Parts<'_>) -> Option<String> {
    let source = parts.main().map_or(Direction::ToServer, |s| s.source);
    let (first, by, reset) = parts
        .memory()
        .filter_map(|i| {
            let (stamp, by) = i.first_to_close()?;
            Some((stamp, by, i.reset == Some((stamp, by))))
        })
        .min_by_key(|(stamp, ..)| *stamp)?;
    (by == source.reverse()).then(|| {
        let what = if reset { "reset" } else { "closed" };
        format!(
            "the destination {what} the migration connection in frame {}",
            first.frame
        )
    })
}

/// Only the client's connection to the source is known: CONFIRM repeats what FINISH said.
fn of_source(attempt: &Attempt, parts: &Parts<'_>) -> Outcome {
    match attempt.confirm_cancelled {
        Some(0) if attempt.has(Signal::ConfirmReply) => COMPLETED,
        Some(0) => is(
            OutcomeKind::Unknown,
            "the reply to CONFIRM was not captured",
        ),
        Some(_) => is(
            OutcomeKind::Failed,
            broken_by_destination(parts)
                .unwrap_or_else(|| "CONFIRM says that the migration failed".to_owned()),
        ),
        None => before_finish(attempt, parts),
    }
}

/// Neither FINISH's reply nor anything that stands for it.
fn before_finish(attempt: &Attempt, parts: &Parts<'_>) -> Outcome {
    let Some(session) = parts.session else {
        return is(
            OutcomeKind::Unknown,
            "no connection of it is in the capture",
        );
    };
    if one_sided(&session.info) {
        return is(OutcomeKind::Unknown, ONE_SIDED);
    }
    if session.info.closed().is_none() {
        let silence = silence(session, parts);
        return is(
            OutcomeKind::Unfinished,
            format!("the capture ends before the reply to FINISH{silence}"),
        );
    }
    if attempt.has(Signal::FinishCall) {
        return is(OutcomeKind::Unknown, "the reply to FINISH was not captured");
    }
    if !session.seen_whole() {
        return is(
            OutcomeKind::Unknown,
            "no FINISH was seen, but not all of libvirt's connection was captured",
        );
    }
    is(OutcomeKind::Failed, lost_connection(session))
}

/// For how long the source went on without anything from the destination, on all connections.
fn silence(session: &Session, parts: &Parts<'_>) -> String {
    let source = parts.main().map_or(Direction::ToServer, |s| s.source);
    let memory = parts.memory().map(|i| (i, source));
    let (mut ours, mut theirs) = (None, None);
    for (info, d) in memory.chain([(&session.info, Direction::ToServer)]) {
        ours = ours.max(info.heard[d.index()]);
        theirs = theirs.max(info.heard[d.reverse().index()]);
    }
    let silent = ours.zip(theirs).map(|(a, b)| (a.time.since(b.time), b));
    match silent.filter(|(ns, _)| *ns >= MIN_SILENCE_NS) {
        Some((ns, last)) => format!(
            "; the source still sent when nothing had come from the destination for {:.1} s (since frame {})",
            ns as f64 / 1e9,
            last.frame
        ),
        None => String::new(),
    }
}

/// Who closed the daemons' connection, and after how much silence.
fn lost_connection(session: &Session) -> String {
    let Some((stamp, by)) = session.info.first_to_close() else {
        return "the daemons' connection was closed before FINISH".to_owned();
    };
    let who = match by {
        Direction::ToServer => "the calling side",
        Direction::ToClient => "the called daemon",
    };
    let silent = match session.pings[by.index()] {
        0 => String::new(),
        1 => ", after a keepalive request without an answer".to_owned(),
        n => format!(", after {n} keepalive requests without an answer"),
    };
    format!(
        "{who} closed libvirt's connection before FINISH (frame {}){silent}",
        stamp.frame
    )
}

/// libvirt's messages cannot be read; QEMU's announcement of the guest's new place can.
fn of_encrypted(parts: &Parts<'_>, attempt: &Attempt, subject: &Subject) -> Outcome {
    if let Some(s) = parts.main() {
        // The stream itself can.
        if s.broken_off() {
            return called_off(parts, None);
        }
        if attempt.has(Signal::FinishReply) && matches!(s.loaded, Some((_, true))) {
            return is(
                OutcomeKind::Completed,
                "inferred: libvirt's messages are encrypted, but the destination says that it loaded the guest, and answered what came after",
            );
        }
    }
    if attempt.has(Signal::FinishCall) && !subject.macs.is_empty() {
        return is(
            OutcomeKind::Completed,
            "inferred: libvirt's messages are encrypted, but a guest was announced (RARP) at a new place when the transfer ended",
        );
    }
    is(
        OutcomeKind::Unknown,
        "libvirt's messages are encrypted: whether it succeeded is not visible",
    )
}

fn of_stream(parts: &Parts<'_>, subject: &Subject) -> Outcome {
    let Some(s) = parts.main() else {
        return is(OutcomeKind::Unknown, "nothing was seen");
    };
    match (s.loaded, &s.end, s.info.closed()) {
        (Some((_, true)), ..) => COMPLETED,
        (Some((_, false)), ..) => is(
            OutcomeKind::Failed,
            "the destination says that loading failed",
        ),
        (None, Some(_), _) if !subject.macs.is_empty() => is(
            OutcomeKind::Completed,
            "inferred: the stream is complete, and a guest was announced (RARP) at a new place when it ended",
        ),
        (None, Some(_), _) => is(
            OutcomeKind::Unknown,
            "the stream is complete; nothing shows whether the destination took it",
        ),
        (None, None, Some(_)) if s.missing_bytes > 0 || s.lost > 0 || s.header.is_none() => is(
            OutcomeKind::Unknown,
            "the end of the stream was not seen, but not all of it was captured",
        ),
        (None, None, Some(_)) => is(OutcomeKind::Failed, "the stream ends early"),
        (None, None, None) => is(
            OutcomeKind::Unfinished,
            "the capture ends before the stream",
        ),
    }
}
