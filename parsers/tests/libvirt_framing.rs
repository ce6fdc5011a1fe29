//! libvirt's framing: the same items however the bytes come, and back into step after losses.

use phasescope_parsers::{
    libvirt::{
        framing::{Framer, Item, MAX_KEPT_PAYLOAD},
        header::{
            Header, HeaderError, MAX_MESSAGE_LEN, MessageType, PROGRAM_REMOTE, Probe, Status, probe,
        },
        procedures,
    },
    xdr,
};
use proptest::prelude::*;

/// An item without the marks, with its bytes.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    Message {
        header: Header,
        offset: u64,
        payload: Vec<u8>,
        missing: u32,
    },
    Data {
        header: Header,
        position: u32,
        data: Vec<u8>,
    },
    Skipped {
        offset: u64,
        length: u64,
    },
}

/// Collects items; pieces of stream data that follow each other become one.
#[derive(Default)]
struct Items(Vec<Owned>);

impl Items {
    fn add<M>(&mut self, item: Item<'_, M>) {
        match item {
            Item::Message {
                header,
                offset,
                payload,
                missing,
                ..
            } => {
                self.0.push(Owned::Message {
                    header,
                    offset,
                    payload: payload.to_vec(),
                    missing,
                });
            }
            Item::StreamData {
                header,
                position,
                data,
                ..
            } => {
                if let Some(Owned::Data {
                    header: last,
                    position: from,
                    data: before,
                }) = self.0.last_mut()
                    && *last == header
                    && *from as usize + before.len() == position as usize
                {
                    before.extend(data);
                } else {
                    self.0.push(Owned::Data {
                        header,
                        position,
                        data: data.to_vec(),
                    });
                }
            }
            Item::Skipped { offset, length } => self.0.push(Owned::Skipped { offset, length }),
        }
    }
}

fn message(procedure: i32, kind: u32, serial: u32, status: u32, payload: &[u8]) -> Vec<u8> {
    let length = 28 + u32::try_from(payload.len()).unwrap();
    let words = [
        length,
        PROGRAM_REMOTE,
        1,
        procedure.cast_unsigned(),
        kind,
        serial,
        status,
    ];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
    bytes.extend(payload);
    bytes
}

fn call(serial: u32, payload: &[u8]) -> Vec<u8> {
    message(60, 0, serial, 0, payload)
}

fn stream(payload: &[u8]) -> Vec<u8> {
    message(215, 3, 9, 2, payload)
}

fn conversation() -> Vec<u8> {
    [
        call(0, b"abcd"),
        message(66, 1, 1, 0, b""),
        stream(&[7; 300]),
        stream(b""),
        message(215, 3, 9, 0, b""),
        message(318, 2, 0, 0, &[9; 64]),
        call(2, &[1; 4000]),
    ]
    .concat()
}

fn run(pieces: &[&[u8]]) -> Vec<Owned> {
    let mut items = Items::default();
    let mut framer = Framer::new();
    for piece in pieces {
        framer.push((), piece, &mut |item| items.add(item));
    }
    framer.finish(&mut |item| items.add(item));
    assert_eq!(framer.resolved(), framer.offset());
    items.0
}

fn payloads(items: &[Owned]) -> Vec<(u32, usize, u32)> {
    items
        .iter()
        .filter_map(|item| match item {
            Owned::Message {
                header,
                payload,
                missing,
                ..
            } => Some((header.serial, payload.len(), *missing)),
            _ => None,
        })
        .collect()
}

