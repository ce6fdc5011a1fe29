//! The AMQP decoder: whole and in pieces, with gaps and random changes.
#![allow(missing_docs, reason = "a test")]

mod cloud;

use cloud::*;
use phasescope_parsers::amqp::*;
use proptest::prelude::*;

type Log = Vec<String>;

fn note(log: &mut Log, item: &Item<'_, usize>) {
    if !matches!(item, Item::Skipped { .. }) {
        log.push(format!("{item:?}"));
    }
    if let Item::Content(content) = item {
        log.push(String::from_utf8_lossy(content.body.bytes()).into_owned());
    }
}

/// Decodes with the byte's number as mark, in pieces.
fn run(mut decoder: Decoder<usize>, bytes: &[u8], piece: usize) -> Log {
    let mut log = Log::new();
    for (index, part) in bytes.chunks(piece).enumerate() {
        decoder.push(index * piece, part, &mut |item| note(&mut log, &item));
    }
    decoder.finish(&mut |item| note(&mut log, &item));
    log
}

fn without_marks(log: &Log) -> Log {
    log.iter()
        .map(|line| {
            let mut line = line.clone();
            for name in ["begin: ", "end: ", "offset: "] {
                while let Some(at) = line.find(name) {
                    let digits = line[at + name.len()..]
                        .bytes()
                        .take_while(u8::is_ascii_digit)
                        .count();
                    line.replace_range(at..at + name.len() + digits, "");
                }
            }
            line
        })
        .collect()
}

fn stream() -> Vec<u8> {
    let body = envelope(&pre_live_migration());
    let mut bytes = frame(1, 1, &method(50, 11, &[short("reply_1"), vec![0; 8]]));
    bytes.extend(message(1, &publish("nova", "compute.dst"), &body, 100));
    bytes.extend(heartbeat());
    bytes.extend(frame(
        1,
        1,
        &method(60, 80, &[vec![0, 0, 0, 0, 0, 0, 0, 7, 0]]),
    ));
    bytes.extend(message(2, &deliver(7, "", "reply_1"), b"{}", 100));
    bytes.extend(message(2, &deliver(8, "", "reply_1"), b"", 100));
    bytes.extend(heartbeat());
    bytes
}

fn whole_connection() -> Vec<u8> {
    let mut bytes = PROTOCOL_HEADER.to_vec();
    bytes.extend(frame(1, 0, &start_ok()));
    bytes.extend(frame(
        1,
        0,
        &method(10, 31, &[vec![7, 255, 0, 2, 0, 0, 0, 60]]),
    ));
    bytes.extend(frame(
        1,
        0,
        &method(10, 40, &[short("/"), short(""), vec![0]]),
    ));
    bytes.extend(stream());
    bytes
}

#[test]
fn vectors_of_the_reference() {
    let hex = "010001000000180 03C0028 0000 046E6F7661 0B636F6D707574652E647374 00 CE";
    let digits: String = hex.split_whitespace().collect();
    let bytes: Vec<u8> = (0..digits.len() / 2)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    assert_eq!(frame(1, 1, &publish("nova", "compute.dst")), bytes);
    let log = run(Decoder::new(), &bytes, bytes.len());
    assert!(log[0].contains("basic.publish") && log[0].contains("compute.dst"));
}

#[test]
fn a_connection_in_any_pieces() {
    let bytes = whole_connection();
    let whole = without_marks(&run(Decoder::new(), &bytes, bytes.len()));
    assert_eq!(whole.iter().filter(|l| l.starts_with("Method")).count(), 8);
    assert_eq!(whole.iter().filter(|l| l.starts_with("Content")).count(), 3);
    assert!(whole.iter().all(|line| !line.contains("Malformed")));
    for piece in [1, 2, 3, 7, 8, 64, 1000] {
        assert_eq!(without_marks(&run(Decoder::new(), &bytes, piece)), whole);
    }
    for cut in 0..bytes.len() {
        let mut log = Log::new();
        let mut decoder = Decoder::new();
        decoder.push(0, &bytes[..cut], &mut |item| note(&mut log, &item));
        decoder.push(cut, &bytes[cut..], &mut |item| note(&mut log, &item));
        assert_eq!(decoder.resolved(), bytes.len() as u64);
        decoder.finish(&mut |item| note(&mut log, &item));
        assert_eq!(without_marks(&log), whole, "cut at {cut}");
    }
}

