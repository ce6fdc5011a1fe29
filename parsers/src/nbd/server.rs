//! What the server writes: greeting, replies to options, replies to requests.

use memchr::memchr3;

use super::table::{self, NBDMAGIC, OLDSTYLE_MAGIC, OPTION_REPLY_MAGIC};
use super::{Item, MAX_OPTION, MAX_PAYLOAD, Out, Shared, Sink, Style};
use crate::intake::{Step, be16, be32, be64, begins_with};
use crate::qemu::Probe;

/// New greeting: two magics, flags. Bytes.
const GREETING: usize = 18;
/// Old greeting without its zeroes: two magics, size, flags. Bytes.
const OLD_GREETING: usize = 28;
/// Zeroes behind the old greeting and behind the answer to EXPORT_NAME. Bytes.
const ZEROES: u64 = 124;
/// Head of a reply to an option: magic, option, type, length. Bytes.
const OPTION_REPLY_HEAD: usize = 20;
/// Answer to EXPORT_NAME: size, flags. Bytes.
const EXPORT_ANSWER: usize = 10;
/// Head of a simple reply, bytes.
const SIMPLE: usize = 16;
/// Head of a structured chunk, bytes.
const STRUCTURED: usize = 20;
/// Head of an extended chunk, bytes.
const EXTENDED: usize = 32;
/// What an error chunk begins with, bytes.
const ERROR_NUMBER: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Options,
    /// Behind the answer to EXPORT_NAME: zeroes or, with NO_ZEROES, replies.
    Zeroes,
    Replies,
    Tls,
    Lost,
}

#[derive(Debug, Clone)]
pub(super) struct Server {
    state: State,
    pub(super) whole: bool,
}

/// A reply's head, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Simple {
        error: u32,
        cookie: u64,
    },
    Chunk {
        head: usize,
        done: bool,
        error: bool,
        cookie: u64,
        length: u32,
    },
}

/// `None`: these are no reply's first four bytes.
fn head_length(magic: u32) -> Option<usize> {
    match magic {
        table::SIMPLE_REPLY_MAGIC => Some(SIMPLE),
        table::STRUCTURED_REPLY_MAGIC => Some(STRUCTURED),
        table::EXTENDED_REPLY_MAGIC => Some(EXTENDED),
        _ => None,
    }
}

impl Reply {
    /// Of a head of full length. `None`: no server sends this.
    fn read(b: &[u8]) -> Option<Self> {
        let head = head_length(be32(b, 0)?)?;
        if head == SIMPLE {
            return Some(Self::Simple {
                error: be32(b, 4)?,
                cookie: be64(b, 8)?,
            });
        }
        let (flags, kind, cookie) = (be16(b, 4)?, be16(b, 6)?, be64(b, 8)?);
        let length = if head == STRUCTURED {
            be32(b, 16)?
        } else {
            u32::try_from(be64(b, 24)?).ok()?
        };
        let error = kind >= table::REPLY_TYPE_ERRORS;
        let known = error || table::REPLY_TYPES.contains(&kind);
        let fits = length <= MAX_PAYLOAD && (!error || length >= ERROR_NUMBER as u32);
        if flags & !table::REPLY_FLAG_DONE != 0 || !known || !fits {
            return None;
        }
        Some(Self::Chunk {
            head,
            done: flags & table::REPLY_FLAG_DONE != 0,
            error,
            cookie,
            length,
        })
    }

