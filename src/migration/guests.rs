//! Logs of the guests' signs of life, until a migration asks for them.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::downtime::{ANNOUNCED_EARLY_NS, ANNOUNCED_NS};
use super::kept::{Kept, Span};
use crate::dissect::event::{Echo, Guest, Path, Sign};
use crate::net::{Mac, Stamp};
use crate::time::Timestamp;

/// Hardware addresses with a log.
const MAX_MACS: usize = 2048;
/// Announcements kept of one address.
const MAX_RARPS: usize = 64;
/// Protocol addresses kept of one address.
const MAX_ADDRESSES: usize = 8;
/// Series of echo requests.
const MAX_ECHOES: usize = 256;
/// Requests of one series that wait for their replies.
const MAX_WAITING: usize = 65_536;
/// Ways that replies of one series came.
const MAX_PATHS: usize = 8;

/// A request that had no reply for so long is lost. Nanoseconds.
const PATIENCE_NS: i64 = 10_000_000_000;
/// Shorter gaps between replies are not kept, unless requests were lost. Nanoseconds.
const MIN_GAP_NS: i64 = 5_000_000;
/// No request for so long: nobody asked, or not here. Nanoseconds.
const PAUSE_NS: i64 = 1_000_000_000;
/// A request seen again within this time is another sight of the same one. Nanoseconds.
const SAME_REQUEST_NS: i64 = 1_000_000_000;
/// So many requests back.
const SAME_REQUEST_DEPTH: usize = 64;

/// A time without a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    pub(super) from: Stamp,
    pub(super) to: Stamp,
    pub(super) by: Sign,
}

impl Span for Silence {
    fn span(&self) -> (Stamp, Stamp) {
        (self.from, self.to)
    }
}

/// A time between two replies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) from: Stamp,
    pub(super) to: Stamp,
    /// Every request between the two answered ones is in the capture.
    pub(super) watched: bool,
}

impl Span for Gap {
    fn span(&self) -> (Stamp, Stamp) {
        (self.from, self.to)
    }
}

/// Requests in a row that had no reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) first: Stamp,
    pub(super) last: Stamp,
    pub(super) count: u64,
    /// The request before, and the one behind.
    before: Option<Timestamp>,
    after: Option<Timestamp>,
}

impl Span for Run {
    fn span(&self) -> (Stamp, Stamp) {
        (self.first, self.last)
    }
}

