//! Connections beside the stream: multifd channels, disks, and what is encrypted.

use std::collections::BTreeMap;

use super::Tracker;
use super::encrypted;
use super::records::{Companion, CompanionKind, MAX_ALL_TURNS, MAX_DISKS, Turn};
use crate::dissect::event::{Event, Multifd, Nbd, Preempt, Ssh, Tls};
use crate::net::{Direction, FlowInfo};

impl Tracker {
    pub(super) fn companion(&mut self, info: &FlowInfo, kind: CompanionKind) {
        let new = Companion {
            info: info.clone(),
            ended: false,
            missing_bytes: 0,
            kind,
        };
        self.companions.insert(info.id, new);
    }

    pub(super) fn multifd(&mut self, event: &Event, what: &Multifd) {
        let Some((flow, _)) = event.flow else { return };
        let Some(companion) = self.companions.get_mut(&flow) else {
            return;
        };
        let server = companion.info.server;
        let CompanionKind::Multifd(record) = &mut companion.kind else {
            return;
        };
        if let Multifd::Initial { uuid, channel } = what {
            record.uuid = Some(*uuid);
            record.channel = Some(*channel);
        }
        match what {
            Multifd::Initial { .. } | Multifd::Found => {}
            Multifd::Packet(p) => {
                record.packets += 1;
                if p.compressed {
                    record.compressed += u64::from(p.normal);
                    record.compressed_bytes += u64::from(p.data);
                } else {
                    record.normal += u64::from(p.normal);
                }
                record.zero += u64::from(p.zero);
            }
            Multifd::DeviceState { bytes, .. } => record.device_bytes += u64::from(*bytes),
            Multifd::Sync { .. } => record.syncs += 1,
            Multifd::Lost => record.lost = true,
        }
        // A channel whose beginning was not seen cannot be put in step with the others.
        let Some(uuid) = record.uuid else { return };
        let group = self.channels.entry((uuid, server)).or_default();
        match what {
            Multifd::Initial { .. } => group.opened(flow),
            Multifd::Packet(p) => {
                let late = group.packet(flow, event.stamp, p);
                self.oddities.add("multifd-waiting-full", u64::from(late));
            }
            Multifd::Sync { .. } => group.sync(flow),
            Multifd::DeviceState { .. } | Multifd::Lost | Multifd::Found => {}
        }
    }

    pub(super) fn preempt(&mut self, event: &Event, what: &Preempt) {
        let companion = beside(&mut self.companions, event);
        if let Some(CompanionKind::Preempt(record)) = companion.map(|c| &mut c.kind) {
            record.heard(event.stamp, what);
        }
    }

    pub(super) fn nbd(&mut self, event: &Event, what: &Nbd) {
        let companion = beside(&mut self.companions, event);
        let Some(CompanionKind::Nbd(record)) = companion.map(|c| &mut c.kind) else {
            return;
        };
        match what {
            Nbd::Option { export, .. } => {
                if let Some(name) = export
                    && record.exports.len() < MAX_DISKS
                    && !record.exports.contains(name)
                {
                    record.exports.push(name.clone());
                }
            }
            Nbd::Requests {
                written, zeroed, ..
            } => {
                record.written += written;
                record.zeroed += zeroed;
                if written + zeroed > 0 {
                    record.last_write = Some(event.stamp);
                }
            }
            Nbd::Tls => record.tls = true,
            Nbd::Lost => record.lost = true,
            Nbd::Ready | Nbd::Disconnect => {}
        }
    }

    /// What one side sent, where libvirt's calls may be inside.
    fn turn(&mut self, event: &Event, bytes: u64) {
        let companion = beside(&mut self.companions, event);
        let control = companion.filter(|c| encrypted::is_control(c));
        let Some(turns) = control.and_then(Companion::turns_mut) else {
            return;
        };
        if self.turns >= MAX_ALL_TURNS {
            turns.hole();
            self.oddities.note("encrypted-turns-full");
            return;
        }
        let had = turns.len();
        turns.push(Turn::of(event, bytes));
        self.turns += turns.len() - had;
    }

    pub(super) fn tls(&mut self, event: &Event, what: &Tls) {
        let companion = beside(&mut self.companions, event);
        match (what, companion.map(|c| &mut c.kind)) {
            (Tls::Data { bytes }, _) => self.turn(event, *bytes),
            (Tls::ClientHello { server_name, .. }, Some(CompanionKind::Tls(record))) => {
                record.server_name = server_name.clone();
            }
            (Tls::ServerHello { version }, Some(CompanionKind::Tls(record))) => {
                record.version = Some(*version);
            }
            (Tls::Lost, Some(CompanionKind::Tls(record))) => record.turns.hole(),
            _ => {}
        }
    }

    pub(super) fn ssh(&mut self, event: &Event, what: &Ssh) {
        let companion = beside(&mut self.companions, event);
        match (what, companion.map(|c| &mut c.kind)) {
            (Ssh::Data { bytes }, _) => self.turn(event, *bytes),
            (Ssh::Identification { software, .. }, Some(CompanionKind::Ssh(record))) => {
                let end = match event.flow {
                    Some((_, Direction::ToClient)) => &mut record.software.server,
                    _ => &mut record.software.client,
                };
                *end = Some(software.clone());
            }
            _ => {}
        }
    }
}

/// The connection that said it.
fn beside<'a>(
    companions: &'a mut BTreeMap<u64, Companion>,
    event: &Event,
) -> Option<&'a mut Companion> {
    companions.get_mut(&event.flow?.0)
}
