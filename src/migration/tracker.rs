//! From events to migrations: keeps records of connections and attempts, and tells a migration
//! when all of it has been seen.

mod direct;
mod joining;
mod looking;
mod running;

use std::collections::BTreeMap;

use phasescope_parsers::libvirt::cookie::Cookie;
use phasescope_parsers::libvirt::header::{
    Header, MessageType, PROGRAM_KEEPALIVE, PROGRAM_REMOTE, Status,
};
use phasescope_parsers::libvirt::message::Body;
use phasescope_parsers::libvirt::procedures as procedure;
use phasescope_parsers::libvirt::uri::MigrationUri;
use phasescope_parsers::qemu::command;
use phasescope_parsers::qemu::element::ElementType;
use phasescope_parsers::qemu::return_path::Message;

use super::assemble;
use super::guests::GuestLogs;
use super::markers::Signal;
use super::multifd::Channels;
use super::openstack::{Cloud, Story};
use super::records::{
    Attempt, CallRecord, Companion, CompanionKind, MAX_CALLS, MAX_ROUNDS, Mark, Session, Stream,
    Wrapping,
};
use super::{Clock, Migration};
use crate::dissect::event::{Event, Kind, Protocol, Qemu, Rpc};
use crate::net::tcp::Missing;
use crate::net::{Direction, Endpoint, FlowInfo, Oddities, Stamp};
use crate::time::Timestamp;
pub use running::Running;

/// A migration is told when so much time has passed since its last message and its connections
/// have ended: late echo replies and announcements belong to it. Nanoseconds.
const SETTLE_NS: i64 = 15_000_000_000;

/// Attempts that are not over at once; past it the oldest is told as it is.
const MAX_ATTEMPTS: usize = 4096;

/// Replies that may be ahead of their calls, where the directions of a tap are not in step.
const MAX_EARLY_REPLIES: usize = 4;

/// Which step of a migration a procedure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Begin,
    Prepare,
    Perform,
    Finish,
    Confirm,
}

/// Procedures by step (libvirt `src/remote/remote_protocol.x`).
const STEPS: &[(Step, &[i32])] = &[
    (
        Step::Begin,
        &[
            procedure::DOMAIN_MIGRATE_BEGIN3,
            procedure::DOMAIN_MIGRATE_BEGIN3_PARAMS,
        ],
    ),
    (
        Step::Prepare,
        &[
            procedure::DOMAIN_MIGRATE_PREPARE,
            procedure::DOMAIN_MIGRATE_PREPARE2,
            procedure::DOMAIN_MIGRATE_PREPARE_TUNNEL,
            procedure::DOMAIN_MIGRATE_PREPARE3,
            procedure::DOMAIN_MIGRATE_PREPARE_TUNNEL3,
            procedure::DOMAIN_MIGRATE_PREPARE3_PARAMS,
            procedure::DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS,
        ],
    ),
    (
        Step::Perform,
        &[
            procedure::DOMAIN_MIGRATE_PERFORM,
            procedure::DOMAIN_MIGRATE_PERFORM3,
            procedure::DOMAIN_MIGRATE_PERFORM3_PARAMS,
        ],
    ),
    (
        Step::Finish,
        &[
            procedure::DOMAIN_MIGRATE_FINISH,
            procedure::DOMAIN_MIGRATE_FINISH2,
            procedure::DOMAIN_MIGRATE_FINISH3,
            procedure::DOMAIN_MIGRATE_FINISH3_PARAMS,
        ],
    ),
    (
        Step::Confirm,
        &[
            procedure::DOMAIN_MIGRATE_CONFIRM3,
            procedure::DOMAIN_MIGRATE_CONFIRM3_PARAMS,
        ],
    ),
];

fn step(h: &Header) -> Option<Step> {
    (h.program == PROGRAM_REMOTE)
        .then(|| STEPS.iter().find(|(_, p)| p.contains(&h.procedure)))
        .flatten()
        .map(|(s, _)| *s)
}

