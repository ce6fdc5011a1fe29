//! Connections, segments, time.

use phasescope::analysis::Analysis;
use phasescope::dissect::{Kind, Protocol};
use phasescope::net::Stamp;
use phasescope::net::flow::{MAX_EARLY_TOTAL, MAX_FLOWS};
use phasescope::net::tcp::{Half, MAX_EARLY_BYTES, MAX_EARLY_SEGMENTS, Piece};
use phasescope::time::Timestamp;

use super::{Feed, Tcp, oddity, report};
use crate::support::stream::Stream;
use crate::support::trace::{Side, Trace};

const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 16509);

fn from(n: u32) -> ([u8; 4], u16) {
    let [_, a, b, c] = (n >> 12).to_be_bytes();
    ([172, 16 + a, b, c], 1024 + (n & 0xfff) as u16)
}

#[test]
fn a_million_half_open_connections() {
    const COUNT: u32 = 1_000_000;
    let mut feed = Feed::default();
    for n in 0..COUNT {
        let syn = Tcp {
            from: from(n),
            to: SERVER,
            sequence: n,
            acknowledgment: None,
            syn: true,
        };
        feed.frame(i64::from(n), &syn.frame(b""));
    }
    let report = feed.report();
    assert_eq!(report.capture.connections, u64::from(COUNT));
    // All but a full table were given up, and said to be.
    let full = oddity(&report, "flow-table-full");
    assert_eq!(full, u64::from(COUNT) - MAX_FLOWS as u64);
    assert!(report.migrations.is_empty());
}

/// Segments behind a hole of one byte, as many as are wanted.
fn hole(feed: &mut Feed, client: ([u8; 4], u16), pieces: u32, size: usize) {
    let payload = vec![1; size];
    let mut tcp = Tcp {
        from: client,
        to: SERVER,
        sequence: 0,
        acknowledgment: None,
        syn: true,
    };
    feed.frame(0, &tcp.frame(b""));
    tcp.syn = false;
    for n in 0..pieces {
        tcp.sequence = 2 + n * size as u32;
        feed.frame(i64::from(n), &tcp.frame(&payload));
    }
}

#[test]
fn a_hole_that_never_closes() {
    for (pieces, size) in [(200, 16 << 10), (MAX_EARLY_SEGMENTS as u32 + 10, 1)] {
        let mut feed = Feed::default();
        hole(&mut feed, from(1), pieces, size);
        let report = feed.report();
        assert_eq!(oddity(&report, "reassembly-buffer-full"), 1);
        assert_eq!(oddity(&report, "reassembly-memory-full"), 0);
        assert_eq!(report.capture.health.missing_bytes, 1);
    }
}

#[test]
fn holes_of_many_connections() {
    // Each holds a mebibyte, which is fine; all together may not.
    let mut feed = Feed::default();
    const EACH: usize = MAX_EARLY_BYTES / 2;
    let count = 2 * MAX_EARLY_TOTAL / EACH;
    for n in 0..count {
        hole(&mut feed, from(n as u32), 32, EACH / 32);
    }
    let report = feed.report();
    assert_eq!(oddity(&report, "reassembly-buffer-full"), 0);
    let over = oddity(&report, "reassembly-memory-full");
    assert!(over as usize >= count - MAX_EARLY_TOTAL / EACH, "{over}");
    assert_eq!(report.capture.health.missing_bytes, count as u64);
}

#[test]
fn cycles_of_overlapping_segments() {
    // The same bytes again and again, each time cut otherwise, the end before the beginning, and a
    // hole in front that is filled last.
    const LENGTH: usize = 60_000;
    let stream: Vec<u8> = (0..LENGTH).map(|n| (n * 7 + n / 256) as u8).collect();
    let stamp = |n: u64| Stamp {
        time: Timestamp::from_nanos(n as i64),
        frame: n,
    };
    let (mut half, mut out, mut sent, mut n) = (Half::default(), Vec::new(), 0u64, 0u64);
    half.syn(u32::MAX);
    let mut take = |_: Stamp, piece: Piece<'_>| match piece {
        Piece::Data(at, bytes) => {
            assert_eq!(at as usize, out.len());
            out.extend_from_slice(bytes);
        }
        Piece::Gap(..) => panic!("nothing was lost"),
    };
    for cycle in 0..12usize {
        let size = 1400 - cycle * 13;
        let begins: Vec<usize> = (100..LENGTH - size).step_by(size / 2 + cycle).collect();
        for at in begins.into_iter().rev() {
            n += 1;
            sent += size as u64;
            half.segment(
                at as u32,
                &stream[at..at + size],
                size as u32,
                stamp(n),
                &mut take,
            );
            assert!(half.held() <= MAX_EARLY_BYTES);
        }
    }
    assert_eq!(half.offset(), 0, "all of it waits");
    half.segment(0, &stream[..200], 200, stamp(n + 1), &mut take);
    half.finish(stamp(n + 2), &mut take);
    assert_eq!(half.held(), 0);
    let stats = half.stats();
    assert_eq!(stats.missing_bytes, 0);
    assert_eq!(stats.payload_bytes + stats.retransmitted_bytes, sent + 200);
    assert_eq!(out, stream[..out.len()]);
    assert!(out.len() > LENGTH - 1400);
}

