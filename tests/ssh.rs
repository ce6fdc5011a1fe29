//! libvirt inside SSH is known by what each side sends, and when; what else goes through SSH is not
//! taken for it. Built captures; `tests/recorded.rs` has real ones.

mod support;

use phasescope::migration::{Certainty, Driver, Migration, OutcomeKind, PhaseName as P};
use support::scene::{DESTINATION, MS, SOURCE, names, phase, report};
use support::stream::Stream;
use support::trace::{Connection, Side, Trace};

use Side::{Client, Server};

/// What one side sends: the millisecond, the side, bytes.
type Turn = (i64, Side, usize);

/// Keys, a user, and a command. The numbers are those of OpenSSH 9.2.
const LOGIN: &[Turn] = &[
    (1, Client, 1560),
    (2, Server, 1088),
    (3, Client, 1208),
    (4, Server, 1564),
    (5, Client, 60),
    (6, Server, 44),
    (7, Client, 308),
    (8, Server, 424),
    (9, Client, 300),
    (10, Server, 72),
];

/// What libvirt asks before PREPARE.
const SMALL: &[Turn] = &[
    (20, Client, 68),
    (21, Server, 76),
    (22, Client, 92),
    (23, Server, 68),
    (24, Client, 68),
    (25, Server, 68),
    (26, Client, 68),
    (27, Server, 68),
    (28, Client, 68),
    (29, Server, 68),
    (30, Client, 68),
    (31, Server, 68),
    (32, Client, 68),
    (33, Server, 68),
    (34, Client, 68),
    (35, Server, 68),
];

/// From PREPARE to FINISH's answer; memory lies between the second and the third.
const CALLS: &[Turn] = &[
    (40, Client, 9000),
    (90, Server, 700),
    (400, Client, 5000),
    (420, Server, 1200),
];

fn ssh(t: &mut Trace, at: i64, from: &str) -> Connection {
    let mut c = t.connect(at, &format!("{from}:40022"), &format!("{DESTINATION}:22"));
    t.send(at, &mut c, Client, b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
    t.send(at, &mut c, Server, b"SSH-2.0-OpenSSH_8.7\r\n");
    c
}

/// Bytes that say nothing.
fn send(t: &mut Trace, c: &mut Connection, at: i64, turns: &[Turn]) {
    for (ms, side, bytes) in turns {
        for part in vec![0xa5; *bytes].chunks(1448) {
            t.send(at + ms * MS, c, *side, part);
        }
    }
}

fn memory(t: &mut Trace, from: i64, to: i64) {
    let mut c = t.connect(
        from,
        &format!("{SOURCE}:50000"),
        &format!("{DESTINATION}:49152"),
    );
    t.send(from + MS, &mut c, Client, &Stream::precopy(&[7; 4096]).0);
    t.close(to, &mut c);
}

fn migrations(t: &Trace) -> Vec<Migration> {
    report(t).migrations
}

#[test]
fn each_migration_of_a_long_session() {
    // A client on a third host keeps its session, and the capture goes on for minutes.
    let mut t = Trace::default();
    let mut c = ssh(&mut t, 0, "192.0.2.77");
    send(&mut t, &mut c, 0, LOGIN);
    for at in [100 * MS, 60_000 * MS] {
        send(&mut t, &mut c, at, SMALL);
        send(&mut t, &mut c, at, &CALLS[..2]);
        memory(&mut t, at + 100 * MS, at + 390 * MS);
        send(&mut t, &mut c, at, &CALLS[2..]);
    }
    for minute in 2..5 {
        send(
            &mut t,
            &mut c,
            minute * 60_000 * MS,
            &[(0, Server, 68), (1, Client, 68)],
        );
    }
    t.close(300_000 * MS, &mut c);
    let all = migrations(&t);
    assert_eq!(all.len(), 2);
    for (m, at) in all.iter().zip([100 * MS, 60_000 * MS]) {
        assert_eq!(m.driver, Driver::LibvirtDirect);
        assert_eq!(
            names(m),
            [P::Preparation, P::Transfer, P::Finish, P::Cleanup]
        );
        assert_eq!(
            phase(m, P::Preparation),
            (Some(at + 40 * MS), Some(at + 90 * MS))
        );
        assert_eq!(
            phase(m, P::Finish),
            (Some(at + 400 * MS), Some(at + 420 * MS))
        );
        let finish = m
            .phases
            .iter()
            .find(|p| p.name == P::Finish)
            .expect("there");
        let edges = [&finish.start, &finish.end].map(|b| b.as_ref().expect("an edge").certainty);
        assert_eq!(edges, [Certainty::Inferred; 2]);
        assert!(m.notes.iter().any(|n| n.contains("encrypted")));
    }
}

#[test]
fn copies_and_commands_are_no_migration() {
    // A file of 5 KB by SFTP; one of 3 MB; a script on standard input with an answer of 2 KB.
    let copies: [&[Turn]; 3] = [
        &[
            (50, Client, 5000),
            (51, Server, 68),
            (52, Client, 68),
            (53, Server, 68),
        ],
        &[
            (50, Client, 1_500_000),
            (60, Server, 300),
            (61, Client, 1_500_000),
            (70, Server, 68),
        ],
        &[(50, Client, 6000), (90, Server, 2000), (95, Client, 96)],
    ];
    for turns in copies {
        for beside in [false, true] {
            let mut t = Trace::default();
            let mut c = ssh(&mut t, 0, SOURCE);
            send(&mut t, &mut c, 0, LOGIN);
            send(&mut t, &mut c, 0, &SMALL[..6]);
            send(&mut t, &mut c, 0, turns);
            t.close(100 * MS, &mut c);
            if beside {
                memory(&mut t, 150 * MS, 300 * MS);
            }
            let all = migrations(&t);
            assert_eq!(all.len(), usize::from(beside), "{}", turns.len());
            for m in all {
                assert_eq!((m.driver, names(&m)), (Driver::None, vec![P::Transfer]));
            }
        }
    }
}

#[test]
fn calls_without_memory_are_no_migration() {
    let mut t = Trace::default();
    let mut c = ssh(&mut t, 0, SOURCE);
    for turns in [LOGIN, SMALL, CALLS] {
        send(&mut t, &mut c, 0, turns);
    }
    t.close(500 * MS, &mut c);
    assert!(migrations(&t).is_empty());
}

#[test]
fn a_stream_that_breaks_says_who_broke_it() {
    let mut t = Trace::default();
    let mut c = ssh(&mut t, 0, SOURCE);
    for turns in [LOGIN, SMALL, &CALLS[..2]] {
        send(&mut t, &mut c, 0, turns);
    }
    let ends = (format!("{SOURCE}:50000"), format!("{DESTINATION}:49152"));
    let mut m = t.connect(100 * MS, &ends.0, &ends.1);
    t.send(
        101 * MS,
        &mut m,
        Client,
        &Stream::precopy(&[7; 4096]).0[..2000],
    );
    t.reset(300 * MS, &mut m, Server);
    send(&mut t, &mut c, 0, &CALLS[2..]);
    t.close(500 * MS, &mut c);
    let [m] = migrations(&t).try_into().expect("one");
    assert_eq!(m.driver, Driver::LibvirtP2p);
    assert_eq!(m.outcome.result, OutcomeKind::Failed);
    let why = m.outcome.reason.expect("why");
    assert!(
        why.starts_with("the destination reset the migration connection"),
        "{why}"
    );
}
