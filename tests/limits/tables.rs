//! Tables that live as long as a capture.

use phasescope::report::events;
use phasescope::time::Timestamp;

use super::{Feed, oddity, report};
use crate::support::rpc::{self, CALL, CONTINUE, OK, REPLY, STREAM, Xdr, message};
use crate::support::stream::{PAGE, Stream};
use crate::support::trace::{Side, Trace};

const MS: i64 = 1_000_000;

fn uuid(n: u32) -> String {
    format!("01020304-0506-0708-090a-0b0c{n:08x}")
}

fn prepare(n: u32, serial: u32) -> Vec<u8> {
    let name = format!("vm{n}");
    let args = Xdr::default()
        .parameters(&[("destination_name", name.as_str())])
        .opaque(&rpc::cookie(&name, &uuid(n), "alpha", ""))
        .u32(3);
    message(303, CALL, serial, OK, &args)
}

#[test]
fn hardware_addresses() {
    let mut t = Trace::default();
    for n in 0..9000u32 {
        let [_, _, a, b] = n.to_be_bytes();
        // Gratuitous ARP of a guest of QEMU (prefix 52:54:00).
        let mac = [0x52, 0x54, 0, 1, a, b];
        let mut frame = vec![0xff; 6];
        frame.extend(mac);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(mac);
        frame.extend([10, 1, a, b, 0, 0, 0, 0, 0, 0, 10, 1, a, b]);
        t.frames.push((i64::from(n) * MS, frame));
    }
    let report = report(&t);
    assert_eq!(report.capture.packets, 9000);
    assert_eq!(oddity(&report, "hardware-address-table-full"), 9000 - 8192);
    assert_eq!(oddity(&report, "hardware-address-log-full"), 9000 - 2048);
}

#[test]
fn disks_of_one_connection() {
    // A chunk of each, all zeroes.
    let mut stream = Stream::new().block(1, "", &[]).ram_start(4);
    for n in 0..70 {
        stream = stream.block(2, &format!("disk{n}"), &[(0, None)]);
    }
    let stream = stream.block(3, "", &[]).ram(3, &[(2, None)]).end();
    let mut t = Trace::default();
    let mut c = t.connect(0, "10.0.0.1:50000", "10.0.0.2:49152");
    t.send(MS, &mut c, Side::Client, &stream.0);
    t.close(2000 * MS, &mut c);
    let report = report(&t);
    let storage = report.migrations[0].storage.as_ref().expect("storage");
    assert_eq!(storage.disks.len(), 64);
    // Those without a name count.
    assert_eq!((storage.zeroed_bytes, storage.exact), (70 << 20, true));
}

/// An echo request or reply.
fn echo(kind: u8, from: [u8; 4], to: [u8; 4], id: u16, sequence: u16) -> Vec<u8> {
    let mut out = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0];
    out.extend(from);
    out.extend(to);
    out.extend([kind, 0, 0, 0]);
    out.extend(id.to_be_bytes());
    out.extend(sequence.to_be_bytes());
    out
}

#[test]
fn echo_series() {
    let mut feed = Feed::default();
    for id in 0..400u16 {
        for sequence in 0..3 {
            let at = i64::from(id) * 10 + i64::from(sequence);
            feed.frame(
                at * MS,
                &echo(8, [10, 0, 0, 9], [10, 0, 0, 7], id, sequence),
            );
        }
    }
    let report = feed.report();
    let echoes = &report.capture.echoes;
    assert_eq!(echoes.len(), 256);
    assert!(echoes.iter().all(|e| (e.requests, e.unanswered) == (3, 3)));
}

