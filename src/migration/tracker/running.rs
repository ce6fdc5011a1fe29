//! Migrations that are not over: what would be told of them now.

use super::{Event, Tracker, assemble};
use crate::migration::records::{Attempt, Companion, Stream};
use crate::migration::{Clock, Migration, OutcomeKind, PhaseName};

/// A migration that is not over, as far as it has been seen.
#[derive(Debug, Clone)]
pub struct Running {
    /// The same as long as it runs: the frame of its first message, or of its stream.
    pub key: u64,
    /// What would be told of it now. Its number is 0.
    pub migration: Migration,
    /// The phase it is in; `None` between two of them, and when the last one is over.
    pub phase: Option<PhaseName>,
}

impl Tracker {
    /// Migrations that are not over, in order of their first evidence.
    pub fn running(&self) -> Vec<Running> {
        let mut out: Vec<Running> = self
            .attempts
            .iter()
            .map(|a| {
                let streams: Vec<Stream> = self
                    .streams
                    .values()
                    .filter(|s| self.carries(a, s))
                    .cloned()
                    .collect();
                let first = a.signals.first().map_or(0, |(_, m)| m.stamp.frame);
                self.as_seen(first, Some(a), &streams)
            })
            .collect();
        let lone = self
            .streams
            .values()
            .filter(|s| !self.attempts.iter().any(|a| self.carries(a, s)));
        out.extend(lone.map(|s| self.as_seen(s.info.first.frame, None, std::slice::from_ref(s))));
        out.sort_by_key(|r| r.key);
        out
    }

    /// Page bytes so far of each stream, by the number of its first frame.
    pub fn progress(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.streams
            .values()
            .map(|s| (s.info.first.frame, s.counts.bytes))
    }

    fn as_seen(&self, key: u64, attempt: Option<&Attempt>, streams: &[Stream]) -> Running {
        let companions: Vec<Companion> = attempt.map_or_else(Vec::new, |a| {
            let beside = |c: &&Companion| self.accompanies(a, streams.is_empty(), c);
            self.companions.values().filter(beside).cloned().collect()
        });
        let parts = assemble::Parts {
            attempt,
            session: attempt.and_then(|a| self.sessions.get(&a.session)),
            streams,
            companions: &companions,
            channels: None,
            story: None,
            veiled: None,
            now: self.now,
            guests: &self.guests,
            clock: Clock {
                first: self.first.unwrap_or_default(),
            },
        };
        let mut migration = assemble::migration(0, &parts);
        // What is not known yet is not unknown.
        for p in &mut migration.phases {
            if p.start.is_some() {
                p.reason = None;
            }
        }
        migration.downtime.retain(|d| d.duration_ns.is_some());
        if migration.outcome.result == OutcomeKind::Unfinished {
            migration.outcome.reason = None;
            migration.notes.clear();
        }
        Running {
            key,
            phase: current(&migration),
            migration,
        }
    }

    /// One side has closed a connection: a phase may end here, long before the connection is
    /// forgotten and its own record becomes final.
    pub(super) fn closing(&mut self, event: &Event, reset: bool) {
        let Some((flow, direction)) = event.flow else {
            return;
        };
        let session = self.sessions.get_mut(&flow).map(|s| &mut s.info);
        let stream = self.streams.get_mut(&flow).map(|s| &mut s.info);
        for info in session.into_iter().chain(stream) {
            let edge = if reset {
                &mut info.reset
            } else {
                &mut info.fin[direction.index()]
            };
            edge.get_or_insert(event.stamp);
        }
    }
}

/// The phase that began last, while it lasts.
fn current(m: &Migration) -> Option<PhaseName> {
    let last = m.phases.iter().rev().find(|p| p.start.is_some())?;
    last.end.is_none().then_some(last.name)
}
