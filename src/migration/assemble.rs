//! From the records of one attempt to the answer.

use phasescope_parsers::libvirt::cookie::Statistics;

use super::convergence;
use super::downtime::{self, Subject};
use super::guests::GuestLogs;
use super::markers::{Edge, IMPLIED, MARKERS, Marker, PhaseName, Signal};
use super::multifd::Channels;
use super::openstack::{self, Story, Veiled, Wish};
use super::outcome::{self, ONE_SIDED, one_sided};
use super::records::{
    Attempt, CallRecord, Companion, CompanionKind, DiskRecord, Mark, PreemptRecord, Session, Side,
    Stream,
};
use super::transfer::{storage, transfer};
use super::{
    Boundary, Call, Certainty, Clock, Driver, Guest, Hole, Host, Migration, OutcomeKind, Phase,
    Reported, Technique,
};
use crate::net::{Direction, FlowInfo, Mac, Stamp};
use crate::time::Timestamp;
use phasescope_parsers::libvirt::header::program_name;

/// `virDomainMigrateFlags` that matter here (libvirt `include/libvirt/libvirt-domain.h`).
pub(super) mod flag {
    pub(in crate::migration) const PEER2PEER: u64 = 0x2;
    pub(super) const TUNNELLED: u64 = 0x4;
    pub(super) const OFFLINE: u64 = 0x400;
}

/// All that is known of one migration.
pub(super) struct Parts<'a> {
    pub(super) attempt: Option<&'a Attempt>,
    pub(super) session: Option<&'a Session>,
    /// A client's connection to the source's daemon, beside `session`.
    pub(super) source_session: Option<&'a Session>,
    pub(super) streams: &'a [Stream],
    pub(super) companions: &'a [Companion],
    pub(super) channels: Option<&'a Channels>,
    pub(super) guests: &'a GuestLogs,
    pub(super) clock: Clock,
    /// What a cloud says of it.
    pub(super) story: Option<&'a Story>,
    /// What can be inferred of a cloud inside TLS.
    pub(super) veiled: Option<Veiled>,
    /// Up to when it was watched.
    pub(super) now: Timestamp,
}

