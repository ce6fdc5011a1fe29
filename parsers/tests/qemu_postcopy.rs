//! Post-copy over other connections. One that goes on after a break has no header, no block list,
//! no beginnings of sections (QEMU `migration/migration.c`, `postcopy_do_resume`); a preempt channel
//! has page records alone.

use phasescope_parsers::qemu::ram::PageKind;
use phasescope_parsers::qemu::stream::{Decoder, Item, Sink};
use phasescope_parsers::qemu::{Probe, preempt, probe, resumes};

const PAGE: u64 = 4096;
const CONTENT: u8 = 0xa5;

#[derive(Default)]
struct Log {
    items: Vec<String>,
    pages: Vec<(u64, PageKind)>,
    revealed: Vec<u8>,
}

impl Sink<u64> for Log {
    fn item(&mut self, item: Item<'_>, _: u64, _: u64) {
        self.items.push(format!("{item:?}"));
    }
    fn page(&mut self, _: Option<u16>, address: u64, kind: PageKind, _: u64) {
        self.pages.push((address, kind));
    }
    fn reveal(&mut self, _: u64, bytes: &[u8]) {
        self.revealed.extend_from_slice(bytes);
    }
}

fn ask(block: &str) -> Vec<u8> {
    let n = block.len() as u8;
    let mut out = vec![0x08, 0, 10, 0, n + 1, n];
    out.extend_from_slice(block.as_bytes());
    out
}

fn section(kind: u8, id: u32, first: u64) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&id.to_be_bytes());
    // A page with its block's name, then a zero page of the same block, then the end.
    out.extend_from_slice(&(first | 0x08).to_be_bytes());
    out.push(6);
    out.extend_from_slice(b"pc.ram");
    out.extend_from_slice(&[CONTENT; PAGE as usize]);
    out.extend_from_slice(&((first + PAGE) | 0x22).to_be_bytes());
    out.push(0);
    out.extend_from_slice(&0x10_u64.to_be_bytes());
    out.push(0x7e);
    out.extend_from_slice(&id.to_be_bytes());
    out
}

fn stream() -> Vec<u8> {
    let mut out = [ask("pc.ram"), ask("/rom@etc/acpi/tables")].concat();
    // POSTCOPY_RESUME.
    out.extend_from_slice(&[0x08, 0, 9, 0, 0]);
    out.extend(section(0x02, 3, 0));
    out.extend(section(0x03, 3, 8 * PAGE));
    out.push(0);
    out
}

#[test]
fn whole_and_in_slices() {
    let bytes = stream();
    for size in [1, 2, 7, 1448, bytes.len()] {
        let (mut decoder, mut log) = (Decoder::resumed(), Log::default());
        for (i, slice) in bytes.chunks(size).enumerate() {
            decoder.push((i * size) as u64, slice, &mut log);
        }
        decoder.finish(bytes.len() as u64, &mut log);
        assert!(decoder.whole() && decoder.ended(), "{size}");
        use PageKind::{Normal, Zero};
        let pages = [
            (0, Normal),
            (PAGE, Zero),
            (8 * PAGE, Normal),
            (9 * PAGE, Zero),
        ];
        assert_eq!(log.pages, pages, "{size}");
        assert!(!log.revealed.contains(&CONTENT));
        assert!(log.items.iter().all(|i| i != "Lost"), "{:?}", log.items);
    }
}

#[test]
fn only_memory_can_come_unannounced() {
    // Elsewhere a section that was not announced means that something was lost.
    let mut bytes = b"QEVM\0\0\0\x03".to_vec();
    bytes.extend(section(0x02, 3, 0));
    let (mut decoder, mut log) = (Decoder::new(), Log::default());
    decoder.push(0, &bytes, &mut log);
    assert!(!decoder.whole());
    // Nor are there two of them.
    let mut bytes = stream();
    bytes.pop();
    bytes.extend(section(0x02, 4, 0));
    let (mut decoder, mut log) = (Decoder::resumed(), Log::default());
    decoder.push(0, &bytes, &mut log);
    assert!(!decoder.whole());
}