#[test]
fn time_that_runs_backwards() {
    let mut t = Trace::default();
    let mut c = t.connect(0, "10.0.0.1:50000", "10.0.0.2:49152");
    let stream = Stream::precopy(b"x").0;
    t.send(1_000_000, &mut c, Side::Client, &stream);
    t.close(2_000_000_000, &mut c);
    let forwards = report(&t);
    // The frames in the same order, each a millisecond before the one in front of it.
    let mut pcap = t.pcap();
    let (mut at, mut n) = (24, 0u32);
    while at < pcap.len() {
        let length = u32::from_le_bytes(pcap[at + 8..at + 12].try_into().expect("four bytes"));
        let ms = 1_700_000_000_000u64 - u64::from(n);
        let words = [(ms / 1000) as u32, (ms % 1000) as u32 * 1_000_000];
        for (i, word) in words.into_iter().enumerate() {
            pcap[at + 4 * i..at + 4 * i + 4].copy_from_slice(&word.to_le_bytes());
        }
        (at, n) = (at + 16 + length as usize, n + 1);
    }
    let mut capture = phasescope::capture::Capture::from_reader("back", std::io::Cursor::new(pcap))
        .expect("opens");
    let report = phasescope::analysis::analyze(&mut capture, |_| true).expect("reads");
    assert_eq!(oddity(&report, "time-steps-back"), u64::from(n) - 1);
    // What has no time is the same.
    let pages = |r: &phasescope::report::Report| {
        let t = r.migrations[0].transfer.as_ref().expect("a transfer");
        (t.pages, t.page_bytes)
    };
    assert_eq!(
        format!("{:?}", pages(&report)),
        format!("{:?}", pages(&forwards))
    );
    // No duration is below zero.
    for p in &report.migrations[0].phases {
        assert!(p.duration_ns.is_none_or(|d| d >= 0), "{p:?}");
        assert!(p.share.is_none_or(|s| (0.0..=1.0).contains(&s)), "{p:?}");
    }
    assert!(report.capture.duration_ns.is_none_or(|d| d >= 0));
}

/// The head of a page record of 4 KiB, and some of its page.
fn beginning_of_a_chain() -> Vec<u8> {
    let mut out = 0x28u64.to_be_bytes().to_vec();
    out.resize(1400, 0x41);
    out
}

#[test]
fn bytes_that_wait_for_their_protocol() {
    // Both directions of connections whose beginning was not seen hold back what may be the
    // beginning of a chain of pages: by far more of them than may be held.
    let chain = beginning_of_a_chain();
    let mut feed = Feed::default();
    for n in 0..4000u32 {
        for step in 0..4u32 {
            for (from, to) in [(from(n), SERVER), (SERVER, from(n))] {
                let tcp = Tcp {
                    from,
                    to,
                    sequence: 1 + step * 1000,
                    acknowledgment: Some(1),
                    syn: false,
                };
                let bytes = if step == 0 {
                    &chain[..1000]
                } else {
                    &chain[400..]
                };
                feed.frame(i64::from(n), &tcp.frame(bytes));
            }
        }
    }
    let report = feed.report();
    assert_eq!(report.capture.connections, 4000);
    assert!(oddity(&report, "recognition-memory-full") > 0);
    assert!(report.migrations.is_empty());
    assert_eq!(report.capture.health.missing_bytes, 0);
}

#[test]
fn bytes_of_one_that_wait_for_their_protocol() {
    // AMQP from the middle of a frame on: a content header with many properties, and a heartbeat,
    // which alone proves nothing.
    let heartbeat = [8, 0, 0, 0, 0, 0, 0, 0xce];
    for (size, found) in [(30 << 10, true), (33 << 10, false)] {
        let mut bytes = vec![b'a'; 100];
        bytes.extend([2, 0, 1]);
        bytes.extend((size as u32).to_be_bytes());
        bytes.extend([0, 60, 0, 0]);
        bytes.resize(bytes.len() + size - 4, b'a');
        bytes.push(0xce);
        bytes.extend(heartbeat);
        let mut t = Trace::default();
        let mut c = t.unseen("10.0.0.1:50000", "10.0.0.2:5672");
        t.send(0, &mut c, Side::Client, &bytes);
        let mut known = false;
        let (mut capture, mut analysis) = (t.capture(), Analysis::default());
        while let Some(frame) = capture.next_frame().expect("reads") {
            analysis.frame_seen(&frame, &mut |e| {
                known |= matches!(e.kind, Kind::Recognised(Protocol::Amqp, _));
            });
        }
        assert_eq!(known, found, "{size}");
    }
}

#[test]
fn a_search_for_an_anchor_ends() {
    // Noise for a mebibyte, then a whole stream: found where the search still goes on.
    let stream = Stream::precopy(b"x").0;
    for (noise, found) in [(1 << 19, true), ((1 << 20) + 4096, false)] {
        let mut t = Trace::default();
        let mut c = t.unseen("10.0.0.1:50000", "10.0.0.2:49152");
        t.send(0, &mut c, Side::Client, &vec![0xee; noise]);
        t.send(1_000_000_000, &mut c, Side::Client, &stream);
        t.close(2_000_000_000, &mut c);
        let report = report(&t);
        assert_eq!(!report.migrations.is_empty(), found, "{noise}");
        assert_eq!(report.capture.connections, 1);
    }
}
