//! What else the wire says of a migration: keepalives without an answer, the events that a client
//! asked for, answers that overtake their calls.

mod support;

use phasescope::migration::{OutcomeKind, PhaseName};
use support::rpc::{self, EVENT, OK, Xdr, message};
use support::scene::*;
use support::stream::Stream;
use support::trace::{Side, Trace};

/// `DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION` and `DOMAIN_EVENT_CALLBACK_JOB_COMPLETED`.
const ITERATION: u32 = 359;
const JOB_COMPLETED: u32 = 363;

#[test]
fn a_dead_peer_is_told_by_its_silence() {
    let mut t = Trace::default();
    let mut c = open(&mut t, 16509);
    prepare(&mut t, &mut c, 10 * MS, LIVE_P2P);
    prepared(&mut t, &mut c, 20 * MS, Some("tcp:beta:49152"), "");
    stream(&mut t, 30 * MS, &Stream::precopy(b"x").0[..200]);
    for i in 0..3 {
        t.send((5000 + i * 5000) * MS, &mut c, Side::Client, &rpc::ping());
    }
    t.close(20_000 * MS, &mut c);
    let m = one(&t);
    assert_eq!(m.outcome.result, OutcomeKind::Failed);
    let why = m.outcome.reason.as_ref().expect("a reason");
    assert!(
        why.contains("the calling side") && why.contains("3 keepalive requests without an answer"),
        "{why}"
    );
    assert!(!names(&m).contains(&PhaseName::Cleanup), "{:?}", names(&m));
}

#[test]
fn a_clients_events_count_the_rounds() {
    let mut t = Trace::default();
    let mut client = t.connect(0, "10.0.0.9:41000", "10.0.0.1:16509");
    let list = Xdr::default().u32(0);
    call(&mut t, &mut client, 100, (66, 0), &list);
    let mut c = open(&mut t, 16509);
    prepare(&mut t, &mut c, 10 * MS, LIVE_P2P);
    prepared(&mut t, &mut c, 20 * MS, Some("tcp:beta:49152"), "");
    let mut m = stream(&mut t, 30 * MS, &Stream::precopy(b"x").0);
    for n in 1..=4u32 {
        let body = Xdr::default().u32(1).domain("web", UUID_BYTES).u32(n);
        let event = message(ITERATION, EVENT, 0, OK, &body);
        t.send((31 + i64::from(n)) * MS, &mut client, Side::Server, &event);
    }
    t.close(40 * MS, &mut m);
    finish(&mut t, &mut c, 50 * MS, 0);
    finished(&mut t, &mut c, 60 * MS);
    let body = Xdr::default()
        .u32(1)
        .domain("web", UUID_BYTES)
        .u32(1)
        .string("downtime")
        .u32(4)
        .u64(77);
    let event = message(JOB_COMPLETED, EVENT, 0, OK, &body);
    t.send(65 * MS, &mut client, Side::Server, &event);
    t.close(70 * MS, &mut c);
    t.close(80 * MS, &mut client);
    let m = one(&t);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    let told = m.reported.expect("figures");
    assert_eq!((told.iterations, told.downtime_ms), (Some(4), Some(77)));
}

/// The two directions of a tap may not be in step.
#[test]
fn replies_before_their_calls() {
    let mut t = Trace::default();
    let mut c = open(&mut t, 16509);
    prepared(&mut t, &mut c, 10 * MS, Some("tcp:beta:49152"), "");
    prepare(&mut t, &mut c, 10 * MS + 50, LIVE_P2P);
    let mut m = stream(&mut t, 30 * MS, &Stream::precopy(b"x").0);
    t.close(40 * MS, &mut m);
    finished(&mut t, &mut c, 60 * MS);
    finish(&mut t, &mut c, 60 * MS + 50, 0);
    t.close(70 * MS, &mut c);
    let m = one(&t);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    assert_eq!(phase(&m, PhaseName::Preparation).1, Some(10 * MS));
    assert_eq!(m.guest.name.as_deref(), Some("web"));
    let paired = m
        .calls
        .iter()
        .filter(|c| c.call.is_some() && c.reply.is_some());
    assert_eq!(paired.count(), 3, "{:#?}", m.calls);
    let finish = phase_of(&m, PhaseName::Finish);
    assert_eq!(finish.duration_ns, None);
    assert!(finish.reason.is_some());
}
