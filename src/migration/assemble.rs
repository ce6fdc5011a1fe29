//! From the records of one attempt to the answer.

use phasescope_parsers::libvirt::cookie::Statistics;

use super::downtime::{self, Subject};
use super::guests::GuestLogs;
use super::markers::{Edge, IMPLIED, MARKERS, Marker, PhaseName, Signal};
use super::multifd::Channels;
use super::openstack::{self, Story, Veiled, Wish};
use super::records::{
    Attempt, CallRecord, Companion, CompanionKind, Mark, NbdRecord, Session, Stream,
};
use super::{
    Boundary, Call, Certainty, Clock, Connection, Driver, Guest, Hole, Host, Migration, Outcome,
    OutcomeKind, Pages, Phase, Postcopy, Reported, Role, Round, StopAndCopy, Storage, Technique,
    Transfer,
};
use crate::net::{Direction, FlowInfo, Mac, Stamp};
use crate::time::Timestamp;
use phasescope_parsers::libvirt::header::program_name;

/// `virDomainMigrateFlags` that matter here (libvirt `include/libvirt/libvirt-domain.h`).
mod flag {
    pub(super) const PEER2PEER: u64 = 0x2;
    pub(super) const TUNNELLED: u64 = 0x4;
    pub(super) const OFFLINE: u64 = 0x400;
}

/// `VIR_ERR_MIGRATE_FINISH_OK`: "cleaned up as asked", the answer to a FINISH that cancels.
const MIGRATE_FINISH_OK: i32 = 93;

/// Bytes of a channel's initial packet (QEMU `MultiFDInit_t`).
const MULTIFD_INITIAL: u64 = 64;

/// Error codes by which a daemon will not do a thing, rather than fail in doing it
/// (`virErrorNumber`, libvirt `include/libvirt/virterror.h`).
const REFUSALS: &[(i32, &str)] = &[
    (3, "NO_SUPPORT"),
    (8, "INVALID_ARG"),
    (20, "DOM_EXIST"),
    (29, "OPERATION_DENIED"),
    (42, "NO_DOMAIN"),
    (45, "AUTH_FAILED"),
    (55, "OPERATION_INVALID"),
    (67, "CONFIG_UNSUPPORTED"),
    (81, "MIGRATE_UNSAFE"),
    (84, "OPERATION_UNSUPPORTED"),
    (88, "ACCESS_DENIED"),
    (98, "CPU_INCOMPATIBLE"),
];