    fn cookie(&self) -> u64 {
        match self {
            Self::Simple { cookie, .. } | Self::Chunk { cookie, .. } => *cookie,
        }
    }
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            state: State::Greeting,
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
            State::Greeting => self.greeting(input, shared, out),
            State::Options => self.option_reply(input, shared, out),
            State::Zeroes => {
                self.state = State::Replies;
                let skip = if input.first() == Some(&0) { ZEROES } else { 0 };
                Some(Step::Done { used: 0, skip })
            }
            State::Replies => self.reply(input, shared, out),
            State::Tls => Some(Step::used(input.len())),
            State::Lost => Some(self.search(input, shared, out)),
        };
        step.unwrap_or_else(|| {
            self.lose(out);
            Step::AGAIN
        })
    }

    fn greeting<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        shared: &mut Shared,
        out: &mut Out<'_, M, S>,
    ) -> Option<Step> {
        match super::probe(input) {
            Probe::Yes => {}
            Probe::NeedMore => return Some(Step::Need(input.len() + 1)),
            Probe::No => return None,
        }
        let rest = input.get(NBDMAGIC.len()..)?;
        let old = begins_with(rest, &OLDSTYLE_MAGIC) == Probe::Yes;
        let used = if old { OLD_GREETING } else { GREETING };
        let Some(bytes) = input.get(..used) else {
            return Some(Step::Need(used));
        };
        out.reveal(bytes);
        if old {
            let (style, flags) = (Style::Old, be32(bytes, 24)?);
            out.item(Item::Greeting { style, flags });
            out.ready(shared);
            self.state = State::Replies;
            return Some(Step::Done { used, skip: ZEROES });
        }
        let (style, flags) = (Style::New, u32::from(be16(bytes, 16)?));
        out.item(Item::Greeting { style, flags });
        self.state = State::Options;
        Some(Step::used(used))
    }

    fn option_reply<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        shared: &mut Shared,
        out: &mut Out<'_, M, S>,
    ) -> Option<Step> {
        match begins_with(input, &OPTION_REPLY_MAGIC) {
            Probe::Yes => {}
            Probe::NeedMore => return Some(Step::Need(input.len() + 1)),
            // EXPORT_NAME is answered without a head.
            Probe::No if shared.export_name => {
                let Some(bytes) = input.get(..EXPORT_ANSWER) else {
                    return Some(Step::Need(EXPORT_ANSWER));
                };
                out.reveal(bytes);
                out.ready(shared);
                self.state = State::Zeroes;
                return Some(Step::used(EXPORT_ANSWER));
            }
            Probe::No => return None,
        }
        let (Some(option), Some(kind), Some(length)) =
            (be32(input, 8), be32(input, 12), be32(input, 16))
        else {
            return Some(Step::Need(OPTION_REPLY_HEAD));
        };
        if length > MAX_PAYLOAD {
            return None;
        }
        let length = usize::try_from(length).ok()?;
        let read = if length <= MAX_OPTION { length } else { 0 };
        let Some(bytes) = input.get(..OPTION_REPLY_HEAD + read) else {
            return Some(Step::Need(OPTION_REPLY_HEAD + read));
        };
        out.reveal(bytes);
        match (option, kind) {
            (table::OPT_GO, table::REP_ACK) => {
                out.ready(shared);
                self.state = State::Replies;
            }
            (table::OPT_STARTTLS, table::REP_ACK) => {
                shared.tls = true;
                self.state = State::Tls;
                out.offset = out.offset.saturating_add(bytes.len() as u64);
                out.item(Item::Tls);
            }
            _ => {}
        }
        Some(Step::Done {
            used: bytes.len(),
            skip: (length - read) as u64,
        })
    }

    fn reply<M: Copy, S: Sink<M>>(
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
        match Reply::read(bytes)? {
            Reply::Simple { error, cookie } => {
                out.reveal(bytes);
                // A cookie that is not known belongs to a request that was lost; if it was a
                // READ, the next head will be missing.
                let data = shared.answer(cookie).map_or(0, |o| o.data);
                out.item(Item::Reply { cookie, error });
                let skip = if error == 0 { u64::from(data) } else { 0 };
                Some(Step::Done { used: head, skip })
            }
            Reply::Chunk {
                head,
                done,
                error,
                cookie,
                length,
            } => {
                // An error chunk begins with the error's number.
                let number = if error { ERROR_NUMBER } else { 0 };
                let used = head + number;
                let Some(bytes) = input.get(..used) else {
                    return Some(Step::Need(used));
                };
                let skip = u64::from(length).checked_sub(number as u64)?;
                out.reveal(bytes);
                let value = be32(bytes, head).filter(|_| error);
                if let (Some(value), Some(o)) = (value, shared.find(cookie)) {
                    o.error = value;
                }
                if done {
                    let before = shared.answer(cookie).map_or(0, |o| o.error);
                    let error = value.unwrap_or(before);
                    out.item(Item::Reply { cookie, error });
                }
                Some(Step::Done { used, skip })
            }
        }
    }

    /// A reply to a request that waits for one.
    fn search<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        shared: &mut Shared,
        out: &mut Out<'_, M, S>,
    ) -> Step {
        if shared.tls {
            self.state = State::Tls;
            out.item(Item::Tls);
            return Step::AGAIN;
        }
        const FIRST: [u8; 3] = [
            (table::SIMPLE_REPLY_MAGIC >> 24) as u8,
            (table::STRUCTURED_REPLY_MAGIC >> 24) as u8,
            (table::EXTENDED_REPLY_MAGIC >> 24) as u8,
        ];
        let [a, b, c] = FIRST;
        match memchr3(a, b, c, input) {
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
        let believed = Reply::read(bytes).is_some_and(|r| {
            let known = shared.find(r.cookie()).is_some();
            known && !matches!(r, Reply::Simple { error, .. } if !table::ERRORS.contains(&error))
        });
        if !believed {
            return Step::used(1);
        }
        self.state = State::Replies;
        out.item(Item::Found);
        Step::AGAIN
    }
}
