//! What the client writes: flags, options, requests.

use memchr::memchr2;

use super::table::{self, Command, IHAVEOPT};
use super::{Item, MAX_EXPORT_NAME, MAX_OPTION, MAX_PAYLOAD, Out, Shared, Sink};
use crate::intake::{Step, be16, be32, be64, begins_with};
use crate::qemu::Probe;

/// Head of an option: IHAVEOPT, number, length. Bytes.
const OPTION_HEAD: usize = 16;

/// Flags that a client may set: FIXED_NEWSTYLE, NO_ZEROES.
const CLIENT_FLAGS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flags,
    Options,
    Requests,
    Tls,
    Lost,
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    state: State,
    pub(super) whole: bool,
}

/// A request's head, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    kind: Command,
    cookie: u64,
    offset: u64,
    length: u64,
    head: usize,
    data: u32,
}

/// `None`: these are no request's first four bytes.
fn head_length(magic: u32) -> Option<usize> {
    match magic {
        table::REQUEST_MAGIC => Some(28),
        table::EXTENDED_REQUEST_MAGIC => Some(32),
        _ => None,
    }
}

impl Request {
    /// Of a head of full length. `None`: no client sends this.
    fn read(b: &[u8]) -> Option<Self> {
        let head = head_length(be32(b, 0)?)?;
        let extended = head == 32;
        let (flags, kind) = (be16(b, 4)?, Command::of(be16(b, 6)?)?);
        let (cookie, offset) = (be64(b, 8)?, be64(b, 16)?);
        let length = if extended {
            be64(b, 24)?
        } else {
            u64::from(be32(b, 24)?)
        };
        let has_data = if extended {
            flags & table::COMMAND_FLAG_PAYLOAD_LEN != 0
        } else {
            kind == Command::Write
        };
        let bounded = u32::try_from(length).ok().filter(|n| *n <= MAX_PAYLOAD);
        let fits = bounded.is_some() || (!has_data && kind != Command::Read);
        // Offsets are those of `off_t`.
        let end = i64::try_from(offset.checked_add(length)?);
        if flags & !table::COMMAND_FLAGS != 0 || !fits || end.is_err() {
            return None;
        }
        Some(Self {
            kind,
            cookie,
            offset,
            length,
            head,
            data: if has_data { bounded? } else { 0 },
        })
    }
}

/// Export that an option names.
fn export(number: u32, data: &[u8]) -> Option<&str> {
    let name = match number {
        table::OPT_EXPORT_NAME => data,
        table::OPT_INFO
        | table::OPT_GO
        | table::OPT_LIST_META_CONTEXT
        | table::OPT_SET_META_CONTEXT => {
            let n = usize::try_from(be32(data, 0)?).ok()?;
            data.get(4..4usize.checked_add(n)?)?
        }
        _ => return None,
    };
    let name = std::str::from_utf8(name).ok()?;
    (name.len() <= MAX_EXPORT_NAME && !name.chars().any(char::is_control)).then_some(name)
}

impl Client {
    pub(super) fn new() -> Self {
        Self {
            state: State::Flags,
            whole: true,
        }
    }

    pub(super) fn lost() -> Self {
        Self {
            state: State::Lost,
            whole: false,
        }
    }

    pub(super) fn lose<M: Copy, S: Sink<M>>(&mut self, out: &mut Out<'_, M, S>) {
        if self.state == State::Tls {
            return;
        }
        self.whole = false;
        if self.state != State::Lost {
            self.state = State::Lost;
            out.item(Item::Lost);
        }
    }