#[test]
fn whole_and_byte_by_byte() {
    let bytes = conversation();
    let whole = run(&[&bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(whole, run(&single));
    assert_eq!(
        payloads(&whole),
        [
            (0, 4, 0),
            (1, 0, 0),
            (9, 0, 0),
            (9, 0, 0),
            (9, 0, 0),
            (0, 64, 0),
            (2, 4000, 0)
        ]
    );
    assert!(
        whole
            .iter()
            .any(|item| matches!(item, Owned::Data { position: 0, data, .. }
        if data == &[7; 300]))
    );
    assert!(
        !whole
            .iter()
            .any(|item| matches!(item, Owned::Skipped { .. }))
    );
}

#[test]
fn marks_of_first_and_last_byte() {
    let bytes = call(5, b"abcdefgh");
    let mut framer = Framer::new();
    let mut marks = Vec::new();
    for (mark, piece) in [&bytes[..10], &bytes[10..30], &bytes[30..]]
        .into_iter()
        .enumerate()
    {
        framer.push(mark, piece, &mut |item| match item {
            Item::Message { begin, end, .. } => marks.push((begin, end)),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(marks, [(0, 2)]);
}

#[test]
fn gap_inside_a_payload() {
    let (first, second) = (call(1, &[5; 100]), call(2, b"next"));
    let mut items = Items::default();
    let mut framer = Framer::new();
    framer.push((), &first[..28 + 40], &mut |item| items.add(item));
    framer.gap(30, &mut |item| items.add(item));
    framer.push((), &first[28 + 70..], &mut |item| items.add(item));
    framer.push((), &second, &mut |item| items.add(item));
    assert_eq!(payloads(&items.0), [(1, 40, 60), (2, 4, 0)]);
    assert!(framer.in_step());
    assert_eq!(
        (framer.resynchronisations(), framer.resolved()),
        (0, framer.offset())
    );
}

#[test]
fn gap_inside_stream_data() {
    let bytes = [stream(&[6; 100]), call(2, b"next")].concat();
    let mut items = Items::default();
    let mut framer = Framer::new();
    framer.push((), &bytes[..28 + 40], &mut |item| items.add(item));
    framer.gap(30, &mut |item| items.add(item));
    framer.push((), &bytes[28 + 70..], &mut |item| items.add(item));
    assert_eq!(payloads(&items.0), [(9, 0, 30), (2, 4, 0)]);
    let pieces: Vec<(u32, usize)> = items
        .0
        .iter()
        .filter_map(|item| match item {
            Owned::Data { position, data, .. } => Some((*position, data.len())),
            _ => None,
        })
        .collect();
    assert_eq!(pieces, [(0, 40), (70, 30)]);
}

#[test]
fn gap_over_a_boundary() {
    let bytes = [call(1, &[5; 100]), call(2, b"lost"), call(3, b"next")].concat();
    let mut items = Items::default();
    let mut framer = Framer::new();
    framer.push((), &bytes[..28 + 40], &mut |item| items.add(item));
    framer.gap(60 + 32, &mut |item| items.add(item));
    framer.push((), &bytes[128 + 32..], &mut |item| items.add(item));
    assert_eq!(payloads(&items.0), [(1, 40, 60), (3, 4, 0)]);
    assert!(items.0.contains(&Owned::Skipped {
        offset: 128,
        length: 32
    }));
    assert_eq!(framer.resynchronisations(), 1);
}

#[test]
fn begins_in_the_middle() {
    let bytes = [vec![0xaa; 77], call(3, b"abcd"), call(4, b"efgh")].concat();
    for size in [1, 3, 28, 1000] {
        let mut items = Items::default();
        let mut framer = Framer::resynchronising();
        for piece in bytes.chunks(size) {
            framer.push((), piece, &mut |item| items.add(item));
        }
        assert!(framer.in_step());
        framer.finish(&mut |item| items.add(item));
        assert_eq!(
            payloads(&items.0),
            [(3, 4, 0), (4, 4, 0)],
            "pieces of {size}"
        );
        assert_eq!(
            items.0.first(),
            Some(&Owned::Skipped {
                offset: 0,
                length: 77
            })
        );
    }
}

#[test]
fn a_lone_header_in_noise_is_not_believed() {
    let bytes = [vec![0xaa; 50], call(3, b"abcd"), vec![0xbb; 200]].concat();
    let mut items = Items::default();
    let mut framer = Framer::resynchronising();
    framer.push((), &bytes, &mut |item| items.add(item));
    framer.finish(&mut |item| items.add(item));
    assert_eq!(payloads(&items.0), []);
    assert_eq!(framer.resolved(), bytes.len() as u64);
}

#[test]
fn encryption_begins() {
    let bytes = [call(1, b"abcd"), vec![0xee; 300_000]].concat();
    let mut items = Items::default();
    let mut framer = Framer::new();
    for piece in bytes.chunks(1460) {
        framer.push((), piece, &mut |item| items.add(item));
        assert!(framer.offset() - framer.resolved() < 70_000);
    }
    assert!(!framer.in_step());
    assert_eq!(
        (payloads(&items.0).len(), framer.resynchronisations()),
        (1, 1)
    );
}

#[test]
fn length_limit() {
    let with_length = |length: u32| {
        let mut bytes = call(1, b"");
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    assert!(Header::parse(&with_length(MAX_MESSAGE_LEN)).is_ok());
    for length in [0, 27, MAX_MESSAGE_LEN + 1, u32::MAX] {
        assert_eq!(
            Header::parse(&with_length(length)),
            Err(HeaderError::Length)
        );
        assert_eq!(probe(&with_length(length)), Probe::No);
        assert_eq!(
            run(&[&with_length(length)]),
            [Owned::Skipped {
                offset: 0,
                length: 28
            }]
        );
    }
    let long = [call(1, &vec![3; MAX_KEPT_PAYLOAD + 100]), call(2, b"next")].concat();
    let pieces: Vec<&[u8]> = long.chunks(1460).collect();
    let expected = [(1, MAX_KEPT_PAYLOAD, 100), (2, 4, 0)];
    assert_eq!(payloads(&run(&[&long])), expected);
    assert_eq!(payloads(&run(&pieces)), expected);
}

#[test]
fn ends_within_a_message() {
    let bytes = call(1, &[5; 100]);
    assert_eq!(payloads(&run(&[&bytes[..60]])), [(1, 32, 68)]);
    assert_eq!(
        run(&[&bytes[..20]]),
        [Owned::Skipped {
            offset: 0,
            length: 20
        }]
    );
}

#[test]
fn headers_and_probe() {
    let bytes = call(1, b"abcd");
    for end in 0..28 {
        assert_eq!(Header::parse(&bytes[..end]), Err(HeaderError::Short));
        assert_eq!(probe(&bytes[..end]), Probe::NeedMore);
    }
    assert_eq!(probe(&bytes), Probe::Yes);
    assert_eq!(probe(b"GET / HTTP/1.1\r\n"), Probe::No);
    let header = Header::parse(&bytes).unwrap();
    assert_eq!(
        (header.kind, header.status),
        (MessageType::Call, Status::Ok)
    );
    assert_eq!(
        (header.length, header.payload_len(), header.serial),
        (32, 4, 1)
    );
    assert_eq!(header.procedure_name(), Some("CONNECT_SUPPORTS_FEATURE"));
    assert!(header.is_plausible());
    let errors = [
        (4, HeaderError::Program),
        (8, HeaderError::Version),
        (12, HeaderError::Procedure),
        (16, HeaderError::Kind),
        (24, HeaderError::Status),
    ];
    for (at, error) in errors {
        let mut bad = bytes.clone();
        bad[at] = 0xff;
        assert_eq!(Header::parse(&bad), Err(error));
        assert_eq!(probe(&bad), Probe::No);
    }
}

#[test]
fn procedure_tables_count_up() {
    let tables: [&[(i32, &str)]; 4] = [
        &procedures::REMOTE_PROCEDURES,
        &procedures::QEMU_PROCEDURES,
        &procedures::LXC_PROCEDURES,
        &procedures::KEEPALIVE_PROCEDURES,
    ];
    for table in tables {
        for (place, (number, name)) in (1..).zip(table) {
            assert_eq!(place, *number, "{name}");
        }
    }
    for (number, name) in [
        (
            procedures::DOMAIN_MIGRATE_PREPARE3_PARAMS,
            "DOMAIN_MIGRATE_PREPARE3_PARAMS",
        ),
        (procedures::DOMAIN_ABORT_JOB_FLAGS, "DOMAIN_ABORT_JOB_FLAGS"),
        (
            procedures::DOMAIN_MIGRATE_START_POST_COPY,
            "DOMAIN_MIGRATE_START_POST_COPY",
        ),
    ] {
        assert_eq!(procedures::name(PROGRAM_REMOTE, number), Some(name));
    }
    assert_eq!(procedures::name(PROGRAM_REMOTE, 0), None);
    assert_eq!(procedures::name(PROGRAM_REMOTE, -1), None);
    assert_eq!(procedures::name(PROGRAM_REMOTE, i32::MAX), None);
}

#[test]
fn xdr_items() {
    assert_eq!(xdr::u32(&[0, 0, 1, 2, 9]), Ok((&[9][..], 258)));
    assert_eq!(xdr::i32(&[0xff; 4]), Ok((&[][..], -1)));
    assert_eq!(xdr::u64(&[0, 0, 0, 0, 0, 0, 0, 3]), Ok((&[][..], 3)));
    assert_eq!(xdr::bool(&[0, 0, 0, 1]), Ok((&[][..], true)));
    assert!(xdr::bool(&[0, 0, 0, 2]).is_err());
    assert!(xdr::u32(&[0; 3]).is_err());
    let text = [0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o', 0, 0, 0, 7];
    assert_eq!(xdr::opaque(5)(&text), Ok((&[7][..], &b"hello"[..])));
    assert!(xdr::opaque(4)(&text).is_err());
    assert!(xdr::opaque(u32::MAX)(&[0xff; 16]).is_err());
    // Padding counts.
    assert!(xdr::opaque(9)(&text[..11]).is_err());
    assert_eq!(
        xdr::fixed_opaque(3)(&[1, 2, 3, 0, 9]),
        Ok((&[9][..], &[1, 2, 3][..]))
    );
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_items(cuts in prop::collection::vec(1_usize..200, 1..60)) {
        let bytes = conversation();
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.into_iter().cycle() {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(run(&pieces), run(&[&bytes]));
    }

    /// Every byte pushed or lost is in exactly one item.
    #[test]
    fn items_cover_the_stream(
        steps in prop::collection::vec((0_u8..6, 0_usize..300, any::<u8>()), 0..40),
        in_step in any::<bool>(),
    ) {
        let mut framer = if in_step { Framer::new() } else { Framer::resynchronising() };
        let mut items = Items::default();
        for (step, (what, size, byte)) in steps.into_iter().enumerate() {
            let payload = vec![byte; size];
            let bytes = match what {
                0 => call(u32::from(byte), &payload),
                1 => stream(&payload),
                2 => payload,
                3 => call(1, &payload)[..size.min(28)].to_vec(),
                4 => call(u32::from(byte), &payload)[size.min(28)..].to_vec(),
                _ => {
                    framer.gap(size as u64, &mut |item| items.add(item));
                    continue;
                }
            };
            framer.push(step, &bytes, &mut |item| items.add(item));
        }
        framer.finish(&mut |item| items.add(item));
        let mut at = 0;
        let end = framer.offset();
        for item in items.0 {
            match item {
                Owned::Message { header, offset, .. } => {
                    prop_assert_eq!(offset, at);
                    at = (offset + u64::from(header.length)).min(end);
                }
                Owned::Skipped { offset, length } => {
                    prop_assert_eq!(offset, at);
                    at += length;
                }
                Owned::Data { .. } => {}
            }
        }
        prop_assert_eq!(at, end);
    }
}
