//! What TLS shows without keys: its records, the server name and versions of the ClientHello,
//! the version of the ServerHello. Payloads are stepped over by arithmetic.
//!
//! Source: RFC 8446 sections 4.1.2, 4.1.3, 4.2.1, 5.1; RFC 5246 section 6.2; RFC 6066 section 3.

use crate::intake::{Intake, Step, be16};
use crate::qemu::Probe;

/// Head of a record, bytes.
const HEAD: usize = 5;

/// Longest payload of a record: ciphertext of TLS 1.2. Bytes.
const MAX_PAYLOAD: u16 = (1 << 14) + 2048;

/// Version in the records of TLS 1.2 and 1.3.
const MIDDLE_VERSION: u16 = 0x0303;

/// Longest server name that is kept. Bytes.
pub const MAX_SERVER_NAME: usize = 255;

/// Versions of a ClientHello that are kept; clients offer four at most, and one GREASE value.
pub const MAX_VERSIONS: usize = 8;

/// Extension `server_name`.
const SERVER_NAME: u16 = 0;
/// Extension `supported_versions`.
const SUPPORTED_VERSIONS: u16 = 43;
/// Handshake message `client_hello`.
const CLIENT_HELLO: u8 = 1;
/// Handshake message `server_hello`.
const SERVER_HELLO: u8 = 2;

/// Type of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// Type 20, `change_cipher_spec`.
    ChangeCipherSpec,
    /// Type 21, `alert`.
    Alert,
    /// Type 22, `handshake`.
    Handshake,
    /// Type 23, `application_data`.
    ApplicationData,
    /// Type 24, `heartbeat` (RFC 6520).
    Heartbeat,
}

impl ContentType {
    fn of(b: u8) -> Option<Self> {
        Some(match b {
            20 => Self::ChangeCipherSpec,
            21 => Self::Alert,
            22 => Self::Handshake,
            23 => Self::ApplicationData,
            24 => Self::Heartbeat,
            _ => return None,
        })
    }
}

/// Versions that a client offers, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Versions {
    list: [u16; MAX_VERSIONS],
    count: usize,
}

impl Versions {
    fn add(&mut self, version: u16) {
        if let Some(place) = self.list.get_mut(self.count) {
            *place = version;
            self.count += 1;
        }
    }

    /// The versions, for example 0x0304 for TLS 1.3.
    pub fn as_slice(&self) -> &[u16] {
        self.list.get(..self.count).unwrap_or_default()
    }
}

/// What the decoder found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record begins.
    Record {
        /// Type.
        kind: ContentType,
        /// Version of the record layer, at most 0x0303 in TLS 1.3.
        version: u16,
        /// Bytes of payload.
        length: u16,
    },
    /// The client's first message.
    ClientHello {
        /// Host name of the server, at most [`MAX_SERVER_NAME`] printable bytes.
        server_name: Option<&'a str>,
        /// Versions offered.
        versions: Versions,
    },
    /// The server's first message.
    ServerHello {
        /// Version chosen.
        version: u16,
    },
    /// Out of step from here; what follows is searched for a record.
    Lost,
    /// In step again.
    Found,
}

