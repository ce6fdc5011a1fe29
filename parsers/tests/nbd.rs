//! NBD connections, built by hand.

mod streams;

use phasescope_parsers::nbd::{Connection, MAX_OUTSTANDING, Side, probe};
use phasescope_parsers::qemu::Probe;
use proptest::prelude::*;
use streams::{Log, slices};

type Turn = (Side, Vec<u8>);

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn greeting() -> Turn {
    (Side::Server, b"NBDMAGICIHAVEOPT\0\x03".to_vec())
}

fn flags() -> Turn {
    (Side::Client, vec![0, 0, 0, 3])
}

fn option(number: u32, data: &[u8]) -> Turn {
    let length = (data.len() as u32).to_be_bytes();
    let b = join(&[b"IHAVEOPT", &number.to_be_bytes(), &length, data]);
    (Side::Client, b)
}

fn answer(number: u32, kind: u32, data: &[u8]) -> Turn {
    let b = join(&[
        &0x0003_e889_0455_65a9u64.to_be_bytes(),
        &number.to_be_bytes(),
        &kind.to_be_bytes(),
        &(data.len() as u32).to_be_bytes(),
        data,
    ]);
    (Side::Server, b)
}

fn go(name: &[u8]) -> Turn {
    option(
        7,
        &join(&[&(name.len() as u32).to_be_bytes(), name, &[0, 0]]),
    )
}

fn request(kind: u16, cookie: u64, offset: u64, length: u32, data: &[u8]) -> Turn {
    let b = join(&[
        &0x2560_9513u32.to_be_bytes(),
        &[0, 0],
        &kind.to_be_bytes(),
        &cookie.to_be_bytes(),
        &offset.to_be_bytes(),
        &length.to_be_bytes(),
        data,
    ]);
    (Side::Client, b)
}

fn extended(kind: u16, cookie: u64, flags: u16, length: u64, data: &[u8]) -> Turn {
    let b = join(&[
        &0x21e4_1c71u32.to_be_bytes(),
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &cookie.to_be_bytes(),
        &0u64.to_be_bytes(),
        &length.to_be_bytes(),
        data,
    ]);
    (Side::Client, b)
}

fn simple(error: u32, cookie: u64, data: &[u8]) -> Turn {
    let b = join(&[
        &0x6744_6698u32.to_be_bytes(),
        &error.to_be_bytes(),
        &cookie.to_be_bytes(),
        data,
    ]);
    (Side::Server, b)
}

fn chunk(flags: u16, kind: u16, cookie: u64, data: &[u8]) -> Turn {
    let b = join(&[
        &0x668e_33efu32.to_be_bytes(),
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &cookie.to_be_bytes(),
        &(data.len() as u32).to_be_bytes(),
        data,
    ]);
    (Side::Server, b)
}

fn extended_chunk(flags: u16, kind: u16, cookie: u64, data: &[u8]) -> Turn {
    let b = join(&[
        &0x6e8a_278cu32.to_be_bytes(),
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &cookie.to_be_bytes(),
        &0u64.to_be_bytes(),
        &(data.len() as u64).to_be_bytes(),
        data,
    ]);
    (Side::Server, b)
}

const DATA: u8 = 0xee;

fn connection() -> Vec<Turn> {
    let error = join(&[&28u32.to_be_bytes(), &[0, 2], b"no"]);
    vec![
        greeting(),
        flags(),
        option(8, &[]),
        answer(8, 1, &[]),
        go(b"drive-virtio-disk0"),
        answer(7, 3, &[0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 0xed]),
        answer(7, 1, &[]),
        request(1, 1, 0, 3000, &[DATA; 3000]),
        request(6, 2, 65536, 1 << 20, &[]),
        simple(0, 1, &[]),
        simple(28, 2, &[]),
        request(0, 3, 512, 700, &[]),
        request(0, 4, 1024, 900, &[]),
        simple(0, 4, &[DATA; 900]),
        chunk(0, 1, 3, &[DATA; 708]),
        chunk(1, 0, 3, &[]),
        request(0, 5, 512, 700, &[]),
        chunk(0, 0x8001, 5, &error),
        chunk(1, 0, 5, &[]),
        extended(1, 6, 0x20, 50, &[DATA; 50]),
        extended(6, 7, 0, 1 << 33, &[]),
        extended_chunk(1, 0, 6, &[]),
        extended_chunk(1, 0x8001, 7, &error),
        request(3, 8, 0, 0, &[]),
        simple(0, 8, &[]),
        request(2, 9, 0, 0, &[]),
    ]
}