impl Parts<'_> {
    pub(super) fn driver(&self) -> Driver {
        let Some(attempt) = self.attempt else {
            return Driver::None;
        };
        match attempt.flags {
            _ if attempt.side == Side::Source => Driver::LibvirtDirect,
            _ if attempt.inferred && attempt.source_address.is_some() => Driver::LibvirtDirect,
            _ if attempt.tunnelled => Driver::LibvirtTunnelled,
            Some(f) if f & flag::TUNNELLED != 0 => Driver::LibvirtTunnelled,
            Some(f) if f & flag::PEER2PEER == 0 => Driver::LibvirtDirect,
            _ => Driver::LibvirtP2p,
        }
    }

    /// What could be inferred of a cloud inside TLS, and whether of its RPC and of its HTTP.
    fn veiled(&self) -> Option<(&Veiled, bool, bool)> {
        let rpc = self.story.is_none_or(|s| s.rpcs.is_empty());
        let http = self.story.is_none_or(|s| s.asked.is_none());
        // A client's connections alone do not make a migration one of the cloud.
        let told = |v: &&Veiled| self.story.is_some() || v.broker();
        let veiled = self.veiled.as_ref().filter(told)?;
        Some((veiled, rpc, http))
    }

    fn under_a_cloud(&self) -> bool {
        self.story.is_some() || self.veiled().is_some()
    }

    pub(super) fn offline(&self) -> bool {
        let flags = self.attempt.and_then(|a| a.flags).unwrap_or(0);
        flags & flag::OFFLINE != 0
    }

    /// The connections that were opened for the memory: stream and channels, or the TLS around a
    /// stream. A tunnelled stream has none.
    pub(super) fn memory(&self) -> impl Iterator<Item = &FlowInfo> {
        let tunnel = self.attempt.map(|a| a.session);
        let beside = self.companions.iter().filter_map(|c| match c.kind {
            CompanionKind::Multifd(_) | CompanionKind::Preempt(_) | CompanionKind::Tls(_) => {
                Some(&c.info)
            }
            CompanionKind::Nbd(_) | CompanionKind::Ssh(_) => None,
        });
        let all = self.streams.iter().map(|s| &s.info).chain(beside);
        all.filter(move |i| Some(i.id) != tunnel)
    }

    /// Post-copy preempt channels.
    pub(super) fn urgent(&self) -> impl Iterator<Item = (&Companion, &PreemptRecord)> {
        self.companions.iter().filter_map(|c| match &c.kind {
            CompanionKind::Preempt(p) => Some((c, p)),
            _ => None,
        })
    }

    /// When the first connection for memory was opened.
    pub(super) fn memory_opened(&self) -> Option<Stamp> {
        self.memory().filter_map(|i| i.opened).min()
    }

    /// When the last connection with memory was closed; nothing for a tunnel, which has none.
    pub(super) fn memory_closed(&self) -> Option<Stamp> {
        let mut last = None;
        for info in self.memory() {
            last = last.max(Some(info.closed()?));
        }
        last
    }

    /// The same, or the end of what went through an encrypted tunnel.
    pub(super) fn memory_over(&self) -> Option<Stamp> {
        let tunnel = || self.attempt?.mark(Signal::VeiledTunnelEnd);
        self.memory_closed().or_else(|| tunnel().map(|m| m.stamp))
    }

    pub(super) fn disks(&self) -> impl Iterator<Item = (&Companion, &DiskRecord)> {
        self.companions.iter().filter_map(|c| match &c.kind {
            CompanionKind::Nbd(n) => Some((c, n)),
            _ => None,
        })
    }

    pub(super) fn encrypted(&self) -> bool {
        let tunnel = self.attempt.is_some_and(|a| a.inferred && a.tunnelled);
        let tls = |c: &Companion| matches!(c.kind, CompanionKind::Tls(_));
        tunnel || self.companions.iter().any(tls)
    }

    /// The stream that the guest's device state went through.
    pub(super) fn main(&self) -> Option<&Stream> {
        self.streams.first()
    }

    /// Everything that can bound a phase.
    fn signals(&self) -> Vec<(Signal, Mark)> {
        let mut all = self.attempt.map_or_else(Vec::new, |a| a.signals.clone());
        // What the client was told before it made these calls is not seen where they count.
        let early = [
            Signal::PerformCall,
            Signal::PerformReply,
            Signal::ConfirmCall,
        ];
        if all.iter().any(|(signal, _)| early.contains(signal)) {
            let client = self.source_session.or(self.session);
            let turnaround = client.map_or(0, Session::turnaround_ns);
            let marks = all.iter_mut().filter(|(signal, _)| early.contains(signal));
            marks.for_each(|(_, mark)| mark.uncertainty_ns = turnaround);
        }
        let mut add = |signal, mark: Option<Mark>| all.extend(mark.map(|m| (signal, m)));
        if let (Some(attempt), Some(session)) = (self.attempt, self.session)
            && attempt.first_on_session
        {
            add(Signal::LibvirtOpened, session.info.opened.map(Mark::at));
            add(Signal::OpenReply, session.open_reply);
            // Another attempt on the same connection: its close is no edge of this one.
            let closed = session.info.closed().filter(|_| session.attempts == 1);
            add(Signal::LibvirtClosed, closed.map(Mark::at));
        }
        let opened = self.memory_opened();
        add(Signal::StreamOpened, opened.map(Mark::at));
        if let Some(main) = self.main() {
            add(Signal::BlockStart, main.disks_from);
            add(Signal::BlockEnd, main.disks_until);
            add(Signal::StreamHeader, main.header);
            add(Signal::StreamEnd, main.end);
        }
        add(Signal::StreamClosed, self.memory_closed().map(Mark::at));
        let disks = self.disks().filter_map(|(c, _)| c.info.opened).min();
        add(Signal::StorageOpened, disks.map(Mark::at));
        if disks.is_some() {
            // libvirt opens the migration connection when all disks are in step.
            add(Signal::StorageInStep, opened.map(Mark::at));
        }
        if let Some(story) = self.story {
            let over = self.session.and_then(|s| s.info.closed()).map(Mark::at);
            all.extend(story.signals(over));
        }
        if let Some((veiled, rpc, http)) = self.veiled() {
            all.extend(veiled.signals(rpc, http));
        }
        all
    }
}

