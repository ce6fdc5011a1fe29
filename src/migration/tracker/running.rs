//! Migrations that are not over: what would be told of them now.

use super::{Event, Tracker, assemble};
use crate::migration::openstack::Story;
use crate::migration::records::{Attempt, Companion, Stream};
use crate::migration::{Clock, Migration, OutcomeKind, PhaseName};

/// Marks the keys of migrations that a cloud's request began: a key by the first frame would change
/// when libvirt's part begins.
const STORY: u64 = 1 << 62;

/// A migration that is not over, as far as it has been seen.
#[derive(Debug, Clone)]
pub struct Running {
    /// The same as long as it runs: the frame of its first message, or of its stream; of a
    /// cloud's migrations a number of their own.
    pub key: u64,
    /// What would be told of it now. Its number is 0.
    pub migration: Migration,
    /// The phase it is in; `None` between two of them, and when the last one is over.
    pub phase: Option<PhaseName>,
    /// Bytes of page records so far, those of multifd channels included.
    pub page_bytes: u64,
}

impl Tracker {
    /// Migrations that are not over, in order of their first evidence.
    pub fn running(&self) -> Vec<Running> {
        let mut claimed = Vec::new();
        let mut out: Vec<Running> = Vec::new();
        for a in &self.attempts {
            let of = self.streams.values().filter(|s| self.carries(a, s));
            let streams: Vec<Stream> = of.cloned().collect();
            let story = self.cloud.claim(a);
            claimed.extend(story);
            let first = a.signals.first().map_or(0, |(_, m)| m.stamp.frame);
            let story = story.and_then(|id| self.cloud.story(id));
            out.push(self.as_seen(first, Some(a), &streams, story));
        }
        let free = |s: &&Stream| !self.attempts.iter().any(|a| self.carries(a, s));
        let lone: Vec<&Stream> = self.streams.values().filter(free).collect();
        // libvirt's part has not begun yet, or is not understood.
        for story in self.cloud.left() {
            if let Some(of) = self
                .cloud
                .story(story)
                .filter(|_| !claimed.contains(&story))
            {
                let streams = lone.iter().copied();
                let streams =
                    streams.filter(|s| self.cloud.awaits(s.info.first.time) == Some(story));
                let streams: Vec<Stream> = streams.cloned().collect();
                out.push(self.as_seen(0, None, &streams, Some(of)));
            }
        }
        for s in lone {
            let story = self.cloud.awaits(s.info.first.time);
            if story.is_none_or(|id| claimed.contains(&id)) {
                let one = std::slice::from_ref(s);
                out.push(self.as_seen(s.info.first.frame, None, one, None));
            }
        }
        let first = |r: &Running| {
            let bounds = r.migration.phases.iter().filter_map(|p| p.start.as_ref());
            bounds.map(|b| b.offset_ns).min()
        };
        out.sort_by_cached_key(|r| (first(r).unwrap_or(i64::MAX), r.key));
        out
    }

    /// Page bytes so far of each stream, with those of its channels, by the number of its first
    /// frame.
    pub fn progress(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let all = self.streams.values();
        all.map(|s| (s.info.first.frame, self.page_bytes(s)))
    }

    /// Page bytes of a stream and of the channels that lead to the same place for the same guest.
    fn page_bytes(&self, stream: &Stream) -> u64 {
        let of = |((uuid, server), _): &(&([u8; 16], _), _)| {
            *server == stream.info.server && stream.uuid.is_none_or(|u| u == *uuid)
        };
        let channels = self.channels.iter().filter(of);
        channels.fold(stream.counts.bytes, |sum, (_, c)| {
            sum.saturating_add(c.bytes)
        })
    }

    fn as_seen(
        &self,
        key: u64,
        attempt: Option<&Attempt>,
        streams: &[Stream],
        story: Option<&Story>,
    ) -> Running {
        let beside = |c: &&Companion| match attempt {
            Some(a) => self.accompanies(a, streams.is_empty(), c),
            None => streams.iter().any(|s| super::is_channel_of(&s.info, c)),
        };
        let companions: Vec<Companion> = self.companions.values().filter(beside).cloned().collect();
        let group = super::channel_group(&companions);
        let parts = assemble::Parts {
            attempt,
            session: attempt.and_then(|a| self.sessions.get(&a.session)),
            source_session: self.source_session(attempt),
            streams,
            companions: &companions,
            channels: group.and_then(|g| self.channels.get(&g)),
            story,
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
            key: story.map_or(key, |s| STORY | s.id),
            phase: current(&migration),
            migration,
            page_bytes: streams.iter().map(|s| self.page_bytes(s)).sum(),
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
            if reset {
                info.reset.get_or_insert((event.stamp, direction));
            } else {
                info.fin[direction.index()].get_or_insert(event.stamp);
            }
        }
    }
}

/// The phase that began last, while it lasts.
fn current(m: &Migration) -> Option<PhaseName> {
    let last = m.phases.iter().rev().find(|p| p.start.is_some())?;
    last.end.is_none().then_some(last.name)
}
