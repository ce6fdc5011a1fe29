//! The real migration once more, as if its services had spoken TLS: what was read is the truth for
//! what is inferred.

use std::collections::HashSet;
use std::io::Cursor;

use phasescope::analysis;
use phasescope::capture::Capture;
use phasescope::migration::{Boundary, Certainty, Driver, Migration, OutcomeKind, PhaseName};

use super::{path, phase, report_of};

const SOURCE: &str = "os-live-source.pcap.zst";
const SWITCH: &str = "os-live-switch.pcap.zst";
/// Link and network header: Ethernet, IPv4 without options.
const NETWORK: usize = 14;
const TRANSPORT: usize = NETWORK + 20;
/// Longest record.
const RECORD: usize = 16_000;

type End = ([u8; 4], u16);

/// Records that take as many bytes as there are; `hello`: the first one is the handshake's.
fn records(bytes: &mut [u8], hello: Option<u8>) {
    let mut rest = bytes;
    if let Some(kind) = hello {
        let (head, behind) = rest.split_at_mut(9);
        head.copy_from_slice(&[22, 3, 3, 0, 4, kind, 0, 0, 0]);
        rest = behind;
    }
    while !rest.is_empty() {
        // None of fewer bytes than a head and one more.
        let take = match rest.len() {
            n if n <= RECORD => n,
            n if n < RECORD + 6 => RECORD - 6,
            _ => RECORD,
        };
        let (record, behind) = rest.split_at_mut(take);
        record.fill(0xa5);
        record[..3].copy_from_slice(&[23, 3, 3]);
        record[3..5].copy_from_slice(&(take as u16 - 5).to_be_bytes());
        rest = behind;
    }
}