/// Makes the migration.
pub(super) fn migration(id: u32, parts: &Parts<'_>) -> Migration {
    let signals = parts.signals();
    let mut phases = phases(parts, parts.driver(), &signals);
    let subject = subject(parts);
    let outcome = outcome::of(parts, &subject);
    let mut total_time_ns = span(phases.first(), last(&phases));
    if parts.under_a_cloud() {
        total_time_ns = under_a_cloud(parts, outcome.result, &mut phases);
    }
    for p in &mut phases {
        p.share = p
            .duration_ns
            .zip(total_time_ns.filter(|t| *t > 0))
            .map(|(d, t)| d as f64 / t as f64);
    }
    let of = |name| phases.iter().find(|p| p.name == name);
    // A client that drives has connected before, and for other work as well.
    let first = match parts.driver() {
        Driver::LibvirtDirect => PhaseName::Preparation,
        _ => PhaseName::RemoteConnect,
    };
    let migration_time_ns = span(of(first), of(PhaseName::Cleanup));
    let (gaps, overlaps_ns) = holes(&phases);
    let pause = downtime::pause(parts, &subject, outcome.result);
    let downtime = downtime::all(parts, &subject, pause.as_ref(), outcome.result);
    let technique = technique(parts);
    let mut notes = Vec::new();
    if let Some(stream) = parts.streams.iter().find(|s| !s.exact()) {
        notes.push(match stream.broken_off() {
            true => "the migration stream breaks off: pages, bytes and rounds are what was sent until then".to_owned(),
            false => "the migration stream was not seen whole: pages, bytes and rounds are lower bounds".to_owned(),
        });
    }
    if parts.attempt.is_some_and(|a| a.inferred) {
        notes.push(
            "libvirt's messages are encrypted: boundaries are inferred from the sizes and times of what each side sends"
                .to_owned(),
        );
    }
    if parts.encrypted() {
        notes.push(
            "the migration stream is encrypted: pages, rounds and the stop are not visible"
                .to_owned(),
        );
    }
    for (name, with, why) in OVERLAPS {
        if overlap(&phases, *name, *with) {
            notes.push((*why).to_owned());
        }
    }
    let transfer = transfer(parts);
    notes.extend(
        transfer
            .as_ref()
            .and_then(|t| convergence::words(&t.rounds)),
    );
    if let Some(story) = parts.story {
        notes.extend(openstack::notes(story, &phases));
    }
    if let Some((veiled, rpc, http)) = parts.veiled() {
        notes.extend(veiled.notes(rpc, http));
    }
    Migration {
        id,
        guest: guest(parts, &subject),
        source: host(parts, Direction::ToServer),
        destination: host(parts, Direction::ToClient),
        driver: match parts.under_a_cloud() {
            true => Driver::Openstack,
            false => parts.driver(),
        },
        technique,
        gaps_ns: overlaps_ns.map(|_| gaps.iter().map(|g| g.duration_ns).sum()),
        gaps,
        overlaps_ns,
        migration_time_ns,
        total_time_ns,
        elapsed_ns: parts
            .story
            .filter(|_| outcome.result != OutcomeKind::Completed)
            .and_then(|s| openstack::elapsed_of(s, &phases, parts.clock)),
        openstack: parts
            .story
            .map(|s| openstack::account(s, &phases, parts.clock)),
        transfer,
        storage: storage(parts),
        pause: pause.map(|p| p.report(parts.clock)),
        downtime,
        calls: calls(parts),
        reported: parts
            .attempt
            .and_then(|a| a.statistics.as_ref())
            .map(reported),
        outcome,
        phases,
        notes,
    }
}

