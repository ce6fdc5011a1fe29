//! What is remembered of each connection and each attempt until a migration can be told.

use phasescope_parsers::libvirt::cookie::Statistics;
use phasescope_parsers::libvirt::domain::DomainSummary;
use phasescope_parsers::libvirt::message::RpcError;
use phasescope_parsers::libvirt::uri::MigrationUri;
use phasescope_parsers::qemu::DEFAULT_PAGE_SIZE;
use phasescope_parsers::qemu::block::CHUNK;
use phasescope_parsers::qemu::ram::Counts;
use phasescope_parsers::qemu::stream::DiskCounts;

use super::encrypted::MIN_MESSAGE;
use super::markers::Signal;
use super::outcome::one_sided;
use super::{Handshake, Identification};
use crate::dissect::event::{Event, Preempt, Requests, Round};
use crate::net::tcp::HalfStats;
use crate::net::{Direction, FlowInfo, Stamp};
use crate::time::Timestamp;

/// Calls that are kept of one libvirt connection.
pub(super) const MAX_CALLS: usize = 1024;

/// Rounds that are kept of one stream; later ones are added to the last.
pub(super) const MAX_ROUNDS: usize = 1024;

/// Signals of one attempt; each kind is kept once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// The frame that completed the message.
    pub(super) stamp: Stamp,
    /// The frame of its first byte.
    pub(super) begin: Stamp,
    /// How far from `stamp` it may lie.
    pub(super) uncertainty_ns: i64,
}

impl Mark {
    /// Where a message was.
    pub(super) fn of(event: &Event) -> Self {
        Self {
            stamp: event.stamp,
            begin: event.begin,
            uncertainty_ns: 0,
        }
    }

    pub(super) fn at(stamp: Stamp) -> Self {
        Self {
            stamp,
            begin: stamp,
            uncertainty_ns: 0,
        }
    }
}

/// A libvirt call and its reply.
#[derive(Debug, Clone)]
pub(super) struct CallRecord {
    pub(super) program: u32,
    pub(super) procedure: i32,
    pub(super) name: Option<&'static str>,
    pub(super) serial: u32,
    pub(super) call: Option<Stamp>,
    pub(super) reply: Option<Stamp>,
    pub(super) ok: Option<bool>,
}

/// A libvirt connection.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) info: FlowInfo,
    pub(super) ended: bool,
    pub(super) open_reply: Option<Mark>,
    pub(super) calls: Vec<CallRecord>,
    pub(super) missing_bytes: u64,
    /// Attempts that were prepared or finished here.
    pub(super) attempts: u32,
    /// Keepalive requests of each direction since the other side said anything.
    pub(super) pings: [u32; 2],
    /// What encrypts it.
    pub(super) handshake: Wrapping,
}

impl Session {
    /// From its first byte to its close, both ways.
    pub(super) fn seen_whole(&self) -> bool {
        let holes = |h: HalfStats| h.missing_bytes + h.cut_bytes;
        self.missing_bytes == 0
            && self.info.halves.map(holes) == [0; 2]
            && self.info.from_start == [true; 2]
            && !one_sided(&self.info)
    }
}

/// A migration stream.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) info: FlowInfo,
    pub(super) ended: bool,
    /// Who sends the guest.
    pub(super) source: Direction,
    pub(super) header: Option<Mark>,
    pub(super) machine: Option<String>,
    pub(super) uuid: Option<[u8; 16]>,
    pub(super) ram_bytes: Option<u64>,
    pub(super) page_size: u32,
    pub(super) counts: Counts,
    /// Ended `ram` sections of kind PART.
    pub(super) parts: u64,
    /// Counts of the END.
    pub(super) last_pass: Option<Counts>,
    pub(super) rounds: Vec<Round>,
    pub(super) device_bytes: u64,
    /// Disks inside the stream.
    pub(super) disks: Option<DiskRecord>,
    /// The first section of disks, and the end of the last.
    pub(super) disks_from: Option<Mark>,
    pub(super) disks_until: Option<Mark>,
    /// The guest was stopped: no earlier than the first stamp, no later than the second.
    pub(super) stopped: Option<(Option<Stamp>, Stamp)>,
    pub(super) memory_end: Option<Stamp>,
    pub(super) end: Option<Mark>,
    pub(super) loaded: Option<(Stamp, bool)>,
    pub(super) postcopy_run: Option<Stamp>,
    /// It goes on with a post-copy that broke: the guest runs at the destination already.
    pub(super) resumes: bool,
    pub(super) pages_before_switch: Option<u64>,
    pub(super) requests: Option<Requests>,
    pub(super) lost: u64,
    pub(super) missing_bytes: u64,
    pub(super) incomplete: bool,
}

