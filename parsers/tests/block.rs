//! Records of `block` and `dirty-bitmap`.

use phasescope_parsers::qemu::block::{
    BitmapAction, BitmapRecord, CHUNK, Record, bitmap_record, record,
};
use proptest::prelude::*;

fn named(word: u64, name: &[u8]) -> Vec<u8> {
    let mut b = word.to_be_bytes().to_vec();
    b.push(name.len() as u8);
    b.extend_from_slice(name);
    b
}

#[test]
fn block_records() {
    let chunk = named(4096 << 9 | 1, b"drive0");
    let want = Record::Chunk {
        sector: 4096,
        device: b"drive0",
        content: CHUNK,
    };
    assert_eq!(record(&chunk), Ok((&[][..], want)));
    let zero = named(7 << 9 | 9, b"drive0");
    assert!(matches!(
        record(&zero),
        Ok((_, Record::Chunk { content: 0, .. }))
    ));
    let progress = (55u64 << 9 | 4).to_be_bytes();
    assert_eq!(
        record(&progress),
        Ok((&[][..], Record::Progress { percent: 55 }))
    );
    let end = 2u64.to_be_bytes();
    assert_eq!(record(&end), Ok((&[][..], Record::EndOfSection)));
    for bad in [0u64, 3, 8, 16, 101 << 9 | 4, 1 << 9 | 2] {
        assert!(matches!(
            record(&bad.to_be_bytes()),
            Err(nom::Err::Error(_))
        ));
    }
    for n in 0..chunk.len() {
        assert!(matches!(record(&chunk[..n]), Err(nom::Err::Incomplete(_))));
    }
}

fn start() -> Vec<u8> {
    let mut b = vec![0x1c, 6];
    b.extend_from_slice(b"drive0\x03bm0");
    b.extend_from_slice(&65536u32.to_be_bytes());
    b.push(1);
    b
}

fn bits(zeroes: bool, size: u64) -> Vec<u8> {
    let mut b = vec![if zeroes { 0x42 } else { 0x40 }];
    b.extend_from_slice(&2048u64.to_be_bytes());
    b.extend_from_slice(&512u32.to_be_bytes());
    if !zeroes {
        b.extend_from_slice(&size.to_be_bytes());
    }
    b
}

#[test]
fn bitmap_records() {
    let want = BitmapRecord {
        device: Some(b"drive0"),
        bitmap: Some(b"bm0"),
        action: BitmapAction::Start {
            granularity: 65536,
            flags: 1,
        },
    };
    assert_eq!(bitmap_record(&start()), Ok((&[][..], want)));
    for (zeroes, size) in [(true, 0), (false, 1024)] {
        let b = bits(zeroes, size);
        let (rest, r) = bitmap_record(&b).unwrap();
        assert!(rest.is_empty() && r.device.is_none());
        let want = BitmapAction::Bits {
            sector: 2048,
            sectors: 512,
            content: size,
        };
        assert_eq!(r.action, want);
    }
    let action = |b: &'static [u8]| bitmap_record(b).map(|(_, r)| r.action);
    assert_eq!(action(&[0x20]), Ok(BitmapAction::Complete));
    assert_eq!(action(&[0x01]), Ok(BitmapAction::EndOfSection));
    for bad in [0u8, 0x80, 0x30, 0x11, 0x12, 0x09] {
        assert!(matches!(bitmap_record(&[bad]), Err(nom::Err::Error(_))));
    }
    assert!(matches!(
        bitmap_record(&bits(false, 1 << 40)),
        Err(nom::Err::Error(_))
    ));
    for b in [start(), bits(false, 9)] {
        for n in 0..b.len() {
            assert!(matches!(
                bitmap_record(&b[..n]),
                Err(nom::Err::Incomplete(_))
            ));
        }
    }
}

proptest! {
    #[test]
    fn noise(s in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = (record(&s), bitmap_record(&s));
    }
}
