//! Push decoder of a migration stream's main channel.
//!
//! It takes slices of any size, steps over page contents by arithmetic, and goes on after lost
//! bytes: inside known lengths by counting, else by searching for the next anchor
//! ([`super::resync`]).

mod item;
mod storage;

use memchr::{memchr, memchr2_iter};
use nom::number::streaming::{be_u32, be_u64};

use super::command;
use super::element::{self, ConfigSubsection, ElementType, MAX_MACHINE_NAME, SectionHead};
use super::ram::{self, Counts, Record};
use super::{DEFAULT_PAGE_SIZE, MAGIC, VERSION, resync};

pub use item::{Item, RamBlock, Sink};
pub use storage::{BitmapCounts, DiskCounts, MAX_DEVICES};

/// Longest item that is collected before it is decoded: a command of full length. Bytes.
pub const MAX_ITEM: usize = 5 + 65_535;

/// Sections, RAM blocks and capability names that one stream may announce.
pub const MAX_NAMES: usize = 4096;

/// Longest vmdesc JSON that is kept. Bytes.
pub const MAX_VMDESC: usize = 1 << 20;

/// Largest target page in use (ppc64, aarch64: 64 KiB). Bytes.
const MAX_PAGE_SIZE: u64 = 1 << 16;

/// Stands for the id of a section whose beginning was not seen; no real id is that large.
const UNKNOWN_ID: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    /// Subsections of the configuration, if any.
    Configuration,
    /// That many capability names.
    Capabilities(u32),
    Element,
    Ram,
    /// Entries of the block list until this many bytes of RAM are named.
    Blocks(u64),
    /// After the last entry: extra words, then records.
    BlocksEnd,
    /// Records of a `block` or `dirty-bitmap` section.
    Storage,
    /// Payload of unknown length.
    Opaque,
    Footer,
    /// After the element list: vmdesc or nothing.
    Trailer,
    VmDescription(u32),
    Done,
    Lost,
}

enum Step {
    /// So many bytes were understood.
    Used(usize),
    /// So many bytes were content.
    Content(usize),
    NeedMore,
    Lost,
}

impl From<nom::Err<nom::error::Error<&[u8]>>> for Step {
    fn from(e: nom::Err<nom::error::Error<&[u8]>>) -> Self {
        match e {
            nom::Err::Incomplete(_) => Step::NeedMore,
            _ => Step::Lost,
        }
    }
}

/// `nom`'s answer, or the [`Step`] that its failure means.
macro_rules! parse {
    ($e:expr) => {
        match $e {
            Ok(ok) => ok,
            Err(e) => return Step::from(e),
        }
    };
}

#[derive(Debug, Clone)]
struct Section {
    id: u32,
    name: String,
}

/// The decoder. See the module's text.
#[derive(Debug, Clone)]
pub struct Decoder<M> {
    state: State,
    /// Offset of the first byte that is not yet understood.
    offset: u64,
    /// Content still to be stepped over.
    skip: u64,
    /// Bytes that wait for the rest of their item.
    pending: Vec<u8>,
    /// Mark of the first pending byte.
    begin: Option<M>,
    sections: Vec<Section>,
    blocks: Vec<RamBlock>,
    block: Option<u16>,
    page_size: u32,
    /// Do sections end with footers? Seen at the first section's end.
    footers: Option<bool>,
    /// The section that is open: id, where it began, is it RAM.
    open: Option<(u32, u64)>,
    /// Bytes left in PACKAGED.
    package: Option<u64>,
    /// Counts of the open `ram` section.
    part: Counts,
    /// Counts of the open `block` or `dirty-bitmap` section.
    storage: Option<storage::Open<M>>,
    /// Counts of the whole stream.
    total: Counts,
    whole: bool,
    /// It resumes a post-copy.
    resumed: bool,
    /// It is a preempt channel.
    preempt: bool,
}

