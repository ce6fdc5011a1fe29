//! The cloud's part of a migration, for reading.

use super::{Piece, pair, time_of_day};
use crate::migration::openstack::{Account, RpcCall};
use crate::migration::{Boundary, Migration, Moment};
use crate::report::units::{count, duration, seconds};

/// One line for the migration's head.
pub(super) fn summary(a: &Account) -> (String, String) {
    let mut said = Vec::new();
    said.extend(a.request_id.clone());
    said.extend(a.migration_uuid.as_ref().map(|m| format!("migration {m}")));
    if let (Some(s), Some(d)) = (&a.source_host, &a.destination_host) {
        said.push(format!("{s} to {d}"));
    }
    said.extend(a.client.as_ref().map(|c| format!("asked for by {c}")));
    if let Some(last) = a.statuses.last() {
        said.push(format!("saved as {}", last.status));
    }
    pair("cloud", said.join(", "))
}

/// The steps within phases, and all messages.
pub(super) fn detail(m: &Migration, out: &mut Vec<Piece>) {
    steps(m, out);
    if let Some(a) = &m.openstack {
        rpcs(a, out);
        requests(a, out);
    }
}

fn frames(start: &Boundary, end: Option<&Boundary>) -> String {
    let end = end.map_or("?".to_owned(), |b| b.frame.to_string());
    format!("{} - {end}", start.frame)
}

fn steps(m: &Migration, out: &mut Vec<Piece>) {
    let mut rows = Vec::new();
    for p in &m.phases {
        for s in &p.sub {
            rows.push(vec![
                p.name.name().to_owned(),
                s.name.clone(),
                seconds(s.start.offset_ns),
                time_of_day(&s.start.time).to_owned(),
                s.duration_ns.map_or("unknown".to_owned(), duration),
                frames(&s.start, s.end.as_ref()),
            ]);
        }
    }
    if rows.is_empty() {
        return;
    }
    out.push(Piece::Heading(2, "Steps within phases".to_owned()));
    out.push(Piece::Table(
        vec![
            ("phase", false),
            ("step", false),
            ("start (s)", true),
            ("start (UTC)", true),
            ("duration", true),
            ("frames", true),
        ],
        rows,
    ));
}

/// What an RPC is about, in a few words.
fn about(r: &RpcCall) -> String {
    let mut said = Vec::new();
    said.extend(r.object.clone());
    said.extend(r.status.clone());
    said.extend(r.events.iter().cloned());
    said.extend(r.failure.as_ref().map(|f| format!("failed: {f}")));
    if said.is_empty() && !r.routing_key.is_empty() {
        said.push(format!("to {}", r.routing_key));
    }
    said.join(" ")
}

fn rpcs(a: &Account, out: &mut Vec<Piece>) {
    if a.rpcs.is_empty() {
        return;
    }
    let first = |m: &RpcCall| -> Option<Moment> {
        let both = m.published.iter().chain(&m.delivered);
        both.min_by_key(|m| m.offset_ns).cloned()
    };
    let row = |r: &RpcCall| {
        let begun = first(r);
        vec![
            begun
                .as_ref()
                .map_or("?".to_owned(), |m| seconds(m.offset_ns)),
            begun.map_or("?".to_owned(), |m| m.frame.to_string()),
            r.kind.clone(),
            r.method.clone(),
            r.duration_ns.map_or(String::new(), duration),
            about(r),
        ]
    };
    out.push(Piece::Heading(
        2,
        format!("RPCs: {}", count(a.rpcs.len() as u64)),
    ));
    out.push(Piece::Table(
        vec![
            ("start (s)", true),
            ("frame", true),
            ("kind", false),
            ("method", false),
            ("duration", true),
            ("about", false),
        ],
        a.rpcs.iter().map(row).collect(),
    ));
}

fn requests(a: &Account, out: &mut Vec<Piece>) {
    if a.requests.is_empty() {
        return;
    }
    let n = count(a.requests.len() as u64);
    out.push(Piece::Heading(2, format!("Requests: {n}")));
    let rows = a
        .requests
        .iter()
        .map(|h| {
            vec![
                seconds(h.request.offset_ns),
                h.request.frame.to_string(),
                h.service.clone().unwrap_or_default(),
                h.method.clone(),
                h.call.clone().unwrap_or_default(),
                h.status.to_string(),
                duration(h.duration_ns),
            ]
        })
        .collect();
    out.push(Piece::Table(
        vec![
            ("start (s)", true),
            ("frame", true),
            ("service", false),
            ("method", false),
            ("call", false),
            ("status", true),
            ("duration", true),
        ],
        rows,
    ));
}
