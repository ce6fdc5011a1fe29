//! What is beside the stream, or around it: multifd channels, TLS.

use phasescope::migration::{Migration, PhaseName, Transfer};
use phasescope::report::Report;

use super::{Feed, Tcp, oddity, report, tls};
use crate::support::scene::{DESTINATION, MS, SOURCE, phase};
use crate::support::stream::Stream;
use crate::support::trace::{Side, Trace};

/// Pages that wait for other channels.
const MAX_WAITING: u64 = 1 << 20;

/// Pages of a full packet (`MULTIFD_PACKET_SIZE` of 512 KiB).
const PAGES: u64 = 128;

/// A sender's bytes, segment by segment.
struct Sender {
    port: u16,
    sequence: u32,
}

impl Sender {
    fn new(feed: &mut Feed, port: u16) -> Self {
        let mut new = Self { port, sequence: 0 };
        new.segment(feed, &[], true);
        new
    }

    fn segment(&mut self, feed: &mut Feed, payload: &[u8], syn: bool) {
        let tcp = Tcp {
            from: ([10, 0, 0, 1], self.port),
            to: ([10, 0, 0, 2], 49152),
            sequence: self.sequence,
            acknowledgment: (!syn).then_some(1),
            syn,
        };
        self.sequence += payload.len() as u32 + u32::from(syn);
        let at = feed.number as i64;
        feed.frame(at, &tcp.frame(payload));
    }

    fn send(&mut self, feed: &mut Feed, bytes: &[u8]) {
        for part in bytes.chunks(16 << 10) {
            self.segment(feed, part, false);
        }
    }

    /// A channel. Layouts: QEMU `migration/multifd.h`, `MultiFDInit_t` and `MultiFDPacket_t`.
    fn channel(feed: &mut Feed, number: u8) -> Self {
        let mut new = Self::new(feed, 50_001 + u16::from(number));
        let mut b = vec![0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1];
        b.extend([7; 16]);
        b.push(number);
        b.resize(64, 0);
        new.send(feed, &b);
        new
    }

    /// A full packet of zero pages from this one on.
    fn packet(&mut self, feed: &mut Feed, number: u64, first: u64) {
        let mut b = vec![0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1];
        // Flags, pages that have room, normal pages, bytes of them.
        for word in [0, PAGES as u32, 0, 0] {
            b.extend(word.to_be_bytes());
        }
        b.extend(number.to_be_bytes());
        b.extend((PAGES as u32).to_be_bytes());
        b.resize(64, 0);
        b.extend(b"pc.ram");
        b.resize(320, 0);
        for page in first..first + PAGES {
            b.extend((page * 4096).to_be_bytes());
        }
        self.send(feed, &b);
    }
}

/// Two channels of one epoch: the first one sends so many packets, the second one only the packet
/// `late`, whose last page is the first one of the packet behind it.
fn channels(packets: u64, late: u64) -> Report {
    let mut feed = Feed::default();
    let mut main = Sender::new(&mut feed, 50_000);
    let start = Stream::new().ram_start(2 * MAX_WAITING);
    main.send(&mut feed, &start.0);
    let mut one = Sender::channel(&mut feed, 0);
    let mut two = Sender::channel(&mut feed, 1);
    for n in (0..packets).filter(|n| *n != late) {
        one.packet(&mut feed, n, n * PAGES);
    }
    two.packet(&mut feed, late, late * PAGES + 1);
    let begun = start.0.len();
    let end = start.ram(3, &[]).end();
    main.send(&mut feed, &end.0[begun..]);
    feed.report()
}

fn transfer(r: &Report) -> &Transfer {
    assert_eq!(r.migrations.len(), 1);
    r.migrations[0].transfer.as_ref().expect("a transfer")
}