/// Phases that may overlap, and what that means.
const OVERLAPS: &[(PhaseName, PhaseName, &str)] = &[
    (
        PhaseName::Transfer,
        PhaseName::Finish,
        "phases overlap: finish was called while memory still flowed",
    ),
    (
        PhaseName::Transfer,
        PhaseName::Storage,
        "phases overlap: disks were copied while memory flowed",
    ),
];

fn overlap(phases: &[Phase], a: PhaseName, b: PhaseName) -> bool {
    let span = |name| {
        let p = phases.iter().find(|p| p.name == name)?;
        Some((p.start.as_ref()?.offset_ns, p.end.as_ref()?.offset_ns))
    };
    span(a)
        .zip(span(b))
        .is_some_and(|(a, b)| a.0.max(b.0) < a.1.min(b.1))
}

/// What is different under a cloud: no end and no total without success, and the steps within
/// phases. Gives the total time.
fn under_a_cloud(parts: &Parts<'_>, result: OutcomeKind, phases: &mut Vec<Phase>) -> Option<i64> {
    let completed = result == OutcomeKind::Completed;
    phases.retain(|p| completed || p.name != PhaseName::PostMigration);
    let opened = parts.session.and_then(|s| s.info.opened);
    if let Some(story) = parts.story {
        openstack::sub_phases(story, opened, parts.clock, phases);
    }
    let last = phases.last().filter(|p| p.name == PhaseName::PostMigration);
    span(phases.first(), last)
}

/// The phase that ends last: disks inside the stream are a part of the transfer.
fn last(phases: &[Phase]) -> Option<&Phase> {
    let last = phases.last()?;
    let around = phases.iter().find(|p| p.name == PhaseName::Transfer);
    Some(match last.name {
        PhaseName::Storage => around.unwrap_or(last),
        _ => last,
    })
}

fn span(first: Option<&Phase>, last: Option<&Phase>) -> Option<i64> {
    let from = first?.start.as_ref()?.offset_ns;
    let span = last?.end.as_ref()?.offset_ns.saturating_sub(from);
    (span >= 0).then_some(span)
}