    pub(super) fn step<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        shared: &mut Shared,
        out: &mut Out<'_, M, S>,
    ) -> Step {
        let step = match self.state {
            State::Flags => self.flags(input, out),
            State::Options => self.options(input, shared, out),
            State::Requests => self.request(input, shared, out),
            State::Tls => Some(Step::used(input.len())),
            State::Lost => Some(self.search(input, shared, out)),
        };
        step.unwrap_or_else(|| {
            self.lose(out);
            Step::AGAIN
        })
    }

    fn flags<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        out: &mut Out<'_, M, S>,
    ) -> Option<Step> {
        let Some(flags) = be32(input, 0) else {
            return Some(Step::Need(4));
        };
        if head_length(flags).is_some() {
            // Old style: the client begins with requests.
            self.state = State::Requests;
            return Some(Step::AGAIN);
        }
        if flags & !CLIENT_FLAGS != 0 {
            return None;
        }
        out.reveal(input.get(..4)?);
        self.state = State::Options;
        Some(Step::used(4))
    }

    fn options<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        shared: &mut Shared,
        out: &mut Out<'_, M, S>,
    ) -> Option<Step> {
        if shared.starttls {
            match begins_with(input, &[0x16, 0x03]) {
                Probe::Yes => {
                    self.state = State::Tls;
                    shared.tls = true;
                    out.item(Item::Tls);
                    return Some(Step::AGAIN);
                }
                Probe::NeedMore => return Some(Step::Need(2)),
                Probe::No => {}
            }
        }
        let Some(magic) = be32(input, 0) else {
            return Some(Step::Need(4));
        };
        if head_length(magic).is_some() {
            self.state = State::Requests;
            return Some(Step::AGAIN);
        }
        let (Some(number), Some(length)) = (be32(input, 8), be32(input, 12)) else {
            return match begins_with(input, &IHAVEOPT) {
                Probe::No => None,
                _ => Some(Step::Need(OPTION_HEAD)),
            };
        };
        if begins_with(input, &IHAVEOPT) != Probe::Yes || length > MAX_PAYLOAD {
            return None;
        }
        let length = usize::try_from(length).ok()?;
        let read = if length <= MAX_OPTION { length } else { 0 };
        let Some(bytes) = input.get(..OPTION_HEAD + read) else {
            return Some(Step::Need(OPTION_HEAD + read));
        };
        out.reveal(bytes);
        shared.export_name = number == table::OPT_EXPORT_NAME;
        shared.starttls |= number == table::OPT_STARTTLS;
        out.item(Item::Option {
            number,
            name: table::option_name(number),
            export: export(number, bytes.get(OPTION_HEAD..)?),
        });
        if number == table::OPT_ABORT {
            out.item(Item::Disconnect);
        }
        Some(Step::Done {
            used: bytes.len(),
            skip: (length - read) as u64,
        })
    }

    fn request<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        shared: &mut Shared,
        out: &mut Out<'_, M, S>,
    ) -> Option<Step> {
        let Some(magic) = be32(input, 0) else {
            return Some(Step::Need(4));
        };
        let head = head_length(magic)?;
        let Some(bytes) = input.get(..head) else {
            return Some(Step::Need(head));
        };
        let r = Request::read(bytes)?;
        out.ready(shared);
        out.reveal(bytes);
        if r.kind == Command::Disc {
            out.item(Item::Disconnect);
        } else {
            let data = if r.kind == Command::Read { r.length } else { 0 };
            shared.ask(r.cookie, u32::try_from(data).ok()?);
            out.item(Item::Request {
                kind: r.kind,
                offset: r.offset,
                length: r.length,
                cookie: r.cookie,
            });
        }
        Some(Step::Done {
            used: r.head,
            skip: u64::from(r.data),
        })
    }

    fn search<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        shared: &Shared,
        out: &mut Out<'_, M, S>,
    ) -> Step {
        if shared.tls {
            self.state = State::Tls;
            out.item(Item::Tls);
            return Step::AGAIN;
        }
        const FIRST: [u8; 2] = [
            (table::REQUEST_MAGIC >> 24) as u8,
            (table::EXTENDED_REQUEST_MAGIC >> 24) as u8,
        ];
        let [a, b] = FIRST;
        match memchr2(a, b, input) {
            None => return Step::used(input.len()),
            Some(0) => {}
            Some(n) => return Step::used(n),
        }
        let Some(magic) = be32(input, 0) else {
            return Step::Need(4);
        };
        let Some(head) = head_length(magic) else {
            return Step::used(1);
        };
        let Some(bytes) = input.get(..head) else {
            return Step::Need(head);
        };
        if Request::read(bytes).is_none() {
            return Step::used(1);
        }
        self.state = State::Requests;
        out.item(Item::Found);
        Step::AGAIN
    }
}