/// All that is known of one migration.
pub(super) struct Parts<'a> {
    pub(super) attempt: Option<&'a Attempt>,
    pub(super) session: Option<&'a Session>,
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

    fn offline(&self) -> bool {
        let flags = self.attempt.and_then(|a| a.flags).unwrap_or(0);
        flags & flag::OFFLINE != 0
    }

    /// The connections that carry the memory: stream and channels, or the TLS around a stream.
    fn memory(&self) -> impl Iterator<Item = &FlowInfo> {
        let beside = self.companions.iter().filter_map(|c| match c.kind {
            CompanionKind::Multifd(_) | CompanionKind::Tls(_) => Some(&c.info),
            CompanionKind::Nbd(_) | CompanionKind::Ssh => None,
        });
        self.streams.iter().map(|s| &s.info).chain(beside)
    }

    /// When the last connection with memory was closed; nothing for a tunnel, which has none.
    pub(super) fn memory_closed(&self) -> Option<Stamp> {
        let tunnel = self.attempt.map(|a| a.session);
        let mut last = None;
        for info in self.memory().filter(|i| Some(i.id) != tunnel) {
            last = last.max(Some(info.closed()?));
        }
        last
    }

    fn disks(&self) -> impl Iterator<Item = (&Companion, &NbdRecord)> {
        self.companions.iter().filter_map(|c| match &c.kind {
            CompanionKind::Nbd(n) => Some((c, n)),
            _ => None,
        })
    }

    fn encrypted(&self) -> bool {
        self.companions
            .iter()
            .any(|c| matches!(c.kind, CompanionKind::Tls(_)))
    }

    /// The stream that the guest's device state went through.
    pub(super) fn main(&self) -> Option<&Stream> {
        self.streams.first()
    }

    /// Everything that can bound a phase.
    fn signals(&self) -> Vec<(Signal, Mark)> {
        let mut all = self.attempt.map_or_else(Vec::new, |a| a.signals.clone());
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
        // A tunnelled stream has no connection of its own.
        let tunnel = self.attempt.map(|a| a.session);
        let memory: Vec<&FlowInfo> = self.memory().filter(|i| Some(i.id) != tunnel).collect();
        let opened = memory.iter().filter_map(|i| i.opened).min();
        add(Signal::StreamOpened, opened.map(Mark::at));
        if let Some(main) = self.main() {
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
    let outcome = outcome(parts);
    let mut total_time_ns = span(phases.first(), phases.last());
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
    let migration_time_ns = span(of(PhaseName::RemoteConnect), of(PhaseName::Cleanup));
    let (gaps, overlaps_ns) = holes(&phases);
    let subject = subject(parts);
    let pause = downtime::pause(parts, &subject, outcome.result);
    let downtime = downtime::all(parts, &subject, pause.as_ref(), outcome.result);
    let technique = technique(parts);
    let mut notes = Vec::new();
    if parts.streams.iter().any(|s| !s.exact()) {
        notes.push(
            "the migration stream was not seen whole: pages, bytes and rounds are lower bounds"
                .to_owned(),
        );
    }
    if parts.attempt.is_some_and(|a| a.inferred) {
        notes.push(
            "libvirt's messages are encrypted: boundaries are inferred from the sizes of TLS records"
                .to_owned(),
        );
    }
    if parts.encrypted() {
        notes.push(
            "the migration stream is encrypted: pages, rounds and the stop are not visible"
                .to_owned(),
        );
    }
    if phases.iter().any(|p| p.name == PhaseName::Finish) && overlaps_ns.is_some_and(|o| o > 0) {
        notes.push("phases overlap: finish was called while memory still flowed".to_owned());
    }
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
        transfer: transfer(parts),
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

fn span(first: Option<&Phase>, last: Option<&Phase>) -> Option<i64> {
    let from = first?.start.as_ref()?.offset_ns;
    Some(last?.end.as_ref()?.offset_ns - from)
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
        let there = start.is_some() || end.is_some() || (implied(name) && first_here);
        if !there {
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
        let duration_ns = start
            .as_ref()
            .zip(end.as_ref())
            .map(|(s, e)| e.offset_ns - s.offset_ns);
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

const ONE_SIDED: &str = "only one direction of the connection is in the capture";

/// Was only one side of the connection heard?
fn one_sided(info: &FlowInfo) -> bool {
    let [a, b] = info.halves.map(|h| h.payload_bytes > 0);
    // Without its answer to the SYN, the silent side was not only silent.
    a != b && (info.accepted.is_none() || info.opened.is_none())
}

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
        let (Some(s), Some(e)) = (&p.start, &p.end) else {
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
        Some(_) => Technique::PreCopy,
    }
}

fn outcome(parts: &Parts<'_>) -> Outcome {
    let seen = parts.attempt.is_some() || parts.main().is_some();
    match parts.story {
        None => outcome_of_hosts(parts),
        Some(story) => {
            let hosts = seen.then(|| outcome_of_hosts(parts));
            openstack::merge_outcome(story, hosts, parts.now)
        }
    }
}

fn outcome_of_hosts(parts: &Parts<'_>) -> Outcome {
    let is = |result, reason: Option<String>| Outcome { result, reason };
    let Some(attempt) = parts.attempt else {
        return outcome_of_stream(parts);
    };
    let error = attempt.error.as_ref();
    let text = |stage: &str| {
        let what = error.and_then(|e| e.message.clone());
        Some(what.map_or_else(|| stage.to_owned(), |m| format!("{stage}: {m}")))
    };
    if attempt.has(Signal::PrepareError) {
        let refused = error.is_some_and(|e| REFUSALS.iter().any(|(code, _)| *code == e.code));
        return match refused {
            true => is(OutcomeKind::Refused, text("PREPARE was refused")),
            false => is(OutcomeKind::Failed, text("PREPARE failed")),
        };
    }
    if attempt.inferred {
        return is(
            OutcomeKind::Unknown,
            Some(
                "libvirt's messages are encrypted: whether it succeeded is not visible".to_owned(),
            ),
        );
    }
    let stream_whole = parts.streams.iter().all(|s| s.end.is_some());
    match (attempt.finish_ok, attempt.has(Signal::FinishCancelCall)) {
        (_, true) => {
            let error = error.filter(|e| e.code != MIGRATE_FINISH_OK);
            let reset = parts.streams.iter().any(|s| s.info.reset.is_some());
            let why = match error.and_then(|e| e.message.clone()) {
                Some(m) => format!("the source called it off; the destination says: {m}"),
                None if reset => {
                    "the migration connection was reset; the source called it off".to_owned()
                }
                None if !stream_whole => {
                    "the source called it off; the stream ends early".to_owned()
                }
                None => "the source called it off after the stream was complete".to_owned(),
            };
            let kind = if reset {
                OutcomeKind::Failed
            } else {
                OutcomeKind::Cancelled
            };
            is(kind, Some(why))
        }
        (Some(true), false) => is(OutcomeKind::Completed, None),
        (Some(false), false) => is(OutcomeKind::Failed, text("FINISH failed")),
        (None, false) if parts.session.is_some_and(|s| one_sided(&s.info)) => {
            is(OutcomeKind::Unknown, Some(ONE_SIDED.to_owned()))
        }
        (None, false) => {
            let closed = parts.session.and_then(|s| s.info.closed());
            match closed {
                Some(_) if attempt.has(Signal::FinishCall) => is(
                    OutcomeKind::Unknown,
                    Some("the reply to FINISH was not captured".to_owned()),
                ),
                Some(_) => is(
                    OutcomeKind::Failed,
                    Some("the daemons' connection was closed before FINISH".to_owned()),
                ),
                None => is(
                    OutcomeKind::Unfinished,
                    Some("the capture ends before the reply to FINISH".to_owned()),
                ),
            }
        }
    }
}

fn outcome_of_stream(parts: &Parts<'_>) -> Outcome {
    let is = |result, reason: &str| Outcome {
        result,
        reason: Some(reason.to_owned()),
    };
    let Some(s) = parts.main() else {
        return is(OutcomeKind::Unknown, "nothing was seen");
    };
    match (s.loaded, &s.end, s.info.closed()) {
        (Some((_, true)), ..) => Outcome {
            result: OutcomeKind::Completed,
            reason: None,
        },
        (Some((_, false)), ..) => is(
            OutcomeKind::Failed,
            "the destination says that loading failed",
        ),
        (None, Some(_), _) => is(
            OutcomeKind::Unknown,
            "the stream is complete; nothing shows whether the destination took it",
        ),
        (None, None, Some(_)) => is(OutcomeKind::Failed, "the stream ends early"),
        (None, None, None) => is(
            OutcomeKind::Unfinished,
            "the capture ends before the stream",
        ),
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
        // The client of the connection is no host of the guest.
        (Driver::LibvirtDirect, Some(s), _) if side == Direction::ToClient => {
            Some(end(&s.info, side))
        }
        (Driver::LibvirtP2p | Driver::LibvirtTunnelled, Some(s), _) => Some(end(&s.info, side)),
        (_, _, Some(m)) => {
            let d = match side {
                Direction::ToServer => m.source,
                Direction::ToClient => m.source.reverse(),
            };
            Some(end(&m.info, d))
        }
        _ => None,
    };
    host
}

/// Whose signs of life count.
fn subject(parts: &Parts<'_>) -> Subject {
    let domain = parts.attempt.and_then(|a| a.domain.as_ref());
    let mut macs: Vec<Mac> =
        domain.map_or_else(Vec::new, |d| d.macs.iter().map(|m| Mac(*m)).collect());
    let known = !macs.is_empty();
    if !known && let Some(s) = parts.main() {
        let from = s.stopped.map_or(s.info.last, |(_, at)| at).time;
        macs = parts
            .guests
            .announced(from, s.info.last.time.offset(downtime::ANNOUNCED_NS));
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

fn transfer(parts: &Parts<'_>) -> Option<Transfer> {
    let mut connections: Vec<Connection> = parts
        .streams
        .iter()
        .filter(|s| parts.attempt.is_none_or(|a| a.session != s.info.id))
        .map(|s| connection(&s.info, Role::Main))
        .collect();
    connections.extend(parts.companions.iter().filter_map(|c| {
        let role = match c.kind {
            CompanionKind::Multifd(_) => Role::Multifd,
            CompanionKind::Nbd(_) => Role::Nbd,
            CompanionKind::Tls(_) => Role::Main,
            CompanionKind::Ssh => return None,
        };
        Some(connection(&c.info, role))
    }));
    connections.extend(parts.session.map(|s| connection(&s.info, Role::Control)));
    let Some(main) = parts.main() else {
        return parts.encrypted().then(|| Transfer {
            connections,
            encrypted: true,
            ..Transfer::default()
        });
    };
    let mut counts = main.counts;
    let mut exact = main.exact();
    let mut transferred = counts.bytes + 8 * main.parts;
    let mut device_bytes = main.device_bytes;
    for c in parts.companions {
        if let CompanionKind::Multifd(m) = &c.kind {
            counts.normal += m.normal;
            counts.zero += m.zero;
            counts.compressed += m.compressed;
            device_bytes += m.device_bytes;
            exact &= !m.lost && c.missing_bytes == 0 && m.uuid.is_some();
            let sent = c.info.halves[Direction::ToServer.index()].payload_bytes;
            // QEMU counts packets, not the initial one.
            transferred += sent.saturating_sub(MULTIFD_INITIAL);
        }
    }
    let sent_twice = parts.channels.map_or(0, |c| c.sent_twice);
    counts.normal = counts.normal.saturating_sub(sent_twice);
    let pages = Pages {
        normal: counts.normal,
        zero: counts.zero,
        xbzrle: counts.xbzrle,
        compressed: counts.compressed,
        exact,
    };
    Some(Transfer {
        connections,
        pages,
        transferred_bytes: exact.then_some(transferred),
        page_bytes: counts.bytes,
        page_size: main.page_size,
        rounds: rounds(main, parts.channels, parts.clock),
        rounds_exact: false,
        device_bytes,
        stop_and_copy: stop_and_copy(main, parts.clock),
        postcopy: postcopy(main, parts.clock),
        sent_twice,
        encrypted: false,
    })
}

fn storage(parts: &Parts<'_>) -> Option<Storage> {
    let mut out: Option<Storage> = None;
    let mut last = None;
    for (c, n) in parts.disks() {
        let s = out.get_or_insert(Storage {
            exact: true,
            ..Storage::default()
        });
        s.disks.extend(n.exports.iter().cloned());
        s.written_bytes += n.written;
        s.zeroed_bytes += n.zeroed;
        s.exact &= !n.lost && !n.tls && c.missing_bytes == 0;
        last = last.max(n.last_write);
    }
    if let Some(s) = &mut out {
        s.disks.sort_unstable();
        s.disks.dedup();
        s.last_write = last.map(|l| parts.clock.moment(l));
    }
    out
}

fn postcopy(main: &Stream, clock: Clock) -> Option<Postcopy> {
    let switch = main.postcopy_run?;
    let before = main.pages_before_switch.unwrap_or(0);
    let r = main.requests.as_ref();
    Some(Postcopy {
        switch: clock.moment(switch),
        pages_before: before,
        pages_after: main.counts.pages().saturating_sub(before),
        requests: r.map_or(0, |r| r.requests),
        answered: r.map_or(0, |r| r.answered),
        latency_ns: r.and_then(|r| r.latency_ns),
    })
}

fn connection(info: &FlowInfo, role: Role) -> Connection {
    let [to_server, to_client] = info.halves;
    Connection {
        client: info.client.to_string(),
        server: info.server.to_string(),
        role,
        packets: info.packets,
        wire_bytes: info.wire_bytes,
        payload_bytes: to_server.payload_bytes + to_client.payload_bytes,
        payload_to_server_bytes: to_server.payload_bytes,
        retransmitted_bytes: to_server.retransmitted_bytes + to_client.retransmitted_bytes,
        missing_bytes: to_server.missing_bytes
            + to_client.missing_bytes
            + to_server.cut_bytes
            + to_client.cut_bytes,
        first_frame: info.first.frame,
        last_frame: info.last.frame,
    }
}

/// The rounds of the channels where there are any, else those of the stream. What the main stream
/// carries beside channels (zero pages) counts to the round in which it was sent.
fn rounds(main: &Stream, channels: Option<&Channels>, clock: Clock) -> Vec<Round> {
    let mut all = match channels.filter(|c| !c.rounds.is_empty()) {
        None => main.rounds.clone(),
        Some(c) => {
            let mut all = c.rounds.clone();
            for r in &main.rounds {
                let at = all.iter().rposition(|o| o.start <= r.start).unwrap_or(0);
                if let Some(o) = all.get_mut(at) {
                    o.counts += r.counts;
                }
            }
            all
        }
    };
    if let (Some((_, stopped)), Some(last)) = (main.stopped, all.last_mut()) {
        last.stopped |= last.start >= stopped;
    }
    all.iter()
        .map(|r| {
            let (start, end) = (clock.moment(r.start), clock.moment(r.end));
            let took = end.offset_ns - start.offset_ns;
            let rate = (took > 0)
                .then(|| u128::from(r.counts.bytes) * 1_000_000_000 / took.unsigned_abs() as u128);
            Round {
                index: r.index,
                start_offset_ns: start.offset_ns,
                end_offset_ns: end.offset_ns,
                start_frame: start.frame,
                end_frame: end.frame,
                pages: r.counts.pages(),
                zero_pages: r.counts.zero,
                bytes: r.counts.bytes,
                bytes_per_second: rate.and_then(|r| u64::try_from(r).ok()),
                stopped: r.stopped,
            }
        })
        .collect()
}

fn stop_and_copy(main: &Stream, clock: Clock) -> Option<StopAndCopy> {
    let (_, start) = main.stopped?;
    Some(StopAndCopy {
        start: clock.moment(start),
        memory_end: main.memory_end.map(|s| clock.moment(s)),
        end: main.end.map(|m| clock.moment(m.stamp)),
        loaded: main.loaded.map(|(s, _)| clock.moment(s)),
        pages: main.last_pass.map_or(0, |c| c.pages()),
    })
}

fn calls(parts: &Parts<'_>) -> Vec<Call> {
    let all: &[CallRecord] = parts.session.map_or(&[], |s| &s.calls);
    all.iter()
        .map(|c| {
            let moment = |s: Option<_>| s.map(|s| parts.clock.moment(s));
            let duration_ns = c.call.zip(c.reply).map(|(a, b)| b.time.since(a.time));
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