#[test]
fn recognised_by_its_first_question() {
    let bytes = stream();
    assert_eq!(resumes(&bytes), Probe::Yes);
    assert_eq!(probe(&bytes), Probe::No);
    for n in 0..12 {
        assert_eq!(resumes(&bytes[..n]), Probe::NeedMore, "{n}");
    }
    assert_eq!(resumes(&bytes[..12]), Probe::Yes);
    for wrong in [
        &b"QEVM\0\0\0\x03"[..],
        // Another command; lengths that do not agree; no name; no text.
        &[0x08, 0, 9, 0, 7, 6],
        &[0x08, 0, 10, 0, 7, 5],
        &[0x08, 0, 10, 0, 1, 0],
        &[0x08, 0, 10, 0, 3, 2, 0, 1],
    ] {
        assert_eq!(resumes(wrong), Probe::No, "{wrong:?}");
    }
}

/// A page of one block, one of another, a zero page of the same; the word that ends it (7.1, 7.2).
fn urgent() -> Vec<u8> {
    let mut out = Vec::new();
    for (word, block) in [(0x0053_b508_u64 & !0xfff, "pc.ram"), (0x2000, "vga.vram")] {
        out.extend_from_slice(&(word | 0x08).to_be_bytes());
        out.push(block.len() as u8);
        out.extend_from_slice(block.as_bytes());
        out.extend_from_slice(&[CONTENT; PAGE as usize]);
    }
    out.extend_from_slice(&(0x3000_u64 | 0x22).to_be_bytes());
    out.push(0);
    out.extend_from_slice(&0x10_u64.to_be_bytes());
    out
}

const URGENT: [(u64, PageKind); 3] = [
    (0x0053_b000, PageKind::Normal),
    (0x2000, PageKind::Normal),
    (0x3000, PageKind::Zero),
];

#[test]
fn urgent_pages_with_and_without_an_end() {
    let bytes = urgent();
    for size in [1, 2, 7, 1448, bytes.len()] {
        // From 8.0 on, the connection's end is the end.
        for length in [bytes.len(), bytes.len() - 8] {
            let (mut decoder, mut log) = (Decoder::preempt(), Log::default());
            for (i, slice) in bytes[..length].chunks(size).enumerate() {
                decoder.push((i * size) as u64, slice, &mut log);
            }
            decoder.finish(length as u64, &mut log);
            assert!(decoder.whole());
            assert_eq!(decoder.ended(), length == bytes.len());
            assert_eq!(log.pages, URGENT, "{size} {length}");
            assert!(!log.revealed.contains(&CONTENT));
            assert_eq!(decoder.counts().bytes, bytes.len() as u64 - 8);
        }
    }
}

#[test]
fn urgent_pages_cut_anywhere() {
    let bytes = urgent();
    for cut in 0..bytes.len() {
        let (mut decoder, mut log) = (Decoder::preempt(), Log::default());
        decoder.push(0, &bytes[..cut], &mut log);
        decoder.finish(cut as u64, &mut log);
        assert_eq!(log.pages, URGENT[..log.pages.len()], "{cut}");
        assert!(decoder.resolved() <= cut as u64);
    }
    // A hole inside a page is stepped over; one over a head is not.
    for (from, to, whole) in [(100, 3000, true), (4000, 4200, false)] {
        let (mut decoder, mut log) = (Decoder::preempt(), Log::default());
        decoder.push(0, &bytes[..from], &mut log);
        decoder.gap((to - from) as u64, 1, &mut log);
        decoder.push(2, &bytes[to..], &mut log);
        assert_eq!(decoder.whole(), whole, "{from}");
    }
}

#[test]
fn recognised_by_its_first_page() {
    let bytes = urgent();
    for n in 0..15 {
        assert_eq!(preempt(&bytes[..n]), Probe::NeedMore, "{n}");
    }
    assert_eq!(preempt(&bytes[..15]), Probe::Yes);
    assert_eq!(probe(&bytes), Probe::No);
    for (at, byte) in [
        // Beyond any guest; flags that no first record has; an offset within a page; no name; no text.
        (0, 1),
        (2, 0x10),
        (7, 0x28),
        (7, 0x10),
        (6, 0xb5),
        (8, 0),
        (10, 0x07),
    ] {
        let mut wrong = bytes[..64].to_vec();
        wrong[at] = byte;
        assert_eq!(preempt(&wrong), Probe::No, "{at} {byte:#x}");
    }
}
