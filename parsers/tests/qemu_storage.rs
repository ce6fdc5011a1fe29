//! Storage inside the stream: sections `block` and `dirty-bitmap` (QEMU 8.2 `migration/block.c`,
//! `migration/block-dirty-bitmap.c`).

use std::ops::Range;

use phasescope_parsers::qemu::stream::{
    BitmapCounts, Decoder, DiskCounts, Item, MAX_DEVICES, Sink,
};

/// Bytes of a chunk.
const CHUNK: usize = 1 << 20;

/// Fills chunks and bitmaps: bytes that would be footers and page words, were they searched.
const CONTENT: [u8; 16] = [0x7e, 0, 0, 0, 1, 0x03, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x28];

#[derive(Debug, Default, PartialEq)]
struct Log {
    /// Offset and item.
    items: Vec<(u64, String)>,
    disks: Vec<(DiskCounts, bool)>,
    bitmaps: Vec<(BitmapCounts, bool)>,
    pages: usize,
    revealed: Vec<Range<u64>>,
}

impl Sink<u64> for Log {
    fn item(&mut self, item: Item<'_>, begin: u64, offset: u64) {
        assert!(begin <= offset);
        let text = format!("{item:?}");
        self.items.push((offset, text));
        match item {
            Item::Disks { counts, complete } => self.disks.push((counts, complete)),
            Item::Bitmaps { counts, complete } => self.bitmaps.push((counts, complete)),
            _ => {}
        }
    }
    fn page(&mut self, _: Option<u16>, _: u64, _: phasescope_parsers::qemu::ram::PageKind, _: u64) {
        self.pages += 1;
    }
    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.revealed.push(offset..offset + bytes.len() as u64);
    }
}

impl Log {
    fn count(&self, name: &str) -> usize {
        let is = |(_, i): &&(u64, String)| i.starts_with(name);
        self.items.iter().filter(is).count()
    }

    /// What of the first `length` bytes stays blank.
    fn blank(&self, length: u64) -> Vec<Range<u64>> {
        let mut out = Vec::new();
        let mut at = 0;
        for r in &self.revealed {
            assert!(r.start >= at, "revealed twice");
            if r.start > at {
                out.push(at..r.start);
            }
            at = r.end;
        }
        if at < length {
            out.push(at..length);
        }
        out
    }
}

#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    /// Where contents lie.
    contents: Vec<Range<u64>>,
    footers: bool,
}

impl Stream {
    fn new() -> Self {
        Self {
            bytes: b"QEVM\0\0\0\x03".to_vec(),
            contents: Vec::new(),
            footers: true,
        }
    }
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    fn counted(&mut self, name: &str) {
        self.put(&[name.len() as u8]);
        self.put(name.as_bytes());
    }
    fn word(&mut self, w: u64) {
        self.put(&w.to_be_bytes());
    }
    fn content(&mut self, length: usize) {
        let from = self.bytes.len();
        self.bytes
            .extend(CONTENT.iter().cycle().take(length).copied());
        self.contents.push(from as u64..(from + length) as u64);
    }
    fn section(&mut self, kind: u8, id: u32, name: &str, f: impl FnOnce(&mut Self)) {
        self.put(&[kind]);
        self.put(&id.to_be_bytes());
        if matches!(kind, 1 | 4) {
            self.counted(name);
            self.put(&0u32.to_be_bytes());
            self.put(&1u32.to_be_bytes());
        }
        f(self);
        if self.footers {
            self.put(&[0x7e]);
            self.put(&id.to_be_bytes());
        }
    }
    fn chunk(&mut self, device: &str, sector: u64, data: bool) {
        self.word(sector << 9 | if data { 0x01 } else { 0x09 });
        self.counted(device);
        if data {
            self.content(CHUNK);
        }
    }
    fn eos(&mut self) {
        self.word(0x02);
    }
    /// The byte that a zero page is filled with.
    fn fill(&mut self) {
        let at = self.bytes.len() as u64;
        self.put(&[0]);
        self.contents.push(at..at + 1);
    }
    fn ram(&mut self, kind: u8) {
        self.section(kind, 3, "ram", |s| {
            if kind == 1 {
                s.word(8192 | 0x04);
                s.counted("pc.ram");
                s.word(8192);
            } else {
                s.word(0x02);
                s.counted("pc.ram");
                s.fill();
                s.word(4096 | 0x22);
                s.fill();
            }
            s.word(0x10);
        });
    }
    fn bits(&mut self, size: usize) {
        self.put(&[0x40]);
        self.word(0);
        self.put(&2048u32.to_be_bytes());
        self.word(size as u64);
        self.content(size);
    }
    fn bitmaps(&mut self) {
        self.section(0x01, 2, "dirty-bitmap", |s| {
            for name in ["bm0", "bm1"] {
                s.put(&[0x1c]);
                s.counted("drive0");
                s.counted(name);
                s.put(&65536u32.to_be_bytes());
                s.put(&[1]);
            }
            s.put(&[0x01]);
        });
    }
    fn bitmaps_end(&mut self) {
        self.section(0x03, 2, "", |s| {
            for name in ["bm0", "bm1"] {
                s.put(&[0x4c]);
                s.counted("drive0");
                s.counted(name);
                s.word(0);
                s.put(&2048u32.to_be_bytes());
                s.word(32);
                s.content(32);
                s.bits(64);
                s.put(&[0x42]);
                s.word(2048);
                s.put(&2048u32.to_be_bytes());
                s.put(&[0x20]);
            }
            s.put(&[0x01]);
        });
    }
    fn end(&mut self) {
        self.put(&[0, 6]);
        self.put(&2u32.to_be_bytes());
        self.put(b"{}");
    }
}