fn run(turns: &[Turn], size: usize) -> (Log, Connection<u64>) {
    let (mut log, mut c) = (Log::default(), Connection::new());
    let mut at = [0u64; 2];
    for (side, bytes) in turns {
        let at = &mut at[usize::from(*side == Side::Server)];
        for (n, s) in slices(bytes, size) {
            c.push(*side, *at + n, s, &mut log);
        }
        *at += bytes.len() as u64;
    }
    c.finish(Side::Client);
    c.finish(Side::Server);
    assert_eq!(c.resolved(Side::Client), at[0]);
    assert_eq!(c.resolved(Side::Server), at[1]);
    (log, c)
}

fn clean(c: &Connection<u64>) -> bool {
    c.whole(Side::Client) && c.whole(Side::Server)
}

#[test]
fn probes() {
    assert_eq!(probe(&greeting().1), Probe::Yes);
    assert_eq!(probe(b"NBDMAGIC"), Probe::NeedMore);
    assert_eq!(probe(b"NBDMAGICxxxxxxxx"), Probe::No);
    assert_eq!(probe(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53"), Probe::Yes);
    assert_eq!(probe(b"QEVM"), Probe::No);
}

#[test]
fn whole_and_byte_by_byte() {
    let turns = connection();
    let (log, c) = run(&turns, usize::MAX);
    assert!(clean(&c), "{:#?}", log.items);
    assert_eq!(log.count("Greeting { style: New, flags: 3 }"), 1);
    assert_eq!(log.count("Option"), 2);
    let go = "Option { number: 7, name: \"GO\", export: Some(\"drive-virtio-disk0\") }";
    assert_eq!(log.count(go), 1);
    assert_eq!(log.count("Ready"), 1);
    assert_eq!(log.count("Request"), 8);
    assert_eq!(log.count("Reply"), 8);
    for (cookie, error) in [(1, 0), (2, 28), (3, 0), (4, 0), (5, 28), (6, 0), (7, 28)] {
        let reply = format!("Reply {{ cookie: {cookie}, error: {error} }}");
        assert_eq!(log.count(&reply), 1, "{reply}");
    }
    assert_eq!(log.count("Disconnect"), 1);
    assert!(!log.shown(DATA));
    for size in [1, 2, 3, 9, 100] {
        assert_eq!(run(&turns, size).0, log, "slices of {size}");
    }
}

#[test]
fn export_name() {
    for zeroes in [0, 124] {
        let mut size = vec![0, 0, 0, 0, 0x40, 0, 0, 0, 0, 1];
        size.resize(10 + zeroes, 0);
        let turns = [
            greeting(),
            flags(),
            option(1, b"disk"),
            (Side::Server, size),
            request(0, 1, 0, 10, &[]),
            simple(0, 1, &[DATA; 10]),
            request(2, 0, 0, 0, &[]),
        ];
        for n in [1, 1000] {
            let (log, c) = run(&turns, n);
            assert!(clean(&c));
            assert_eq!(log.count("Ready"), 1);
            assert_eq!(log.count("Reply"), 1);
            let name = "Option { number: 1, name: \"EXPORT_NAME\", export: Some(\"disk\") }";
            assert_eq!(log.count(name), 1);
        }
    }
}

#[test]
fn old_style() {
    let mut hello = b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53".to_vec();
    hello.resize(152, 0);
    let turns = [
        (Side::Server, hello),
        request(0, 1, 0, 10, &[]),
        simple(0, 1, &[DATA; 10]),
        request(2, 0, 0, 0, &[]),
    ];
    for n in [1, 1000] {
        let (log, c) = run(&turns, n);
        assert!(clean(&c));
        assert_eq!(log.count("Greeting { style: Old"), 1);
        assert_eq!(log.count("Ready"), 1);
        assert_eq!(log.count("Reply"), 1);
    }
}

#[test]
fn starttls() {
    let turns = [
        greeting(),
        flags(),
        option(5, &[]),
        answer(5, 1, &[]),
        (Side::Client, vec![0x16, 3, 1, 0, 9, 1, 0]),
        (Side::Server, vec![0x16, 3, 3, 0, 9, 2, 0]),
        (Side::Client, vec![0x77; 300]),
    ];
    for n in [1, 1000] {
        let (log, mut c) = run(&turns, n);
        assert!(clean(&c) && c.tls());
        assert_eq!(log.count("Tls Client"), 1);
        assert_eq!(log.count("Tls Server"), 1);
        assert_eq!(log.count("Lost"), 0);
        let mut log = Log::default();
        c.gap(Side::Client, 1000, 0, &mut log);
        assert_eq!(log.items.len(), 0);
    }
    // A refused STARTTLS leaves the connection in clear.
    let mut turns = connection();
    turns.splice(2..2, [option(5, &[]), answer(5, 0x8000_0001, &[])]);
    let (log, c) = run(&turns, 4);
    assert!(clean(&c) && !c.tls());
    assert_eq!(log.count("Reply"), 8);
}

#[test]
fn table_of_requests_is_bounded() {
    let mut turns = connection();
    turns.truncate(7);
    let n = MAX_OUTSTANDING as u64 + 10;
    turns.extend((0..n).map(|i| request(1, i, 0, 4, &[DATA; 4])));
    turns.extend((0..n).map(|i| simple(0, i, &[])));
    let (log, c) = run(&turns, 1000);
    assert!(clean(&c));
    assert_eq!(log.count("Reply"), n as usize);
}

/// As [`run`], with `length` bytes missing after `from` bytes of a side.
fn with_gap(turns: &[Turn], gap: (Side, u64, u64)) -> (Log, Connection<u64>) {
    let (mut log, mut c) = (Log::default(), Connection::new());
    let (mut at, mut told) = ([0u64; 2], false);
    for (side, bytes) in turns {
        for b in bytes {
            let at = &mut at[usize::from(*side == Side::Server)];
            if *side == gap.0 && (gap.1..gap.1 + gap.2).contains(at) {
                if !told {
                    c.gap(*side, gap.2, *at, &mut log);
                }
                told = true;
            } else {
                c.push(*side, *at, &[*b], &mut log);
            }
            *at += 1;
        }
    }
    (log, c)
}

#[test]
fn gap_inside_data() {
    let turns = connection();
    let before: usize = turns[..7]
        .iter()
        .filter(|t| t.0 == Side::Client)
        .map(|t| t.1.len())
        .sum();
    let (log, c) = with_gap(&turns, (Side::Client, before as u64 + 100, 2800));
    assert!(clean(&c));
    assert_eq!(log, run(&turns, usize::MAX).0);
    // Over the end of the data: the next request is lost with it.
    let (log, c) = with_gap(&turns, (Side::Client, before as u64 + 100, 2930));
    assert!(!c.whole(Side::Client) && c.whole(Side::Server));
    assert_eq!(log.count("Found Client"), 1);
    assert_eq!(log.count("Request"), 7);
    assert_eq!(log.count("Reply"), 8);
}

#[test]
fn gap_anywhere() {
    let turns = connection();
    for side in [Side::Client, Side::Server] {
        let all = turns.iter().filter(|t| t.0 == side);
        let length: usize = all.map(|t| t.1.len()).sum();
        for from in (0..length as u64).step_by(7) {
            let (log, _) = with_gap(&turns, (side, from, 60));
            assert!(log.count("Lost") <= 1 + log.count("Found"));
        }
    }
}

#[test]
fn cut_anywhere() {
    let turns = connection();
    for last in 0..turns.len() {
        for end in 0..turns[last].1.len() {
            let mut cut = turns[..=last].to_vec();
            cut[last].1.truncate(end);
            assert_eq!(run(&cut, 50).0.count("Lost"), 0);
        }
    }
}

#[test]
fn from_the_middle() {
    let (mut log, mut c) = (Log::default(), Connection::in_the_middle(500, 900));
    let turns = connection();
    let mut at = [500, 900];
    for (side, b) in &turns[7..] {
        let at = &mut at[usize::from(*side == Side::Server)];
        c.push(*side, *at, b, &mut log);
        *at += b.len() as u64;
    }
    assert_eq!(log.count("Found"), 2);
    assert_eq!(log.count("Request"), 8);
    assert_eq!(log.count("Reply"), 8);
}

proptest! {
    #[test]
    fn changed_bytes(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u16>(), any::<u8>()), 1..12),
        size in 1usize..3000,
    ) {
        let mut turns = connection();
        for (turn, at, b) in changes {
            let bytes = &mut turn.get_mut(&mut turns).1;
            // Mostly in heads, not in data.
            let n = bytes.len().min(40);
            bytes[usize::from(at) % n] = b;
        }
        // Answers are looked up in what was asked, so whole turns must agree with pieces.
        prop_assert!(run(&turns, size).0 == run(&turns, usize::MAX).0);
    }

    #[test]
    fn noise(
        client in prop::collection::vec(any::<u8>(), 0..600),
        server in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        run(&[greeting(), flags(), (Side::Client, client), (Side::Server, server)], 10);
    }
}
