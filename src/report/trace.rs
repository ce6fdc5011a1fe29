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

fn edge(facts: &mut Map<String, Value>, name: &str, b: &Boundary) {
    facts.insert(format!("{name}.frame"), json!(b.frame));
    facts.insert(format!("{name}.marker"), json!(b.marker));
    let sure = b.certainty.name();
    facts.insert(format!("{name}.certainty"), json!(sure));
    if b.uncertainty_ns > 0 {
        facts.insert(format!("{name}.uncertainty_ns"), json!(b.uncertainty_ns));
    }
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
    for p in &m.phases {
        if let (Some(a), Some(b)) = (&p.start, &p.end) {
            let mut f = Map::new();
            edge(&mut f, "start", a);
            edge(&mut f, "end", b);
            if let Some(share) = p.share {
                f.insert("share".to_owned(), json!(share));
            }
            out.push(Span {
                name: p.name.name().to_owned(),
                kind: "phase",
                inside: None,
                from: a.offset_ns,
                to: b.offset_ns,
                facts: f,
            });
        }
    }
    for p in &m.phases {
        for s in &p.sub {
            if let (a, Some(b)) = (&s.start, &s.end) {
                let mut f = Map::new();
                edge(&mut f, "start", a);
                edge(&mut f, "end", b);
                out.push(Span {
                    name: s.name.clone(),
                    kind: "step",
                    inside: Some(p.name.name()),
                    from: a.offset_ns,
                    to: b.offset_ns,
                    facts: f,
                });
            }
        }
    }
    for r in m.transfer.iter().flat_map(|t| &t.rounds) {
        out.push(Span {
            name: format!("round {}", r.index),
            kind: "round",
            inside: Some(PhaseName::Transfer.name()),
            from: r.start_offset_ns,
            to: r.end_offset_ns,
            facts: facts([
                ("pages", json!(r.pages)),
                ("zero_pages", json!(r.zero_pages)),
                ("bytes", json!(r.bytes)),
                ("guest_stopped", json!(r.stopped)),
                ("start.frame", json!(r.start_frame)),
                ("end.frame", json!(r.end_frame)),
            ]),
        });
    }
    if let Some(p) = &m.pause {
        let from = offset(&p.stop_earliest).or(offset(&p.stop_latest));
        let to = offset(&p.resume_latest).or(offset(&p.resume_earliest));
        if let (Some(from), Some(to)) = (from, to) {
            let limits = [("min_ns", json!(p.min_ns)), ("max_ns", json!(p.max_ns))];
            out.push(Span {
                name: "guest stopped".to_owned(),
                kind: "pause",
                inside: None,
                from,
                to,
                facts: facts(limits),
            });
        }
    }
    for d in &m.downtime {
        if let (Some(from), Some(to)) = (offset(&d.start), offset(&d.end)) {
            out.push(Span {
                name: format!("downtime by {}", d.method.describe().0),
                kind: "downtime",
                inside: None,
                from,
                to,
                facts: facts([
                    ("duration_ns", json!(d.duration_ns)),
                    ("lost", json!(d.lost)),
                    ("interval_ns", json!(d.interval_ns)),
                    ("subject", json!(d.subject)),
                ]),
            });
        }
    }
    for c in &m.calls {
        if let (Some(from), Some(to)) = (offset(&c.call), offset(&c.reply)) {
            out.push(Span {
                name: c.procedure.clone(),
                kind: "call",
                inside: None,
                from,
                to,
                facts: facts([
                    ("program", json!(c.program)),
                    ("serial", json!(c.serial)),
                    ("status", json!(c.status)),
                    ("frame", json!(c.call.as_ref().map(|m| m.frame))),
                ]),
            });
        }
    }
    out.retain(|s| s.to >= s.from);
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
