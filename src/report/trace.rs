//! Spans of a migration, once, for the two forms that other tools read: [`perfetto`] and
//! [`otlp`].

pub mod otlp;
pub mod perfetto;

use serde_json::{Map, Value, json};

use crate::migration::{Boundary, Migration, Moment, PhaseName};

/// A piece of time with a name.
#[derive(Debug, Clone)]
pub(super) struct Span {
    /// Name.
    pub(super) name: String,
    /// `phase`, `step`, `round`, `call`, `pause`, `downtime`.
    pub(super) kind: &'static str,
    /// Of a step or round: the name of the phase that it lies in.
    pub(super) inside: Option<&'static str>,
    /// From the first packet of the capture, ns.
    pub(super) from: i64,
    /// The same.
    pub(super) to: i64,
    /// What else there is to say.
    pub(super) facts: Map<String, Value>,
}

/// What proves both ends.
fn edges(start: &Boundary, end: &Boundary) -> Map<String, Value> {
    let mut facts = Map::new();
    for (name, b) in [("start", start), ("end", end)] {
        facts.insert(format!("{name}.frame"), json!(b.frame));
        facts.insert(format!("{name}.marker"), json!(b.marker));
        let sure = b.certainty.name();
        facts.insert(format!("{name}.certainty"), json!(sure));
        if b.uncertainty_ns > 0 {
            facts.insert(format!("{name}.uncertainty_ns"), json!(b.uncertainty_ns));
        }
    }
    facts
}

fn facts<const N: usize>(list: [(&str, Value); N]) -> Map<String, Value> {
    list.into_iter()
        .filter(|(_, v)| !v.is_null())
        .map(|(k, v)| (k.to_owned(), v))
        .collect()
}

fn offset(m: &Option<Moment>) -> Option<i64> {
    m.as_ref().map(|m| m.offset_ns)
}

/// Phases, their steps, rounds, the pause, downtimes and calls whose both ends are known.
pub(super) fn spans(m: &Migration) -> Vec<Span> {
    let mut out = vec![];
    let mut span = |kind, name: &str, inside, (from, to): (i64, i64), facts| {
        if to >= from {
            let name = name.to_owned();
            out.push(Span {
                name,
                kind,
                inside,
                from,
                to,
                facts,
            });
        }
    };
    for p in &m.phases {
        if let (Some(a), Some(b)) = (&p.start, &p.end) {
            let mut facts = edges(a, b);
            if let Some(share) = p.share {
                facts.insert("share".to_owned(), json!(share));
            }
            let time = (a.offset_ns, b.offset_ns);
            span("phase", p.name.name(), None, time, facts);
        }
    }
    for p in &m.phases {
        for s in &p.sub {
            if let (a, Some(b)) = (&s.start, &s.end) {
                let time = (a.offset_ns, b.offset_ns);
                span("step", &s.name, Some(p.name.name()), time, edges(a, b));
            }
        }
    }
    for r in m.transfer.iter().flat_map(|t| &t.rounds) {
        let facts = facts([
            ("pages", json!(r.pages)),
            ("zero_pages", json!(r.zero_pages)),
            ("bytes", json!(r.bytes)),
            ("guest_stopped", json!(r.stopped)),
            ("start.frame", json!(r.start_frame)),
            ("end.frame", json!(r.end_frame)),
        ]);
        let (name, time) = (
            format!("round {}", r.index),
            (r.start_offset_ns, r.end_offset_ns),
        );
        let inside = Some(PhaseName::Transfer.name());
        span("round", &name, inside, time, facts);
    }
    if let Some(p) = &m.pause {
        let from = offset(&p.stop_earliest).or(offset(&p.stop_latest));
        let to = offset(&p.resume_latest).or(offset(&p.resume_earliest));
        if let Some(time) = from.zip(to) {
            let limits = [("min_ns", json!(p.min_ns)), ("max_ns", json!(p.max_ns))];
            span("pause", "guest stopped", None, time, facts(limits));
        }
    }
    for d in &m.downtime {
        if let Some(time) = offset(&d.start).zip(offset(&d.end)) {
            let name = format!("downtime by {}", d.method.describe().0);
            let facts = facts([
                ("duration_ns", json!(d.duration_ns)),
                ("lost", json!(d.lost)),
                ("interval_ns", json!(d.interval_ns)),
                ("subject", json!(d.subject)),
            ]);
            span("downtime", &name, None, time, facts);
        }
    }
    for c in &m.calls {
        if let Some(time) = offset(&c.call).zip(offset(&c.reply)) {
            let facts = facts([
                ("program", json!(c.program)),
                ("serial", json!(c.serial)),
                ("status", json!(c.status)),
                ("frame", json!(c.call.as_ref().map(|m| m.frame))),
            ]);
            span("call", &c.procedure, None, time, facts);
        }
    }
    out
}

/// A value as one word, as the report writes it.
fn word<T: serde::Serialize>(v: T) -> String {
    match serde_json::to_value(v) {
        Ok(Value::String(s)) => s,
        _ => String::new(),
    }
}

/// What identifies a migration, for the head of its trace.
pub(super) fn identity(m: &Migration) -> Map<String, Value> {
    facts([
        ("guest.name", json!(m.guest.name)),
        ("guest.uuid", json!(m.guest.uuid)),
        ("source.address", json!(m.source.address)),
        ("source.hostname", json!(m.source.hostname)),
        ("destination.address", json!(m.destination.address)),
        ("destination.hostname", json!(m.destination.hostname)),
        ("driver", json!(word(m.driver))),
        ("technique", json!(word(m.technique))),
        ("outcome", json!(word(m.outcome.result))),
        ("outcome.reason", json!(m.outcome.reason)),
        ("total_time_ns", json!(m.total_time_ns)),
        ("gaps_ns", json!(m.gaps_ns)),
    ])
}
