//! Encrypted connections of a cloud, of which little is remembered.

use phasescope::migration::{Driver, Migration, PhaseName};

use super::{oddity, report, tls};
use crate::support::scene::{
    LIVE_P2P, MS, SOURCE, finish, finished, open, phase, prepare, prepared, stream,
};
use crate::support::stream::Stream;
use crate::support::trace::{Connection, Side, Trace};

const SECOND: i64 = 1000 * MS;

/// A migration at 0, driven by a service that speaks to its broker inside TLS: it answers at these
/// times. The daemons' connection closes at `close`.
fn migration(answers: impl Iterator<Item = i64>, close: i64) -> Trace {
    let mut t = Trace::default();
    let mut broker = encrypted(&mut t, -600 * SECOND, &format!("{SOURCE}:41000"), 5671);
    for at in answers {
        t.send(at - MS, &mut broker, Side::Client, &tls::record(50));
        t.send(at, &mut broker, Side::Server, &tls::record(300));
    }
    let mut c = open(&mut t, 16509);
    prepare(&mut t, &mut c, 10 * MS, LIVE_P2P);
    prepared(&mut t, &mut c, 20 * MS, Some("tcp:beta:49152"), "");
    let mut m = stream(&mut t, 100 * MS, &Stream::precopy(b"x").0);
    t.close(140 * MS, &mut m);
    finish(&mut t, &mut c, 150 * MS, 0);
    finished(&mut t, &mut c, 160 * MS);
    t.close(close, &mut c);
    t
}

fn encrypted(t: &mut Trace, at: i64, client: &str, port: u16) -> Connection {
    let mut c = t.connect(at, client, &format!("10.0.9.9:{port}"));
    t.send(at + MS, &mut c, Side::Client, &tls::client_hello());
    c
}

/// Clients of Keystone, one after the other from this time on.
fn crowd(t: &mut Trace, from: i64, count: i64) {
    for n in 0..count {
        let client = format!("10.1.{}.{}:42000", n / 200, 1 + n % 200);
        let at = from + 20 * n * MS;
        let mut c = encrypted(t, at, &client, 5000);
        t.send(at + 2 * MS, &mut c, Side::Client, &tls::record(50));
        t.send(at + 3 * MS, &mut c, Side::Server, &tls::record(300));
        t.close(at + 4 * MS, &mut c);
    }
}

/// The one migration, and how often it was said that too much is forgotten.
fn told(t: &Trace) -> (Migration, u64) {
    let r = report(t);
    assert_eq!(r.migrations.len(), 1);
    (r.migrations[0].clone(), oddity(&r, "cloud-tls-full"))
}

/// The cloud's part is inferred: its last reply came at this time.
fn inferred((m, full): (Migration, u64), reply: i64) {
    assert_eq!((m.driver, full), (Driver::Openstack, 0));
    let first = phase(&m, PhaseName::RemoteConnect).0.expect("it begins");
    let (_, end) = phase(&m, PhaseName::Initialization);
    assert_eq!(end, Some(first + reply));
}

/// Nothing is said of a cloud, and it is said that there may have been one.
fn forgotten((m, full): (Migration, u64)) {
    assert_eq!((m.driver, full), (Driver::LibvirtP2p, 1));
    assert!(m.phases.iter().all(|p| p.name != PhaseName::Initialization));
}

#[test]
fn connections() {
    let reply = -100 * MS;
    let one = || [reply].into_iter();
    let with = |from, count, close| {
        let mut t = migration(one(), close);
        crowd(&mut t, from, count);
        told(&t)
    };
    inferred(with(SECOND, 1000, 60 * SECOND), reply);
    // There are too many to say what was before.
    forgotten(with(SECOND, 1100, 60 * SECOND));
    // Those that were over long before are not missed.
    inferred(with(-500 * SECOND, 1100, SECOND), reply);
    // Of those that are not over, one may have said something since.
    let mut t = migration(one(), SECOND);
    for n in 0..1100 {
        let client = format!("10.1.{}.{}:42000", n / 200, 1 + n % 200);
        encrypted(&mut t, (n - 500_000) * MS, &client, 5000);
    }
    forgotten(told(&t));
}

#[test]
fn answers_of_one() {
    let reply = -100 * MS;
    let later = |n: i64| [reply].into_iter().chain((1..=n).map(|i| i * SECOND));
    inferred(told(&migration(later(63), 80 * SECOND)), reply);
    forgotten(told(&migration(later(64), 80 * SECOND)));
    // Those of long before are not missed; those of a row are, for it may have begun earlier.
    let before = |n: i64, apart: i64| (0..n).rev().map(move |i| reply - i * apart);
    inferred(told(&migration(before(90, SECOND), SECOND)), reply);
    forgotten(told(&migration(before(90, 100 * MS), SECOND)));
}
