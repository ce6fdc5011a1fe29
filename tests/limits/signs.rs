//! Signs of life: of many times without one, only some are remembered.

use phasescope::migration::{Downtime, DowntimeMethod};

use crate::support::rpc::{self, CALL, OK, Xdr, message};
use crate::support::scene::{LIVE_P2P, MS, UUID, finish, finished, one, open, prepared, stream};
use crate::support::stream::Stream;
use crate::support::trace::{Side, Trace};

const GUEST: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

/// A list holds so many.
const KEPT: i64 = 64;

/// Echo requests come so often; what is shorter than five is no silence. Milliseconds.
const EVERY: i64 = 4;

/// A migration of the guest that stands still from 101 to 160 ms at most; its daemons' connection
/// closes at `close` ms.
fn migration(close: i64) -> Trace {
    let mut t = Trace::default();
    let mut c = open(&mut t, 16509);
    let xml = "<domain><name>web</name><devices><interface type='bridge'>\
        <mac address='52:54:00:01:02:03'/></interface></devices></domain>";
    let args = Xdr::default()
        .parameters(&[("destination_name", "web"), ("destination_xml", xml)])
        .opaque(&rpc::cookie("web", UUID, "alpha", ""))
        .u32(LIVE_P2P);
    let call = message(303, CALL, 1, OK, &args);
    t.send(10 * MS, &mut c, Side::Client, &call);
    prepared(&mut t, &mut c, 20 * MS, Some("tcp:beta:49152"), "");
    let mut m = stream(&mut t, 100 * MS, &Stream::precopy(b"x").0);
    t.close(140 * MS, &mut m);
    finish(&mut t, &mut c, 150 * MS, 0);
    finished(&mut t, &mut c, 160 * MS);
    t.close(close * MS, &mut c);
    t
}

/// An echo request to the guest (8), or its reply (0), at this millisecond.
fn echo(t: &mut Trace, at: i64, kind: u8, sequence: i64) {
    let (pinger, guest) = ([10, 0, 0, 9], [10, 0, 0, 7]);
    let (from, to) = match kind {
        8 => (([2, 0, 10, 0, 0, 9], pinger), (GUEST, guest)),
        _ => ((GUEST, guest), ([2, 0, 10, 0, 0, 9], pinger)),
    };
    let mut frame = [to.0, from.0].concat();
    frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0]);
    frame.extend(from.1);
    frame.extend(to.1);
    frame.extend([kind, 0, 0, 0, 0, 7]);
    frame.extend((sequence as u16).to_be_bytes());
    t.frames.push((at * MS, frame));
}

fn downtime(t: &Trace, method: DowntimeMethod) -> Downtime {
    let all = one(t).downtime;
    let mut all = all.into_iter().filter(|d| d.method == method);
    all.next().expect("every method is told")
}

/// Nothing is measured, and the reason is not that there was nothing.
fn forgotten(d: &Downtime) -> bool {
    let reason = d.reason.as_ref();
    d.duration_ns.is_none()
        && d.lost.is_none()
        && reason.is_some_and(|r| r.contains("may have been forgotten") && r.contains("64"))
}

/// The guest is heard until 100 ms and from 155 ms on, then at these milliseconds.
fn heard(later: impl Iterator<Item = i64>, close: i64) -> Downtime {
    let mut t = migration(close);
    for at in (60..=100).chain([155]).chain(later) {
        echo(&mut t, at, 0, 1);
    }
    downtime(&t, DowntimeMethod::GuestSilence)
}

#[test]
fn silences() {
    // With 63 longer ones behind it, it is remembered; with one more it is the shortest.
    let longer = |n: i64| heard((1..=n).map(|i| 155 + 100 * i), 8000);
    assert_eq!(longer(KEPT - 1).duration_ns, Some(55 * MS));
    assert!(forgotten(&longer(KEPT)), "{:?}", longer(KEPT));
    // Many shorter ones do it no harm, until a minute has passed.
    let shorter = |n: i64, end: i64| heard((1..=n).map(|i| 155 + 10 * i).chain([end]), end + 1);
    assert_eq!(shorter(500, 55_000).duration_ns, Some(55 * MS));
    assert_eq!(shorter(KEPT - 2, 70_000).duration_ns, Some(55 * MS));
    assert!(forgotten(&shorter(KEPT - 1, 70_000)));
    // What is forgotten from another time is no excuse.
    let mut t = migration(20_000);
    for at in (10_000..).step_by(100).take(90) {
        echo(&mut t, at, 0, 1);
    }
    let d = downtime(&t, DowntimeMethod::GuestSilence);
    assert!(d.duration_ns.is_none() && !forgotten(&d), "{d:?}");
}

/// Requests all the time; those at these places have no reply, and behind them, `n` times, none of
/// twenty has.
fn pinged(lost: &[i64], n: i64) -> Trace {
    let first = 60;
    let count = first + 21 * n + 30;
    let mut t = migration(EVERY * count);
    for i in 0..count {
        echo(&mut t, EVERY * i, 8, i);
        let later = (first..first + 21 * n).contains(&i) && (i - first) % 21 < 20;
        if !lost.contains(&i) && !later {
            echo(&mut t, EVERY * i + 1, 0, i);
        }
    }
    t
}

#[test]
fn gaps_and_lost_requests() {
    // From 100 to 152 ms.
    let lost: Vec<i64> = (25..39).collect();
    let gap = |n| downtime(&pinged(&lost, n), DowntimeMethod::EchoGap);
    assert_eq!(gap(KEPT - 1).duration_ns, Some(60 * MS));
    assert!(forgotten(&gap(KEPT)), "{:?}", gap(KEPT));
    let run = |n| downtime(&pinged(&lost, n), DowntimeMethod::LostEchoes);
    let known = run(KEPT - 1);
    assert_eq!((known.lost, known.reason), (Some(14), None));
    assert_eq!(known.duration_ns, Some(14 * EVERY * MS));
    // To say that none was lost would be untrue.
    assert!(forgotten(&run(KEPT)), "{:?}", run(KEPT));
}

#[test]
fn a_part_of_the_lost_requests() {
    // One alone at 104 ms, then many in a row, which no other run is as long as.
    let lost: Vec<i64> = [26].into_iter().chain(28..58).collect();
    let run = |n| downtime(&pinged(&lost, n), DowntimeMethod::LostEchoes);
    let whole = run(KEPT - 2);
    assert_eq!((whole.lost, whole.reason), (Some(31), None));
    let part = run(KEPT - 1);
    assert_eq!(part.lost, Some(30));
    assert!(part.reason.is_some_and(|r| r.starts_with("at least")));
}

#[test]
fn times_without_requests() {
    // Nobody asks from 50 ms on for so long, and often nobody does for longer later on.
    let silence = |first: i64, n: i64| {
        let later = (0..n).map(|i| 50 + first + (first + 100) * i);
        let mut t = migration((first + 100) * (n + 1));
        for (i, at) in [0, 50].into_iter().chain(later).enumerate() {
            echo(&mut t, at, 8, i as i64);
            echo(&mut t, at + 1, 0, i as i64);
        }
        downtime(&t, DowntimeMethod::LostEchoes)
    };
    // Where it is longer than a request waits for its reply, too.
    for (first, n) in [(1150, KEPT / 2), (12_000, 3)] {
        let d = silence(first, n);
        let known = d.reason.as_ref().expect("a reason");
        assert!(known.contains("no echo requests around"), "{known}");
        assert_eq!(d.lost, None);
    }
    let d = silence(1150, 2 * KEPT);
    assert!(forgotten(&d), "{d:?}");
}