#[test]
fn marks_are_those_of_first_and_last_byte() {
    let bytes = stream();
    let mut decoder = Decoder::new();
    let mut seen = 0;
    for (index, byte) in bytes.iter().enumerate() {
        decoder.push(index, &[*byte], &mut |item| {
            if let Item::Method {
                begin, end, offset, ..
            } = item
            {
                assert_eq!(begin as u64, offset);
                assert_eq!(end, index);
            }
            if let Item::Content(content) = item {
                assert_eq!(content.begin as u64, content.offset);
                assert_eq!(content.end, index);
                seen += 1;
            }
        });
    }
    assert_eq!(seen, 3);
}

#[test]
fn picked_up_at_every_byte() {
    let bytes = stream();
    let all = without_marks(&run(Decoder::new(), &bytes, bytes.len()));
    for from in 0..bytes.len() - 8 {
        let rest = &bytes[from..];
        let whole = without_marks(&run(Decoder::in_the_middle(), rest, rest.len()));
        let single = without_marks(&run(Decoder::in_the_middle(), rest, 1));
        assert_eq!(whole, single, "from {from}");
        assert_eq!(whole.last(), all.last(), "from {from}");
    }
}

#[test]
fn gaps_everywhere() {
    let bytes = stream();
    let last = without_marks(&run(Decoder::new(), &bytes, bytes.len()));
    for from in 0..bytes.len() - 100 {
        let to = from + 40;
        let mut log = Log::new();
        let mut decoder = Decoder::new();
        decoder.push(0, &bytes[..from], &mut |item| note(&mut log, &item));
        decoder.gap(40, &mut |item| note(&mut log, &item));
        decoder.push(to, &bytes[to..], &mut |item| note(&mut log, &item));
        assert_eq!(decoder.resolved(), bytes.len() as u64);
        assert_eq!(without_marks(&log).last(), last.last(), "gap at {from}");
    }
}

#[test]
fn a_gap_inside_a_body_is_counted() {
    let body = vec![b'a'; 500];
    let bytes = message(1, &publish("nova", "k"), &body, 500);
    let from = bytes.len() - 300;
    let mut decoder = Decoder::new();
    let mut found = Vec::new();
    let mut out = |item: Item<'_, u8>| {
        if let Item::Content(content) = item {
            found.push((
                content.missing,
                content.body.bytes().len(),
                content.body_size,
            ));
        }
    };
    decoder.push(0, &bytes[..from], &mut out);
    decoder.gap(100, &mut out);
    decoder.push(1, &bytes[from + 100..], &mut out);
    decoder.push(2, &message(1, &publish("nova", "k"), b"ok", 9), &mut out);
    assert_eq!(found, [(299, 201, 500), (0, 2, 2)]);
}

#[test]
fn a_long_body_is_cut() {
    let body = vec![b'a'; MAX_BODY + 10];
    let bytes = message(1, &publish("nova", "k"), &body, 131_064);
    let mut missing = Vec::new();
    Decoder::new().push(0, &bytes, &mut |item| {
        if let Item::Content(content) = item {
            missing.push(content.missing);
        }
    });
    assert_eq!(missing, [10]);
}