#[test]
fn echo_requests_that_wait() {
    // Of one series, and within a moment, so that none is settled by time. Only the
    // last one is answered.
    let count = 70_000u64;
    let mut feed = Feed::default();
    let (pinger, guest) = ([10, 0, 0, 9], [10, 0, 0, 7]);
    for n in 0..count {
        feed.frame(n as i64, &echo(8, pinger, guest, 7, n as u16));
    }
    feed.frame(count as i64, &echo(0, guest, pinger, 7, (count - 1) as u16));
    let report = feed.report();
    let of = |f: fn(&phasescope::migration::EchoSummary) -> u64| -> u64 {
        report.capture.echoes.iter().map(f).sum()
    };
    assert_eq!(report.capture.echoes.len(), 1);
    assert_eq!(
        (of(|e| e.requests), of(|e| e.replies), of(|e| e.unanswered)),
        (count, 1, count - 1)
    );
}

#[test]
fn calls_of_one_connection() {
    let mut t = Trace::default();
    let mut c = t.connect(0, "10.0.0.1:40000", "10.0.0.2:16509");
    t.send(MS, &mut c, Side::Client, &prepare(1, 1));
    for n in 0..3000u32 {
        // A monitoring client asks for the state of the job.
        let at = (2 + 2 * i64::from(n)) * MS;
        let call = message(298, CALL, 2 + n, OK, &Xdr::default().u32(0));
        t.send(at, &mut c, Side::Client, &call);
        t.send(
            at + MS,
            &mut c,
            Side::Server,
            &message(298, REPLY, 2 + n, OK, &Xdr::default()),
        );
    }
    t.close(7000 * MS, &mut c);
    let report = report(&t);
    assert_eq!(report.migrations.len(), 1);
    let calls = report.migrations[0].calls.len();
    assert!(calls <= 1024, "{calls}");
    assert_eq!(report.capture.health.missing_bytes, 0);
}

#[test]
fn attempts() {
    let count = 5000;
    let mut t = Trace::default();
    for n in 0..count {
        let at = i64::from(n) * 1000;
        let client = format!("10.0.{}.{}:40000", n / 200, 1 + n % 200);
        let mut c = t.connect(at, &client, "10.9.0.2:16509");
        t.send(at + 100, &mut c, Side::Client, &prepare(n, 1));
    }
    let report = report(&t);
    // All of them are told, though the table holds fewer.
    assert_eq!(report.migrations.len(), count as usize);
    let mut names: Vec<_> = report
        .migrations
        .iter()
        .filter_map(|m| m.guest.name.clone())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count as usize);
}

#[test]
fn rounds() {
    // One page, sent in every round.
    let rounds = 1100u64;
    let mut stream = Stream::new().ram_start(4);
    for _ in 0..rounds {
        stream = stream.ram(0x02, &[(1, None)]);
    }
    let mut t = Trace::default();
    let mut c = t.connect(0, "10.0.0.1:50000", "10.0.0.2:49152");
    t.send(
        MS,
        &mut c,
        Side::Client,
        &stream.ram(0x03, &[(2, None)]).end().0,
    );
    t.close(2000 * MS, &mut c);
    let report = report(&t);
    let transfer = report.migrations[0].transfer.as_ref().expect("a transfer");
    assert_eq!(transfer.rounds.len(), 1024);
    // Those beyond count to the last.
    let pages: u64 = transfer.rounds.iter().map(|r| r.pages).sum();
    assert_eq!(pages, rounds + 1);
}

#[test]
fn a_billion_pages_claimed() {
    // A block list of 4 TiB, and pages at addresses far apart, each twice.
    let pages = 1u64 << 30;
    let far: Vec<(u64, Option<u8>)> = (0..64).map(|n| (n * (pages / 64) + 5, None)).collect();
    let stream = Stream::new()
        .ram_start(pages)
        .ram(0x02, &far)
        .ram(0x02, &far)
        .ram(0x03, &[(9, None)])
        .end();
    let mut t = Trace::default();
    let mut c = t.connect(0, "10.0.0.1:50000", "10.0.0.2:49152");
    t.send(MS, &mut c, Side::Client, &stream.0);
    t.close(2000 * MS, &mut c);
    let report = report(&t);
    let m = &report.migrations[0];
    assert_eq!(m.guest.memory_bytes, Some(pages * PAGE as u64));
    // Pages are counted exactly; rounds, whose bitmap is bounded, are a lower bound.
    let transfer = m.transfer.as_ref().expect("a transfer");
    assert_eq!(transfer.rounds.iter().map(|r| r.pages).sum::<u64>(), 129);
    assert!(!transfer.rounds_exact && transfer.rounds.len() >= 2);
}

