//! What the destination answers.

use phasescope_parsers::qemu::return_path::{self, MAX_MESSAGE, Message, ReturnPath};

use super::*;

fn rp(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut b = kind.to_be_bytes().to_vec();
    b.extend_from_slice(&(body.len() as u16).to_be_bytes());
    b.extend_from_slice(body);
    b
}

/// Messages and the bytes of each, what follows it included.
fn replies() -> Vec<(Message, Vec<u8>)> {
    let name = |n: usize| "b".repeat(n);
    let request = |start: u64, length: u32, block: &str| {
        let mut b = start.to_be_bytes().to_vec();
        b.extend_from_slice(&length.to_be_bytes());
        if !block.is_empty() {
            b.push(block.len() as u8);
            b.extend_from_slice(block.as_bytes());
        }
        b
    };
    let want = |start, length, block: Option<&str>| Message::ReqPages {
        block: block.map(str::to_owned),
        start,
        length,
    };
    let mut bitmap = rp(5, b"\x06pc.ram");
    bitmap.extend_from_slice(&1000u64.to_be_bytes());
    bitmap.extend_from_slice(&[0, 1, 0, 4].repeat(250));
    bitmap.extend_from_slice(&0x0123_4567_89ab_cdefu64.to_be_bytes());
    let recv = Message::RecvBitmap {
        block: "pc.ram".to_owned(),
    };
    let long = name(255);
    vec![
        (Message::SwitchoverAck, rp(7, &[])),
        (Message::Pong(1), rp(2, &[0, 0, 0, 1])),
        (
            want(0x12345000, 4096, Some("pc.ram")),
            rp(3, &request(0x12345000, 4096, "pc.ram")),
        ),
        (want(4096, 8192, None), rp(4, &request(4096, 8192, ""))),
        (want(0, 1, Some(&long)), rp(3, &request(0, 1, &long))),
        (recv, bitmap),
        (Message::ResumeAck(1), rp(6, &[0, 0, 0, 1])),
        (Message::Shut(0), rp(1, &[0; 4])),
    ]
}

fn answer<'a>(
    slices: impl IntoIterator<Item = &'a [u8]>,
) -> (ReturnPath<usize>, Vec<(Message, usize)>) {
    let (mut decoder, mut got, mut at) = (ReturnPath::new(), Vec::new(), 0);
    let mut fed = Vec::new();
    for s in slices {
        let from = at - decoder.pending();
        fed.extend_from_slice(s);
        decoder.push(at, s, &mut |m, begin, place, raw| {
            assert!(raw.len() >= 4 && raw.len() <= MAX_MESSAGE);
            // It stands where it is said to stand, also behind a bitmap.
            let place = from + place as usize;
            assert_eq!(&fed[place..place + raw.len()], raw);
            got.extend(m.map(|m| (m, begin)));
        });
        assert!(decoder.pending() <= MAX_MESSAGE);
        at += s.len();
    }
    (decoder, got)
}

#[test]
fn return_path() {
    let all = replies();
    let bytes: Vec<u8> = all.iter().flat_map(|(_, b)| b.clone()).collect();
    let mut at = 0;
    let want: Vec<_> = all
        .iter()
        .map(|(m, b)| {
            at += b.len();
            (m.clone(), at - b.len())
        })
        .collect();
    for size in [1, 2, 5, 100, 271, 272, 273, usize::MAX] {
        let (decoder, got) = answer(bytes.chunks(size));
        assert!(decoder.in_step() && decoder.pending() == 0);
        assert_eq!(got.len(), want.len());
        for ((m, begin), (wanted, at)) in got.iter().zip(&want) {
            assert_eq!(m, wanted);
            // The mark is that of the slice that holds its first byte.
            assert_eq!(*begin, at - at % size);
        }
    }
    for n in 0..4 {
        assert_eq!(return_path::probe(&bytes[..n]), Probe::NeedMore);
    }
    assert_eq!(return_path::probe(&bytes), Probe::Yes);
    assert_eq!(return_path::probe(b"HTTP/1.1"), Probe::No);
}

#[test]
fn return_path_holes() {
    let all = replies();
    let bitmap = &all[5].1;
    let body = 4 + 7 + 8;
    // In the bitmap nothing is lost.
    let (mut decoder, mut got) = (ReturnPath::new(), Vec::new());
    let mut sink = |m: Option<Message>, (): (), _: u64, _: &[u8]| got.extend(m);
    decoder.push((), &bitmap[..body + 10], &mut sink);
    decoder.gap(900);
    decoder.push((), &bitmap[body + 910..], &mut sink);
    decoder.push((), &all[7].1, &mut sink);
    assert!(decoder.in_step());
    assert_eq!(got, [all[5].0.clone(), Message::Shut(0)]);
    // Anywhere else decoding ends.
    for at in 0..8 {
        let (mut decoder, mut n) = (ReturnPath::new(), 0);
        let mut sink = |_: Option<Message>, (): (), _: u64, _: &[u8]| n += 1;
        decoder.push((), &all[1].1[..at], &mut sink);
        decoder.gap(1);
        decoder.push((), &all[1].1, &mut sink);
        assert!(!decoder.in_step() && decoder.pending() == 0);
        assert_eq!(n, usize::from(at == 8));
    }
}

#[test]
fn return_path_refuses() {
    let mut endless = rp(5, b"\x06pc.ram");
    endless.extend_from_slice(&u64::MAX.to_be_bytes());
    let mut unended = rp(5, b"\x01b");
    unended.extend_from_slice(&0u64.to_be_bytes());
    unended.extend_from_slice(&[0; 8]);
    let wrong = [
        rp(0, &[]),
        rp(8, &[]),
        rp(1, &[0; 5]),
        rp(2, &[]),
        rp(7, &[0]),
        rp(4, &[0; 11]),
        rp(3, &[0; 13]),
        rp(3, b"------------\x05abc"),
        rp(5, b"\0"),
        rp(2, &[0; 300]),
        endless,
        unended,
    ];
    for bytes in wrong {
        for size in [1, usize::MAX] {
            let (decoder, _) = answer(bytes.chunks(size));
            assert!(!decoder.in_step(), "{bytes:?}");
        }
    }
}

proptest! {
    #[test]
    fn return_path_noise(
        bytes in prop::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..900),
        sizes in cuts(),
    ) {
        let (whole, all) = answer([&bytes[..]]);
        let (decoder, got) = answer(sliced(&bytes, &sizes));
        prop_assert_eq!(whole.in_step(), decoder.in_step());
        let kinds = |v: &[(Message, usize)]| v.iter().map(|(m, _)| m.clone()).collect::<Vec<_>>();
        prop_assert_eq!(kinds(&all), kinds(&got));
    }
}
