//! Migrations that a client drives: BEGIN, PERFORM and CONFIRM go to the source's daemon, PREPARE
//! and FINISH to the destination's (libvirt `src/libvirt-domain.c`, `virDomainMigrateVersion3Full`).
//!
//! A capture may hold both of the client's connections or only one of them. Of the source's alone
//! the attempt is told by its PERFORM: the client makes each call when the one before has been
//! answered, so PERFORM follows PREPARE's reply, and CONFIRM that of FINISH.

use std::net::IpAddr;

use phasescope_parsers::libvirt::cookie::Statistics;
use phasescope_parsers::libvirt::domain::DomainSummary;
use phasescope_parsers::libvirt::header::{Header, Status};
use phasescope_parsers::libvirt::message::Body;
use phasescope_parsers::libvirt::uri::MigrationUri;

use super::Tracker;
use crate::migration::assemble::flag;
use crate::migration::markers::Signal;
use crate::migration::records::{Attempt, Mark, Session, Side};

/// BEGIN calls that wait for their PREPARE or PERFORM.
const MAX_BEGINS: usize = 256;

/// A figure of the statistics.
type Figure = fn(&mut Statistics) -> &mut Option<u64>;

/// `VIR_DOMAIN_JOB_*` parameters of a completed job that a cookie's statistics hold as well
/// (libvirt `include/libvirt/libvirt-domain.h`).
const FIGURES: &[(&str, Figure)] = &[
    ("downtime", |s| &mut s.downtime),
    ("time_elapsed", |s| &mut s.time_elapsed),
    ("setup_time", |s| &mut s.setup_time),
    ("memory_iteration", |s| &mut s.memory_iteration),
    ("memory_normal", |s| &mut s.memory_normal),
    ("memory_constant", |s| &mut s.memory_constant),
    ("memory_processed", |s| &mut s.memory_processed),
    ("memory_postcopy_requests", |s| {
        &mut s.memory_postcopy_requests
    }),
];

/// A client's BEGIN.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    /// Connection and serial.
    call: (u64, u32),
    uuid: [u8; 16],
    name: String,
    mark: Mark,
    source: IpAddr,
    flags: u64,
    /// From the reply.
    domain: Option<DomainSummary>,
    hostname: Option<String>,
}

impl Tracker {
    /// A client asks the source: the attempt itself begins with PREPARE at the destination, or
    /// with PERFORM where that is not seen.
    pub(super) fn begin(&mut self, flow: u64, h: &Header, mark: Mark, body: &Body) {
        let Body::Begin(b) = body else { return };
        let Some(session) = self.sessions.get(&flow) else {
            return;
        };
        if self.begins.len() >= MAX_BEGINS {
            self.begins.remove(0);
        }
        self.begins.push(Begun {
            call: (flow, h.serial),
            uuid: b.domain.uuid,
            name: b.domain.name.clone(),
            mark,
            source: session.info.server.ip,
            flags: b.flags,
            domain: None,
            hostname: None,
        });
    }

    pub(super) fn begin_reply(&mut self, flow: u64, h: &Header, body: &Body) {
        let Body::BeginReply { cookie, domain } = body else {
            return;
        };
        if let Some(b) = self.begins.iter_mut().find(|b| b.call == (flow, h.serial)) {
            b.domain = domain.clone();
            b.hostname = cookie.as_ref().and_then(|c| c.hostname.clone());
        }
    }

    /// Gives an attempt the BEGIN that a client sent for it.
    pub(super) fn begun(&mut self, i: usize) {
        let Some(attempt) = self.attempts.get_mut(i) else {
            return;
        };
        let fits = |b: &Begun| {
            attempt.uuid == Some(b.uuid)
                || (attempt.uuid.is_none() && attempt.name.as_deref() == Some(&b.name))
        };
        if let Some(at) = self.begins.iter().rposition(fits) {
            let b = self.begins.remove(at);
            attempt.signal(Signal::BeginCall, b.mark);
            attempt.source_address = Some(b.source);
            attempt.uuid = attempt.uuid.or(Some(b.uuid));
            attempt.flags = attempt.flags.or(Some(b.flags));
            attempt.domain = attempt.domain.take().or(b.domain);
            attempt.source_hostname = attempt.source_hostname.take().or(b.hostname);
        }
    }