#[test]
fn all_bodies_together_are_bounded() {
    // Bodies of many channels, each without its last byte: eight fill what may be held.
    let channels = 1..=(MAX_HELD / MAX_BODY) as u16 + 1;
    let piece = vec![b'a'; 1 << 16];
    let mut bytes = Vec::new();
    for channel in channels.clone() {
        bytes.extend(frame(1, channel, &publish("nova", "k")));
        bytes.extend(frame(2, channel, &content_header(MAX_BODY)));
        for part in 0..MAX_BODY / piece.len() {
            let last = usize::from(part == MAX_BODY / piece.len() - 1);
            bytes.extend(frame(3, channel, &piece[last..]));
        }
    }
    for channel in channels {
        bytes.extend(frame(3, channel, b"a"));
    }
    // What was held is free again.
    bytes.extend(message(
        1,
        &publish("nova", "k"),
        &vec![b'b'; MAX_BODY],
        1 << 16,
    ));
    let mut decoder = Decoder::new();
    let (mut missing, mut kept) = (Vec::new(), 0);
    for part in bytes.chunks(1 << 16) {
        decoder.push(0, part, &mut |item| {
            if let Item::Content(content) = item {
                assert_eq!(content.body_size, MAX_BODY as u64);
                kept += content.body.bytes().len();
                missing.push(content.missing);
            }
        });
    }
    // Eight bytes were left for the ninth, and none for the first one's last.
    let ninth = MAX_BODY as u64 - 8;
    assert_eq!(missing, [1, 0, 0, 0, 0, 0, 0, 0, ninth, 0]);
    assert_eq!(kept, MAX_HELD - 1 + 8 + MAX_BODY);
}

#[test]
fn channels_interleave() {
    let mut bytes = frame(1, 1, &publish("nova", "one"));
    bytes.extend(frame(1, 2, &publish("nova", "two")));
    bytes.extend(frame(2, 2, &content_header(4)));
    bytes.extend(frame(2, 1, &content_header(4)));
    bytes.extend(frame(3, 1, b"aa"));
    bytes.extend(frame(3, 2, b"bbbb"));
    bytes.extend(heartbeat());
    bytes.extend(frame(3, 1, b"aa"));
    let log = run(Decoder::new(), &bytes, 5);
    assert_eq!(
        log.iter().filter(|l| *l == "aaaa" || *l == "bbbb").count(),
        2
    );
}

#[test]
fn probing() {
    assert_eq!(probe(b"AMQP"), Probe::More);
    assert_eq!(probe(&PROTOCOL_HEADER), Probe::Client);
    assert_eq!(probe(b"AMQP\x00\x01\x00\x00"), Probe::No);
    let start = method(
        10,
        10,
        &[vec![0, 9], table(&[]), long(b"PLAIN"), long(b"en_US")],
    );
    assert_eq!(probe(&frame(1, 0, &start)), Probe::Server);
    assert_eq!(probe(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Probe::No);
    let bytes = stream();
    assert_eq!(probe(&bytes), Probe::Frames);
    for from in 0..bytes.len() - 150 {
        assert_eq!(probe(&bytes[from..]), Probe::Frames, "from {from}");
    }
}

#[test]
fn another_version_is_left_alone() {
    let mut bytes = b"AMQP\x00\x01\x00\x00".to_vec();
    bytes.extend(stream());
    let log = run(Decoder::new(), &bytes, 10);
    assert_eq!(log.len(), 1);
}

#[test]
fn planted_secrets_are_not_shown() {
    let mut decoder = Decoder::new();
    let mut text = String::new();
    decoder.push(0, &whole_connection(), &mut |item| {
        text.push_str(&format!("{item:?}\n"));
    });
    assert!(text.contains("nova-compute:42:abc"));
    assert!(!text.contains(PASSWORD) && !text.contains(SECRET));
}

proptest! {
    #[test]
    fn random_changes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
                      piece in 1_usize..200, middle: bool) {
        let mut bytes = whole_connection();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let decoder = if middle { Decoder::in_the_middle() } else { Decoder::new() };
        let log = run(decoder, &bytes, piece);
        prop_assert!(log.len() <= bytes.len());
        let _ = probe(&bytes);
    }

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000), piece in 1_usize..50) {
        run(Decoder::in_the_middle(), &bytes, piece);
        run(Decoder::new(), &bytes, piece);
        let _ = (probe(&bytes), decode_method(&bytes), decode_header(&bytes));
    }
}