/// The capture with these ports' contents inside TLS; AMQP on its port for that.
fn veil(file: &str, ports: &[u16]) -> Vec<u8> {
    let mut capture = Capture::open(&[path(file)]).unwrap();
    let mut begun: HashSet<(End, End)> = HashSet::new();
    let mut out = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
    out.extend([2, 0, 4, 0]);
    out.extend([0; 8]);
    out.extend(262_144_u32.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    while let Some(frame) = capture.next_frame().unwrap() {
        let mut data = frame.data.to_vec();
        let tcp = data.get(12..15) == Some(&[8, 0, 0x45]) && data.get(23) == Some(&6);
        if tcp {
            let port = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
            let ip = |at: usize| [data[at], data[at + 1], data[at + 2], data[at + 3]];
            let from = (ip(NETWORK + 12), port(TRANSPORT));
            let to = (ip(NETWORK + 16), port(TRANSPORT + 2));
            let server = ports.contains(&from.1);
            if server || ports.contains(&to.1) {
                let payload = TRANSPORT + usize::from(data[TRANSPORT + 12] >> 4) * 4;
                let total = NETWORK + usize::from(u16::from_be_bytes([data[16], data[17]]));
                if data[TRANSPORT + 13] & 2 != 0 {
                    begun.insert((from, to));
                }
                let end = total.min(data.len());
                if payload < end {
                    let first = begun.remove(&(from, to));
                    let hello = first.then_some(if server { 2 } else { 1 });
                    records(&mut data[payload..end], hello);
                }
                for at in [TRANSPORT, TRANSPORT + 2] {
                    if data[at..at + 2] == 5672_u16.to_be_bytes() {
                        data[at..at + 2].copy_from_slice(&5671_u16.to_be_bytes());
                    }
                }
            }
        }
        let ns = frame.time.nanos();
        out.extend(((ns / 1_000_000_000) as u32).to_le_bytes());
        out.extend(((ns % 1_000_000_000) as u32).to_le_bytes());
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(frame.wire_len.to_le_bytes());
        out.extend(data);
    }
    out
}

fn veiled(file: &str, ports: &[u16]) -> Migration {
    let mut capture = Capture::from_reader("veiled", Cursor::new(veil(file, ports))).unwrap();
    let mut report = analysis::analyze(&mut capture, |_| true).unwrap();
    assert_eq!(report.migrations.len(), 1);
    report.migrations.remove(0)
}

fn plain(file: &str) -> Migration {
    report_of(&[path(file)]).migrations.remove(0)
}

/// Inferred, and no farther from the truth than it says.
fn assert_near(guess: &Option<Boundary>, truth: &Option<Boundary>) {
    let (g, t) = (guess.as_ref().unwrap(), truth.as_ref().unwrap());
    assert_eq!(g.certainty, Certainty::Inferred, "{}", g.marker);
    let off = (g.offset_ns - t.offset_ns).abs();
    assert!(
        off <= g.uncertainty_ns,
        "{}: {off} off, {} said",
        g.marker,
        g.uncertainty_ns
    );
    // An answer that says nothing would be no answer.
    assert!(g.uncertainty_ns < 1_000_000_000, "{}", g.uncertainty_ns);
}

#[test]
fn broker_and_interfaces_inside_tls() {
    // Of one host's connections to the broker, and of both hosts'.
    for file in [SOURCE, SWITCH] {
        all_inside_tls(file);
    }
}

fn all_inside_tls(file: &str) {
    let (m, truth) = (veiled(file, &[5672, 5000, 8774]), plain(file));
    assert_eq!(m.driver, Driver::Openstack);
    assert!(m.openstack.is_none());
    let (a, b) = (
        phase(&m, PhaseName::Authentication),
        phase(&truth, PhaseName::Authentication),
    );
    assert_near(&a.start, &b.start);
    assert_near(&a.end, &b.end);
    let (a, b) = (
        phase(&m, PhaseName::Initialization),
        phase(&truth, PhaseName::Initialization),
    );
    assert_near(&a.start, &b.start);
    assert_near(&a.end, &b.end);
    // libvirt's are as they were.
    for name in [
        PhaseName::RemoteConnect,
        PhaseName::Preparation,
        PhaseName::Transfer,
        PhaseName::Finish,
        PhaseName::Cleanup,
    ] {
        assert_eq!(phase(&m, name).duration_ns, phase(&truth, name).duration_ns);
    }
    // And the last one is not known at all.
    let post = phase(&m, PhaseName::PostMigration);
    assert!(post.start.is_none() && post.end.is_none() && post.duration_ns.is_none());
    assert!(post.reason.as_ref().unwrap().contains("encrypted"));
    assert_eq!(m.total_time_ns, None);
    assert_eq!(m.migration_time_ns, truth.migration_time_ns);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    assert!(m.notes.iter().any(|n| n.contains("inferred")));
}

/// The usual way: TLS outside, AMQP in clear.
#[test]
fn interfaces_inside_tls_alone() {
    let (m, truth) = (veiled(SOURCE, &[5000, 8774]), plain(SOURCE));
    let a = phase(&m, PhaseName::Initialization);
    let b = phase(&truth, PhaseName::Initialization);
    assert_near(&a.start, &b.start);
    assert_eq!(
        a.end.as_ref().unwrap().offset_ns,
        b.end.as_ref().unwrap().offset_ns
    );
    assert_eq!(a.end.as_ref().unwrap().certainty, Certainty::Decoded);
    assert_near(
        &phase(&m, PhaseName::Authentication).end,
        &phase(&truth, PhaseName::Authentication).end,
    );
    assert_eq!(
        phase(&m, PhaseName::PostMigration).duration_ns,
        phase(&truth, PhaseName::PostMigration).duration_ns
    );
    assert!(m.total_time_ns.is_some());
    assert!(m.openstack.is_some());
}

/// Only the broker: what the client said is read.
#[test]
fn broker_inside_tls_alone() {
    let (m, truth) = (veiled(SOURCE, &[5672]), plain(SOURCE));
    let asked = m.openstack.as_ref().unwrap();
    assert_eq!(asked.authentication.as_deref(), Some("issued"));
    let a = phase(&m, PhaseName::Initialization);
    let b = phase(&truth, PhaseName::Initialization);
    assert_eq!(
        a.start.as_ref().unwrap().offset_ns,
        b.start.as_ref().unwrap().offset_ns
    );
    assert_near(&a.end, &b.end);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    let post = phase(&m, PhaseName::PostMigration);
    assert!(post.duration_ns.is_none() && post.reason.is_some());
    assert_eq!(m.total_time_ns, None);
}