    pub(super) fn perform(&mut self, flow: u64, h: &Header, mark: Mark, body: &Body) {
        let Body::Perform(p) = body else { return };
        // In a peer-to-peer migration the source drives: its own connection tells the phases.
        if p.flags & flag::PEER2PEER != 0 || p.dconnuri.is_some() {
            return;
        }
        let open = |a: &Attempt| {
            (a.uuid == Some(p.domain.uuid)
                || (a.uuid.is_none() && a.name.as_deref() == Some(&p.domain.name)))
                && a.perform.is_none()
                && a.finish_call().is_none()
                && !a.has(Signal::PrepareError)
        };
        let i = self.attempts.iter().rposition(open).unwrap_or_else(|| {
            let attempt = self.new_attempt(flow);
            attempt.side = Side::Source;
            attempt.uri = p.uri.as_deref().and_then(MigrationUri::parse);
            attempt.identity_of_destination(p.cookie.as_ref());
            self.attempts.len() - 1
        });
        let source = self.sessions.get(&flow).map(|s| s.info.server.ip);
        let attempt = &mut self.attempts[i];
        attempt.perform = Some((flow, h.serial));
        attempt.signal(Signal::PerformCall, mark);
        attempt.uuid = Some(p.domain.uuid);
        attempt.name = attempt.name.take().or(Some(p.domain.name.clone()));
        attempt.flags = attempt.flags.or(Some(p.flags));
        attempt.source_address = attempt.source_address.or(source);
        self.begun(i);
    }

    pub(super) fn performed(&mut self, flow: u64, h: &Header, mark: Mark, body: &Body) {
        let call = Some((flow, h.serial));
        let Some(attempt) = self.attempts.iter_mut().find(|a| a.perform == call) else {
            return;
        };
        if h.status == Status::Error {
            if let Body::Error(e) = body {
                attempt.perform_error = Some(e.clone());
            }
            attempt.signal(Signal::PerformError, mark);
            return;
        }
        attempt.signal(Signal::PerformReply, mark);
        if let Body::PerformReply { cookie } = body {
            attempt.statistics_of(cookie.as_ref());
            attempt.told_stop(cookie.as_ref(), mark);
            attempt.identity_of_source(cookie.as_ref());
        }
    }

    /// What a daemon tells the clients that asked for events: the rounds and the final figures.
    pub(super) fn told_by_client_event(&mut self, body: &Body) {
        let domain = match body {
            Body::Iteration { domain, .. } | Body::JobCompleted { domain, .. } => domain,
            _ => return,
        };
        let attempt = self.attempts.iter_mut().rev();
        let Some(a) = attempt.into_iter().find(|a| a.uuid == Some(domain.uuid)) else {
            return;
        };
        let told = a.statistics.get_or_insert_default();
        match body {
            Body::Iteration { iteration, .. } => {
                let round = u64::try_from(*iteration).ok();
                told.memory_iteration = told.memory_iteration.max(round);
            }
            Body::JobCompleted { statistics, .. } => {
                for (name, value) in statistics {
                    if let Some((_, field)) = FIGURES.iter().find(|(n, _)| n == name) {
                        let figure = field(told);
                        *figure = figure.or(value.to_u64());
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn confirm(&mut self, flow: u64, h: &Header, mark: Mark, body: &Body) {
        let Body::Confirm(c) = body else { return };
        let attempt = self
            .attempts
            .iter_mut()
            .rev()
            .find(|a| a.uuid == Some(c.domain.uuid) && a.confirm.is_none());
        if let Some(a) = attempt {
            a.confirm = Some((flow, h.serial));
            a.confirm_cancelled = Some(c.cancelled);
            a.signal(Signal::ConfirmCall, mark);
            a.statistics_of(c.cookie.as_ref());
        }
    }

    pub(super) fn confirmed(&mut self, flow: u64, h: &Header, mark: Mark) {
        let call = Some((flow, h.serial));
        if let Some(a) = self.attempts.iter_mut().find(|a| a.confirm == call) {
            a.signal(Signal::ConfirmReply, mark);
        }
    }
}

impl Session {
    /// How long the client took between an answer and its next call, in the middle (the median):
    /// so far apart are the reply that is not seen and the call that follows it. Nanoseconds.
    pub(in crate::migration) fn turnaround_ns(&self) -> i64 {
        let mut took: Vec<i64> = self
            .calls
            .windows(2)
            .filter_map(|w| Some(w[1].call?.time.since(w[0].reply?.time)))
            .filter(|ns| *ns >= 0)
            .collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied().unwrap_or(0)
    }
}
