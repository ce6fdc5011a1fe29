//! What was carried: connections, pages, rounds, disks.

use std::collections::HashMap;

use super::assemble::Parts;
use super::records::{CompanionKind, Stream, Wrapping};
use super::{Clock, Connection, Pages, Postcopy, Role, Round, StopAndCopy, Storage, Transfer};
use crate::net::{Direction, FlowInfo};

/// Bytes of a channel's initial packet (QEMU `MultiFDInit_t`).
const MULTIFD_INITIAL: u64 = 64;

pub(super) fn transfer(parts: &Parts<'_>) -> Option<Transfer> {
    let mut connections: Vec<Connection> = parts
        .streams
        .iter()
        .filter(|s| parts.attempt.is_none_or(|a| a.session != s.info.id))
        .map(|s| connection(&s.info, Role::Main, Wrapping::default()))
        .collect();
    connections.extend(parts.companions.iter().filter_map(|c| {
        let role = match c.kind {
            CompanionKind::Multifd(_) => Role::Multifd,
            CompanionKind::Preempt(_) => Role::PostcopyPreempt,
            CompanionKind::Nbd(_) => Role::Nbd,
            CompanionKind::Tls(_) => Role::Main,
            CompanionKind::Ssh(_) => return None,
        };
        let mut of_it = connection(&c.info, role, c.handshake());
        match &c.kind {
            CompanionKind::Multifd(m) => {
                of_it.pages = Some(m.normal + m.compressed + m.zero);
                of_it.syncs = Some(m.syncs);
            }
            CompanionKind::Preempt(p) => of_it.pages = Some(p.counts.pages()),
            _ => {}
        }
        Some(of_it)
    }));
    let control = parts.session.into_iter().chain(parts.source_session);
    connections.extend(control.map(|s| connection(&s.info, Role::Control, s.handshake.clone())));
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
    // Pages that channels compressed, and their bytes.
    let mut packed = (0, 0);
    for c in parts.companions {
        if let CompanionKind::Multifd(m) = &c.kind {
            // QEMU counts compressed pages of channels as normal ones.
            counts.normal += m.normal + m.compressed;
            counts.zero += m.zero;
            packed.0 += m.compressed;
            packed.1 += m.compressed_bytes;
            device_bytes += m.device_bytes;
            exact &= !m.lost && c.missing_bytes == 0 && m.uuid.is_some();
            let sent = c.info.halves[Direction::ToServer.index()].payload_bytes;
            // QEMU counts packets, not the initial one.
            transferred += sent.saturating_sub(MULTIFD_INITIAL);
        }
    }
    for (c, p) in parts.urgent() {
        counts += p.counts;
        // QEMU counts the records, not the word that ends them.
        transferred += p.counts.bytes;
        exact &= !p.lost && c.missing_bytes == 0;
    }
    let sent_twice = parts.channels.map_or(0, |c| c.sent_twice);
    counts.normal = counts.normal.saturating_sub(sent_twice);
    let pages = Pages {
        normal: counts.normal,
        zero: counts.zero,
        xbzrle: counts.xbzrle,
        compressed: counts.compressed,
        normal_compressed: packed.0.saturating_sub(sent_twice),
        exact,
    };
    Some(Transfer {
        connections,
        pages,
        transferred_bytes: exact.then_some(transferred),
        // QEMU counts the bytes of pages that it sent twice, though not those pages.
        transferred_uncompressed_bytes: (exact && packed.0 > 0)
            .then(|| (transferred - packed.1) + packed.0 * u64::from(main.page_size)),
        page_bytes: counts.bytes,
        saved_bytes: {
            let page = u64::from(main.page_size);
            // A record sent in full has a head of eight bytes.
            let encoded = (counts.xbzrle + counts.compressed) * (page + 8);
            (encoded + packed.0 * page).saturating_sub(counts.encoded_bytes + packed.1)
        },
        page_size: main.page_size,
        rounds: rounds(parts, main),
        rounds_exact: false,
        device_bytes,
        stop_and_copy: stop_and_copy(main, parts.clock),
        postcopy: postcopy(parts, main),
        sent_twice,
        encrypted: false,
    })
}