impl Stream {
    pub(super) fn new(info: FlowInfo, source: Direction) -> Self {
        Self {
            info,
            ended: false,
            source,
            header: None,
            machine: None,
            uuid: None,
            ram_bytes: None,
            page_size: DEFAULT_PAGE_SIZE,
            counts: Counts::default(),
            parts: 0,
            last_pass: None,
            rounds: Vec::new(),
            device_bytes: 0,
            disks: None,
            disks_from: None,
            disks_until: None,
            stopped: None,
            memory_end: None,
            end: None,
            loaded: None,
            postcopy_run: None,
            resumes: false,
            pages_before_switch: None,
            requests: None,
            lost: 0,
            missing_bytes: 0,
            incomplete: false,
        }
    }

    /// All of it was seen, and it was closed before its end.
    pub(super) fn broken_off(&self) -> bool {
        let seen = self.header.is_some() && self.lost == 0 && self.missing_bytes == 0;
        seen && self.end.is_none() && self.info.closed().is_some()
    }

    /// A `block` section: a chunk is written whole, even at the disk's end.
    pub(super) fn disks(&mut self, event: &Event, last: bool, counts: &DiskCounts, complete: bool) {
        if last && complete {
            self.disks_until = Some(Mark::at(event.stamp));
        }
        let record = self.disks.get_or_insert_default();
        for name in &counts.devices {
            if record.exports.len() < MAX_DISKS && !record.exports.contains(name) {
                record.exports.push(name.clone());
            }
        }
        record.written += counts.chunks * u64::from(CHUNK);
        record.zeroed += counts.zero_chunks * u64::from(CHUNK);
        if counts.chunks + counts.zero_chunks > 0 {
            record.last_write = Some(event.begin);
        }
        record.lost |= !complete;
    }

    /// Every page record was seen.
    pub(super) fn exact(&self) -> bool {
        (self.header.is_some() || self.resumes)
            && self.end.is_some()
            && self.lost == 0
            && !self.incomplete
    }
}

/// A connection beside the stream.
#[derive(Debug, Clone)]
pub(super) struct Companion {
    pub(super) info: FlowInfo,
    pub(super) ended: bool,
    pub(super) missing_bytes: u64,
    pub(super) kind: CompanionKind,
}

/// What it carries.
#[derive(Debug, Clone)]
pub(super) enum CompanionKind {
    Multifd(ChannelRecord),
    Preempt(PreemptRecord),
    Nbd(DiskRecord),
    Tls(TlsRecord),
    Ssh(SshRecord),
}

impl Companion {
    /// What each side sent in turn, where nothing else can be seen.
    pub(super) fn turns(&self) -> Option<&Turns> {
        match &self.kind {
            CompanionKind::Tls(t) => Some(&t.turns),
            CompanionKind::Ssh(s) => Some(&s.turns),
            _ => None,
        }
    }

    pub(super) fn turns_mut(&mut self) -> Option<&mut Turns> {
        match &mut self.kind {
            CompanionKind::Tls(t) => Some(&mut t.turns),
            CompanionKind::Ssh(s) => Some(&mut s.turns),
            _ => None,
        }
    }

    /// What encrypts it.
    pub(super) fn handshake(&self) -> Wrapping {
        match &self.kind {
            CompanionKind::Tls(t) => Wrapping {
                tls: Some(t.handshake()),
                ssh: None,
            },
            CompanionKind::Ssh(s) => Wrapping {
                tls: None,
                ssh: Some(s.software.clone()),
            },
            _ => Wrapping::default(),
        }
    }
}

/// What a connection is encrypted by, as far as that is said in clear.
#[derive(Debug, Clone, Default)]
pub(super) struct Wrapping {
    pub(super) tls: Option<Handshake>,
    pub(super) ssh: Option<Identification>,
}

/// A multifd channel.
#[derive(Debug, Clone, Default)]
pub(super) struct ChannelRecord {
    pub(super) uuid: Option<[u8; 16]>,
    pub(super) channel: Option<u8>,
    pub(super) normal: u64,
    pub(super) compressed: u64,
    /// Bytes of those.
    pub(super) compressed_bytes: u64,
    pub(super) zero: u64,
    pub(super) device_bytes: u64,
    pub(super) packets: u64,
    pub(super) syncs: u64,
    pub(super) lost: bool,
}

/// Pages of a preempt channel that are kept to be found among those asked for.
const MAX_URGENT: usize = 65_536;

/// A post-copy preempt channel.
#[derive(Debug, Clone, Default)]
pub(super) struct PreemptRecord {
    pub(super) counts: Counts,
    /// Block and offset, and when.
    pub(super) pages: Vec<((String, u64), Stamp)>,
    pub(super) lost: bool,
}