/// Applies the table of markers.
fn phases(parts: &Parts<'_>, driver: Driver, signals: &[(Signal, Mark)]) -> Vec<Phase> {
    let seen = |s: Signal| signals.iter().find(|(k, _)| *k == s).map(|(_, m)| *m);
    // libvirt's rows apply under a cloud as they would without one.
    let cloud = |drivers: &[Driver]| parts.under_a_cloud() && drivers == [Driver::Openstack];
    let applies =
        |drivers: &[Driver]| drivers.is_empty() || drivers.contains(&driver) || cloud(drivers);
    let edge = |phase: PhaseName, edge: Edge| -> Option<(&Marker, Mark)> {
        MARKERS
            .iter()
            .filter(|m| m.phase == phase && m.edge == edge && applies(m.drivers))
            .filter_map(|m| Some((m, seen(m.signal)?)))
            .min_by_key(|(m, _)| m.rank)
    };
    let first_here = parts.attempt.is_none_or(|a| a.first_on_session);
    let implied = |phase: PhaseName| {
        IMPLIED.iter().any(|i| {
            i.phase == phase && applies(i.drivers) && i.by.iter().any(|s| seen(*s).is_some())
        })
    };
    let mut names: Vec<PhaseName> = MARKERS.iter().map(|m| m.phase).collect();
    names.dedup();
    let mut out: Vec<Phase> = Vec::new();
    for name in names {
        if name == PhaseName::Transfer && parts.offline() {
            continue;
        }
        // Prepared and refused: nothing was connected for the memory.
        let (start, end) = (edge(name, Edge::Start), edge(name, Edge::End));
        let known = start.is_some() || end.is_some();
        let there = known || (implied(name) && first_here) || may_be_missed(parts, name);
        if !there || (start.is_none() && never_begun(parts, name)) {
            continue;
        }
        let inferred = parts.attempt.is_some_and(|a| a.inferred);
        let bound = |e: Option<(&Marker, Mark)>| {
            e.map(|(m, mark)| boundary(m, mark, inferred, parts.clock))
        };
        let reason = match (start.is_some(), end.is_some()) {
            (true, true) => None,
            (has_start, _) => Some(why_unknown(parts, name, !has_start)),
        };
        let (start, end) = (bound(start), bound(end));
        let span = start.as_ref().zip(end.as_ref());
        let span = span.map(|(s, e)| e.offset_ns.saturating_sub(s.offset_ns));
        let duration_ns = span.filter(|d| *d >= 0);
        let reason = match (span, duration_ns) {
            (Some(_), None) => Some(BACKWARDS.to_owned()),
            _ => reason,
        };
        out.push(Phase {
            name,
            start,
            end,
            duration_ns,
            share: None,
            reason,
            sub: Vec::new(),
        });
    }
    // In order of their starts; one without a start stays behind its predecessor.
    let mut key = i64::MIN;
    let mut keyed: Vec<(i64, Phase)> = out
        .into_iter()
        .map(|p| {
            key = p.start.as_ref().map_or(key, |s| s.offset_ns);
            (key, p)
        })
        .collect();
    keyed.sort_by_key(|(k, _)| *k);
    keyed.into_iter().map(|(_, p)| p).collect()
}

/// A connection that closes before FINISH leaves nothing to clean up: unless FINISH may have been
/// missed, there was no such phase.
fn never_begun(parts: &Parts<'_>, name: PhaseName) -> bool {
    name == PhaseName::Cleanup
        && parts.session.is_some_and(Session::seen_whole)
        && parts.attempt.is_some_and(|a| a.finish_call().is_none())
}

/// A connection that was closed, and not captured whole, may have carried these as well.
fn may_be_missed(parts: &Parts<'_>, name: PhaseName) -> bool {
    let steps = [
        PhaseName::Preparation,
        PhaseName::Finish,
        PhaseName::Cleanup,
    ];
    steps.contains(&name)
        && parts
            .session
            .is_some_and(|s| s.info.closed().is_some() && !s.seen_whole())
        && parts
            .attempt
            .is_some_and(|a| a.first_on_session && !a.has(Signal::PrepareError))
}

/// `inferred`: libvirt's messages were not read, only the sizes of what encrypted them.
fn boundary(marker: &Marker, mark: Mark, inferred: bool, clock: Clock) -> Boundary {
    let m = clock.moment(mark.stamp);
    let certainty = match marker.certainty {
        Certainty::Decoded if inferred => Certainty::Inferred,
        known => known,
    };
    Boundary {
        time: m.time,
        offset_ns: m.offset_ns,
        frame: m.frame,
        first_frame: (mark.begin.frame != mark.stamp.frame).then_some(mark.begin.frame),
        marker: marker.name.to_owned(),
        certainty,
        uncertainty_ns: mark.uncertainty_ns,
    }
}

/// Why two boundaries have no time between them.
const BACKWARDS: &str = "duration unknown: by the capture's times the end lies before the start";