impl<M: Copy> Default for Decoder<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Copy> Decoder<M> {
    /// At the first byte of a stream.
    pub fn new() -> Self {
        Self {
            state: State::Header,
            offset: 0,
            skip: 0,
            pending: Vec::new(),
            begin: None,
            sections: Vec::new(),
            blocks: Vec::new(),
            block: None,
            page_size: DEFAULT_PAGE_SIZE,
            footers: None,
            open: None,
            package: None,
            part: Counts::default(),
            storage: None,
            total: Counts::default(),
            whole: true,
            resumed: false,
            preempt: false,
        }
    }

    /// Somewhere in the middle of a stream: looks for an anchor first. `offset` numbers the first
    /// byte that will be pushed.
    pub fn in_the_middle(offset: u64) -> Self {
        Self {
            state: State::Lost,
            offset,
            whole: false,
            ..Self::new()
        }
    }

    /// At the first byte of a stream that resumes a post-copy (see [`super::resumes`]): commands
    /// and memory, without header, block list and beginnings of sections.
    pub fn resumed() -> Self {
        Self {
            state: State::Element,
            resumed: true,
            ..Self::new()
        }
    }

    /// At the first byte of a post-copy preempt channel (see [`super::preempt`]): memory alone, up
    /// to an EOS word (QEMU 7.1, 7.2) or the connection's end.
    pub fn preempt() -> Self {
        Self {
            state: State::Ram,
            preempt: true,
            ..Self::new()
        }
    }

    /// Offset up to which every byte has been understood or is known to be content.
    pub fn resolved(&self) -> u64 {
        self.offset
    }

    /// Page records so far.
    pub fn counts(&self) -> Counts {
        self.total
    }

    /// The RAM blocks so far.
    pub fn blocks(&self) -> &[RamBlock] {
        &self.blocks
    }

    /// Target page size, bytes.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// True while no byte with structure was lost: counts are exact then.
    pub fn whole(&self) -> bool {
        self.whole
    }

    /// True after the end of the element list.
    pub fn ended(&self) -> bool {
        matches!(
            self.state,
            State::Trailer | State::VmDescription(_) | State::Done
        )
    }

    /// Feeds the next bytes.
    pub fn push<S: Sink<M>>(&mut self, mark: M, mut data: &[u8], sink: &mut S) {
        loop {
            if self.skip > 0 && self.pending.is_empty() {
                let n = usize::try_from(self.skip)
                    .unwrap_or(usize::MAX)
                    .min(data.len());
                self.skip -= n as u64;
                data = &data[n..];
                self.advance(n as u64, mark, sink);
            }
            if data.is_empty() {
                return;
            }
            if self.pending.is_empty() {
                self.begin = Some(mark);
                let window = self.window(data);
                match self.step(window, mark, sink) {
                    Step::Used(n) => {
                        sink.reveal(self.offset, &window[..n]);
                        data = &data[n..];
                        self.advance(n as u64, mark, sink);
                    }
                    Step::Content(n) => {
                        data = &data[n..];
                        self.advance(n as u64, mark, sink);
                    }
                    Step::NeedMore if window.len() < data.len() => {
                        if self.state == State::Lost {
                            // The package ends before the candidate does: on behind it.
                            let n = window.len();
                            data = &data[n..];
                            self.advance(n as u64, mark, sink);
                        } else {
                            self.lose(mark, sink);
                        }
                    }
                    Step::NeedMore => {
                        self.pending.extend_from_slice(data);
                        return;
                    }
                    Step::Lost => self.lose(mark, sink),
                }
            } else {
                data = self.push_pending(mark, data, sink);
            }
        }
    }

