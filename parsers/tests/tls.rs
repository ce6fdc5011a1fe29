//! TLS records, built by hand.

mod streams;

use phasescope_parsers::qemu::Probe;
use phasescope_parsers::tls::{Decoder, probe};
use proptest::prelude::*;
use streams::{Log, slices};

fn vector16(b: &[u8]) -> Vec<u8> {
    let mut v = (b.len() as u16).to_be_bytes().to_vec();
    v.extend_from_slice(b);
    v
}

fn record(kind: u8, version: u16, payload: &[u8]) -> Vec<u8> {
    let mut b = vec![kind];
    b.extend_from_slice(&version.to_be_bytes());
    b.extend(vector16(payload));
    b
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut b = vec![kind, 0];
    b.extend(vector16(body));
    b
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut b = kind.to_be_bytes().to_vec();
    b.extend(vector16(body));
    b
}

fn client_hello(name: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0xcc; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    let mut entry = vec![0];
    entry.extend(vector16(name));
    let mut list = extension(10, &[0, 2, 0, 29]);
    list.extend(extension(0, &vector16(&entry)));
    list.extend(extension(43, &[4, 3, 4, 3, 3]));
    body.extend(vector16(&list));
    handshake(1, &body)
}

fn server_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0xdd; 32]);
    body.extend([0, 0x13, 0x01, 0]);
    body.extend(vector16(&extension(43, &[3, 4])));
    handshake(2, &body)
}

fn client() -> Vec<u8> {
    let mut b = record(22, 0x0301, &client_hello(b"kvdst.example"));
    b.extend(record(20, 0x0303, &[1]));
    for n in [40, 16_000, 300, 500] {
        b.extend(record(23, 0x0303, &vec![0xe7; n]));
    }
    b
}

fn run(data: &[u8], size: usize) -> (Log, Decoder<u64>) {
    let (mut log, mut d) = (Log::default(), Decoder::new());
    for (at, s) in slices(data, size) {
        d.push(at, s, &mut log);
    }
    d.finish();
    (log, d)
}

#[test]
fn probes() {
    let c = client();
    assert_eq!(probe(&c), Probe::Yes);
    assert_eq!(probe(&c[..3]), Probe::NeedMore);
    assert_eq!(probe(&record(22, 0x0303, &server_hello())), Probe::No);
    assert_eq!(probe(b"QEVM"), Probe::No);
}

#[test]
fn whole_and_byte_by_byte() {
    let c = client();
    let (log, d) = run(&c, c.len());
    assert!(d.whole());
    assert_eq!(d.resolved(), c.len() as u64);
    assert_eq!(log.count("Record"), 6);
    let hello = log.items.iter().find(|i| i.contains("ClientHello"));
    let hello = hello.map(String::as_str).unwrap_or_default();
    assert!(hello.contains("Some(\"kvdst.example\")"), "{hello}");
    assert!(hello.contains("772, 771"), "{hello}");
    assert!(!log.shown(0xe7));
    for size in [1, 2, 5, 100] {
        assert_eq!(run(&c, size).0, log);
    }
}

#[test]
fn server() {
    let mut s = record(22, 0x0303, &server_hello());
    s.extend(record(23, 0x0303, &[0; 30]));
    let (log, d) = run(&s, 3);
    assert!(d.whole());
    assert!(
        log.items
            .iter()
            .any(|i| i.contains("ServerHello { version: 772 }"))
    );
}

#[test]
fn names_that_are_not_kept() {
    for name in [&b"a\x07b"[..], &[b'a'; 256], b""] {
        let (log, _) = run(&record(22, 0x0301, &client_hello(name)), 9);
        assert!(log.items.iter().any(|i| i.contains("server_name: None")));
    }
    let (log, _) = run(&record(22, 0x0301, &client_hello(&[b'a'; 255])), 9);
    assert!(log.items.iter().any(|i| i.contains("server_name: Some")));
}

#[test]
fn cut_anywhere() {
    let c = client();
    for end in 0..c.len() {
        let (log, d) = run(&c[..end], 1000);
        assert_eq!(log.count("Lost"), 0);
        assert_eq!(d.resolved(), end as u64);
    }
    let hello = client_hello(b"kvdst.example");
    for end in 0..hello.len() {
        // A record that ends inside its message.
        run(&record(22, 0x0301, &hello[..end]), 50);
    }
}

#[test]
fn gaps() {
    let c = client();
    for (from, length, lost) in [(1000, 5000, 0), (90, 40, 1), (20, 30, 1)] {
        let (mut log, mut d) = (Log::default(), Decoder::new());
        d.push(0, &c[..from], &mut log);
        d.gap(length as u64, from as u64, &mut log);
        for (at, s) in slices(&c[from + length..], 11) {
            d.push(at + (from + length) as u64, s, &mut log);
        }
        assert_eq!(log.count("Lost"), lost, "{from}: {:?}", log.items);
        assert_eq!(log.count("Found"), lost, "{from}: {:?}", log.items);
        assert_eq!(d.whole(), lost == 0);
    }
}

proptest! {
    #[test]
    fn changed_bytes(
        changes in prop::collection::vec((0usize..200, any::<u8>()), 1..20),
        size in 1usize..3000,
    ) {
        let mut s = client();
        for (at, b) in changes {
            s[at] = b;
        }
        let (log, d) = run(&s, size);
        prop_assert_eq!(d.resolved(), s.len() as u64);
        prop_assert!(run(&s, s.len()).0 == log);
    }
}