impl PreemptRecord {
    pub(super) fn heard(&mut self, stamp: Stamp, what: &Preempt) {
        match what {
            Preempt::Page {
                block,
                address,
                kind,
                bytes,
            } => {
                self.counts.add(*kind, *bytes);
                if self.pages.len() < MAX_URGENT {
                    self.pages.push(((block.clone(), *address), stamp));
                }
            }
            Preempt::Lost => self.lost = true,
        }
    }
}

/// Disks that are named of one connection.
pub(super) const MAX_DISKS: usize = 64;

/// Disks copied on an NBD connection or inside a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct DiskRecord {
    pub(super) exports: Vec<String>,
    pub(super) written: u64,
    pub(super) zeroed: u64,
    pub(super) last_write: Option<Stamp>,
    pub(super) tls: bool,
    pub(super) lost: bool,
}

/// Turns of an encrypted conversation that are kept: the first ones, and as many of the last.
const MAX_TURNS: usize = 512;

/// Turns of all connections together; past it none are kept until some connections are over.
pub(super) const MAX_ALL_TURNS: usize = 1 << 17;

/// What one side said before the other spoke.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) direction: Direction,
    pub(super) first: Stamp,
    pub(super) last: Stamp,
    pub(super) bytes: u64,
    /// Bytes are missing in it or beside it.
    pub(super) holed: bool,
}

impl Turn {
    pub(super) fn of(event: &Event, bytes: u64) -> Self {
        Self {
            direction: event.flow.map_or(Direction::ToServer, |(_, d)| d),
            first: event.begin,
            last: event.stamp,
            bytes,
            holed: false,
        }
    }
}

/// The turns of a conversation.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    kept: Vec<Turn>,
    pub(super) forgotten: Option<Forgotten>,
    /// So many of the next turns stand beside a hole.
    holed: u8,
}

/// Turns that made room for others, among them some that were no keepalives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forgotten {
    /// Bytes of such uploads.
    pub(super) uploaded: u64,
    /// The first one.
    pub(super) from: Timestamp,
    /// They came between the turns with these numbers.
    pub(super) between: (usize, usize),
}

impl Turns {
    pub(super) fn push(&mut self, mut turn: Turn) {
        turn.holed = self.holed > 0;
        self.holed = self.holed.saturating_sub(1);
        if self.kept.len() >= 2 * MAX_TURNS {
            let gone = self.kept.remove(MAX_TURNS);
            if gone.bytes >= MIN_MESSAGE {
                self.forget(&gone);
            }
        }
        self.kept.push(turn);
    }

    /// Bytes are missing here. A turn is told when it is over: it may be the one that is open, or
    /// that before it, or the next.
    pub(super) fn hole(&mut self) {
        if let Some(last) = self.kept.last_mut() {
            last.holed = true;
        }
        self.holed = 2;
    }

    fn forget(&mut self, gone: &Turn) {
        let new = Forgotten {
            uploaded: 0,
            from: gone.first.time,
            between: (MAX_TURNS, MAX_TURNS),
        };
        let all = self.forgotten.get_or_insert(new);
        all.between = (all.between.0.min(MAX_TURNS), MAX_TURNS);
        if gone.direction == Direction::ToServer {
            all.uploaded += gone.bytes;
        }
    }

    /// The first `n` are of no more use.
    pub(super) fn done(&mut self, n: usize) {
        self.kept.drain(..n.min(self.kept.len()));
        self.forgotten = self.forgotten.and_then(|f| {
            let (from, to) = f.between;
            let between = (from.saturating_sub(n), to.checked_sub(n)?);
            (between.1 > 0).then_some(Forgotten { between, ..f })
        });
    }
}

impl std::ops::Deref for Turns {
    type Target = [Turn];

    fn deref(&self) -> &[Turn] {
        &self.kept
    }
}

/// An SSH connection.
#[derive(Debug, Clone, Default)]
pub(super) struct SshRecord {
    pub(super) software: Identification,
    pub(super) turns: Turns,
}

/// A TLS connection.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsRecord {
    pub(super) server_name: Option<String>,
    pub(super) version: Option<u16>,
    pub(super) turns: Turns,
}

/// Whose daemon a connection goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

impl Side {
    /// The host's side, as the memory flows.
    pub(super) fn of_guest(self) -> Direction {
        match self {
            Self::Source => Direction::ToServer,
            Self::Destination => Direction::ToClient,
        }
    }
}