/// Watches events and tells migrations.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    first: Option<Timestamp>,
    now: Timestamp,
    sessions: BTreeMap<u64, Session>,
    streams: BTreeMap<u64, Stream>,
    attempts: Vec<Attempt>,
    pub(super) companions: BTreeMap<u64, Companion>,
    /// Multifd channels by the guest's UUID and the place where the destination listens.
    pub(super) channels: BTreeMap<([u8; 16], Endpoint), Channels>,
    /// BEGIN calls of clients whose PREPARE has not come yet.
    begins: Vec<direct::Begun>,
    guests: GuestLogs,
    cloud: Cloud,
    told: u32,
    /// Turns that are kept, or were when that was looked at last.
    pub(super) turns: usize,
    /// Limits that were reached.
    pub(super) oddities: Oddities,
}

impl Tracker {
    /// Every frame's time: offsets count from the first.
    pub fn time(&mut self, time: Timestamp) {
        self.first.get_or_insert(time);
        self.now = self.now.max(time);
    }

    /// Takes the next event.
    pub fn event(&mut self, event: &Event) {
        match &event.kind {
            Kind::Guest(guest) => self.guests.event(event.stamp, guest),
            Kind::Rpc(rpc) => self.rpc(event, rpc),
            Kind::Qemu(what) => self.qemu(event, what),
            Kind::Recognised(protocol, info) => self.recognised(*protocol, event, info),
            Kind::Ended(protocol, info) => self.ended(*protocol, info),
            Kind::Closing { reset } => self.closing(event, *reset),
            Kind::Multifd(what) => self.multifd(event, what),
            Kind::Preempt(what) => self.preempt(event, what),
            Kind::Nbd(what) => self.nbd(event, what),
            Kind::Tls(what) => {
                self.cloud.event(event);
                self.tls(event, what);
            }
            Kind::Ssh(what) => self.ssh(event, what),
            Kind::Amqp(_) | Kind::Http(_) => self.cloud.event(event),
            Kind::Gap {
                length, missing, ..
            } => {
                if let Some((flow, _)) = event.flow {
                    if let Some(s) = self.sessions.get_mut(&flow) {
                        s.missing_bytes += length;
                    }
                    if let Some(s) = self.streams.get_mut(&flow) {
                        s.missing_bytes += length;
                    }
                    if let Some(c) = self.companions.get_mut(&flow) {
                        c.missing_bytes += length;
                        // What is cut off has a length and a time.
                        if *missing == Missing::Lost
                            && let Some(turns) = c.turns_mut()
                        {
                            turns.hole();
                        }
                    }
                }
            }
        }
    }

    fn recognised(&mut self, protocol: Protocol, event: &Event, info: &FlowInfo) {
        match protocol {
            Protocol::LibvirtRpc => {
                let session = Session {
                    info: info.clone(),
                    ended: false,
                    open_reply: None,
                    calls: Vec::new(),
                    missing_bytes: 0,
                    attempts: 0,
                    pings: [0; 2],
                    handshake: Wrapping::default(),
                };
                self.sessions.insert(info.id, session);
            }
            Protocol::QemuMigration => {
                let source = event.flow.map_or(Direction::ToServer, |(_, d)| d);
                self.streams
                    .insert(info.id, Stream::new(info.clone(), source));
            }
            Protocol::Multifd => self.companion(info, CompanionKind::Multifd(Default::default())),
            Protocol::Preempt => self.companion(info, CompanionKind::Preempt(Default::default())),
            Protocol::Nbd => self.companion(info, CompanionKind::Nbd(Default::default())),
            Protocol::Tls => {
                self.cloud.recognised_tls(info);
                self.companion(info, CompanionKind::Tls(Default::default()));
            }
            Protocol::Ssh => self.companion(info, CompanionKind::Ssh(Default::default())),
            Protocol::Amqp | Protocol::Http => self.cloud.recognised(info),
        }
    }