/// Three sections each, in QEMU's order: `block` and `dirty-bitmap` are registered before `ram`.
fn migration(footers: bool) -> Stream {
    let mut s = Stream::new();
    s.footers = footers;
    s.section(0x01, 1, "block", |s| {
        s.word(4);
        s.eos();
    });
    s.bitmaps();
    s.ram(1);
    s.section(0x02, 1, "", |s| {
        s.chunk("drive0", 0, true);
        s.chunk("drive0", 2048, false);
        s.chunk("drive1", 0, false);
        s.word(50 << 9 | 4);
        s.eos();
    });
    s.ram(2);
    s.section(0x03, 1, "", |s| {
        s.chunk("drive1", 2048, true);
        s.word(100 << 9 | 4);
        s.eos();
    });
    s.bitmaps_end();
    s.ram(3);
    s.end();
    s
}

fn decode<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> (Decoder<u64>, Log) {
    let (mut decoder, mut log, mut offset) = (Decoder::new(), Log::default(), 0);
    for s in slices {
        decoder.push(offset, s, &mut log);
        offset += s.len() as u64;
    }
    decoder.finish(offset, &mut log);
    (decoder, log)
}

fn disks(chunks: u64, zero: u64, heads: u64, devices: &[&str]) -> DiskCounts {
    DiskCounts {
        chunks,
        zero_chunks: zero,
        bytes: chunks * CHUNK as u64 + heads,
        devices: devices.iter().map(|d| (*d).to_owned()).collect(),
    }
}

/// A chunk's head with a name of six characters.
const HEAD: u64 = 8 + 1 + 6;

fn check_whole(s: &Stream, decoder: &Decoder<u64>, log: &Log) {
    let want = [
        (disks(0, 0, 16, &[]), true),
        (disks(1, 2, 3 * HEAD + 16, &["drive0", "drive1"]), true),
        (disks(1, 0, HEAD + 16, &["drive1"]), true),
    ];
    assert_eq!(log.disks, want);
    let first = BitmapCounts {
        started: 2,
        completed: 0,
        bytes: 2 * (1 + 7 + 4 + 5) + 1,
    };
    let one = (1 + 7 + 4 + 20 + 32) + (1 + 20 + 64) + (1 + 12) + 1;
    let last = BitmapCounts {
        started: 0,
        completed: 2,
        bytes: 2 * one + 1,
    };
    assert_eq!(log.bitmaps, [(first, true), (last, true)]);
    // These sections are no devices, and the others are where they were.
    assert_eq!((log.count("DeviceEnd"), log.count("RamEnd")), (0, 3));
    assert_eq!((log.pages, log.count("Lost")), (4, 0));
    assert!(decoder.whole() && decoder.ended());
    assert_eq!(decoder.resolved(), s.bytes.len() as u64);
    assert_eq!(log.blank(decoder.resolved()), s.contents);
}

#[test]
fn whole_and_in_slices() {
    for footers in [true, false] {
        let s = migration(footers);
        for size in [7, 100, 1460, 65536, CHUNK, usize::MAX] {
            let (decoder, log) = decode(s.bytes.chunks(size));
            check_whole(&s, &decoder, &log);
        }
    }
}

