//! Trace-event JSON, as the Perfetto viewer and `chrome://tracing` open it. A migration is a
//! process; phases, their steps, rounds, the pause, downtimes and libvirt's calls are its tracks.
//! Times are microseconds from the first packet of the capture.
//!
//! On one track a slice must end before the next begins, or hold it whole (Trace Event Format,
//! "Complete Events"); what overlaps otherwise goes to a second track of the same name.

use serde_json::{Value, json};

use super::{Span, identity, spans};
use crate::report::Report;

/// Tracks in their order; those of downtimes follow, one for each method.
const TRACKS: [(&str, &str); 5] = [
    ("phase", "phases"),
    ("step", "steps"),
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

/// Spans on tracks, by time, none of them overlapping on the same one.
fn tracks(spans: Vec<Span>) -> Vec<(String, Vec<Span>)> {
    let rank = |s: &Span| {
        let known = TRACKS.iter().position(|(kind, _)| *kind == s.kind);
        known.unwrap_or(TRACKS.len())
    };
    let mut spans = spans;
    spans.sort_by_key(|s| (rank(s), s.from, s.to));
    let mut out: Vec<(String, Vec<Span>)> = vec![];
    for s in spans {
        let track = TRACKS.get(rank(&s)).map_or(s.name.as_str(), |(_, t)| *t);
        let free = |spans: &[Span]| spans.last().is_none_or(|l| l.to <= s.from);
        match out.iter_mut().find(|(t, all)| t == track && free(all)) {
            Some((_, all)) => all.push(s),
            None => out.push((track.to_owned(), vec![s])),
        }
    }
    // Those of one name together, in the order in which the names came.
    let names: Vec<String> = out.iter().map(|(t, _)| t.clone()).collect();
    out.sort_by_key(|(t, _)| names.iter().position(|n| n == t));
    out
}

/// The report's migrations as trace events.
pub fn trace(report: &Report) -> Value {
    let mut events = vec![];
    // The viewers take a thread that has its process' number for its first one, and threads of
    // the same number for the same.
    let mut tid = report
        .migrations
        .iter()
        .map(|m| u64::from(m.id))
        .max()
        .unwrap_or(0);
    for m in &report.migrations {
        let guest = m.guest.name.as_deref().unwrap_or("unknown guest");
        let title = format!("migration {}: {guest}", m.id);
        events.push(name("process_name", m.id, 0, &title));
        for (track, spans) in tracks(spans(m)) {
            tid += 1;
            events.push(name("thread_name", m.id, tid, &track));
            events.push(json!({
                "name": "thread_sort_index", "ph": "M", "pid": m.id, "tid": tid,
                "args": { "sort_index": tid },
            }));
            for s in spans {
                events.push(json!({
                    "name": s.name, "cat": s.kind, "ph": "X", "pid": m.id, "tid": tid,
                    "ts": micros(s.from), "dur": micros(s.to.saturating_sub(s.from)),
                    "args": s.facts,
                }));
            }
        }
        events.push(json!({
            "name": "migration", "cat": "migration", "ph": "i", "s": "p", "pid": m.id, "tid": tid,
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