    fn ended(&mut self, protocol: Protocol, info: &FlowInfo) {
        match protocol {
            Protocol::LibvirtRpc => {
                if let Some(s) = self.sessions.get_mut(&info.id) {
                    s.info = info.clone();
                    s.ended = true;
                }
            }
            Protocol::QemuMigration => {
                if let Some(s) = self.streams.get_mut(&info.id) {
                    s.info = info.clone();
                    s.ended = true;
                }
            }
            Protocol::Multifd
            | Protocol::Preempt
            | Protocol::Nbd
            | Protocol::Tls
            | Protocol::Ssh => {
                if let Some(c) = self.companions.get_mut(&info.id) {
                    c.info = info.clone();
                    c.ended = true;
                }
                // One that libvirt's calls go through.
                if let Some(s) = self.sessions.get_mut(&info.id) {
                    s.info = info.clone();
                    s.ended = true;
                }
                self.cloud.ended(info);
            }
            Protocol::Amqp | Protocol::Http => self.cloud.ended(info),
        }
    }

    fn rpc(&mut self, event: &Event, rpc: &Rpc) {
        let Some((flow, direction)) = event.flow else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&flow) else {
            return;
        };
        let h = &rpc.header;
        session.heard(rpc, direction);
        if h.program == PROGRAM_KEEPALIVE {
            return;
        }
        session.note(rpc, event);
        let mark = Mark::of(event);
        let reply = h.kind == MessageType::Reply;
        if reply
            && h.program == PROGRAM_REMOTE
            && h.procedure == procedure::CONNECT_OPEN
            && h.status == Status::Ok
        {
            session.open_reply.get_or_insert(mark);
        }
        if step(h) == Some(Step::Prepare)
            && h.kind == MessageType::Stream
            && h.status != Status::Continue
        {
            self.tunnel_ended(flow, h, mark);
        }
        match (step(h), h.kind) {
            (Some(Step::Prepare), MessageType::Call) => self.prepare(flow, h, mark, &rpc.body),
            (Some(Step::Prepare), MessageType::Reply) => self.prepared(flow, h, mark, &rpc.body),
            (Some(Step::Finish), MessageType::Call) => self.finish_call(flow, h, mark, &rpc.body),
            (Some(Step::Finish), MessageType::Reply) => self.finished(flow, h, mark, &rpc.body),
            (Some(Step::Begin), MessageType::Call) => self.begin(flow, h, mark, &rpc.body),
            (Some(Step::Begin), MessageType::Reply) => self.begin_reply(flow, h, &rpc.body),
            (Some(Step::Perform), MessageType::Call) => self.perform(flow, h, mark, &rpc.body),
            (Some(Step::Perform), MessageType::Reply) => self.performed(flow, h, mark, &rpc.body),
            (Some(Step::Confirm), MessageType::Call) => self.confirm(flow, h, mark, &rpc.body),
            (Some(Step::Confirm), MessageType::Reply) => self.confirmed(flow, h, mark),
            _ => self.told_by_client_event(&rpc.body),
        }
    }

    /// The stream inside the connection was finished (or aborted), and that was acknowledged.
    fn tunnel_ended(&mut self, flow: u64, h: &Header, mark: Mark) {
        let attempt = self
            .attempts
            .iter_mut()
            .find(|a| a.session == flow && a.prepare_serial == Some(h.serial));
        if let Some(a) = attempt
            && h.status == Status::Ok
        {
            a.signal(Signal::TunnelEnd, mark);
        }
    }

    fn new_attempt(&mut self, flow: u64) -> &mut Attempt {
        let first = self.sessions.get_mut(&flow).is_some_and(|s| {
            s.attempts += 1;
            s.attempts == 1
        });
        self.attempts.push(Attempt::new(flow, first));
        let last = self.attempts.len() - 1;
        &mut self.attempts[last]
    }

    /// The attempt on this connection that `fits`, the latest one first; a new one where none
    /// does, for its beginning may not have been captured.
    fn attempt(&mut self, flow: u64, fits: impl Fn(&Attempt) -> bool) -> &mut Attempt {
        let found = self
            .attempts
            .iter()
            .rposition(|a| a.session == flow && fits(a));
        match found {
            Some(i) => &mut self.attempts[i],
            None => self.new_attempt(flow),
        }
    }

    fn prepare(&mut self, flow: u64, h: &Header, mark: Mark, body: &Body) {
        // Where two directions of a tap are not in step, the reply may come first.
        let serial = Some(h.serial);
        let early = |a: &Attempt| a.prepare_serial == serial && !a.has(Signal::PrepareCall);
        let attempt = self.attempt(flow, early);
        attempt.prepare_serial = serial;
        attempt.signal(Signal::PrepareCall, mark);
        let Body::Prepare(p) = body else { return };
        attempt.flags = Some(p.flags);
        attempt.tunnelled = p.tunnelled;
        attempt.name = p.destination_name.clone();
        attempt.domain = p.domain.clone();
        attempt.uri = p.uri_in.as_deref().and_then(MigrationUri::parse);
        attempt.nbd_port = p.disks_port.and_then(|p| u16::try_from(p).ok());
        attempt.identity_of_source(p.cookie.as_ref());
        if let Some(d) = &p.domain {
            attempt.name = attempt.name.take().or_else(|| d.name.clone());
            attempt.uuid = attempt.uuid.or(d.uuid);
        }
        let here = |a: &Attempt| a.session == flow && a.prepare_serial == serial;
        if let Some(i) = self.attempts.iter().rposition(here) {
            self.begun(i);
        }
    }

    fn prepared(&mut self, flow: u64, h: &Header, mark: Mark, body: &Body) {
        let serial = h.serial;
        let attempt = self.attempt(flow, |a| a.prepare_serial == Some(serial));
        attempt.prepare_serial = Some(serial);
        if h.status == Status::Error {
            attempt.signal(Signal::PrepareError, mark);
            if let Body::Error(e) = body {
                attempt.error = Some(e.clone());
            }
            return;
        }
        attempt.signal(Signal::PrepareReply, mark);
        if let Body::PrepareReply { cookie, uri } = body {
            attempt.identity_of_destination(cookie.as_ref());
            let nbd = cookie.as_ref().and_then(|c| c.nbd.as_ref());
            attempt.nbd_port = attempt.nbd_port.or(nbd.and_then(|n| n.port));
            if let Some(uri) = uri.as_deref().and_then(MigrationUri::parse) {
                attempt.uri = Some(uri);
            }
        }
    }

    fn finish_call(&mut self, flow: u64, h: &Header, mark: Mark, body: &Body) {
        let finish = match body {
            Body::Finish(f) => Some(f),
            _ => None,
        };
        let name = finish.and_then(|f| f.destination_name.clone());
        let serial = Some(h.serial);
        let early = |a: &Attempt| a.finish_serial == serial && a.finish_call().is_none();
        let answered = self.attempts.iter().any(|a| a.session == flow && early(a));
        let attempt = self.attempt(flow, |a| match answered {
            true => early(a),
            false => {
                a.finish_serial.is_none()
                    && !a.has(Signal::PrepareError)
                    && (a.name.is_none() || name.is_none() || a.name == name)
            }
        });
        attempt.finish_serial = Some(h.serial);
        let cancelled = finish.and_then(|f| f.cancelled).is_some_and(|c| c != 0);
        attempt.signal(
            if cancelled {
                Signal::FinishCancelCall
            } else {
                Signal::FinishCall
            },
            mark,
        );
        if let Some(f) = finish {
            attempt.flags = attempt.flags.or(Some(f.flags));
            attempt.name = attempt.name.take().or(name);
            attempt.statistics_of(f.cookie.as_ref());
            attempt.told_stop(f.cookie.as_ref(), mark);
            attempt.identity_of_source(f.cookie.as_ref());
            if attempt.uri.is_none() {
                attempt.uri = f.uri.as_deref().and_then(MigrationUri::parse);
            }
        }
    }

    fn finished(&mut self, flow: u64, h: &Header, mark: Mark, body: &Body) {
        let serial = h.serial;
        let is = |a: &Attempt| a.finish_serial == Some(serial);
        let called = self.attempts.iter().any(|a| a.session == flow && is(a));
        let attempt = self.attempt(flow, |a| match called {
            true => is(a),
            // The reply came before its call, or instead of it.
            false => a.finish_serial.is_none() && a.has(Signal::PrepareReply),
        });
        attempt.finish_serial = Some(serial);
        attempt.signal(Signal::FinishReply, mark);
        attempt.finish_ok = Some(h.status == Status::Ok);
        match body {
            Body::Error(e) => attempt.error = Some(e.clone()),
            Body::FinishReply { domain, cookie } => {
                if let Some(d) = domain {
                    attempt.name = attempt.name.take().or_else(|| Some(d.name.clone()));
                    attempt.uuid = attempt.uuid.or(Some(d.uuid));
                }
                attempt.statistics_of(cookie.as_ref());
                attempt.identity_of_destination(cookie.as_ref());
            }
            _ => {}
        }
    }

    fn qemu(&mut self, event: &Event, what: &Qemu) {
        let Some((flow, _)) = event.flow else { return };
        let Some(stream) = self.streams.get_mut(&flow) else {
            return;
        };
        let mark = Mark::of(event);
        match what {
            Qemu::Header => stream.header = Some(mark),
            Qemu::Configuration { machine } => stream.machine = Some(machine.clone()),
            Qemu::Uuid(uuid) => stream.uuid = Some(*uuid),
            Qemu::RamBlocks {
                bytes, page_size, ..
            } => {
                stream.ram_bytes = Some(*bytes);
                stream.page_size = *page_size;
            }
            Qemu::RamPart {
                kind,
                counts,
                complete,
            } => {
                stream.counts += *counts;
                stream.incomplete |= !complete;
                match kind {
                    Some(ElementType::SectionEnd) => {
                        stream.last_pass = Some(*counts);
                        stream.memory_end = Some(event.stamp);
                    }
                    Some(ElementType::SectionPart) => stream.parts += 1,
                    Some(_) => {}
                    None => stream.incomplete = true,
                }
            }
            Qemu::Disks {
                kind,
                counts,
                complete,
            } => {
                let last = *kind == Some(ElementType::SectionEnd);
                stream.disks(event, last, counts, *complete);
            }
            Qemu::Section { kind, name, .. } => {
                if *kind == ElementType::SectionStart && name == "block" {
                    stream.disks_from = Some(mark);
                }
            }
            Qemu::Device { length, .. } => stream.device_bytes += length,
            Qemu::Round(round) => {
                if stream.rounds.len() < MAX_ROUNDS {
                    stream.rounds.push(*round);
                } else if let Some(last) = stream.rounds.last_mut() {
                    last.end = round.end;
                    last.counts += round.counts;
                }
            }
            Qemu::Stopped { since } => {
                stream.stopped.get_or_insert((*since, event.begin));
            }
            Qemu::Command { number, .. } => {
                if *number == command::POSTCOPY_RUN {
                    stream.postcopy_run = Some(event.stamp);
                    stream.pages_before_switch = Some(stream.counts.pages());
                }
                stream.resumes |=
                    matches!(*number, command::RECV_BITMAP | command::POSTCOPY_RESUME);
            }
            Qemu::EndOfStream => stream.end = Some(mark),
            Qemu::ReturnPath(Message::Shut(status)) => {
                stream.loaded = Some((event.stamp, *status == 0));
            }
            Qemu::Requests(r) => stream.requests = Some(r.clone()),
            Qemu::Lost => stream.lost += 1,
            Qemu::Bitmaps { .. }
            | Qemu::PackagedEnd
            | Qemu::VmDescription { .. }
            | Qemu::MultifdFlush
            | Qemu::Found
            | Qemu::ReturnPath(_) => {}
        }
    }

    /// Migrations of which all has been seen by now.
    pub fn ready(&mut self) -> Vec<Migration> {
        let now = self.now;
        let old = |t: Timestamp| now.since(t) > SETTLE_NS;
        let mut out = Vec::new();
        self.look_into_encrypted(|ended, info| ended && old(info.last.time));
        while let Some(i) = self.attempts.iter().position(|a| {
            let session = self.sessions.get(&a.session);
            let over = session.is_none_or(|s| s.ended)
                || a.has(Signal::ConfirmReply)
                || (a.has(Signal::FinishReply) && !a.first_on_session);
            let told = self
                .cloud
                .claim(a)
                .is_none_or(|s| self.cloud.settled(s, now, Some(a.last)));
            over && told && old(a.last) && self.streams_ended(a)
        }) {
            out.push(self.tell(i));
        }
        while self.attempts.len() > MAX_ATTEMPTS {
            out.push(self.tell(0));
        }
        // A stream that nobody claims, and every connection that is of no more use.
        let lone: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, s)| s.ended && old(s.info.last.time))
            .filter(|(_, s)| !self.attempts.iter().any(|a| self.carries(a, s)))
            .filter(|(_, s)| self.cloud.awaits(s.info.first.time).is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in lone {
            if let Some(stream) = self.streams.remove(&id) {
                out.push(self.tell_stream(stream));
            }
        }
        // Companions that no stream came for, and channels of the same.
        let idle: Vec<u64> = self
            .companions
            .iter()
            .filter(|(_, c)| c.ended && old(c.info.last.time))
            .filter(|(_, c)| !self.attempts.iter().any(|a| self.accompanies(a, true, c)))
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            self.companions.remove(&id);
        }
        let turns = self.companions.values().filter_map(Companion::turns);
        self.turns = turns.map(|t| t.len()).sum();
        let companions = &self.companions;
        self.channels
            .retain(|(_, at), _| companions.values().any(|c| c.info.server == *at));
        for id in self.cloud.over(now) {
            if !self
                .attempts
                .iter()
                .any(|a| self.cloud.claim(a) == Some(id))
            {
                out.extend(self.tell_story(id));
            }
        }
        let attempts = &self.attempts;
        self.sessions.retain(|id, s| {
            !s.ended
                || !old(s.info.last.time)
                || attempts.iter().any(|a| a.sessions().any(|s| s == *id))
        });
        out
    }

    /// The capture has ended: the rest. All connections must have ended before.
    pub fn finish(&mut self) -> Vec<Migration> {
        self.guests.finish();
        self.look_into_encrypted(|_, _| true);
        let mut out = Vec::new();
        while !self.attempts.is_empty() {
            out.push(self.tell(0));
        }
        for id in self.cloud.left() {
            out.extend(self.tell_story(id));
        }
        while let Some((_, stream)) = self.streams.pop_first() {
            out.push(self.tell_stream(stream));
        }
        out
    }

    /// Makes the migration of an attempt, and forgets the attempt and its connections.
    fn tell(&mut self, i: usize) -> Migration {
        // Others may have a better claim: all of them are asked.
        let mine = |tracker: &Self, s: &Stream| tracker.carries(&tracker.attempts[i], s);
        let claimed: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, s)| mine(self, s))
            .map(|(id, _)| *id)
            .collect();
        let streams: Vec<Stream> = claimed
            .iter()
            .filter_map(|id| self.streams.remove(id))
            .collect();
        let alone = streams.is_empty();
        let companions =
            self.take_companions(|tracker, c| tracker.accompanies(&tracker.attempts[i], alone, c));
        let attempt = self.attempts.remove(i);
        let story = self.cloud.claim(&attempt);
        let story = story.and_then(|id| self.cloud.take(id));
        self.assemble(Some(&attempt), &streams, &companions, story.as_ref())
    }

    fn tell_stream(&mut self, stream: Stream) -> Migration {
        let companions = self.take_companions(|_, c| is_channel_of(&stream.info, c));
        self.assemble(None, &[stream], &companions, None)
    }

    fn take_companions(&mut self, which: impl Fn(&Self, &Companion) -> bool) -> Vec<Companion> {
        let ids: Vec<u64> = self
            .companions
            .iter()
            .filter(|(_, c)| which(self, c))
            .map(|(id, _)| *id)
            .collect();
        ids.iter()
            .filter_map(|id| self.companions.remove(id))
            .collect()
    }

    /// Makes the migration of a cloud's story whose libvirt part was not understood.
    fn tell_story(&mut self, id: u64) -> Option<Migration> {
        let claimed: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, s)| self.cloud.awaits(s.info.first.time) == Some(id))
            .filter(|(_, s)| !self.attempts.iter().any(|a| self.carries(a, s)))
            .map(|(id, _)| *id)
            .collect();
        let story = self.cloud.take(id)?;
        let streams: Vec<Stream> = claimed
            .iter()
            .filter_map(|id| self.streams.remove(id))
            .collect();
        Some(self.assemble(None, &streams, &[], Some(&story)))
    }

    /// A client's connection to the source's daemon, beside the attempt's own.
    fn source_session(&self, attempt: Option<&Attempt>) -> Option<&Session> {
        let beside = attempt.and_then(|a| a.sessions().nth(1));
        beside.and_then(|s| self.sessions.get(&s))
    }

    fn assemble(
        &mut self,
        attempt: Option<&Attempt>,
        streams: &[Stream],
        companions: &[Companion],
        story: Option<&Story>,
    ) -> Migration {
        self.told += 1;
        self.guests.settle(self.now);
        let mut channels = channel_group(companions).and_then(|key| self.channels.remove(&key));
        if let Some(c) = &mut channels {
            c.finish();
        }
        let session = attempt.and_then(|a| self.sessions.get(&a.session));
        let veiled = session.and_then(|s| {
            let opened = s.info.opened.filter(|_| s.attempts == 1)?;
            let veiled = self.cloud.veiled(s.info.client.ip, opened);
            self.oddities
                .add("cloud-tls-full", u64::from(veiled.is_err()));
            veiled.ok().flatten()
        });
        let parts = assemble::Parts {
            attempt,
            session,
            source_session: self.source_session(attempt),
            veiled,
            streams,
            companions,
            channels: channels.as_ref(),
            guests: &self.guests,
            clock: Clock {
                first: self.first.unwrap_or_default(),
            },
            story,
            now: self.now,
        };
        assemble::migration(self.told, &parts)
    }

    /// Limits that were reached, and a migration's report may depend on.
    pub fn oddities(&self) -> Oddities {
        let mut all = self.oddities.clone();
        all.add("hardware-address-log-full", self.guests.overflow());
        all
    }

    /// The echo series seen, for the capture's own summary.
    pub fn echoes(&self) -> Vec<super::EchoSummary> {
        self.guests
            .echoes()
            .iter()
            .map(|e| super::EchoSummary {
                pinger: e.pinger.to_string(),
                target: e.target.to_string(),
                id: e.id,
                requests: e.requests,
                replies: e.replies,
                unanswered: e.unanswered,
            })
            .collect()
    }
}