/// Why an edge was not found, as far as the connection tells.
fn why_unknown(parts: &Parts<'_>, name: PhaseName, start: bool) -> String {
    let flow: Option<&FlowInfo> = match name {
        PhaseName::Transfer => parts.main().map(|s| &s.info),
        _ => parts.session.map(|s| &s.info),
    };
    let edge = if start { "start" } else { "end" };
    if matches!(
        name,
        PhaseName::Authentication | PhaseName::Initialization | PhaseName::PostMigration
    ) {
        let why = match parts.veiled() {
            Some((_, true, _)) => "the cloud's messages are encrypted",
            _ if parts.story.is_some_and(|s| s.truncated > 0) => {
                "the message that marks it is not in the capture, or was cut off before it said so"
            }
            _ => "the message that marks it is not in the capture",
        };
        return format!("{edge} unknown: {why}");
    }
    let missing = match name {
        PhaseName::Transfer => parts.main().map_or(0, |s| s.missing_bytes),
        _ => parts.session.map_or(0, |s| s.missing_bytes),
    };
    let why = match flow {
        None => "no connection of it is in the capture",
        Some(f) if one_sided(f) => ONE_SIDED,
        Some(f) if start && f.opened.is_none() => {
            "the connection was open before its first captured packet"
        }
        Some(_) if missing > 0 => "bytes of the connection are missing in the capture",
        Some(f) if !start && f.closed().is_none() => "the capture ends before it",
        Some(_) => "the message that marks it was not seen",
    };
    format!("{edge} unknown: {why}")
}

/// Time between phases, and time in two at once; `None` where a phase is not bounded.
fn holes(phases: &[Phase]) -> (Vec<Hole>, Option<i64>) {
    let mut gaps = Vec::new();
    let mut overlap = 0;
    let mut until: Option<(i64, PhaseName)> = None;
    let mut bounded = !phases.is_empty();
    for p in phases {
        let bounds = p.start.as_ref().zip(p.end.as_ref());
        let Some((s, e)) = bounds.filter(|_| p.duration_ns.is_some()) else {
            bounded = false;
            until = None;
            continue;
        };
        if let Some((end, after)) = until {
            match s.offset_ns - end {
                0 => {}
                d if d > 0 => gaps.push(Hole {
                    after,
                    before: p.name,
                    duration_ns: d,
                }),
                d => overlap += (-d).min(e.offset_ns - s.offset_ns),
            }
        }
        if until.is_none_or(|(end, _)| end < e.offset_ns) {
            until = Some((e.offset_ns, p.name));
        }
    }
    (gaps, bounded.then_some(overlap))
}

fn technique(parts: &Parts<'_>) -> Technique {
    match parts.main() {
        _ if parts.story.is_some_and(|s| s.wish == Wish::Cold) => Technique::Offline,
        _ if parts.offline() => Technique::Offline,
        None => Technique::Unknown,
        Some(s) if s.postcopy_run.is_some() => match s.pages_before_switch {
            Some(0) => Technique::PostCopy,
            _ => Technique::Hybrid,
        },
        Some(s) if s.resumes => Technique::PostCopy,
        Some(_) => Technique::PreCopy,
    }
}

fn host(parts: &Parts<'_>, side: Direction) -> Host {
    let mut host = Host::default();
    let end = |info: &FlowInfo, d: Direction| info.sender(d).ip.to_string();
    if let Some(a) = parts.attempt {
        host.hostname = match side {
            Direction::ToServer => a.source_hostname.clone(),
            Direction::ToClient => a.destination_hostname.clone(),
        };
    }
    if let (None, Some(story)) = (&host.hostname, parts.story) {
        host.hostname = match side {
            Direction::ToServer => story.source_host.clone(),
            Direction::ToClient => story.destination_host.clone(),
        };
    }
    host.address = match (parts.driver(), parts.session, parts.main()) {
        // The client of the connection is no host of the guest; its server is one of them.
        (Driver::LibvirtDirect, Some(s), _)
            if side == parts.attempt.map_or(side, |a| a.side.of_guest()) =>
        {
            Some(end(&s.info, Direction::ToClient))
        }
        (Driver::LibvirtP2p | Driver::LibvirtTunnelled, Some(s), _) => Some(end(&s.info, side)),
        (_, _, Some(m)) => {
            let d = match side {
                Direction::ToServer => m.source,
                Direction::ToClient => m.source.reverse(),
            };
            Some(end(&m.info, d))
        }
        _ => parts
            .attempt
            .and_then(|a| a.source_address)
            .filter(|_| side == Direction::ToServer)
            .map(|ip| ip.to_string()),
    };
    host
}