#[test]
fn cut_into_two_slices_at_every_byte_outside_of_chunks() {
    let s = migration(true);
    let inside = |n: u64| {
        let deep = |c: &Range<u64>| n > c.start + 20 && n + 20 < c.end;
        s.contents.iter().any(deep)
    };
    for cut in (1..s.bytes.len()).filter(|n| !inside(*n as u64)) {
        let (a, b) = s.bytes.split_at(cut);
        let (decoder, log) = decode([a, b]);
        check_whole(&s, &decoder, &log);
        // What ends here has told what it held, and no chunk that did not end.
        let (decoder, log) = decode([a]);
        assert!(decoder.whole() && log.count("Lost") == 0, "cut at {cut}");
        assert_eq!(decoder.resolved(), cut as u64);
        let told: u64 = log.disks.iter().map(|(d, _)| d.chunks).sum();
        let chunks = s
            .contents
            .iter()
            .filter(|c| c.end - c.start == CHUNK as u64);
        let ended = chunks.filter(|c| c.end <= cut as u64).count();
        assert_eq!(told, ended as u64, "cut at {cut}");
        for b in log.blank(cut as u64) {
            // Blank is content, or the head that the cut went through.
            let content = s
                .contents
                .iter()
                .any(|c| c.start <= b.start && b.end <= c.end);
            assert!(content || b.end == cut as u64, "blank {b:?}, cut at {cut}");
        }
    }
}

#[test]
fn a_hole_in_a_chunk_harms_nothing() {
    let s = migration(true);
    let (mut decoder, mut log) = (Decoder::new(), Log::default());
    let at = s.contents[0].start as usize + 5000;
    decoder.push(0, &s.bytes[..at], &mut log);
    decoder.gap(900_000, at as u64, &mut log);
    let on = at + 900_000;
    decoder.push(on as u64, &s.bytes[on..], &mut log);
    decoder.finish(s.bytes.len() as u64, &mut log);
    check_whole(&s, &decoder, &log);
}

#[test]
fn a_hole_over_a_head_is_told() {
    let s = migration(true);
    let (mut decoder, mut log) = (Decoder::new(), Log::default());
    let at = s.contents[0].end as usize - 100;
    decoder.push(0, &s.bytes[..at], &mut log);
    decoder.gap(110, at as u64, &mut log);
    let on = at + 110;
    decoder.push(on as u64, &s.bytes[on..], &mut log);
    decoder.finish(s.bytes.len() as u64, &mut log);
    assert_eq!(log.disks[1], (disks(1, 0, HEAD, &["drive0"]), false));
    // In step again at the next footer: the END of `block` is read.
    assert_eq!(log.disks[2], (disks(1, 0, HEAD + 16, &["drive1"]), true));
    assert_eq!((log.count("Lost"), log.count("Found")), (1, 1));
    assert!(!decoder.whole() && decoder.ended());
}

#[test]
fn a_record_that_does_not_fit() {
    for (name, bad) in [("block", &[0u8; 8][..]), ("dirty-bitmap", &[0x80; 8])] {
        let mut s = Stream::new();
        s.ram(1);
        s.section(0x01, 1, name, |s| {
            if name == "block" {
                s.chunk("drive0", 0, false);
            }
            s.put(bad);
        });
        s.section(0x04, 5, "timer", |s| s.put(b"state"));
        s.end();
        for size in [1, 3, usize::MAX] {
            let (decoder, log) = decode(s.bytes.chunks(size));
            let broken = match name {
                "block" => log.disks == [(disks(0, 1, HEAD, &["drive0"]), false)],
                _ => log.bitmaps == [(BitmapCounts::default(), false)],
            };
            assert!(broken, "{log:?}");
            // As a device: its footer is found.
            assert_eq!((log.count("DeviceEnd"), log.count("Lost")), (2, 0));
            assert!(decoder.ended() && decoder.whole());
        }
    }
}

#[test]
fn devices_are_named_up_to_a_limit() {
    let mut s = Stream::new();
    let n = MAX_DEVICES as u64 + 10;
    s.section(0x01, 1, "block", |s| {
        for i in 0..n {
            s.chunk(&format!("drive{i}"), 0, false);
        }
        s.eos();
    });
    let (_, log) = decode([&s.bytes[..]]);
    let (counts, complete) = &log.disks[0];
    assert!(*complete);
    assert_eq!((counts.zero_chunks, counts.devices.len()), (n, MAX_DEVICES));
}