/// Is this a channel beside a stream that nothing announced?
fn is_channel_of(stream: &FlowInfo, c: &Companion) -> bool {
    let same = c.info.server == stream.server && c.info.client.ip == stream.client.ip;
    let channel = matches!(
        c.kind,
        CompanionKind::Multifd(_) | CompanionKind::Preempt(_)
    );
    channel && same
}

/// The key of the channels among these connections.
fn channel_group(companions: &[Companion]) -> Option<([u8; 16], Endpoint)> {
    companions.iter().find_map(|c| match &c.kind {
        CompanionKind::Multifd(m) => Some((m.uuid?, c.info.server)),
        _ => None,
    })
}

impl Session {
    /// Counts the keepalive requests of each side that the other one has said nothing after.
    fn heard(&mut self, rpc: &Rpc, direction: Direction) {
        self.pings[direction.reverse().index()] = 0;
        if rpc.header.program == PROGRAM_KEEPALIVE
            && rpc.header.procedure == procedure::KEEPALIVE_PING
        {
            self.pings[direction.index()] += 1;
        }
    }

    /// Pairs calls and replies by program, procedure and serial.
    fn note(&mut self, rpc: &Rpc, event: &Event) {
        let h = &rpc.header;
        let (call, reply, ok) = match h.kind {
            MessageType::Call => (Some(event.stamp), None, None),
            MessageType::Reply => (None, Some(event.stamp), Some(h.status == Status::Ok)),
            _ => return,
        };
        let same = |c: &CallRecord| {
            (c.program, c.procedure, c.serial) == (h.program, h.procedure, h.serial)
        };
        if call.is_some() {
            let early = self.calls.iter_mut().rev().take(MAX_EARLY_REPLIES);
            if let Some(c) = early.into_iter().find(|c| same(c) && c.call.is_none()) {
                c.call = call;
                return;
            }
        }
        if reply.is_some() {
            let mut calls = self.calls.iter_mut().rev();
            let open = calls.find(|c| same(c) && c.reply.is_none());
            if let Some(c) = open {
                c.reply = reply;
                c.ok = ok;
                return;
            }
        }
        // A monitoring client's endless calls make room.
        if self.calls.len() >= MAX_CALLS {
            self.calls.remove(0);
        }
        self.calls.push(CallRecord {
            program: h.program,
            procedure: h.procedure,
            name: rpc.name,
            serial: h.serial,
            call,
            reply,
            ok,
        });
    }
}

