//! Migration streams, built by hand: what is decoded, whole, in slices, cut, with holes and
//! with wrong bytes.

use phasescope_parsers::qemu::command::{self, Command};
use phasescope_parsers::qemu::element::ElementType;
use phasescope_parsers::qemu::ram::{Counts, PageKind};
use phasescope_parsers::qemu::return_path::{self, MAX_MESSAGE, Message, ReturnPath};
use phasescope_parsers::qemu::stream::{
    Decoder, Item, MAX_ITEM, MAX_NAMES, MAX_VMDESC, RamBlock, Sink,
};
use phasescope_parsers::qemu::{Probe, probe};
use proptest::prelude::*;

/// Small pages keep the streams small. A stream has 4096 until it says otherwise.
const PAGE: u64 = 1024;

/// Fills pages; no anchor holds it.
const CONTENT: u8 = 0xa5;

const FULL: ElementType = ElementType::SectionFull;
const START: ElementType = ElementType::SectionStart;
const PART: ElementType = ElementType::SectionPart;
const END: ElementType = ElementType::SectionEnd;

/// Block, address, kind, bytes of the record.
type Page = (Option<u16>, u64, PageKind, u64);

/// Keeps everything a decoder says.
#[derive(Debug, Default, Clone, PartialEq)]
struct Log {
    /// `offset item`.
    items: Vec<String>,
    pages: Vec<Page>,
    revealed: Vec<(u64, Vec<u8>)>,
}

impl Sink<u64> for Log {
    fn item(&mut self, item: Item<'_>, begin: u64, offset: u64) {
        assert!(begin <= offset, "marked {begin}: {item:?} at {offset}");
        self.items.push(format!("{offset} {item:?}"));
    }
    fn page(&mut self, block: Option<u16>, address: u64, kind: PageKind, bytes: u64) {
        self.pages.push((block, address, kind, bytes));
    }
    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.revealed.push((offset, bytes.to_vec()));
    }
}

impl Log {
    fn has(&self, name: &str) -> usize {
        let is = |i: &&String| i.split_once(' ').is_some_and(|(_, i)| i.starts_with(name));
        self.items.iter().filter(is).count()
    }

    /// Revealed bytes are the stream's own, each shown once; `content` never is.
    fn check_revealed(&self, stream: &[u8]) {
        let mut shown = vec![false; stream.len()];
        for (offset, bytes) in &self.revealed {
            let from = *offset as usize;
            assert_eq!(&stream[from..from + bytes.len()], bytes);
            for s in &mut shown[from..from + bytes.len()] {
                assert!(!std::mem::replace(s, true), "shown twice");
            }
            assert!(!bytes.contains(&CONTENT), "content at {offset}");
        }
    }
}

/// How a page is sent; the number is the length of a delta or of compressed bytes.
#[derive(Debug, Clone, Copy)]
enum Sent {
    Normal,
    Zero,
    Xbzrle(u16),
    Compressed(u32),
}

impl Sent {
    fn kind(self) -> PageKind {
        match self {
            Sent::Normal => PageKind::Normal,
            Sent::Zero => PageKind::Zero,
            Sent::Xbzrle(_) => PageKind::Xbzrle,
            Sent::Compressed(_) => PageKind::Compressed,
        }
    }
}

/// Writes a stream and what a decoder must say about it.
#[derive(Debug, Clone)]
struct Stream {
    bytes: Vec<u8>,
    want: Log,
    footers: bool,
    page: u64,
    /// Where the page size is known.
    sized: usize,
    blocks: Vec<String>,
    block: Option<u16>,
    /// Section that is open: id and where it began.
    open: (u32, usize),
    part: Counts,
    total: Counts,
    /// Where page contents lie.
    contents: Vec<std::ops::Range<usize>>,
    /// Where the package began.
    package: Option<usize>,
}