/// Whose signs of life count.
fn subject(parts: &Parts<'_>) -> Subject {
    let domain = parts.attempt.and_then(|a| a.domain.as_ref());
    let mut macs: Vec<Mac> =
        domain.map_or_else(Vec::new, |d| d.macs.iter().map(|m| Mac(*m)).collect());
    if macs.is_empty() {
        macs = match (parts.main(), parts.memory_over()) {
            (Some(s), _) => {
                let from = s.stopped.map_or(s.info.last, |(_, at)| at);
                parts.guests.announced(from.time, s.info.last.time)
            }
            (None, Some(close)) => parts.guests.announced_at(close.time),
            (None, None) => Vec::new(),
        };
    }
    Subject { macs }
}

fn guest(parts: &Parts<'_>, subject: &Subject) -> Guest {
    let a = parts.attempt;
    let domain = a.and_then(|a| a.domain.as_ref());
    let main = parts.main();
    let uuid = a.and_then(|a| a.uuid).or_else(|| main.and_then(|s| s.uuid));
    Guest {
        name: a.and_then(|a| a.name.clone()),
        uuid: uuid
            .map(|u| format_uuid(&u))
            .or_else(|| parts.story.and_then(|s| s.instance.clone())),
        machine: main
            .and_then(|s| s.machine.clone())
            .or_else(|| domain.and_then(|d| d.machine.clone())),
        memory_bytes: domain
            .and_then(|d| d.memory_kib)
            .map(|k| k.saturating_mul(1024))
            .or_else(|| main.and_then(|s| s.ram_bytes)),
        macs: subject.macs.iter().map(Mac::to_string).collect(),
    }
}

/// RFC 9562's text form.
pub(super) fn format_uuid(u: &[u8; 16]) -> String {
    let hex: String = u.iter().map(|b| format!("{b:02x}")).collect();
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

fn calls(parts: &Parts<'_>) -> Vec<Call> {
    let sessions = parts.session.into_iter().chain(parts.source_session);
    let mut all: Vec<&CallRecord> = sessions.flat_map(|s| &s.calls).collect();
    all.sort_by_key(|c| c.call.or(c.reply));
    all.iter()
        .map(|c| {
            let moment = |s: Option<_>| s.map(|s| parts.clock.moment(s));
            let duration_ns = c.call.zip(c.reply).map(|(a, b)| b.time.since(a.time));
            let duration_ns = duration_ns.filter(|d| *d >= 0);
            Call {
                program: program_name(c.program).unwrap_or("UNKNOWN").to_owned(),
                procedure: c
                    .name
                    .map_or_else(|| c.procedure.to_string(), str::to_owned),
                serial: c.serial,
                call: moment(c.call),
                reply: moment(c.reply),
                status: c.ok.map(|ok| if ok { "ok" } else { "error" }.to_owned()),
                duration_ns,
            }
        })
        .collect()
}

fn reported(s: &Statistics) -> Reported {
    Reported {
        downtime_ms: s.downtime,
        time_elapsed_ms: s.time_elapsed,
        setup_time_ms: s.setup_time,
        iterations: s.memory_iteration,
        normal_pages: s.memory_normal,
        constant_pages: s.memory_constant,
        memory_processed_bytes: s.memory_processed,
        postcopy_requests: s.memory_postcopy_requests,
    }
}