#[test]
fn sections_and_blocks() {
    let mut stream = Stream::new().ram_start(4).ram(0x02, &[(1, None)]);
    for n in 0..5000 {
        stream = stream.device(10 + n, "dev", &[1, 2, 3]);
    }
    let mut t = Trace::default();
    let mut c = t.connect(0, "10.0.0.1:50000", "10.0.0.2:49152");
    t.send(MS, &mut c, Side::Client, &stream.0);
    t.close(2000 * MS, &mut c);
    let r = report(&t);
    // Behind the last section that is remembered the stream is out of step.
    let pages = &r.migrations[0].transfer.as_ref().expect("a transfer").pages;
    assert!(!pages.exact, "{pages:?}");
}

#[test]
fn a_long_message() {
    // Four mebibytes of parameters: the first is kept, the rest is said to be missing.
    let long = Xdr::default().string("p").opaque(&vec![b'a'; 4 << 20]);
    let mut t = Trace::default();
    let mut c = t.connect(0, "10.0.0.1:40000", "10.0.0.2:16509");
    t.send(MS, &mut c, Side::Client, &message(10, CALL, 1, OK, &long));
    t.send(100 * MS, &mut c, Side::Client, &prepare(1, 2));
    let mut capture = t.capture();
    let mut analysis = phasescope::analysis::Analysis::default();
    let mut missing = vec![];
    while let Some(frame) = capture.next_frame().expect("reads") {
        analysis.frame_seen(&frame, &mut |e| {
            let json = events::json(e, None, Timestamp::from_nanos(0)).unwrap_or_default();
            let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
            missing.extend(value.get("missing").and_then(serde_json::Value::as_u64));
        });
    }
    let whole = long.0.len() as u64;
    assert_eq!(missing, [whole - (1 << 20)]);
    // The next message is found.
    assert_eq!(analysis.finish(&capture).migrations.len(), 1);
}

#[test]
fn four_gibibytes_announced() {
    // A message, stream data, a device description: lengths that nobody sends.
    let mut broken = message(1, CALL, 1, OK, &Xdr::default());
    broken[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut data = message(1, STREAM, 1, CONTINUE, &Xdr::default());
    data[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    for bad in [broken, data] {
        let mut t = Trace::default();
        let mut c = t.connect(0, "10.0.0.1:40000", "10.0.0.2:16509");
        let good = message(1, CALL, 7, OK, &Xdr::default());
        t.send(MS, &mut c, Side::Client, &good);
        t.send(2 * MS, &mut c, Side::Client, &bad);
        t.send(3 * MS, &mut c, Side::Client, &prepare(1, 8));
        t.send(4 * MS, &mut c, Side::Client, &good);
        t.close(5 * MS, &mut c);
        let report = report(&t);
        assert_eq!(oddity(&report, "libvirt-rpc-out-of-step"), 1);
        // In step again behind it.
        assert_eq!(report.migrations[0].guest.name.as_deref(), Some("vm1"));
    }
    let mut stream = Stream::precopy(b"x").0;
    let at = stream.len() - 34 - 4;
    stream[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut t = Trace::default();
    let mut c = t.connect(0, "10.0.0.1:50000", "10.0.0.2:49152");
    t.send(MS, &mut c, Side::Client, &stream);
    t.close(2000 * MS, &mut c);
    let report = report(&t);
    let transfer = report.migrations[0].transfer.as_ref();
    // The pages before it are counted; the stream has not ended as it said it would.
    let pages = &transfer.expect("a transfer").pages;
    assert_eq!((pages.normal + pages.zero, pages.exact), (64 + 8, false));
}