impl Run {
    /// Time between two of its requests; between its neighbours' where it is one alone.
    pub(super) fn interval_ns(&self) -> Option<i64> {
        if self.count > 1 {
            return Some(self.last.time.since(self.first.time) / (self.count as i64 - 1));
        }
        match (self.before, self.after) {
            (Some(b), Some(a)) => Some(a.since(b) / 2),
            (Some(b), None) => Some(self.first.time.since(b)),
            (None, Some(a)) => Some(a.since(self.first.time)),
            (None, None) => None,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct MacLog {
    silences: Kept<Silence>,
    rarps: VecDeque<Stamp>,
    addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    sequence: u16,
    stamp: Stamp,
    answered: bool,
}

/// One series of echo requests.
#[derive(Debug, Clone)]
pub(super) struct EchoLog {
    pub(super) pinger: IpAddr,
    pub(super) target: IpAddr,
    pub(super) id: u16,
    macs: Vec<Mac>,
    waiting: VecDeque<Request>,
    last_request: Option<Stamp>,
    /// The last reply, and the sequence number that it answers.
    last_reply: Option<(Stamp, u16)>,
    /// Times in which no request was seen.
    pauses: Kept<(Stamp, Stamp)>,
    /// The request taken out of `waiting` last.
    settled: Option<Timestamp>,
    run: Option<Run>,
    pub(super) first: Stamp,
    pub(super) last: Stamp,
    pub(super) requests: u64,
    pub(super) replies: u64,
    pub(super) unanswered: u64,
    pub(super) gaps: Kept<Gap>,
    runs: Kept<Run>,
    pub(super) paths: Vec<(Path, Stamp, Stamp)>,
}

/// All logs.
#[derive(Debug, Clone, Default)]
pub(super) struct GuestLogs {
    macs: HashMap<Mac, MacLog, RandomState>,
    full: u64,
    echoes: Vec<EchoLog>,
    index: HashMap<(IpAddr, IpAddr, u16), usize, RandomState>,
}

impl GuestLogs {
    pub(super) fn event(&mut self, stamp: Stamp, guest: &Guest) {
        match guest {
            Guest::Echo(echo) => self.echo(stamp, echo),
            Guest::Rarp { mac } => {
                if let Some(log) = self.mac(*mac) {
                    if log.rarps.len() == MAX_RARPS {
                        log.rarps.pop_front();
                    }
                    log.rarps.push_back(stamp);
                }
            }
            Guest::Arp { mac, address, .. } | Guest::NeighborAdvertisement { mac, address } => {
                self.lives_at(*mac, *address);
            }
            Guest::Silence { mac, last, by, .. } => {
                if let Some(log) = self.mac(*mac) {
                    log.silences.keep(Silence {
                        from: *last,
                        to: stamp,
                        by: *by,
                    });
                }
            }
        }
    }

    fn mac(&mut self, mac: Mac) -> Option<&mut MacLog> {
        if self.macs.len() >= MAX_MACS && !self.macs.contains_key(&mac) {
            self.full += 1;
            return None;
        }
        Some(self.macs.entry(mac).or_default())
    }

    fn lives_at(&mut self, mac: Mac, address: IpAddr) {
        if let Some(log) = self.mac(mac)
            && log.addresses.len() < MAX_ADDRESSES
            && !log.addresses.contains(&address)
        {
            log.addresses.push(address);
        }
    }

    fn echo(&mut self, stamp: Stamp, echo: &Echo) {
        let key = (echo.pinger, echo.target, echo.id);
        let i = match self.index.get(&key) {
            Some(i) => *i,
            None if self.echoes.len() >= MAX_ECHOES => return,
            None => {
                self.echoes.push(EchoLog::new(echo, stamp));
                self.index.insert(key, self.echoes.len() - 1);
                self.echoes.len() - 1
            }
        };
        self.echoes[i].take(stamp, echo);
    }

    /// Signs of hardware addresses that found no place for a log.
    pub(super) fn overflow(&self) -> u64 {
        self.full
    }

    /// No more frames will come.
    pub(super) fn finish(&mut self) {
        for echo in &mut self.echoes {
            echo.settle_all();
        }
    }

    /// Requests older than the patience are lost now.
    pub(super) fn settle(&mut self, now: Timestamp) {
        for echo in &mut self.echoes {
            echo.settle(now);
        }
    }

    pub(super) fn silences(&self, macs: &[Mac]) -> impl Iterator<Item = (Mac, &Silence)> {
        macs.iter()
            .filter_map(|m| Some((*m, self.macs.get(m)?)))
            .flat_map(|(m, log)| log.silences.iter().map(move |s| (m, s)))
    }

    /// Can a silence of one of these addresses have been forgotten?
    pub(super) fn may_lack_silence(&self, macs: &[Mac], from: Timestamp, to: Timestamp) -> bool {
        let mut logs = macs.iter().filter_map(|m| self.macs.get(m));
        logs.any(|log| log.silences.may_lack(from, to))
    }

    /// Addresses that were announced when a migration connection was closed. Of what cannot be read
    /// only the close is known, and the announcement may come before it.
    pub(super) fn announced_at(&self, close: Timestamp) -> Vec<Mac> {
        self.announced(close.offset(-ANNOUNCED_EARLY_NS), close)
    }

    /// Addresses that were announced from then on, and for a while behind `last`.
    pub(super) fn announced(&self, from: Timestamp, last: Timestamp) -> Vec<Mac> {
        let to = last.offset(ANNOUNCED_NS);
        let mut macs: Vec<Mac> = self
            .macs
            .iter()
            .filter(|(_, log)| log.rarps.iter().any(|s| s.time >= from && s.time <= to))
            .map(|(m, _)| *m)
            .collect();
        macs.sort_unstable();
        macs
    }

    /// Series of requests to a guest with one of these hardware addresses.
    pub(super) fn echoes_to(&self, macs: &[Mac]) -> Vec<&EchoLog> {
        let addresses: Vec<IpAddr> = macs
            .iter()
            .filter_map(|m| self.macs.get(m))
            .flat_map(|log| log.addresses.iter().copied())
            .collect();
        self.echoes
            .iter()
            .filter(|e| e.macs.iter().any(|m| macs.contains(m)) || addresses.contains(&e.target))
            .collect()
    }

    /// All series.
    pub(super) fn echoes(&self) -> &[EchoLog] {
        &self.echoes
    }
}

impl EchoLog {
    fn new(echo: &Echo, stamp: Stamp) -> Self {
        Self {
            pinger: echo.pinger,
            target: echo.target,
            id: echo.id,
            macs: Vec::new(),
            waiting: VecDeque::new(),
            last_request: None,
            last_reply: None,
            pauses: Kept::default(),
            settled: None,
            run: None,
            first: stamp,
            last: stamp,
            requests: 0,
            replies: 0,
            unanswered: 0,
            gaps: Kept::default(),
            runs: Kept::default(),
            paths: Vec::new(),
        }
    }

    fn take(&mut self, stamp: Stamp, echo: &Echo) {
        self.last = stamp;
        if let Some(mac) = echo.target_mac
            && self.macs.len() < MAX_ADDRESSES
            && !self.macs.contains(&mac)
        {
            self.macs.push(mac);
        }
        self.settle(stamp.time);
        if echo.reply {
            self.reply(stamp, echo);
        } else {
            self.request(stamp, echo.sequence);
        }
    }

    fn request(&mut self, stamp: Stamp, sequence: u16) {
        let again =
            self.waiting.iter().rev().take(SAME_REQUEST_DEPTH).any(|r| {
                r.sequence == sequence && stamp.time.since(r.stamp.time) < SAME_REQUEST_NS
            });
        if again {
            return;
        }
        self.requests += 1;
        if let Some(before) = self.last_request.replace(stamp)
            && stamp.time.since(before.time) > PAUSE_NS
        {
            self.pauses.keep((before, stamp));
        }
        if self.waiting.len() >= MAX_WAITING {
            self.settle_one();
        }
        self.waiting.push_back(Request {
            sequence,
            stamp,
            answered: false,
        });
    }

    fn reply(&mut self, stamp: Stamp, echo: &Echo) {
        let request = self
            .waiting
            .iter_mut()
            .rev()
            .find(|r| r.sequence == echo.sequence);
        let again = request.as_ref().is_some_and(|r| r.answered);
        if let Some(request) = request {
            request.answered = true;
        }
        // Where several taps see a reply, its way is that of the first one.
        if again {
            return;
        }
        match self.paths.iter_mut().find(|(p, _, _)| *p == echo.path) {
            Some((_, _, last)) => *last = stamp,
            None => {
                if self.paths.len() < MAX_PATHS {
                    self.paths.push((echo.path, stamp, stamp));
                }
            }
        }
        self.replies += 1;
        if let Some((last, answered)) = self.last_reply.replace((stamp, echo.sequence))
            && stamp.time.since(last.time) >= MIN_GAP_NS
        {
            self.gaps.keep(Gap {
                from: last,
                to: stamp,
                watched: self.watched(answered, echo.sequence),
            });
        }
    }

    /// The last reply, where none has come since.
    pub(super) fn last_reply(&self) -> Option<Stamp> {
        self.last_reply.map(|(s, _)| s)
    }

    /// Is every request from one sequence number to another among those that wait?
    fn watched(&self, from: u16, to: u16) -> bool {
        let at = |n: u16| self.waiting.iter().rposition(|r| r.sequence == n);
        at(from)
            .zip(at(to))
            .is_some_and(|(a, b)| a < b && b - a == usize::from(to.wrapping_sub(from)))
    }

    /// Were requests seen all through this time?
    pub(super) fn asked(&self, from: Timestamp, to: Timestamp) -> bool {
        self.first.time < from
            && self.last.time > to
            && !self
                .pauses
                .iter()
                .any(|(a, b)| a.time <= to && b.time >= from)
    }

    /// Can lost requests, or a time without any, have been forgotten?
    pub(super) fn may_lack_losses(&self, from: Timestamp, to: Timestamp) -> bool {
        self.runs.may_lack(from, to) || self.pauses.may_lack(from, to)
    }

    fn settle(&mut self, now: Timestamp) {
        while self
            .waiting
            .front()
            .is_some_and(|r| now.since(r.stamp.time) > PATIENCE_NS)
        {
            self.settle_one();
        }
    }

    fn settle_all(&mut self) {
        while !self.waiting.is_empty() {
            self.settle_one();
        }
        self.end_run(None);
    }

    /// The oldest waiting request is answered or lost for good.
    fn settle_one(&mut self) {
        let Some(r) = self.waiting.pop_front() else {
            return;
        };
        if r.answered {
            self.end_run(Some(r.stamp.time));
        } else {
            self.unanswered += 1;
            let before = self.settled;
            let run = self.run.get_or_insert(Run {
                first: r.stamp,
                last: r.stamp,
                count: 0,
                before,
                after: None,
            });
            run.last = r.stamp;
            run.count += 1;
        }
        self.settled = Some(r.stamp.time);
    }

    fn end_run(&mut self, next: Option<Timestamp>) {
        if let Some(mut run) = self.run.take() {
            run.after = next;
            self.runs.keep(run);
        }
    }

    /// Runs, the one that is not over included.
    pub(super) fn lost_runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().chain(&self.run)
    }
}
