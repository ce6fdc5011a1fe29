//! Streams that are cut, have holes, hold wrong bytes, or begin in the middle.

use super::*;

#[test]
fn cut_at_every_byte() {
    for (_, s) in all() {
        let n = s.bytes.len();
        for cut in 0..n {
            let (decoder, log) = decode([&s.bytes[..cut]]);
            assert!(s.want.pages.starts_with(&log.pages), "cut at {cut} of {n}");
            // At the end a decoder may take what it has for the last footer.
            let same = log.items.iter().zip(&s.want.items);
            let same = same.take_while(|(a, b)| a == b).count();
            assert!(log.items.len() - same <= 2, "cut at {cut} of {n}");
            assert_eq!(decoder.resolved(), cut as u64);
            assert!(decoder.whole());
        }
    }
}

/// The stream with `length` bytes missing at `at`.
fn holed(bytes: &[u8], at: usize, length: usize, slice: usize) -> (Decoder<u64>, Log) {
    let (mut decoder, mut log) = (Decoder::new(), Log::default());
    let mut offset = 0u64;
    for part in bytes[..at].chunks(slice) {
        decoder.push(offset, part, &mut log);
        offset += part.len() as u64;
    }
    decoder.gap(length as u64, offset, &mut log);
    offset += length as u64;
    for part in bytes[at + length..].chunks(slice) {
        decoder.push(offset, part, &mut log);
        offset += part.len() as u64;
    }
    decoder.finish(offset, &mut log);
    assert_eq!(decoder.resolved(), offset);
    (decoder, log)
}

/// Everything reported is in the stream, in its order; nothing is reported twice.
fn check_holed(s: &Stream, decoder: &Decoder<u64>, log: &Log, about: &str) {
    let mut truth = s.want.pages.iter();
    for (block, address, kind, bytes) in &log.pages {
        let found = truth.find(|t| (t.1, t.2, t.3) == (*address, *kind, *bytes));
        let found = found.unwrap_or_else(|| panic!("{about}: {address:#x} is not in the stream"));
        if let (Some(got), Some(want)) = (block, found.0) {
            let name = &decoder.blocks()[usize::from(*got)].name;
            assert_eq!(*name, s.blocks[usize::from(want)], "{about}");
        }
    }
    let (got, all) = (decoder.counts(), s.total);
    assert_eq!(got.pages(), log.pages.len() as u64, "{about}");
    assert!(got.normal <= all.normal && got.zero <= all.zero, "{about}");
    assert!(got.xbzrle <= all.xbzrle, "{about}");
    assert!(got.compressed <= all.compressed, "{about}");
    assert!(got.bytes <= all.bytes, "{about}");
    let lost = log.has("Lost");
    assert!(log.has("Found") <= lost, "{about}");
    assert_eq!(lost == 0, decoder.whole(), "{about}");
    log.check_revealed(&s.bytes);
}

#[test]
fn a_hole_at_every_place() {
    for (name, s) in all() {
        // In the midst of a page's content all places are alike.
        let alike = |at: usize| {
            let inner = |c: &std::ops::Range<usize>| c.start + 16 < at && at + 16 < c.end;
            !at.is_multiple_of(97) && s.contents.iter().any(inner)
        };
        for length in [1, 8, 100, 3000] {
            let places = s.sized..s.bytes.len().saturating_sub(length);
            for at in places.filter(|at| !alike(*at)) {
                let (decoder, log) = holed(&s.bytes, at, length, usize::MAX);
                check_holed(&s, &decoder, &log, &format!("{name}: {length} at {at}"));
            }
        }
    }
}

#[test]
fn a_hole_at_many_places_in_slices() {
    for (name, s) in all() {
        for slice in [1, 10] {
            for at in (s.sized..s.bytes.len() - 40).step_by(41) {
                let (decoder, log) = holed(&s.bytes, at, 40, slice);
                check_holed(&s, &decoder, &log, &format!("{name}: {at}, by {slice}"));
            }
        }
    }
}

#[test]
fn a_hole_in_a_page_harms_nothing() {
    for (_, s) in all() {
        for content in s.contents.iter().filter(|c| c.len() > 2) {
            let (from, to) = (content.start, content.end);
            for (at, end) in [
                (from, to),
                (from + 1, to),
                (from, to - 1),
                (from + 1, from + 2),
            ] {
                for slice in [1, 333, usize::MAX] {
                    let (decoder, log) = holed(&s.bytes, at, end - at, slice);
                    check(&s, &decoder, &log);
                }
            }
        }
    }
}

#[test]
fn in_step_again_after_a_hole() {
    let s = precopy();
    // In the second page's word: three pages later four records stand in a row.
    let at = s.contents[1].start - 4;
    for slice in [1, 50, usize::MAX] {
        let (decoder, log) = holed(&s.bytes, at, 4, slice);
        assert_eq!((log.has("Lost"), log.has("Found")), (1, 1));
        // One record is lost, and the following ones have no block name until one comes.
        assert_eq!(decoder.counts().pages(), s.total.pages() - 1);
        assert_eq!(log.pages[1].0, None);
        assert_eq!(log.pages[1].1, 2 * PAGE);
        let tail = |l: &Log| l.items[l.items.len() - 14..].to_vec();
        assert_eq!(tail(&log), tail(&s.want));
    }
}

