//! Finds the attempts inside encrypted connections.

use std::net::IpAddr;

use super::Tracker;
use super::joining::opener;
use crate::migration::encrypted::{self, Found, MIN_STREAM};
use crate::migration::records::{Companion, CompanionKind};
use crate::net::{Direction, FlowInfo};

impl Tracker {
    /// Takes encrypted connections that look like a migration for one, when they are over, or when
    /// the connection is over that its memory went through. `over`: has it ended, and long ago?
    pub(super) fn look_into_encrypted(&mut self, over: impl Fn(bool, &FlowInfo) -> bool) {
        let controls: Vec<u64> = self
            .companions
            .iter()
            .filter(|(_, c)| encrypted::is_control(c))
            .map(|(id, _)| *id)
            .collect();
        // A host's own connection is a better guess than one of a third host.
        let mut pairs = Vec::new();
        for c in controls.iter().filter_map(|id| self.companions.get(id)) {
            for (ended, memory, opener) in self.memory() {
                if let Some(own) = encrypted::beside(&c.info, memory)
                    && (over(c.ended, &c.info) || over(ended, memory))
                {
                    pairs.push((!own, memory.first, c.info.id, memory.clone(), opener));
                }
            }
        }
        pairs.sort_by_key(|(third, first, ..)| (*third, *first));
        for (.., control, memory, opener) in pairs {
            if !self
                .attempts
                .iter()
                .any(|a| self.claims(a, &memory, opener))
                && let Some(c) = self.companions.get(&control)
                && let Some(found) = encrypted::attempt(c, Some(&memory), |_| false)
            {
                self.take(control, found);
            }
        }
        for id in controls {
            while let Some(c) = self.companions.get(&id)
                && over(c.ended, &c.info)
                && let Some(mut found) = encrypted::attempt(c, None, |end| {
                    !self.guests.announced_at(end.time).is_empty()
                })
            {
                found.attempt.source_address = self.source_beside(&c.info);
                self.take(id, found);
            }
        }
    }

    /// Connections that carry a guest's memory, in clear or by their size: whether they have
    /// ended, and which side opened them.
    fn memory(&self) -> impl Iterator<Item = (bool, &FlowInfo, Direction)> {
        let clear = self.streams.values();
        let clear = clear.map(|s| (s.ended, &s.info, opener(s)));
        let large = self.companions.values().filter(|c| {
            let tls = matches!(c.kind, CompanionKind::Tls(_));
            tls && c.info.wire_bytes >= MIN_STREAM && !encrypted::is_control(c)
        });
        clear.chain(large.map(|c| (c.ended, &c.info, Direction::ToServer)))
    }

    /// The other host that the same client drives, where it drives one.
    fn source_beside(&self, control: &FlowInfo) -> Option<IpAddr> {
        let mut others = self.companions.values().filter(|c| {
            let (other, at_once) = (&c.info, c.info.first.time <= control.last.time);
            other.client.ip == control.client.ip
                && other.server.ip != control.server.ip
                && at_once
                && control.first.time <= other.last.time
                && encrypted::is_control(c)
                && encrypted::is_to_source(c)
        });
        others.next().map(|c| c.info.server.ip)
    }

    fn take(&mut self, control: u64, found: Found) {
        let Found {
            session,
            mut attempt,
            turns,
            forgotten,
        } = found;
        if forgotten {
            self.oddities.note("encrypted-turns-full");
        }
        let known = self.sessions.entry(control).or_insert(session);
        attempt.first_on_session = known.attempts == 0;
        known.attempts += 1;
        self.attempts.push(attempt);
        let control = self.companions.get_mut(&control);
        if let Some(all) = control.and_then(Companion::turns_mut) {
            all.done(turns);
        }
    }
}