    /// An item that began in an earlier slice: takes of `data` what it needs.
    fn push_pending<'d, S: Sink<M>>(&mut self, mark: M, data: &'d [u8], sink: &mut S) -> &'d [u8] {
        let had = self.pending.len();
        let grow = had.max(64).min(data.len());
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(&data[..grow]);
        let begin = self.begin.unwrap_or(mark);
        let window = self.window(&pending);
        let limit = match self.state {
            State::Lost => resync::WINDOW,
            State::VmDescription(_) => MAX_VMDESC,
            _ => MAX_ITEM,
        };
        let (n, reveal) = match self.step(window, begin, sink) {
            Step::Used(n) => (n, true),
            Step::Content(n) => (n, false),
            Step::NeedMore if pending.len() <= limit && window.len() == pending.len() => {
                self.pending = pending;
                return &data[grow..];
            }
            // A candidate that never ended: search on behind it.
            Step::NeedMore | Step::Lost if self.state == State::Lost => (window.len(), false),
            Step::NeedMore | Step::Lost => {
                self.lose(begin, sink);
                (0, false)
            }
        };
        if reveal {
            sink.reveal(self.offset, &pending[..n]);
        }
        let reached = if n > had { mark } else { begin };
        self.advance(n as u64, reached, sink);
        if n >= had {
            // The rest lies in `data`; it is decoded from there, without a copy.
            pending.clear();
            self.pending = pending;
            self.begin = Some(mark);
            &data[n - had..]
        } else {
            // The rest is decided before more is taken.
            pending.truncate(had);
            pending.drain(..n);
            self.pending = pending;
            data
        }
    }

    /// `length` bytes are missing here.
    pub fn gap<S: Sink<M>>(&mut self, length: u64, mark: M, sink: &mut S) {
        if length == 0 {
            return;
        }
        if self.pending.is_empty() && length <= self.skip {
            self.skip -= length;
            self.advance(length, mark, sink);
            return;
        }
        let held = self.pending.len() as u64;
        let begin = self.begin.filter(|_| held > 0).unwrap_or(mark);
        self.pending.clear();
        self.skip = 0;
        if self.ended() {
            self.state = State::Done;
        } else {
            self.lose(begin, sink);
        }
        self.advance(held.saturating_add(length), mark, sink);
    }

    /// The connection has ended: what was waiting for its end is decided.
    pub fn finish<S: Sink<M>>(&mut self, mark: M, sink: &mut S) {
        let pending = std::mem::take(&mut self.pending);
        let begin = self.begin.unwrap_or(mark);
        // Without vmdesc the last footer and the final 0x00 are the stream's last six bytes.
        if self.state == State::Opaque
            && let Some((id, start)) = self.open
            && let [0x7e, a, b, c, d, 0x00] = pending[..]
            && u32::from_be_bytes([a, b, c, d]) == id
        {
            let length = self.offset - start;
            sink.item(Item::DeviceEnd { id, length }, begin, self.offset);
            sink.item(Item::EndOfStream, begin, self.offset + 5);
            sink.reveal(self.offset, &pending);
            self.open = None;
            self.state = State::Done;
        }
        self.tell_storage(false, begin, sink);
        self.advance(pending.len() as u64, mark, sink);
    }

    /// No item reaches over the end of a package.
    fn window<'b>(&self, data: &'b [u8]) -> &'b [u8] {
        match self.package {
            Some(left) if left < data.len() as u64 => &data[..left as usize],
            _ => data,
        }
    }

    fn advance<S: Sink<M>>(&mut self, n: u64, mark: M, sink: &mut S) {
        self.offset = self.offset.saturating_add(n);
        if let Some(left) = self.package {
            self.package = (left > n).then(|| left - n);
            if left <= n {
                self.close_section(mark, sink);
                self.skip = 0;
                sink.item(Item::PackagedEnd, mark, self.offset);
                match self.state {
                    // What was stepped over reaches beyond the end: no element begins here.
                    _ if left < n && !self.ended() => self.lose(mark, sink),
                    _ if left < n => {}
                    // Its announced length tells where the outer list goes on.
                    State::Lost => self.found(State::Element, mark, sink),
                    _ => self.state = State::Element,
                }
            }
        }
    }

    fn lose<S: Sink<M>>(&mut self, mark: M, sink: &mut S) {
        self.whole = false;
        self.tell_storage(false, mark, sink);
        self.open = None;
        self.part = Counts::default();
        if self.state != State::Lost {
            self.state = State::Lost;
            sink.item(Item::Lost, mark, self.offset);
        }
    }

    fn found<S: Sink<M>>(&mut self, state: State, mark: M, sink: &mut S) {
        // The block of the records before the gap may not be that of those after it.
        self.block = None;
        match state {
            State::Ram => self.open = Some((UNKNOWN_ID, self.offset)),
            State::Footer => self.footers = Some(true),
            _ => {}
        }
        self.state = state;
        sink.item(Item::Found, mark, self.offset);
    }

    /// A device section without a footer of its own ends where the next element begins.
    fn close_section<S: Sink<M>>(&mut self, mark: M, sink: &mut S) {
        self.tell_storage(false, mark, sink);
        if let Some((id, start)) = self.open.take()
            && self.state == State::Opaque
        {
            let length = self.offset - start;
            sink.item(Item::DeviceEnd { id, length }, mark, self.offset);
        }
    }

    fn step<S: Sink<M>>(&mut self, input: &[u8], begin: M, sink: &mut S) -> Step {
        match self.state {
            State::Ram => self.ram(input, begin, sink),
            State::Element => self.element(input, begin, sink),
            State::Footer => self.footer(input),
            State::Storage => self.storage(input, begin, sink),
            State::Opaque => self.opaque(input, begin, sink),
            State::Header => {
                let (rest, magic) = parse!(be_u32(input));
                let (rest, version) = parse!(be_u32(rest));
                if magic != MAGIC || version != VERSION {
                    return Step::Lost;
                }
                sink.item(Item::Header, begin, self.offset);
                self.state = State::Element;
                Step::Used(input.len() - rest.len())
            }
            State::Configuration => match input.first() {
                Some(&b) if b == ElementType::Subsection as u8 => {
                    self.config_subsection(&input[1..], begin, sink)
                }
                _ => {
                    self.state = State::Element;
                    Step::Used(0)
                }
            },
            State::Capabilities(0) => {
                self.state = State::Configuration;
                Step::Used(0)
            }
            State::Capabilities(n) => {
                let (rest, _) = parse!(element::capability_name(input));
                self.state = State::Capabilities(n - 1);
                Step::Used(input.len() - rest.len())
            }
            State::Blocks(left) => self.block_entry(input, left),
            State::BlocksEnd => {
                // A word without flags is one more field of the last entry.
                let (_, word) = parse!(be_u64(input));
                if word & ram::flag::MASK == 0 {
                    return Step::Used(8);
                }
                self.state = State::Ram;
                let lengths = self.blocks.iter().filter_map(|b| b.used_length);
                let item = Item::RamBlocks {
                    count: self.blocks.len(),
                    bytes: lengths.fold(0, u64::saturating_add),
                };
                sink.item(item, begin, self.offset);
                Step::Used(0)
            }
            State::Trailer => {
                if input[0] != ElementType::VmDescription as u8 {
                    self.state = State::Done;
                    return Step::Used(0);
                }
                let (_, n) = parse!(be_u32(&input[1..]));
                self.state = State::VmDescription(n);
                Step::Used(5)
            }
            State::VmDescription(n) => {
                let want = n as usize;
                if want > MAX_VMDESC {
                    self.skip = u64::from(n);
                    self.state = State::Done;
                    let item = Item::VmDescription {
                        length: n,
                        json: None,
                    };
                    sink.item(item, begin, self.offset);
                    return Step::Used(0);
                }
                let Some(json) = input.get(..want) else {
                    return Step::NeedMore;
                };
                let json = Some(json);
                sink.item(Item::VmDescription { length: n, json }, begin, self.offset);
                self.state = State::Done;
                Step::Used(want)
            }
            State::Done => Step::Content(input.len()),
            State::Lost => self.search(input, begin, sink),
        }
    }

    fn element<S: Sink<M>>(&mut self, input: &[u8], begin: M, sink: &mut S) -> Step {
        let body = &input[1..];
        let used = |rest: &[u8]| Step::Used(input.len() - rest.len());
        match input[0] {
            0x00 => {
                self.state = State::Trailer;
                sink.item(Item::EndOfStream, begin, self.offset);
                Step::Used(1)
            }
            t @ (0x01 | 0x04) => {
                let (rest, head) = parse!(element::section_head(body));
                if !head.plausible() || self.sections.len() >= MAX_NAMES {
                    return Step::Lost;
                }
                let kind = if t == 0x01 {
                    ElementType::SectionStart
                } else {
                    ElementType::SectionFull
                };
                self.learn(&head);
                self.enter(kind, head.id, begin, sink);
                used(rest)
            }
            t @ (0x02 | 0x03) => {
                let (rest, id) = parse!(be_u32(body));
                if !self.sections.iter().any(|s| s.id == id) {
                    // Post-copy moves memory only, and a resumed one does not say so again
                    // (`migration/savevm.c`, `qemu_savevm_state_iterate`).
                    if !self.resumed || id > element::MAX_SECTION_ID || !self.sections.is_empty() {
                        return Step::Lost;
                    }
                    let name = "ram".to_owned();
                    self.sections.push(Section { id, name });
                }
                let kind = if t == 0x02 {
                    ElementType::SectionPart
                } else {
                    ElementType::SectionEnd
                };
                self.enter(kind, id, begin, sink);
                used(rest)
            }
            0x07 => {
                let (rest, n) = parse!(be_u32(body));
                let n = n as usize;
                if n > MAX_MACHINE_NAME {
                    return Step::Lost;
                }
                let Some(machine) = rest.get(..n) else {
                    return Step::NeedMore;
                };
                sink.item(Item::Configuration { machine }, begin, self.offset);
                self.state = State::Configuration;
                Step::Used(5 + n)
            }
            0x08 => {
                let (rest, command) = parse!(command::command(body));
                if !command.plausible() {
                    return Step::Lost;
                }
                match command.number {
                    command::POSTCOPY_ADVISE => {
                        if let Some(p) = command.advised_page_size() {
                            self.set_page_size(p);
                        }
                    }
                    command::PACKAGED => {
                        // The command's own bytes are not part of the package.
                        let n = u64::from(command.value().unwrap_or(0));
                        if n > 0 {
                            let own = (input.len() - rest.len()) as u64;
                            self.package = Some(n.saturating_add(own));
                        }
                    }
                    _ => {}
                }
                sink.item(Item::Command(command), begin, self.offset);
                used(rest)
            }
            _ => Step::Lost,
        }
    }

    fn learn(&mut self, head: &SectionHead<'_>) {
        if !self.sections.iter().any(|s| s.id == head.id) {
            let name = String::from_utf8_lossy(head.name).into_owned();
            self.sections.push(Section { id: head.id, name });
        }
    }

    fn enter<S: Sink<M>>(&mut self, kind: ElementType, id: u32, begin: M, sink: &mut S) {
        let name = self
            .sections
            .iter()
            .find(|s| s.id == id)
            .map_or("", |s| s.name.as_str());
        let packaged = self.package.is_some();
        let storage = storage::Open::of(name).filter(|_| kind != ElementType::SectionFull);
        self.state = match (name, &storage) {
            ("ram", _) => State::Ram,
            (_, Some(_)) => State::Storage,
            _ => State::Opaque,
        };
        self.storage = storage;
        self.open = Some((id, self.offset));
        self.part = Counts::default();
        let item = Item::SectionBegin {
            kind,
            id,
            name,
            packaged,
        };
        sink.item(item, begin, self.offset);
    }

    fn set_page_size(&mut self, p: u64) {
        if p.is_power_of_two() && (1024..=MAX_PAGE_SIZE).contains(&p) {
            self.page_size = p as u32;
        }
    }

    fn config_subsection<S: Sink<M>>(&mut self, body: &[u8], begin: M, sink: &mut S) -> Step {
        let (rest, subsection) = parse!(element::config_subsection(body));
        match subsection {
            ConfigSubsection::TargetPageBits(bits) if bits < 32 => self.set_page_size(1 << bits),
            ConfigSubsection::TargetPageBits(_) => return Step::Lost,
            ConfigSubsection::Capabilities(n) if n as usize > MAX_NAMES => {
                return Step::Lost;
            }
            ConfigSubsection::Capabilities(n) => self.state = State::Capabilities(n),
            ConfigSubsection::Uuid(uuid) => sink.item(Item::Uuid(uuid), begin, self.offset),
        }
        Step::Used(1 + body.len() - rest.len())
    }

    fn block_entry(&mut self, input: &[u8], left: u64) -> Step {
        // A name is never empty and a page size or address begins with a zero byte, so zero
        // means an extra word of the entry before.
        if input[0] == 0 {
            return if input.len() < 8 {
                Step::NeedMore
            } else {
                Step::Used(8)
            };
        }
        let (rest, (name, length)) = parse!(element::ram_block(input));
        let Some(left) = left.checked_sub(length) else {
            return Step::Lost;
        };
        let Some(i) = self.block_index(name) else {
            return Step::Lost;
        };
        if let Some(b) = self.blocks.get_mut(usize::from(i)) {
            b.used_length = Some(length);
        }
        self.state = if left == 0 {
            State::BlocksEnd
        } else {
            State::Blocks(left)
        };
        Step::Used(input.len() - rest.len())
    }

    fn block_index(&mut self, name: &[u8]) -> Option<u16> {
        if let Some(i) = self.blocks.iter().position(|b| b.name.as_bytes() == name) {
            return u16::try_from(i).ok();
        }
        if self.blocks.len() >= MAX_NAMES {
            return None;
        }
        self.blocks.push(RamBlock {
            name: String::from_utf8_lossy(name).into_owned(),
            used_length: None,
        });
        u16::try_from(self.blocks.len() - 1).ok()
    }

    /// The hot path: as many records as the input holds, contents stepped over.
    fn ram<S: Sink<M>>(&mut self, input: &[u8], begin: M, sink: &mut S) -> Step {
        let mut at = 0;
        loop {
            let here = &input[at..];
            let (rest, record) = match ram::record(here, self.page_size) {
                Ok(ok) => ok,
                // What came before is done; the rest is looked at again on its own.
                Err(_) if at > 0 => return Step::Content(at),
                Err(e) => return Step::from(e),
            };
            let head = here.len() - rest.len();
            let offset = self.offset + at as u64;
            match record {
                Record::Page {
                    address,
                    kind,
                    block,
                    content,
                } => {
                    if let Some(name) = block {
                        let Some(i) = self.block_index(name) else {
                            return Step::Lost;
                        };
                        self.block = Some(i);
                    }
                    let beyond = self
                        .block
                        .and_then(|i| self.blocks.get(usize::from(i))?.used_length)
                        .is_some_and(|length| address >= length);
                    if beyond {
                        return if at > 0 {
                            Step::Content(at)
                        } else {
                            Step::Lost
                        };
                    }
                    let bytes = head as u64 + u64::from(content);
                    self.part.add(kind, bytes);
                    self.total.add(kind, bytes);
                    sink.page(self.block, address, kind, bytes);
                    sink.reveal(offset, &here[..head]);
                    at += head;
                    let content = content as usize;
                    match input.len() - at {
                        left if content < left => at += content,
                        left => {
                            self.skip = (content - left) as u64;
                            return Step::Content(input.len());
                        }
                    }
                }
                Record::EndOfSection => {
                    if at > 0 {
                        return Step::Content(at);
                    }
                    let counts = std::mem::take(&mut self.part);
                    sink.item(Item::RamEnd { counts }, begin, offset);
                    self.state = match self.preempt {
                        true => State::Done,
                        false => State::Footer,
                    };
                    return Step::Used(head);
                }
                Record::MemSize(total) => {
                    if at > 0 {
                        return Step::Content(at);
                    }
                    // A new list: the source forgets its current block.
                    self.block = None;
                    self.state = if total == 0 {
                        State::Ram
                    } else {
                        State::Blocks(total)
                    };
                    return Step::Used(head);
                }
                Record::MultifdFlush => {
                    sink.item(Item::MultifdFlush, begin, offset);
                    sink.reveal(offset, &here[..head]);
                    at += head;
                    if at == input.len() {
                        return Step::Content(at);
                    }
                }
            }
        }
    }

    fn footer(&mut self, input: &[u8]) -> Step {
        let has = input[0] == ElementType::SectionFooter as u8;
        match self.footers {
            Some(expected) if expected != has => return Step::Lost,
            _ => self.footers = Some(has),
        }
        if !has {
            self.open = None;
            self.state = State::Element;
            return Step::Used(0);
        }
        let (_, id) = parse!(be_u32(&input[1..]));
        match self.open {
            // Picked up inside `ram`: the footer tells the section's id.
            Some((UNKNOWN_ID, _)) => {
                let room = id < element::MAX_SECTION_ID && self.sections.len() < MAX_NAMES;
                if room && !self.sections.iter().any(|s| s.id == id) {
                    let name = "ram".to_owned();
                    self.sections.push(Section { id, name });
                }
            }
            Some((open, _)) if open != id => return Step::Lost,
            _ => {}
        }
        self.open = None;
        self.state = State::Element;
        Step::Used(5)
    }

    /// Device state has no length: it ends where its footer is found; without footers, where the
    /// next section or the description does. The last device of an old stream without description
    /// ends with the connection, which nothing in the bytes shows.
    fn opaque<S: Sink<M>>(&mut self, input: &[u8], begin: M, sink: &mut S) -> Step {
        let Some((id, start)) = self.open else {
            return Step::Lost;
        };
        let without_footer = self.footers == Some(false);
        let candidate = if without_footer {
            // A new section, or the list's end with the description behind it.
            memchr2_iter(0x04, 0x00, input)
                .find(|n| input[*n] == 0x04 || input.get(n + 1).is_none_or(|b| *b == 0x06))
        } else {
            memchr(0x7e, input)
        };
        match candidate {
            None => return Step::Content(input.len()),
            Some(0) => {}
            Some(n) => return Step::Content(n),
        }
        let known = |id| self.sections.iter().any(|s: &Section| s.id == id);
        let verdict = match (without_footer, input[0]) {
            (true, 0x04) => resync::new_section(input, known),
            (true, _) => resync::vmdesc_head(input),
            _ => resync::footer(input, id, known),
        };
        match verdict {
            super::Probe::No => Step::Content(1),
            super::Probe::NeedMore => Step::NeedMore,
            super::Probe::Yes => {
                let length = self.offset - start;
                sink.item(Item::DeviceEnd { id, length }, begin, self.offset);
                self.open = None;
                self.footers = Some(!without_footer);
                self.state = State::Element;
                Step::Used(if without_footer { 0 } else { 5 })
            }
        }
    }

    fn search<S: Sink<M>>(&mut self, input: &[u8], begin: M, sink: &mut S) -> Step {
        let known = |id| self.sections.iter().any(|s: &Section| s.id == id);
        match resync::search(input, self.page_size, known) {
            resync::Found::Nothing(passed) => Step::Content(passed),
            resync::Found::NeedMore(0) => Step::NeedMore,
            resync::Found::NeedMore(passed) => Step::Content(passed),
            resync::Found::Record(0) => {
                self.found(State::Ram, begin, sink);
                Step::Used(0)
            }
            resync::Found::Footer(0) => {
                self.found(State::Footer, begin, sink);
                Step::Used(0)
            }
            resync::Found::Record(n) | resync::Found::Footer(n) => Step::Content(n),
        }
    }
}
