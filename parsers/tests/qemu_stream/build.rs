//! Writes streams, and what a decoder must say of them.

use phasescope_parsers::qemu::command::{self, Command};
use phasescope_parsers::qemu::element::ElementType;
use phasescope_parsers::qemu::ram::{Counts, PageKind};
use phasescope_parsers::qemu::stream::{Item, Sink};

/// Small pages keep the streams small. A stream has 4096 until it says otherwise.
pub(crate) const PAGE: u64 = 1024;

/// Fills pages; no anchor holds it.
pub(crate) const CONTENT: u8 = 0xa5;

pub(crate) const FULL: ElementType = ElementType::SectionFull;
pub(crate) const START: ElementType = ElementType::SectionStart;
pub(crate) const PART: ElementType = ElementType::SectionPart;
pub(crate) const END: ElementType = ElementType::SectionEnd;

/// Block, address, kind, bytes of the record.
pub(crate) type Page = (Option<u16>, u64, PageKind, u64);

/// Keeps everything a decoder says.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Log {
    /// `offset item`.
    pub(crate) items: Vec<String>,
    pub(crate) pages: Vec<Page>,
    pub(crate) revealed: Vec<(u64, Vec<u8>)>,
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
    pub(crate) fn has(&self, name: &str) -> usize {
        let is = |i: &&String| i.split_once(' ').is_some_and(|(_, i)| i.starts_with(name));
        self.items.iter().filter(is).count()
    }

    /// Revealed bytes are the stream's own, each shown once; `content` never is.
    pub(crate) fn check_revealed(&self, stream: &[u8]) {
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
pub(crate) enum Sent {
    Normal,
    Zero,
    Xbzrle(u16),
    Compressed(u32),
}

impl Sent {
    pub(crate) fn kind(self) -> PageKind {
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
pub(crate) struct Stream {
    pub(crate) bytes: Vec<u8>,
    pub(crate) want: Log,
    pub(crate) footers: bool,
    pub(crate) page: u64,
    /// Where the page size is known.
    pub(crate) sized: usize,
    pub(crate) blocks: Vec<String>,
    pub(crate) block: Option<u16>,
    /// Section that is open: id and where it began.
    pub(crate) open: (u32, usize),
    pub(crate) part: Counts,
    pub(crate) total: Counts,
    /// Where page contents lie.
    pub(crate) contents: Vec<std::ops::Range<usize>>,
    /// Where the package began.
    pub(crate) package: Option<usize>,
}

impl Stream {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn old() -> Self {
        Self {
            footers: false,
            ..Self::new()
        }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn put32(&mut self, n: u32) {
        self.put(&n.to_be_bytes());
    }

    pub(crate) fn put64(&mut self, n: u64) {
        self.put(&n.to_be_bytes());
    }

    pub(crate) fn counted(&mut self, name: &str) {
        self.put(&[name.len() as u8]);
        self.put(name.as_bytes());
    }

    /// The next byte begins this item.
    pub(crate) fn say(&mut self, item: Item<'_>) {
        self.want
            .items
            .push(format!("{} {item:?}", self.bytes.len()));
    }

    pub(crate) fn configuration(&mut self, machine: &str) {
        let name = machine.as_bytes();
        self.say(Item::Configuration { machine: name });
        self.put(&[7]);
        self.put32(name.len() as u32);
        self.put(name);
    }

    pub(crate) fn subsection(&mut self, name: &str) {
        self.put(&[5]);
        self.counted(name);
        self.put32(1);
    }

    pub(crate) fn page_bits(&mut self, bits: u32) {
        self.subsection("configuration/target-page-bits");
        self.put32(bits);
        (self.page, self.sized) = (1 << bits, self.bytes.len());
    }

    pub(crate) fn capabilities(&mut self, names: &[&str]) {
        self.subsection("configuration/capabilities");
        self.put32(names.len() as u32);
        for n in names {
            self.counted(n);
        }
    }

    pub(crate) fn uuid(&mut self, uuid: [u8; 16]) {
        self.say(Item::Uuid(&uuid));
        self.subsection("configuration/uuid");
        self.put(&uuid);
    }

    pub(crate) fn command(&mut self, number: u16, payload: &[u8]) {
        self.say(Item::Command(Command { number, payload }));
        self.put(&[8]);
        self.put(&number.to_be_bytes());
        self.put(&(payload.len() as u16).to_be_bytes());
        self.put(payload);
    }

    pub(crate) fn advise(&mut self) {
        let sizes = [PAGE.to_be_bytes(), PAGE.to_be_bytes()].concat();
        self.command(command::POSTCOPY_ADVISE, &sizes);
        (self.page, self.sized) = (PAGE, self.bytes.len());
    }

    pub(crate) fn section(&mut self, kind: ElementType, id: u32, name: &str) {
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

    pub(crate) fn footer(&mut self) {
        if self.footers {
            self.put(&[0x7e]);
            self.put32(self.open.0);
        }
    }

    /// The block list, with the words that come after each entry's length.
    pub(crate) fn block_list(&mut self, list: &[(&str, u64, &[u64])]) {
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
    pub(crate) fn page(&mut self, block: Option<&str>, address: u64, sent: Sent) {
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

    pub(crate) fn flush(&mut self) {
        self.say(Item::MultifdFlush);
        self.put64(0x200);
    }

    pub(crate) fn ram_end(&mut self) {
        self.say(Item::RamEnd { counts: self.part });
        self.put64(0x10);
        self.footer();
    }

    /// A device, whole.
    pub(crate) fn device(&mut self, id: u32, name: &str, state: &[u8]) {
        self.section(FULL, id, name);
        self.put(state);
        self.device_end();
    }

    pub(crate) fn device_end(&mut self) {
        let (id, start) = self.open;
        let length = (self.bytes.len() - start) as u64;
        self.say(Item::DeviceEnd { id, length });
        self.footer();
    }

    /// A nested list; `f` writes it.
    pub(crate) fn package(&mut self, f: impl FnOnce(&mut Stream)) {
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

    pub(crate) fn end(&mut self) {
        self.say(Item::EndOfStream);
        self.put(&[0]);
    }

    pub(crate) fn vmdesc(&mut self, json: &[u8]) {
        self.put(&[6]);
        self.put32(json.len() as u32);
        let (length, kept) = (json.len() as u32, Some(json));
        self.say(Item::VmDescription { length, json: kept });
        self.put(json);
    }
}