/// Receives what the decoder finds. `M` is the caller's mark of a slice.
pub trait Sink<M> {
    /// An item whose first byte lay in the slice marked `begin`, at stream offset `offset`.
    fn item(&mut self, item: Item<'_>, begin: M, offset: u64);

    /// Bytes at `offset` that are structure. Every byte that is not revealed is content.
    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        let _ = (offset, bytes);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    kind: ContentType,
    version: u16,
    length: u16,
}

/// `Err`: no TLS. `Ok(None)`: too few bytes.
fn record(input: &[u8]) -> Result<Option<Record>, ()> {
    let kind = input.first().map(|b| ContentType::of(*b).ok_or(()));
    if input.get(1).is_some_and(|b| *b != 3) || input.get(2).is_some_and(|b| *b > 4) {
        return Err(());
    }
    let kind = kind.transpose()?;
    let (Some(kind), Some(version), Some(length)) = (kind, be16(input, 1), be16(input, 3)) else {
        return Ok(None);
    };
    let r = Record {
        kind,
        version,
        length,
    };
    if length > MAX_PAYLOAD {
        Err(())
    } else {
        Ok(Some(r))
    }
}

/// Does a ClientHello begin here?
pub fn probe(input: &[u8]) -> Probe {
    match record(input) {
        Err(()) => Probe::No,
        Ok(_) if input.first().is_some_and(|b| *b != 22) => Probe::No,
        Ok(None) => Probe::NeedMore,
        Ok(Some(r)) if r.length < 4 => Probe::No,
        Ok(Some(_)) => match input.get(HEAD) {
            None => Probe::NeedMore,
            Some(&CLIENT_HELLO) => Probe::Yes,
            Some(_) => Probe::No,
        },
    }
}

/// Does this segment, from the middle of a connection, consist of whole records of application
/// data? Nothing else in it would tell.
pub fn is_records(input: &[u8]) -> bool {
    let mut rest = input;
    while !rest.is_empty() {
        let found = record(rest).ok().flatten();
        let whole = found.filter(|r| r.kind == ContentType::ApplicationData && r.length > 0);
        let Some(r) = whole.filter(|r| r.version == MIDDLE_VERSION) else {
            return false;
        };
        match rest.get(HEAD + usize::from(r.length)..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    !input.is_empty()
}

/// The bytes behind a vector whose length stands in `N` bytes, and the vector, cut where the
/// input ends.
fn vector<const N: usize>(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = input.get(..N)?;
    let n = head.iter().fold(0, |n, b| (n << 8) | usize::from(*b));
    let body = input.get(N..)?;
    Some(body.split_at(n.min(body.len())))
}

fn extensions<'a>(mut input: &'a [u8], mut each: impl FnMut(u16, &'a [u8])) {
    while let Some(kind) = be16(input, 0) {
        let Some((body, rest)) = input.get(2..).and_then(vector::<2>) else {
            return;
        };
        each(kind, body);
        input = rest;
    }
}

/// Host name of a `server_name` extension.
fn host_name(extension: &[u8]) -> Option<&[u8]> {
    let (list, _) = vector::<2>(extension)?;
    let (&kind, name) = list.split_first()?;
    let (name, _) = vector::<2>(name)?;
    let clean = name.iter().all(u8::is_ascii_graphic);
    (kind == 0 && !name.is_empty() && name.len() <= MAX_SERVER_NAME && clean).then_some(name)
}

/// Server name, versions. `body` begins behind type and length of the message.
fn client_hello(body: &[u8]) -> Option<(Option<&str>, Versions)> {
    let legacy = be16(body, 0)?;
    let (_session, rest) = vector::<1>(body.get(34..)?)?;
    let (_suites, rest) = vector::<2>(rest)?;
    let (_compression, rest) = vector::<1>(rest)?;
    // TLS 1.0 and before may have no extensions.
    let (list, _) = vector::<2>(rest).unwrap_or_default();
    let (mut name, mut versions) = (None, Versions::default());
    extensions(list, |kind, e| match kind {
        SERVER_NAME => name = host_name(e),
        SUPPORTED_VERSIONS => {
            let (list, _) = vector::<1>(e).unwrap_or_default();
            for v in list.chunks_exact(2) {
                versions.add(be16(v, 0).unwrap_or_default());
            }
        }
        _ => {}
    });
    if versions.count == 0 {
        versions.add(legacy);
    }
    Some((name.and_then(|n| std::str::from_utf8(n).ok()), versions))
}

fn server_hello(body: &[u8]) -> Option<u16> {
    let mut version = be16(body, 0)?;
    let (_session, rest) = vector::<1>(body.get(34..)?)?;
    // Cipher suite, compression.
    let (list, _) = vector::<2>(rest.get(3..)?).unwrap_or_default();
    extensions(list, |kind, e| {
        if kind == SUPPORTED_VERSIONS {
            version = be16(e, 0).unwrap_or(version);
        }
    });
    Some(version)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No hello yet.
    Hello,
    Records,
    Lost,
}

/// Push decoder of one direction of a TLS connection.
#[derive(Debug, Clone)]
pub struct Decoder<M> {
    intake: Intake<M>,
    core: Core,
}

#[derive(Debug, Clone)]
struct Core {
    state: State,
    whole: bool,
}

impl<M: Copy> Default for Decoder<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Copy> Decoder<M> {
    /// At the first byte of a direction.
    pub fn new() -> Self {
        Self::at(0)
    }

    /// The same where TLS begins later in a connection, after STARTTLS: `offset` numbers the
    /// first byte that will be pushed.
    pub fn at(offset: u64) -> Self {
        Self {
            intake: Intake::new(offset),
            core: Core {
                state: State::Hello,
                whole: true,
            },
        }
    }

    /// Offset up to which every byte has been understood or is known to be content.
    pub fn resolved(&self) -> u64 {
        self.intake.offset()
    }

    /// Has a record begun that is not whole yet?
    pub fn inside_record(&self) -> bool {
        self.intake.inside()
    }

    /// True while no byte with structure was lost.
    pub fn whole(&self) -> bool {
        self.core.whole
    }

    /// Feeds the next bytes.
    pub fn push<S: Sink<M>>(&mut self, mark: M, data: &[u8], sink: &mut S) {
        let Self { intake, core } = self;
        intake.push(mark, data, |input, begin, offset| {
            core.step(input, begin, offset, sink)
        });
    }

    /// `length` bytes are missing here.
    pub fn gap<S: Sink<M>>(&mut self, length: u64, mark: M, sink: &mut S) {
        if let Some((mark, offset)) = self.intake.gap(length, mark) {
            self.core.lose(mark, offset, sink);
        }
    }

    /// The connection has ended.
    pub fn finish(&mut self) {
        if self.intake.let_go() > 0 {
            self.core.whole = false;
        }
    }
}

impl Core {
    fn lose<M: Copy, S: Sink<M>>(&mut self, mark: M, offset: u64, sink: &mut S) {
        self.whole = false;
        if self.state != State::Lost {
            self.state = State::Lost;
            sink.item(Item::Lost, mark, offset);
        }
    }

    fn step<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        begin: M,
        offset: u64,
        sink: &mut S,
    ) -> Step {
        if self.state == State::Lost {
            return self.search(input, begin, offset, sink);
        }
        let r = match record(input) {
            Ok(Some(r)) => r,
            Ok(None) => return Step::Need(HEAD),
            Err(()) => {
                self.lose(begin, offset, sink);
                return Step::AGAIN;
            }
        };
        let hello = self.state == State::Hello && r.kind == ContentType::Handshake;
        let used = if hello {
            HEAD + usize::from(r.length)
        } else {
            HEAD
        };
        let Some(bytes) = input.get(..used) else {
            return Step::Need(used);
        };
        let item = Item::Record {
            kind: r.kind,
            version: r.version,
            length: r.length,
        };
        sink.item(item, begin, offset);
        if hello {
            self.state = State::Records;
            self.hello(bytes, begin, offset, sink);
            return Step::used(used);
        }
        sink.reveal(offset, bytes);
        Step::Done {
            used,
            skip: u64::from(r.length),
        }
    }

    /// The first handshake record of a direction, which is in clear.
    fn hello<M: Copy, S: Sink<M>>(&self, bytes: &[u8], begin: M, offset: u64, sink: &mut S) {
        let (head, payload) = bytes.split_at(bytes.len().min(HEAD));
        let body = payload.get(4..).unwrap_or_default();
        let found = match payload.first() {
            Some(&CLIENT_HELLO) => client_hello(body).map(|(server_name, versions)| {
                let item = Item::ClientHello {
                    server_name,
                    versions,
                };
                sink.item(item, begin, offset);
            }),
            Some(&SERVER_HELLO) => server_hello(body).map(|version| {
                sink.item(Item::ServerHello { version }, begin, offset);
            }),
            _ => None,
        };
        sink.reveal(offset, if found.is_some() { bytes } else { head });
    }

    /// A record that another record follows.
    fn search<M: Copy, S: Sink<M>>(
        &mut self,
        input: &[u8],
        begin: M,
        offset: u64,
        sink: &mut S,
    ) -> Step {
        for at in 0..input.len() {
            let here = input.get(at..).unwrap_or_default();
            let candidate = match record(here) {
                Err(()) => continue,
                Ok(Some(r)) if r.length == 0 => continue,
                _ if at > 0 => return Step::used(at),
                Ok(None) => return Step::Need(HEAD),
                Ok(Some(r)) => r,
            };
            let next = HEAD + usize::from(candidate.length);
            match record(input.get(next..).unwrap_or_default()) {
                Err(()) => continue,
                Ok(None) => return Step::Need(next + HEAD),
                Ok(Some(_)) => {
                    self.state = State::Records;
                    sink.item(Item::Found, begin, offset);
                    return Step::AGAIN;
                }
            }
        }
        Step::used(input.len())
    }
}
