//! Trace-event JSON, as the Perfetto viewer and `chrome://tracing` open it. A migration is a
//! process; phases, rounds, the pause, downtimes and libvirt's calls are its tracks. Times are
//! microseconds from the first packet of the capture.

use serde_json::{Value, json};

use super::{identity, spans};
use crate::report::Report;

/// Tracks in their order. Downtimes by different methods overlap, so each has its own.
const TRACKS: [(&str, &str); 4] = [
    ("phase", "phases"),
    ("round", "rounds"),
    ("call", "libvirt calls"),
    ("pause", "guest stopped"),
];

/// Microseconds; exact to the nanosecond below 10⁴ hours.
fn micros(ns: i64) -> f64 {
    ns as f64 / 1e3
}

fn name(kind: &str, pid: u32, tid: u64, name: &str) -> Value {
    json!({ "name": kind, "ph": "M", "pid": pid, "tid": tid, "args": { "name": name } })
}

/// The report's migrations as trace events.
pub fn trace(report: &Report) -> Value {
    let mut events = vec![];
    for m in &report.migrations {
        let guest = m.guest.name.as_deref().unwrap_or("unknown guest");
        let title = format!("migration {}: {guest}", m.id);
        events.push(name("process_name", m.id, 0, &title));
        let mut used = vec![];
        let mut own = TRACKS.len() as u64;
        for s in spans(m) {
            let known = (1_u64..).zip(TRACKS).find(|(_, (kind, _))| *kind == s.kind);
            let (tid, track) = match known {
                Some((tid, (_, track))) => (tid, track.to_owned()),
                None => {
                    own += 1;
                    (own, s.name.clone())
                }
            };
            if !used.contains(&tid) {
                used.push(tid);
                events.push(name("thread_name", m.id, tid, &track));
                events.push(json!({
                    "name": "thread_sort_index", "ph": "M", "pid": m.id, "tid": tid,
                    "args": { "sort_index": tid },
                }));
            }
            events.push(json!({
                "name": s.name, "cat": s.kind, "ph": "X", "pid": m.id, "tid": tid,
                "ts": micros(s.from), "dur": micros(s.to.saturating_sub(s.from)), "args": s.facts,
            }));
        }
        events.push(json!({
            "name": "migration", "cat": "migration", "ph": "i", "s": "p", "pid": m.id, "tid": 1,
            "ts": micros(crate::series::span(m).map_or(0, |(from, _)| from)),
            "args": identity(m),
        }));
    }
    json!({
        "displayTimeUnit": "ns",
        "otherData": {
            "program": concat!("phasescope ", env!("CARGO_PKG_VERSION")),
            "first_packet": report.capture.first,
            "files": report.capture.files,
        },
        "traceEvents": events,
    })
}