pub(super) fn storage(parts: &Parts<'_>) -> Option<Storage> {
    let mut out: Option<Storage> = None;
    let mut last = None;
    let beside = parts.disks().map(|(c, n)| (n, c.missing_bytes == 0));
    let inside = parts.streams.iter().filter_map(|s| {
        let read = s.header.is_some() && s.lost == 0;
        Some((s.disks.as_ref()?, read))
    });
    for (n, read) in beside.chain(inside) {
        let s = out.get_or_insert(Storage {
            exact: true,
            ..Storage::default()
        });
        s.disks.extend(n.exports.iter().cloned());
        s.written_bytes += n.written;
        s.zeroed_bytes += n.zeroed;
        s.exact &= !n.lost && !n.tls && read;
        last = last.max(n.last_write);
    }
    if let Some(s) = &mut out {
        s.disks.sort_unstable();
        s.disks.dedup();
        s.last_write = last.map(|l| parts.clock.moment(l));
    }
    out
}

fn postcopy(parts: &Parts<'_>, main: &Stream) -> Option<Postcopy> {
    if main.postcopy_run.is_none() && !main.resumes {
        return None;
    }
    let before = main.pages_before_switch.unwrap_or(0);
    let mut pages = main.counts.pages();
    let mut requests = main.requests.clone().unwrap_or_default();
    let waiting = std::mem::take(&mut requests.waiting).into_iter();
    let mut waiting: HashMap<_, _> = waiting.map(|(b, a, at)| ((b, a), at)).collect();
    for (_, channel) in parts.urgent() {
        pages += channel.counts.pages();
        for (page, came) in &channel.pages {
            if let Some(asked) = waiting.remove(page) {
                requests.answered += 1;
                requests.latencies.push(came.time.since(asked.time));
            }
        }
    }
    Some(Postcopy {
        switch: main.postcopy_run.map(|s| parts.clock.moment(s)),
        pages_before: before,
        pages_after: pages.saturating_sub(before),
        requests: requests.requests,
        answered: requests.answered,
        latency_ns: quantiles(requests.latencies),
    })
}

/// Shortest, median, 95th percentile, longest.
fn quantiles(mut all: Vec<i64>) -> Option<[i64; 4]> {
    all.sort_unstable();
    let last = all.len().checked_sub(1)?;
    let at = |part: usize| all.get(last * part / 100).copied();
    Some([at(0)?, at(50)?, at(95)?, at(100)?])
}

fn connection(info: &FlowInfo, role: Role, wrapping: Wrapping) -> Connection {
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
        pages: None,
        syncs: None,
        tls: wrapping.tls,
        ssh: wrapping.ssh,
    }
}

/// The rounds of the channels where there are any, else those of the stream. What the main stream
/// carries beside channels (zero pages) counts to the round in which it was sent.
fn rounds(parts: &Parts<'_>, main: &Stream) -> Vec<Round> {
    let clock = parts.clock;
    let mut all = match parts.channels.filter(|c| !c.rounds.is_empty()) {
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
    // Pages that the destination asked for come behind the switch.
    if let Some(last) = all.last_mut() {
        parts.urgent().for_each(|(_, p)| last.counts += p.counts);
    }
    // In post-copy the guest runs on.
    let stopped = main.stopped.filter(|_| main.postcopy_run.is_none());
    if let (Some((_, stopped)), Some(last)) = (stopped, all.last_mut()) {
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
    if let Some(run) = main.postcopy_run {
        // The guest may run as soon as its devices are there; memory follows.
        return Some(StopAndCopy {
            start: clock.moment(start),
            memory_end: None,
            end: Some(clock.moment(run)),
            loaded: None,
            pages: 0,
        });
    }
    Some(StopAndCopy {
        start: clock.moment(start),
        memory_end: main.memory_end.map(|s| clock.moment(s)),
        end: main.end.map(|m| clock.moment(m.stamp)),
        loaded: main.loaded.map(|(s, _)| clock.moment(s)),
        pages: main.last_pass.map_or(0, |c| c.pages()),
    })
}