/// Where an item begins.
fn place(s: &Stream, item: &str) -> usize {
    let i = s.want.items.iter().find(|i| i.contains(item)).unwrap();
    i.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_hole_in_device_state() {
    let s = precopy();
    let timer = place(&s, "SectionBegin { kind: SectionFull, id: 0,");
    let (decoder, log) = holed(&s.bytes, timer + 30, 2, usize::MAX);
    assert_eq!((log.has("Lost"), log.has("Found")), (1, 1));
    // That device has no end; all others do, and the stream's end is seen.
    assert_eq!(log.has("DeviceEnd"), s.want.has("DeviceEnd") - 1);
    assert_eq!(log.has("VmDescription"), 1);
    assert!(decoder.ended() && !decoder.whole());
    assert_eq!(decoder.counts(), s.total);
}

#[test]
fn a_package_ends_where_it_says() {
    let s = postcopy();
    let (begin, end) = (place(&s, "number: 7") + 9, place(&s, "PackagedEnd"));
    // Whatever is lost within it, the list goes on behind it.
    for at in begin..end - 1 {
        for slice in [1, 6, usize::MAX] {
            let (decoder, log) = holed(&s.bytes, at, 1, slice);
            check_holed(&s, &decoder, &log, &format!("hole at {at}, by {slice}"));
            assert_eq!(decoder.counts(), s.total, "hole at {at}, by {slice}");
            assert_eq!((log.has("PackagedEnd"), log.has("EndOfStream")), (1, 1));
            assert_eq!(log.has("Found"), 1);
        }
    }
    // A hole over its end: no element is made of what comes behind.
    let (decoder, log) = holed(&s.bytes, end - 2, 7, usize::MAX);
    assert_eq!(log.has("PackagedEnd"), 1);
    check_holed(&s, &decoder, &log, "over the end");
}

#[test]
fn a_package_of_nonsense() {
    for filler in [0x00u8, 0x05, 0x28, 0x7e, 0xff] {
        for n in (1..20).chain([100, 5000]) {
            let mut s = Stream::new();
            s.command(command::PACKAGED, &u32::to_be_bytes(n));
            let junk = vec![filler; n as usize];
            s.put(&junk);
            s.command(command::PING, &7u32.to_be_bytes());
            for size in [1, 3, usize::MAX] {
                let (_, log) = decode(s.bytes.chunks(size));
                assert_eq!(log.has("PackagedEnd"), 1, "{n} of {filler:#x}");
                let last = log.items.last().unwrap();
                assert!(last.contains("number: 2"), "{n} of {filler:#x}: {last}");
            }
        }
    }
}

#[test]
fn from_the_middle() {
    let s = precopy_of(4096);
    for at in (0..s.bytes.len()).step_by(5) {
        let mut log = Log::default();
        let mut decoder = Decoder::in_the_middle(at as u64);
        decoder.push(at as u64, &s.bytes[at..], &mut log);
        decoder.finish(s.bytes.len() as u64, &mut log);
        assert!(!decoder.whole());
        let counts = decoder.counts();
        assert!(counts.pages() <= s.total.pages());
        let truth: Vec<_> = s.want.pages.iter().map(|p| (p.1, p.2, p.3)).collect();
        for p in &log.pages {
            assert!(truth.contains(&(p.1, p.2, p.3)), "from {at}");
        }
        log.check_revealed(&s.bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn several_holes(
        which in 0usize..4,
        holes in prop::collection::vec((0usize..12_000, 1usize..2500), 1..5),
        sizes in cuts(),
    ) {
        let (_, s) = &all()[which];
        let (mut decoder, mut log) = (Decoder::new(), Log::default());
        let mut seen = vec![true; s.bytes.len()];
        for (at, n) in &holes {
            let (from, to) = (seen.len().min(*at), seen.len().min(at + n));
            seen[from..to].fill(false);
        }
        seen[..s.sized].fill(true);
        let mut at = 0;
        for n in sizes.iter().cycle() {
            if at == seen.len() {
                break;
            }
            let run = seen[at..].iter().take_while(|x| **x == seen[at]).count();
            let n = run.min(*n);
            if seen[at] {
                decoder.push(at as u64, &s.bytes[at..at + n], &mut log);
            } else {
                decoder.gap(n as u64, at as u64, &mut log);
            }
            at += n;
        }
        decoder.finish(at as u64, &mut log);
        check_holed(s, &decoder, &log, "holes");
    }

    #[test]
    fn wrong_bytes(
        which in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        sizes in cuts(),
    ) {
        let mut bytes = all()[which].1.bytes.clone();
        for (at, b) in &changes {
            *at.get_mut(&mut bytes) = *b;
        }
        let (decoder, log) = decode(sliced(&bytes, &sizes));
        prop_assert_eq!(decoder.counts().pages(), log.pages.len() as u64);
        prop_assert!(decoder.resolved() >= bytes.len() as u64);
        for (offset, part) in &log.revealed {
            let from = *offset as usize;
            prop_assert_eq!(&bytes[from..from + part.len()], &part[..]);
        }
    }

    #[test]
    fn noise(
        bytes in prop::collection::vec(
            prop_oneof![0u8..9, Just(0x7e), Just(0x28), any::<u8>()], 0..2000),
        sizes in cuts(),
    ) {
        let mut stream = b"QEVM\0\0\0\x03".to_vec();
        stream.extend_from_slice(&bytes);
        decode(sliced(&stream, &sizes));
        let (mut decoder, mut log) = (Decoder::in_the_middle(0), Log::default());
        for part in sliced(&bytes, &sizes) {
            decoder.push(0, part, &mut log);
        }
        decoder.gap(u64::MAX, 0, &mut log);
        decoder.push(0, &bytes, &mut log);
        decoder.finish(0, &mut log);
    }
}
