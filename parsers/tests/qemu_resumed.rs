//! A post-copy that goes on over another connection: no header, no block list, no beginnings of
//! sections (QEMU `migration/migration.c`, `postcopy_do_resume`).

use phasescope_parsers::qemu::ram::PageKind;
use phasescope_parsers::qemu::stream::{Decoder, Item, Sink};
use phasescope_parsers::qemu::{Probe, probe, resumes};

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