#[test]
fn pages_that_wait_for_other_channels() {
    let full = MAX_WAITING / PAGES;
    let counted = |r: &Report| {
        let t = transfer(r);
        assert!(!t.rounds_exact);
        (t.pages.zero, t.rounds.iter().map(|r| r.pages).sum::<u64>())
    };
    // The other channel's packet comes when all the others wait: nothing is looked at before it.
    // A little later, and the older half has been, which it is not among.
    for (packets, late) in [(full, 10), (full + 10, full - 10)] {
        let r = channels(packets, late);
        assert_eq!(oddity(&r, "multifd-waiting-full"), 0);
        let pages = packets * PAGES;
        assert_eq!(transfer(&r).sent_twice, 1);
        assert_eq!(counted(&r), (pages, pages - 1));
        assert_eq!(transfer(&r).rounds.len(), 1);
    }
    // It is among those: its pages count, and the page that came twice is no new round.
    let r = channels(full + 10, 10);
    assert_eq!(oddity(&r, "multifd-waiting-full"), 1);
    let pages = (full + 10) * PAGES;
    assert_eq!(transfer(&r).sent_twice, 0);
    assert_eq!(counted(&r), (pages, pages));
    assert_eq!(transfer(&r).rounds.len(), 1);
}

/// libvirt inside TLS: PREPARE, small talk, FINISH, small talk, and the next PREPARE.
fn inside_tls(between: i64, after: i64) -> (Report, Migration, i64) {
    let mut t = Trace::default();
    let mut c = t.connect(
        0,
        &format!("{SOURCE}:40000"),
        &format!("{DESTINATION}:16514"),
    );
    t.send(MS, &mut c, Side::Client, &tls::client_hello());
    let mut now = 2 * MS;
    let mut say = |t: &mut Trace, sizes: (usize, usize)| {
        t.send(now, &mut c, Side::Client, &tls::record(sizes.0));
        t.send(now + MS, &mut c, Side::Server, &tls::record(sizes.1));
        now += 1000 * MS;
        now - 1000 * MS
    };
    say(&mut t, (9000, 700));
    for _ in 0..between {
        say(&mut t, (50, 50));
    }
    let finish = say(&mut t, (9000, 700));
    for _ in 0..after {
        say(&mut t, (50, 50));
    }
    let again = say(&mut t, (9000, 700));
    let r = report(&t);
    let m = r.migrations[0].clone();
    // Another one was begun, where that is known.
    for next in &r.migrations[1..] {
        assert_eq!(phase(next, PhaseName::Preparation).1, Some(again + MS));
    }
    (r, m, finish)
}

#[test]
fn turns_inside_tls() {
    let finish_of = |m: &Migration| phase(m, PhaseName::Finish);
    // Keepalives in the middle are not missed, nor is what is not among the first 512 turns.
    for (between, after) in [(20, 20), (2000, 20), (20, 2000)] {
        let (r, m, finish) = inside_tls(between, after);
        assert_eq!(oddity(&r, "encrypted-turns-full"), 0);
        let (start, end) = finish_of(&m);
        let near = |s: i64| (finish..finish + MS).contains(&s);
        assert!(start.is_some_and(near), "{start:?} {finish}");
        assert_eq!(end, Some(finish + MS));
    }
    // FINISH itself is: the next upload is not taken for it.
    let (r, m, _) = inside_tls(300, 2000);
    assert_eq!(oddity(&r, "encrypted-turns-full"), 1);
    let mut of_finish = m.phases.iter().filter(|p| p.name == PhaseName::Finish);
    assert!(of_finish.all(|p| p.end.is_none() && p.reason.is_some()));
    assert!(phase(&m, PhaseName::Preparation).1.is_some());
}

#[test]
fn turns_of_all_connections() {
    // Shells, each with more to say than one may keep.
    let shells = |n: u16| {
        let mut t = Trace::default();
        for port in 0..n {
            let ends = (
                format!("{SOURCE}:{}", 20_000 + port),
                format!("{DESTINATION}:22"),
            );
            let mut c = t.connect(0, &ends.0, &ends.1);
            t.send(0, &mut c, Side::Client, b"SSH-2.0-x\r\n");
            for i in 0..1100 {
                let side = [Side::Server, Side::Client][i % 2];
                t.send(i as i64, &mut c, side, &[0xa5; 36]);
            }
        }
        oddity(&report(&t), "encrypted-turns-full")
    };
    assert_eq!(shells(100), 0);
    assert!(shells(140) > 0);
}