impl Attempt {
    fn identity_of_source(&mut self, cookie: Option<&Cookie>) {
        let Some(c) = cookie else { return };
        self.name = self.name.take().or_else(|| c.name.clone());
        self.uuid = self.uuid.or(c.uuid);
        self.source_hostname = self.source_hostname.take().or_else(|| c.hostname.clone());
    }

    fn identity_of_destination(&mut self, cookie: Option<&Cookie>) {
        let Some(c) = cookie else { return };
        self.name = self.name.take().or_else(|| c.name.clone());
        self.uuid = self.uuid.or(c.uuid);
        self.destination_hostname = self
            .destination_hostname
            .take()
            .or_else(|| c.hostname.clone());
    }

    /// The source's cookie says when the guest stopped and when it was sent itself, both by the
    /// source's clock in whole milliseconds. The frame is a little later than what it carries, so
    /// this is no earlier than the stop, rounding apart.
    fn told_stop(&mut self, cookie: Option<&Cookie>, mark: Mark) {
        let Some(s) = cookie.and_then(|c| c.statistics.as_ref()) else {
            return;
        };
        let ago = s.sent.zip(s.stopped).and_then(|(sent, stopped)| {
            let ms = i64::try_from(sent.checked_sub(stopped)?).ok()?;
            ms.checked_sub(1)?.checked_mul(1_000_000)
        });
        if let Some(ago) = ago {
            self.told_stop.get_or_insert(Stamp {
                time: mark.begin.time.offset(-ago.max(0)),
                ..mark.begin
            });
        }
    }

    /// Later figures are better ones.
    fn statistics_of(&mut self, cookie: Option<&Cookie>) {
        if let Some(s) = cookie.and_then(|c| c.statistics.clone()) {
            self.statistics = Some(s);
        }
    }
}
