//! OpenTelemetry traces in OTLP's JSON form (an `ExportTraceServiceRequest`, one that a collector
//! takes at `/v1/traces`). A migration is a trace; phases, rounds and the rest are its spans.
//!
//! Ids are digests of what identifies the migration, so the same capture gives the same trace.

use serde_json::{Map, Value, json};

use super::{identity, spans};
use crate::migration::{Migration, OutcomeKind};
use crate::report::{CaptureSummary, Report};

/// FNV-1a with 128 bits (offset basis and prime of draft-eastlake-fnv).
fn digest(parts: &[&str]) -> u128 {
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash ^= u128::from(byte);
            hash = hash.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    // All zeros is no id.
    hash.max(1)
}

fn span_id(trace: &str, name: &str, n: usize) -> String {
    let d = digest(&[trace, name, &n.to_string()]);
    format!("{:016x}", ((d >> 64) as u64 ^ d as u64).max(1))
}

/// A value as OTLP wants it: 64-bit integers are strings in its JSON.
fn value(v: &Value) -> Value {
    match v {
        Value::Bool(b) => json!({ "boolValue": b }),
        Value::Number(n) if n.is_i64() || n.is_u64() => json!({ "intValue": n.to_string() }),
        Value::Number(n) => json!({ "doubleValue": n }),
        Value::String(s) => json!({ "stringValue": s }),
        other => json!({ "stringValue": other.to_string() }),
    }
}

fn attributes(facts: &Map<String, Value>, prefix: &str) -> Vec<Value> {
    facts
        .iter()
        .map(|(k, v)| json!({ "key": format!("{prefix}{k}"), "value": value(v) }))
        .collect()
}

/// The first packet's time, ns since 1970.
fn epoch(capture: &CaptureSummary) -> i64 {
    let first = capture.first.as_deref();
    first
        .and_then(|t| chrono::DateTime::parse_from_rfc3339(t).ok())
        .and_then(|t| t.timestamp_nanos_opt())
        .unwrap_or(0)
}

/// The report's migrations as an export request.
pub fn request(report: &Report) -> Value {
    export(&report.capture, &report.migrations)
}

/// One migration as an export request on a line of its own (OTLP File Exporter: JSON lines).
pub fn line(capture: &CaptureSummary, m: &Migration) -> String {
    format!("{}\n", export(capture, std::slice::from_ref(m)))
}

fn export(capture: &CaptureSummary, migrations: &[Migration]) -> Value {
    let epoch = epoch(capture);
    let mut all = vec![];
    for m in migrations {
        all.extend(migration(m, capture, epoch));
    }
    let files = capture.files.join(", ");
    json!({
        "resourceSpans": [{
            "resource": { "attributes": [
                { "key": "service.name", "value": { "stringValue": "phasescope" } },
                { "key": "service.version", "value": { "stringValue": env!("CARGO_PKG_VERSION") } },
                { "key": "capture.files", "value": { "stringValue": files } },
            ] },
            "scopeSpans": [{
                "scope": { "name": "phasescope", "version": env!("CARGO_PKG_VERSION") },
                "spans": all,
            }],
        }],
    })
}

/// The first frame that says something of it: its number in the report may still change.
fn first_frame(m: &Migration) -> u64 {
    let bounds = m.phases.iter().flat_map(|p| [&p.start, &p.end]).flatten();
    let bounds = bounds.map(|b| b.frame);
    let connections = m.transfer.iter().flat_map(|t| &t.connections);
    let frames = bounds.chain(connections.map(|c| c.first_frame));
    frames.min().unwrap_or(0)
}

fn migration(m: &Migration, capture: &CaptureSummary, epoch: i64) -> Vec<Value> {
    let Some((from, to)) = crate::series::span(m) else {
        return vec![];
    };
    let trace = digest(&[
        capture.first.as_deref().unwrap_or(""),
        m.guest.uuid.as_deref().unwrap_or(""),
        m.source.address.as_deref().unwrap_or(""),
        m.destination.address.as_deref().unwrap_or(""),
        &first_frame(m).to_string(),
        &from.to_string(),
    ]);
    let trace = format!("{trace:032x}");
    let root = span_id(&trace, "migration", 0);
    let time = |offset: i64| epoch.saturating_add(offset).to_string();
    let guest = m.guest.name.as_deref().unwrap_or("unknown guest");
    // STATUS_CODE_OK, STATUS_CODE_ERROR, or unset where the end was not seen.
    let status = match m.outcome.result {
        OutcomeKind::Completed => json!({ "code": 1 }),
        OutcomeKind::Failed | OutcomeKind::Refused | OutcomeKind::Cancelled => {
            json!({ "code": 2, "message": m.outcome.reason.clone().unwrap_or_default() })
        }
        OutcomeKind::Unfinished | OutcomeKind::Unknown => json!({}),
    };
    let spans = spans(m);
    // A trace's root spans all of it, downtimes and calls outside the phases too.
    let from = spans.iter().map(|s| s.from).min().unwrap_or(from).min(from);
    let to = spans.iter().map(|s| s.to).max().unwrap_or(to).max(to);
    let mut out = vec![json!({
        "traceId": trace,
        "spanId": root,
        "name": format!("migration of {guest}"),
        "kind": 1,
        "startTimeUnixNano": time(from),
        "endTimeUnixNano": time(to),
        "attributes": attributes(&identity(m), "migration."),
        "status": status,
    })];
    for (n, s) in spans.iter().enumerate() {
        // Its phase, where that holds all of it: a span does not outlast its parent.
        let phase = |p: &super::Span| {
            p.kind == "phase" && s.inside == Some(&p.name) && p.from <= s.from && s.to <= p.to
        };
        let inside = match spans.iter().position(phase) {
            Some(p) => span_id(&trace, &spans[p].name, p),
            None => root.clone(),
        };
        let mut list = attributes(&s.facts, "");
        list.push(json!({ "key": "kind", "value": { "stringValue": s.kind } }));
        out.push(json!({
            "traceId": trace,
            "spanId": span_id(&trace, &s.name, n),
            "parentSpanId": inside,
            "name": s.name,
            "kind": 1,
            "startTimeUnixNano": time(s.from),
            "endTimeUnixNano": time(s.to),
            "attributes": list,
        }));
    }
    out
}