/// Versions of TLS by their numbers (RFC 8446, section 4.2.1, and those before).
const TLS_VERSIONS: &[(u16, &str)] = &[
    (0x0300, "SSL 3.0"),
    (0x0301, "TLS 1.0"),
    (0x0302, "TLS 1.1"),
    (0x0303, "TLS 1.2"),
    (0x0304, "TLS 1.3"),
];

impl TlsRecord {
    /// For the report.
    pub(super) fn handshake(&self) -> Handshake {
        let name = |v: u16| {
            let known = TLS_VERSIONS.iter().find(|(n, _)| *n == v);
            known.map_or_else(|| format!("{v:#06x}"), |(_, name)| (*name).to_owned())
        };
        Handshake {
            version: self.version.map(name),
            server_name: self.server_name.clone(),
        }
    }
}

/// One attempt to migrate: from PREPARE on, or from the first message seen of it.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// The connection to the destination's daemon; to the source's, where a client drives and
    /// only that one is in the capture.
    pub(super) session: u64,
    /// Whose daemon `session` goes to.
    pub(super) side: Side,
    /// The first attempt on that connection.
    pub(super) first_on_session: bool,
    pub(super) prepare_serial: Option<u32>,
    pub(super) finish_serial: Option<u32>,
    pub(super) signals: Vec<(Signal, Mark)>,
    pub(super) flags: Option<u64>,
    pub(super) tunnelled: bool,
    pub(super) name: Option<String>,
    pub(super) uuid: Option<[u8; 16]>,
    pub(super) domain: Option<DomainSummary>,
    pub(super) source_hostname: Option<String>,
    pub(super) destination_hostname: Option<String>,
    pub(super) uri: Option<MigrationUri>,
    /// Where the destination's NBD server listens.
    pub(super) nbd_port: Option<u16>,
    /// The source's address, where a client drives.
    pub(super) source_address: Option<std::net::IpAddr>,
    /// The performing call to the source: its connection and serial.
    pub(super) perform: Option<(u64, u32)>,
    /// The confirming call: its connection and serial.
    pub(super) confirm: Option<(u64, u32)>,
    /// What the confirming call says: 0 if the migration succeeded.
    pub(super) confirm_cancelled: Option<i32>,
    /// Known from the shape of encrypted traffic alone.
    pub(super) inferred: bool,
    pub(super) error: Option<RpcError>,
    /// Error of the source's PERFORM.
    pub(super) perform_error: Option<RpcError>,
    pub(super) finish_ok: Option<bool>,
    pub(super) statistics: Option<Statistics>,
    /// When the guest stopped, as the source's libvirt says.
    pub(super) told_stop: Option<Stamp>,
    /// Latest message.
    pub(super) last: Timestamp,
}

impl Attempt {
    pub(super) fn new(session: u64, first_on_session: bool) -> Self {
        Self {
            session,
            side: Side::Destination,
            first_on_session,
            prepare_serial: None,
            finish_serial: None,
            signals: Vec::new(),
            flags: None,
            tunnelled: false,
            name: None,
            uuid: None,
            domain: None,
            source_hostname: None,
            destination_hostname: None,
            uri: None,
            nbd_port: None,
            source_address: None,
            perform: None,
            confirm: None,
            confirm_cancelled: None,
            inferred: false,
            error: None,
            perform_error: None,
            finish_ok: None,
            statistics: None,
            told_stop: None,
            last: Timestamp::default(),
        }
    }

    /// Keeps the first of each kind.
    pub(super) fn signal(&mut self, signal: Signal, mark: Mark) {
        self.last = self.last.max(mark.stamp.time);
        if self.mark(signal).is_none() {
            self.signals.push((signal, mark));
        }
    }

    pub(super) fn mark(&self, signal: Signal) -> Option<Mark> {
        self.signals
            .iter()
            .find(|(s, _)| *s == signal)
            .map(|(_, m)| *m)
    }

    pub(super) fn time(&self, signal: Signal) -> Option<Timestamp> {
        self.mark(signal).map(|m| m.stamp.time)
    }

    pub(super) fn has(&self, signal: Signal) -> bool {
        self.mark(signal).is_some()
    }

    /// The connections to daemons that its calls went through.
    pub(super) fn sessions(&self) -> impl Iterator<Item = u64> {
        let source = self.source_session().filter(|s| *s != self.session);
        [Some(self.session), source].into_iter().flatten()
    }

    /// A client's connection to the source's daemon.
    pub(super) fn source_session(&self) -> Option<u64> {
        self.perform.or(self.confirm).map(|(flow, _)| flow)
    }

    /// The FINISH call of either kind.
    pub(super) fn finish_call(&self) -> Option<Mark> {
        self.mark(Signal::FinishCall)
            .or_else(|| self.mark(Signal::FinishCancelCall))
    }
}