impl Stream {
    fn new() -> Self {
        let mut s = Self {
            bytes: Vec::new(),
            want: Log::default(),
            footers: true,
            page: 4096,
            sized: 0,
            blocks: Vec::new(),
            block: None,
            open: (0, 0),
            part: Counts::default(),
            total: Counts::default(),
            contents: Vec::new(),
            package: None,
        };
        s.say(Item::Header);
        s.put(b"QEVM\0\0\0\x03");
        s
    }

    /// As QEMU 2.0 to 2.3 wrote them.
    fn old() -> Self {
        Self {
            footers: false,
            ..Self::new()
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn put32(&mut self, n: u32) {
        self.put(&n.to_be_bytes());
    }

    fn put64(&mut self, n: u64) {
        self.put(&n.to_be_bytes());
    }

    fn counted(&mut self, name: &str) {
        self.put(&[name.len() as u8]);
        self.put(name.as_bytes());
    }

    /// The next byte begins this item.
    fn say(&mut self, item: Item<'_>) {
        self.want
            .items
            .push(format!("{} {item:?}", self.bytes.len()));
    }

    fn configuration(&mut self, machine: &str) {
        let name = machine.as_bytes();
        self.say(Item::Configuration { machine: name });
        self.put(&[7]);
        self.put32(name.len() as u32);
        self.put(name);
    }

    fn subsection(&mut self, name: &str) {
        self.put(&[5]);
        self.counted(name);
        self.put32(1);
    }

    fn page_bits(&mut self, bits: u32) {
        self.subsection("configuration/target-page-bits");
        self.put32(bits);
        (self.page, self.sized) = (1 << bits, self.bytes.len());
    }

    fn capabilities(&mut self, names: &[&str]) {
        self.subsection("configuration/capabilities");
        self.put32(names.len() as u32);
        for n in names {
            self.counted(n);
        }
    }

    fn uuid(&mut self, uuid: [u8; 16]) {
        self.say(Item::Uuid(&uuid));
        self.subsection("configuration/uuid");
        self.put(&uuid);
    }

    fn command(&mut self, number: u16, payload: &[u8]) {
        self.say(Item::Command(Command { number, payload }));
        self.put(&[8]);
        self.put(&number.to_be_bytes());
        self.put(&(payload.len() as u16).to_be_bytes());
        self.put(payload);
    }

    fn advise(&mut self) {
        let sizes = [PAGE.to_be_bytes(), PAGE.to_be_bytes()].concat();
        self.command(command::POSTCOPY_ADVISE, &sizes);
        (self.page, self.sized) = (PAGE, self.bytes.len());
    }

    fn section(&mut self, kind: ElementType, id: u32, name: &str) {
        let packaged = self.package.is_some();
        self.open = (id, self.bytes.len());
        self.part = Counts::default();
        self.say(Item::SectionBegin {
            kind,
            id,
            name,
            packaged,
        });
        self.put(&[kind as u8]);
        self.put32(id);
        if matches!(kind, START | FULL) {
            self.counted(name);
            self.put32(0);
            self.put32(4);
        }
    }

    fn footer(&mut self) {
        if self.footers {
            self.put(&[0x7e]);
            self.put32(self.open.0);
        }
    }

    /// The block list, with the words that come after each entry's length.
    fn block_list(&mut self, list: &[(&str, u64, &[u64])]) {
        let sum: u64 = list.iter().map(|(_, n, _)| n).sum();
        self.put64(sum | 4);
        for (name, length, extra) in list {
            self.counted(name);
            self.put64(*length);
            for word in *extra {
                self.put64(*word);
            }
            self.blocks.push((*name).to_owned());
        }
        let (count, bytes) = (self.blocks.len(), sum);
        self.say(Item::RamBlocks { count, bytes });
        self.block = None;
    }

    /// A page record of the block named, or of the block before.
    fn page(&mut self, block: Option<&str>, address: u64, sent: Sent) {
        let begin = self.bytes.len();
        let flag = match sent {
            Sent::Normal => 0x08,
            Sent::Zero => 0x02,
            Sent::Xbzrle(_) => 0x40,
            Sent::Compressed(_) => 0x100,
        };
        let same = if block.is_none() { 0x20 } else { 0 };
        self.put64(address | flag | same);
        if let Some(name) = block {
            self.counted(name);
            let n = self.blocks.iter().position(|b| b == name);
            self.block = Some(n.unwrap() as u16);
        }
        let content = match sent {
            Sent::Normal => self.page as usize,
            Sent::Zero => 0,
            Sent::Xbzrle(n) => {
                self.put(&[1]);
                self.put(&n.to_be_bytes());
                n.into()
            }
            Sent::Compressed(n) => {
                self.put32(n);
                n as usize
            }
        };
        if matches!(sent, Sent::Zero) {
            self.put(&[0]);
        }
        let from = self.bytes.len();
        self.contents.push(from..from + content);
        self.bytes.resize(from + content, CONTENT);
        let bytes = (self.bytes.len() - begin) as u64;
        self.part.add(sent.kind(), bytes);
        self.total.add(sent.kind(), bytes);
        self.want
            .pages
            .push((self.block, address, sent.kind(), bytes));
    }

    fn flush(&mut self) {
        self.say(Item::MultifdFlush);
        self.put64(0x200);
    }

    fn ram_end(&mut self) {
        self.say(Item::RamEnd { counts: self.part });
        self.put64(0x10);
        self.footer();
    }

    /// A device, whole.
    fn device(&mut self, id: u32, name: &str, state: &[u8]) {
        self.section(FULL, id, name);
        self.put(state);
        self.device_end();
    }

    fn device_end(&mut self) {
        let (id, start) = self.open;
        let length = (self.bytes.len() - start) as u64;
        self.say(Item::DeviceEnd { id, length });
        self.footer();
    }

    /// A nested list; `f` writes it.
    fn package(&mut self, f: impl FnOnce(&mut Stream)) {
        let mut inner = Stream {
            bytes: vec![0; self.bytes.len() + 9],
            package: Some(self.bytes.len() + 9),
            ..self.clone()
        };
        inner.want.items.clear();
        f(&mut inner);
        let list = inner.bytes.split_off(self.bytes.len() + 9);
        self.command(command::PACKAGED, &(list.len() as u32).to_be_bytes());
        self.put(&list);
        self.want.items.append(&mut inner.want.items);
        self.say(Item::PackagedEnd);
    }

    fn end(&mut self) {
        self.say(Item::EndOfStream);
        self.put(&[0]);
    }

    fn vmdesc(&mut self, json: &[u8]) {
        self.put(&[6]);
        self.put32(json.len() as u32);
        let (length, kept) = (json.len() as u32, Some(json));
        self.say(Item::VmDescription { length, json: kept });
        self.put(json);
    }
}

const JSON: &[u8] = br#"{"page_size":1024,"devices":[]}"#;

/// Device state that looks like anything: zeroes, marks of elements, page words, footers of
/// other sections and own footers with nothing plausible behind them.
fn nasty(own: u32, other: u32) -> Vec<u8> {
    let mut b = vec![0x7e, 0x7e, 0, 0, 0, 0, 4, 2, 3, 8, 0x7e];
    for (id, behind) in [
        (other, &[0x04, 0, 0, 0, 9, 3, b'a', b'b', b'c'][..]),
        (own, &[0xff]),
        (own, &[0x00, 0x05]),
        // A section whose name is not printable, one without a name, one of absurd id.
        (own, &[0x04, 0, 0, 0, 9, 3, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 1]),
        (own, &[0x04, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (own, &[0x04, 0x7f, 0, 0, 0, 3, b'a', b'b', b'c']),
        // Unknown sections, and commands of wrong length or number.
        (own, &[0x02, 0, 0, 0x33, 0x33]),
        (own, &[0x08, 0, 2, 0, 5]),
        (own, &[0x08, 0, 99, 0, 0]),
        (own, &[0x7e]),
    ] {
        b.push(0x7e);
        b.extend_from_slice(&id.to_be_bytes());
        b.extend_from_slice(behind);
    }
    b.extend_from_slice(&(PAGE | 0x28).to_be_bytes());
    b.extend_from_slice(&[0, 0, 0, 6]);
    b
}

/// Everything a pre-copy can send.
fn precopy() -> Stream {
    precopy_of(PAGE)
}

fn precopy_of(page: u64) -> Stream {
    let mut s = Stream::new();
    s.configuration("pc-q35-10.0");
    s.page_bits(page.ilog2());
    s.capabilities(&["x-ignore-shared", "mapped-ram"]);
    s.uuid(*b"0123456789abcdef");
    s.command(command::OPEN_RETURN_PATH, &[]);
    s.command(command::PING, &1u32.to_be_bytes());
    // Early setup: a device before the memory.
    s.device(9, "0000:00:04.0/virtio-mem", &[1; 40]);
    s.section(START, 2, "ram");
    let pages = 40 * page;
    s.block_list(&[
        ("pc.ram", pages, &[]),
        ("0000:00:02.0/vga.vram", 4 * page, &[1 << 21, 0x8000_0000]),
        ("/rom@etc/acpi/tables", 2 * page, &[0]),
    ]);
    s.flush();
    s.ram_end();
    s.section(PART, 2, "ram");
    s.page(Some("pc.ram"), 0, Sent::Normal);
    for n in 1..6 {
        s.page(None, n * page, Sent::Normal);
    }
    for n in 6..9 {
        s.page(None, n * page, Sent::Zero);
    }
    s.ram_end();
    s.section(PART, 2, "ram");
    // The block outlives the section.
    s.page(None, 9 * page, Sent::Zero);
    s.page(Some("0000:00:02.0/vga.vram"), 0, Sent::Compressed(77));
    s.page(None, page, Sent::Compressed(0));
    s.page(Some("pc.ram"), 3 * page, Sent::Xbzrle(0));
    s.page(None, 4 * page, Sent::Xbzrle(100));
    s.flush();
    s.page(Some("/rom@etc/acpi/tables"), page, Sent::Normal);
    s.ram_end();
    s.section(PART, 2, "ram");
    s.ram_end();
    s.command(command::SWITCHOVER_START, &[]);
    s.section(END, 2, "ram");
    for n in 20..26 {
        let block = (n == 20).then_some("pc.ram");
        s.page(block, n * page, Sent::Normal);
    }
    s.ram_end();
    s.device(0, "timer", &[0; 24]);
    s.device(3, "0000:00:03.0/virtio-net", &nasty(3, 7));
    s.device(7, "cpu_common", &[]);
    s.device(8, "kvmclock", &[0x7e]);
    s.end();
    s.vmdesc(JSON);
    s
}

fn postcopy() -> Stream {
    let mut s = Stream::new();
    s.configuration("pc-q35-9.2");
    s.command(command::OPEN_RETURN_PATH, &[]);
    s.command(command::PING, &1u32.to_be_bytes());
    s.advise();
    s.section(START, 4, "ram");
    s.block_list(&[("pc.ram", 64 * PAGE, &[])]);
    s.ram_end();
    s.section(PART, 4, "ram");
    s.page(Some("pc.ram"), 0, Sent::Zero);
    for n in 1..7 {
        s.page(None, n * PAGE, Sent::Normal);
    }
    s.ram_end();
    s.command(
        command::POSTCOPY_RAM_DISCARD,
        b"\0\x06pc.ram\0--------========",
    );
    s.command(command::PING, &2u32.to_be_bytes());
    s.package(|p| {
        p.command(4, &[]);
        p.device(0, "timer", &[9; 30]);
        p.device(5, "0000:00:03.0/virtio-net", &nasty(5, 0));
        p.command(command::PING, &3u32.to_be_bytes());
        p.command(command::POSTCOPY_RUN, &[]);
    });
    s.command(command::PING, &4u32.to_be_bytes());
    s.section(PART, 4, "ram");
    s.page(Some("pc.ram"), 30 * PAGE, Sent::Normal);
    for n in [31, 12, 13, 14, 15, 16, 17] {
        s.page(None, n * PAGE, Sent::Normal);
    }
    s.ram_end();
    s.section(END, 4, "ram");
    s.ram_end();
    s.end();
    s
}

/// Without footers; with the description as the machine pc-i440fx-2.3 had it, or without.
fn footerless(described: bool) -> Stream {
    let mut s = Stream::old();
    s.section(START, 2, "ram");
    s.block_list(&[("pc.ram", 16 << 12, &[])]);
    s.ram_end();
    s.section(PART, 2, "ram");
    s.page(Some("pc.ram"), 0, Sent::Normal);
    s.page(None, 1 << 12, Sent::Zero);
    s.ram_end();
    s.section(END, 2, "ram");
    s.page(None, 2 << 12, Sent::Normal);
    s.ram_end();
    s.device(0, "timer", &[0; 9]);
    // A known section, an id and a name that no QEMU writes, and a list's end without its JSON.
    let state =
        b"\x04\0\0\0\0\x05timer\0\0\0\0\0\0\0\x01\x04\xff\0\0\0\x01a\0\x06\0\0\x04\x04[\x7e";
    s.device(3, "serial", state);
    if described {
        s.device(4, "last", b"\0\0\0\x06\0\0\x06\x04");
        s.end();
        // A length of 0x0404: its bytes look like sections.
        let mut json = br#"{"page_size":4096}"#.to_vec();
        json.resize(0x404, b' ');
        s.vmdesc(&json);
    } else {
        s.section(FULL, 4, "last");
        s.put(&[0, 6, 1, 0]);
        s.put(&[0]);
    }
    s
}

fn all() -> [(&'static str, Stream); 4] {
    [
        ("precopy", precopy()),
        ("postcopy", postcopy()),
        ("2.3", footerless(true)),
        ("2.2", footerless(false)),
    ]
}

fn decode<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> (Decoder<u64>, Log) {
    let (mut decoder, mut log, mut offset) = (Decoder::new(), Log::default(), 0);
    for s in slices {
        decoder.push(offset, s, &mut log);
        offset += s.len() as u64;
        let held = offset - decoder.resolved();
        assert!(held <= (MAX_VMDESC + MAX_ITEM) as u64, "{held} bytes held");
    }
    decoder.finish(offset, &mut log);
    (decoder, log)
}

fn check(stream: &Stream, decoder: &Decoder<u64>, log: &Log) {
    assert_eq!(log.items, stream.want.items);
    assert_eq!(log.pages, stream.want.pages);
    assert_eq!(decoder.counts(), stream.total);
    assert_eq!(decoder.resolved(), stream.bytes.len() as u64);
    assert!(decoder.whole());
    let names: Vec<_> = decoder.blocks().iter().map(|b| b.name.clone()).collect();
    assert_eq!(names, stream.blocks);
    assert_eq!(u64::from(decoder.page_size()), stream.page);
    log.check_revealed(&stream.bytes);
}

#[test]
fn whole() {
    for (name, s) in all() {
        let (decoder, log) = decode([&s.bytes[..]]);
        check(&s, &decoder, &log);
        assert_eq!(decoder.ended(), name != "2.2");
    }
}

#[test]
fn slices_of_one_size() {
    for (_, s) in all() {
        for size in [1, 2, 3, 5, 7, 8, 9, 64, 100, 1000, 1460, 4096] {
            let (decoder, log) = decode(s.bytes.chunks(size));
            check(&s, &decoder, &log);
        }
    }
}

#[test]
fn what_the_builder_expects_is_what_was_meant() {
    // Guards the tests: a builder that forgot something would agree with itself.
    let s = precopy();
    for (name, times) in [
        ("Header", 1),
        ("Configuration", 1),
        ("Uuid", 1),
        ("Command", 3),
        ("SectionBegin", 10),
        ("RamBlocks { count: 3, bytes: 47104 }", 1),
        ("MultifdFlush", 2),
        ("RamEnd", 5),
        ("DeviceEnd", 5),
        ("EndOfStream", 1),
        ("VmDescription", 1),
        ("Lost", 0),
    ] {
        assert_eq!(s.want.has(name), times, "{name}");
    }
    assert_eq!((s.total.normal, s.total.zero), (13, 4));
    assert_eq!((s.total.xbzrle, s.total.compressed), (2, 2));
    assert_eq!(s.total.pages(), 21);
    let p = postcopy();
    assert_eq!((p.want.has("PackagedEnd"), p.want.has("Command")), (1, 10));
    let packaged = |i: &&String| i.contains("packaged: true");
    assert_eq!(p.want.items.iter().filter(packaged).count(), 2);
}

#[test]
fn used_lengths_of_blocks() {
    let (decoder, _) = decode([&precopy().bytes[..]]);
    let block = |name: &str, pages: u64| RamBlock {
        name: name.to_owned(),
        used_length: Some(pages * PAGE),
    };
    let want = [
        block("pc.ram", 40),
        block("0000:00:02.0/vga.vram", 4),
        block("/rom@etc/acpi/tables", 2),
    ];
    assert_eq!(decoder.blocks(), want);
}

#[test]
fn a_block_that_grows() {
    // A second list, in a later part, gives a block another length.
    let mut s = Stream::new();
    s.configuration("m");
    s.page_bits(10);
    s.section(START, 1, "ram");
    s.block_list(&[("pc.ram", 4 * PAGE, &[])]);
    s.ram_end();
    s.section(PART, 1, "ram");
    s.page(Some("pc.ram"), 3 * PAGE, Sent::Zero);
    s.blocks.clear();
    s.block_list(&[("pc.ram", 8 * PAGE, &[])]);
    s.page(Some("pc.ram"), 7 * PAGE, Sent::Zero);
    s.ram_end();
    for size in [1, usize::MAX] {
        let (decoder, log) = decode(s.bytes.chunks(size));
        check(&s, &decoder, &log);
    }
}

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

#[test]
fn a_hole_in_device_state() {
    let s = precopy();
    let device = |id: u32| {
        let begins = format!("SectionBegin {{ kind: SectionFull, id: {id},");
        let at = s.want.items.iter().position(|i| i.contains(&begins));
        s.want.items[at.unwrap()].split(' ').next().unwrap().parse()
    };
    let timer: usize = device(0).unwrap();
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
    let of = |name: &str| {
        let i = s.want.items.iter().find(|i| i.contains(name)).unwrap();
        i.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let (begin, end) = (of("number: 7") + 9, of("PackagedEnd"));
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

#[test]
fn probing() {
    let s = precopy();
    for n in 0..8 {
        assert_eq!(probe(&s.bytes[..n]), Probe::NeedMore);
    }
    assert_eq!(probe(&s.bytes), Probe::Yes);
    assert_eq!(probe(b"QEVM\0\0\0\x02"), Probe::No);
    assert_eq!(probe(b"HTTP"), Probe::No);
}

#[test]
fn not_a_stream() {
    for head in [&b"QEVM\0\0\0\x02rest"[..], b"GET / HTTP/1.1"] {
        let (decoder, log) = decode([head]);
        assert_eq!(log.items, ["0 Lost"]);
        assert!(!decoder.whole());
    }
}

#[test]
fn a_description_of_four_gigabytes_is_not_kept() {
    let mut s = Stream::new();
    s.end();
    s.put(&[6]);
    s.put32(u32::MAX);
    let (mut decoder, mut log) = (Decoder::new(), Log::default());
    decoder.push(0, &s.bytes, &mut log);
    let chunk = vec![b' '; 1 << 16];
    let mut at = s.bytes.len() as u64;
    for _ in 0..100 {
        decoder.push(at, &chunk, &mut log);
        at += chunk.len() as u64;
        assert_eq!(decoder.resolved(), at);
    }
    decoder.finish(at, &mut log);
    let want = format!("VmDescription {{ length: {}, json: None }}", u32::MAX);
    assert_eq!(log.has(&want), 1);
}

#[test]
fn the_longest_description_that_is_kept() {
    for (n, kept) in [(MAX_VMDESC, true), (MAX_VMDESC + 1, false)] {
        let mut s = Stream::new();
        s.end();
        s.put(&[6]);
        s.put32(n as u32);
        let mut json = b"{".to_vec();
        json.resize(n, b' ');
        s.put(&json);
        for size in [1460, usize::MAX] {
            let (decoder, log) = decode(s.bytes.chunks(size));
            let last = log.items.last().unwrap();
            assert_eq!(last.contains("json: Some"), kept);
            assert_eq!(log.has("VmDescription"), 1);
            assert_eq!(decoder.resolved(), s.bytes.len() as u64);
        }
    }
}

#[test]
fn endless_lists_end() {
    // Blocks.
    let mut s = Stream::new();
    s.section(START, 1, "ram");
    s.put64((1 << 44) | 4);
    for n in 0..2 * MAX_NAMES {
        s.counted(&format!("block{n}"));
        s.put64(4096);
    }
    let (decoder, log) = decode(s.bytes.chunks(1460));
    assert_eq!((decoder.blocks().len(), log.has("Lost")), (MAX_NAMES, 1));
    // Sections.
    let mut s = Stream::new();
    for n in 0..2 * MAX_NAMES as u32 {
        s.device(n, "device", &[]);
    }
    let (_, log) = decode(s.bytes.chunks(1460));
    assert_eq!(log.has("SectionBegin"), MAX_NAMES);
    assert!(log.has("Lost") > 0);
    // Capabilities, and a machine name that would never end.
    for body in [
        &b"\x05\x1aconfiguration/capabilities\0\0\0\x01\xff\xff\xff\xff"[..],
        b"",
    ] {
        let mut s = Stream::new();
        s.configuration("m");
        s.put(body);
        if body.is_empty() {
            s.put(b"\x07\xff\xff\xff\xff");
        }
        s.put(&[b'x'; 3000]);
        let (_, log) = decode(s.bytes.chunks(100));
        assert_eq!(log.has("Lost"), 1);
    }
}

#[test]
fn records_that_no_qemu_writes() {
    let words = [
        0u64,
        0x18,
        PAGE | 0x10,
        0x28 | 512,
        PAGE | 0x200,
        0x80,
        0x28 | (40 * PAGE),
        0x01,
    ];
    for word in words {
        let mut s = Stream::new();
        s.configuration("m");
        s.page_bits(10);
        s.section(START, 2, "ram");
        s.block_list(&[("pc.ram", 40 * PAGE, &[])]);
        s.ram_end();
        s.section(PART, 2, "ram");
        s.page(Some("pc.ram"), 0, Sent::Zero);
        let at = s.bytes.len();
        s.put64(word);
        s.put(&[CONTENT; 64]);
        let (decoder, log) = decode([&s.bytes[..]]);
        let last = log.items.last().unwrap();
        assert_eq!(*last, format!("{at} Lost"), "{word:#x}");
        assert_eq!(decoder.counts().pages(), 1);
    }
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..12, 1usize..3000], 1..40)
}

/// `bytes` in slices of these sizes, again and again.
fn sliced<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut rest, mut parts) = (bytes, Vec::new());
    for n in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, more) = rest.split_at((*n).min(rest.len()));
        parts.push(part);
        rest = more;
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn slices_of_any_size(which in 0usize..4, sizes in cuts()) {
        let (_, s) = &all()[which];
        let (decoder, log) = decode(sliced(&s.bytes, &sizes));
        check(s, &decoder, &log);
    }

    #[test]
    fn device_state_of_any_kind(
        state in prop::collection::vec(prop_oneof![Just(0x7eu8), Just(0), any::<u8>()], 0..300),
        sizes in cuts(),
    ) {
        // An id that the state does not hold: its footer cannot be in it.
        let mut s = Stream::new();
        s.device(0xabcde, "some/device", &state);
        s.command(command::PING, &1u32.to_be_bytes());
        s.device(0xabcdf, "other", &state);
        s.end();
        s.vmdesc(JSON);
        let (decoder, log) = decode(sliced(&s.bytes, &sizes));
        prop_assert_eq!(&log.items, &s.want.items);
        prop_assert!(decoder.whole() && decoder.ended());
    }

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
