//! A report for reading: made of headings, pairs, tables and notes once, drawn as text or
//! markdown.

mod cloud;

use std::borrow::Cow;

use super::units::{bytes, count, duration, percent, printable, seconds};
use super::{CaptureSummary, Report};
use crate::migration::{
    Boundary, Driver, Host, Migration, Moment, OutcomeKind, Phase, Role, Technique,
};
use crate::stats::cost::{self, Pass};

/// Widest line of text.
pub const WIDTH: usize = 100;

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a terminal, with or without emphasis by escape codes.
    Text {
        /// Emphasis.
        color: bool,
    },
    /// For a merge request or a wiki.
    Markdown,
}

/// A piece of a document.
#[derive(Debug, Clone)]
pub enum Piece {
    /// A heading; level 1 or 2.
    Heading(u8, String),
    /// Names and values.
    Pairs(Vec<(String, String)>),
    /// Columns with their heads; true: numbers, to the right.
    Table(Vec<(&'static str, bool)>, Vec<Vec<String>>),
    /// A remark.
    Note(String),
}

/// The report as text or markdown.
pub fn render(report: &Report, format: Format) -> String {
    render_with(report, format, false)
}

/// The same; `detail`: with the steps within phases and the messages that prove them.
pub fn render_with(report: &Report, format: Format, detail: bool) -> String {
    let mut out = String::new();
    for piece in pieces(report, detail) {
        match format {
            Format::Text { color } => text(&piece, color, &mut out),
            Format::Markdown => markdown(&piece, &mut out),
        }
    }
    out
}

/// The report in pieces.
pub fn pieces(report: &Report, detail: bool) -> Vec<Piece> {
    let mut out = vec![];
    capture(&report.capture, &mut out);
    for m in &report.migrations {
        migration(m, detail, &mut out);
    }
    clean(out)
}

/// The capture alone, without its heading.
pub(crate) fn capture_pieces(report: &Report) -> Vec<Piece> {
    let mut out = vec![];
    capture(&report.capture, &mut out);
    out.retain(|p| !matches!(p, Piece::Heading(1, _)));
    clean(out)
}

/// One migration.
pub(crate) fn migration_pieces(m: &Migration) -> Vec<Piece> {
    let mut out = vec![];
    migration(m, true, &mut out);
    clean(out)
}

/// Names and errors come from the wire: nothing in them may act on a terminal, or begin a line.
fn clean(mut pieces: Vec<Piece>) -> Vec<Piece> {
    let clean = |s: &mut String| {
        if let Cow::Owned(printable) = printable(s) {
            *s = printable;
        }
    };
    for piece in &mut pieces {
        match piece {
            Piece::Heading(_, s) | Piece::Note(s) => clean(s),
            Piece::Pairs(pairs) => pairs.iter_mut().for_each(|(name, value)| {
                clean(name);
                clean(value);
            }),
            Piece::Table(_, rows) => rows.iter_mut().flatten().for_each(clean),
        }
    }
    pieces
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn capture(c: &CaptureSummary, out: &mut Vec<Piece>) {
    out.push(Piece::Heading(1, format!("Capture {}", c.files.join(", "))));
    let mut pairs = vec![pair(
        "packets",
        format!(
            "{} ({} on the wire), {}",
            count(c.packets),
            bytes(c.bytes),
            c.format
        ),
    )];
    if let (Some(first), Some(d)) = (&c.first, c.duration_ns) {
        pairs.push(pair(
            "first",
            format!("{first}, {} s to the last", seconds(d)),
        ));
    }
    for t in &c.taps {
        let value = format!("{}, {} packets", t.file, count(t.packets));
        pairs.push(pair(&format!("tap {}", t.name), value));
    }
    let h = &c.health;
    let mut health = Vec::new();
    let mut add = |n: u64, what: &str| {
        if n > 0 {
            health.push(format!("{} {what}", count(n)));
        }
    };
    add(
        h.dropped_packets.unwrap_or(0),
        "packets dropped by the capture",
    );
    add(h.missing_bytes, "bytes missing");
    add(h.cut_packets, "packets cut by the snap length");
    add(h.retransmitted_bytes, "bytes retransmitted");
    add(h.reordered_packets, "packets out of order");
    for (name, n) in &h.oddities {
        add(*n, name);
    }
    if health.is_empty() {
        health.push("nothing missing, cut or out of order".to_owned());
    }
    pairs.push(pair("health", health.join(", ")));
    for e in &c.echoes {
        let value = format!(
            "{} to {} id {}: {} requests, {} replies, {} unanswered",
            e.pinger,
            e.target,
            e.id,
            count(e.requests),
            count(e.replies),
            count(e.unanswered)
        );
        pairs.push(pair("echo", value));
    }
    out.push(Piece::Pairs(pairs));
    for d in &h.damage {
        out.push(Piece::Note(d.clone()));
    }
}

/// Hours to microseconds of a time, for a column: the date stands above, and the offset beside it
/// has all digits.
fn time_of_day(b: &str) -> &str {
    let t = b.split_once('T').map_or(b, |(_, t)| t);
    t.get(..15).unwrap_or(t)
}

fn host(h: &Host) -> String {
    match (&h.address, &h.hostname) {
        (Some(a), Some(n)) => format!("{a} ({n})"),
        (Some(a), None) => a.clone(),
        (None, Some(n)) => n.clone(),
        (None, None) => "unknown".to_owned(),
    }
}

fn words<T: serde::Serialize>(v: &T) -> String {
    match serde_json::to_value(v) {
        Ok(serde_json::Value::String(s)) => s,
        _ => String::new(),
    }
}

fn migration(m: &Migration, detail: bool, out: &mut Vec<Piece>) {
    let name = m.guest.name.as_deref().unwrap_or("unknown guest");
    out.push(Piece::Heading(1, format!("Migration {}: {name}", m.id)));
    let mut guest = Vec::new();
    guest.extend(m.guest.uuid.clone());
    guest.extend(m.guest.machine.clone());
    guest.extend(m.guest.memory_bytes.map(bytes));
    let driver = match m.driver {
        Driver::LibvirtP2p => "libvirt, peer to peer",
        Driver::LibvirtTunnelled => "libvirt, tunnelled",
        Driver::LibvirtDirect => "libvirt, driven by a client",
        Driver::Openstack => "OpenStack Nova, through libvirt",
        Driver::None => "not seen; only the stream is in the capture",
    };
    let technique = match m.technique {
        Technique::Unknown => "unknown".to_owned(),
        t => words(&t),
    };
    let result = words(&m.outcome.result);
    let outcome = match &m.outcome.reason {
        Some(r) => format!("{result}: {r}"),
        None => result,
    };
    let mut pairs = vec![];
    if !guest.is_empty() {
        pairs.push(pair("guest", guest.join(", ")));
    }
    pairs.extend([
        pair("from", host(&m.source)),
        pair("to", host(&m.destination)),
        pair("driver", driver),
        pair("technique", technique),
        pair("outcome", outcome),
        pair(
            "total time",
            m.total_time_ns.map_or("unknown".to_owned(), duration),
        ),
        pair(
            "libvirt time",
            m.migration_time_ns.map_or("unknown".to_owned(), duration),
        ),
    ]);
    if let Some(t) = m.elapsed_ns {
        pairs.push(pair("elapsed", duration(t)));
    }
    pairs.extend(m.openstack.as_ref().map(cloud::summary));
    out.push(Piece::Pairs(pairs));
    phases(m, out);
    if detail {
        cloud::detail(m, out);
    }
    if let Some(t) = &m.transfer {
        transfer(t, out);
    }
    if let Some(s) = &m.storage {
        let at_least = if s.exact { "" } else { "at least " };
        let what = format!(
            "{}; {at_least}{} written, {} of zeroes not sent",
            if s.disks.is_empty() {
                "disks".to_owned()
            } else {
                s.disks.join(", ")
            },
            bytes(s.written_bytes),
            bytes(s.zeroed_bytes)
        );
        out.push(Piece::Pairs(vec![pair("storage", what)]));
    }
    downtime(m, out);
    if let Some(r) = &m.reported {
        let ms = |v: Option<u64>| v.map(|v| format!("{v} ms"));
        let rows = [
            ("downtime", ms(r.downtime_ms)),
            ("elapsed", ms(r.time_elapsed_ms)),
            ("set-up", ms(r.setup_time_ms)),
            ("bitmap syncs", r.iterations.map(count)),
            ("normal pages", r.normal_pages.map(count)),
            ("constant pages", r.constant_pages.map(count)),
            ("memory sent", r.memory_processed_bytes.map(bytes)),
            ("page requests", r.postcopy_requests.map(count)),
        ];
        let said: Vec<String> = rows
            .into_iter()
            .filter_map(|(n, v)| Some(format!("{n} {}", v?)))
            .collect();
        out.push(Piece::Pairs(vec![pair("hypervisor says", said.join(", "))]));
    }
    for n in &m.notes {
        out.push(Piece::Note(n.clone()));
    }
}

fn frames(p: &Phase) -> String {
    let f = |b: &Option<Boundary>| b.as_ref().map_or("?".to_owned(), |b| b.frame.to_string());
    format!("{}-{}", f(&p.start), f(&p.end))
}

fn how_sure(p: &Phase) -> String {
    let c = |b: &Option<Boundary>| b.as_ref().map_or("unknown", |b| b.certainty.name());
    match (c(&p.start), c(&p.end)) {
        (a, b) if a == b => a.to_owned(),
        (a, b) => format!("{a}, {b}"),
    }
}

fn phases(m: &Migration, out: &mut Vec<Piece>) {
    out.push(Piece::Heading(2, "Phases".to_owned()));
    let mut rows = Vec::new();
    for p in &m.phases {
        let gap = m.gaps.iter().find(|g| g.before == p.name);
        if let Some(g) = gap {
            let share = m.total_time_ns.filter(|t| *t > 0);
            let share = share.map_or(String::new(), |t| percent(g.duration_ns as f64 / t as f64));
            rows.push(vec![
                "(gap)".to_owned(),
                String::new(),
                String::new(),
                duration(g.duration_ns),
                share,
                String::new(),
                String::new(),
            ]);
        }
        let start = p.start.as_ref();
        rows.push(vec![
            p.name.name().to_owned(),
            start.map_or("unknown".to_owned(), |b| seconds(b.offset_ns)),
            start.map_or(String::new(), |b| time_of_day(&b.time).to_owned()),
            p.duration_ns.map_or("unknown".to_owned(), duration),
            p.share.map_or(String::new(), percent),
            frames(p),
            how_sure(p),
        ]);
    }
    out.push(Piece::Table(
        vec![
            ("phase", false),
            ("start (s)", true),
            ("start (UTC)", true),
            ("duration", true),
            ("share", true),
            ("frames", true),
            ("certainty", false),
        ],
        rows,
    ));
    for p in &m.phases {
        if let Some(r) = &p.reason {
            out.push(Piece::Note(format!("{}: {r}", p.name.name())));
        }
    }
    if let (Some(g), Some(o)) = (m.gaps_ns, m.overlaps_ns)
        && (g > 0 || o > 0)
    {
        out.push(Piece::Note(format!(
            "in no phase: {}; in two at once: {}",
            duration(g),
            duration(o)
        )));
    }
}

/// What a connection is for, and what encrypts it.
fn role(c: &crate::migration::Connection) -> String {
    let mut text = match c.role {
        Role::Main => "stream".to_owned(),
        r => words(&r),
    };
    if let Some(t) = &c.tls {
        let version = t.version.as_deref().unwrap_or("TLS");
        let name = t.server_name.as_ref();
        let name = name.map_or_else(String::new, |n| format!(" to {n}"));
        text += &format!(" ({version}{name})");
    }
    if c.ssh.is_some() {
        text += " (SSH)";
    }
    text
}

fn transfer(t: &crate::migration::Transfer, out: &mut Vec<Piece>) {
    out.push(Piece::Heading(2, "Transfer".to_owned()));
    let p = &t.pages;
    let mut kinds = vec![
        format!("{} normal", count(p.normal)),
        format!("{} zero", count(p.zero)),
    ];
    for (n, what) in [
        (p.normal_compressed, "of the normal ones compressed"),
        (p.xbzrle, "XBZRLE"),
        (p.compressed, "compressed"),
    ] {
        if n > 0 {
            kinds.push(format!("{} {what}", count(n)));
        }
    }
    let exact = if p.exact { "exact" } else { "at least" };
    let mut pairs = vec![match t.encrypted {
        true => pair("pages", "unknown: the stream is encrypted"),
        false => pair("pages", format!("{} ({exact})", kinds.join(", "))),
    }];
    if let Some(n) = t.transferred_bytes {
        let text = match t.transferred_uncompressed_bytes {
            None => format!("{} bytes, as QEMU counts them", count(n)),
            Some(full) => format!(
                "{} bytes, as QEMU 8.1 and later counts them; {} with pages at full size, as before",
                count(n),
                count(full)
            ),
        };
        pairs.push(pair("transferred", text));
    }
    if t.saved_bytes > 0 {
        pairs.push(pair(
            "saved",
            format!("{} by deltas and compression", bytes(t.saved_bytes)),
        ));
    }
    if t.sent_twice > 0 {
        let what = format!(
            "{} pages by a race in multifd; QEMU does not count them",
            count(t.sent_twice)
        );
        pairs.push(pair("sent twice", what));
    }
    let channels = t.connections.iter().filter(|c| c.role == Role::Multifd);
    let of_each = |figure: fn(&crate::migration::Connection) -> Option<u64>| {
        let all = channels.clone().filter_map(figure).map(count);
        all.collect::<Vec<_>>().join(", ")
    };
    if channels.clone().next().is_some() {
        let (pages, syncs) = (of_each(|c| c.pages), of_each(|c| c.syncs));
        pairs.push(pair(
            "channels",
            format!("{pages} pages; {syncs} synchronisations"),
        ));
    }
    if t.device_bytes > 0 {
        pairs.push(pair("device state", bytes(t.device_bytes)));
    }
    if let Some(p) = &t.postcopy {
        pairs.push(pair(
            "post-copy",
            match &p.switch {
                Some(s) => format!(
                    "switched at {} s (frame {}): {} pages before, {} after",
                    seconds(s.offset_ns),
                    s.frame,
                    count(p.pages_before),
                    count(p.pages_after)
                ),
                None => format!("goes on after a break: {} pages", count(p.pages_after)),
            },
        ));
        let mut requests = format!(
            "{} pages asked for, {} seen to come",
            count(p.requests),
            count(p.answered)
        );
        if let Some([least, median, high, most]) = p.latency_ns {
            requests.push_str(&format!(
                ", after {} (least), {} (median), {} (95%), {} (most)",
                duration(least),
                duration(median),
                duration(high),
                duration(most)
            ));
        }
        pairs.push(pair("page requests", requests));
    }
    out.push(Piece::Pairs(pairs));
    let rows = t
        .connections
        .iter()
        .map(|c| {
            vec![
                role(c),
                format!("{} > {}", c.client, c.server),
                count(c.wire_bytes),
                count(c.payload_bytes),
                count(c.retransmitted_bytes),
                count(c.missing_bytes),
            ]
        })
        .collect();
    out.push(Piece::Table(
        vec![
            ("connection", false),
            ("client > server", false),
            ("wire bytes", true),
            ("payload", true),
            ("again", true),
            ("missing", true),
        ],
        rows,
    ));
    let rows: Vec<Vec<String>> = t
        .rounds
        .iter()
        .map(|r| {
            let rate = r
                .bytes_per_second
                .map_or(String::new(), |b| format!("{}/s", bytes(b)));
            vec![
                r.index.to_string(),
                seconds(r.start_offset_ns),
                duration(r.end_offset_ns.saturating_sub(r.start_offset_ns)),
                count(r.pages),
                count(r.zero_pages),
                bytes(r.bytes),
                rate,
                format!("{}-{}", r.start_frame, r.end_frame),
                match cost::pass(t, r) {
                    Pass::Stopped => "stopped",
                    Pass::PostCopy => "post-copy",
                    Pass::First | Pass::Later | Pass::Across => "",
                }
                .to_owned(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.push(Piece::Table(
            vec![
                ("round", true),
                ("start (s)", true),
                ("duration", true),
                ("pages", true),
                ("zero", true),
                ("bytes", true),
                ("rate", true),
                ("frames", true),
                ("", false),
            ],
            rows,
        ));
        if !t.rounds_exact {
            out.push(Piece::Note(format!(
                "rounds are inferred from pages sent again: there were at least {}",
                t.rounds.len()
            )));
        }
    }
}

fn moment(m: &Option<Moment>) -> String {
    m.as_ref().map_or("?".to_owned(), |m| seconds(m.offset_ns))
}

fn downtime(m: &Migration, out: &mut Vec<Piece>) {
    if m.downtime.is_empty() && m.pause.is_none() {
        return;
    }
    out.push(Piece::Heading(2, "Downtime".to_owned()));
    if let Some(p) = &m.pause {
        let reported = p.stop_reported.as_ref().map_or_else(String::new, |m| {
            format!(
                "; libvirt's cookie in frame {} says {}",
                m.frame,
                moment(&p.stop_reported)
            )
        });
        let mut pairs = vec![pair(
            "guest stopped",
            format!(
                "between {} and {} s{reported}",
                moment(&p.stop_earliest),
                moment(&p.stop_latest)
            ),
        )];
        if p.resume_earliest.is_some() {
            pairs.push(pair(
                "resumed",
                format!(
                    "between {} and {} s",
                    moment(&p.resume_earliest),
                    moment(&p.resume_latest)
                ),
            ));
        }
        if let (Some(min), Some(max)) = (p.min_ns, p.max_ns) {
            pairs.push(pair(
                "stood still",
                format!("{} to {}", duration(min), duration(max)),
            ));
        }
        out.push(Piece::Pairs(pairs));
    }
    let mut remarks = Vec::new();
    let mut rows = Vec::new();
    for d in &m.downtime {
        let (name, what) = d.method.describe();
        let detail = match (d.lost, d.interval_ns) {
            (Some(n), Some(i)) => format!("{n} × {}", duration(i)),
            (Some(n), None) => format!("{n} lost"),
            _ => what.to_owned(),
        };
        let at = match (&d.start, &d.end) {
            (Some(s), Some(e)) => format!("{}-{}", s.frame, e.frame),
            _ => String::new(),
        };
        rows.push(vec![
            name.to_owned(),
            d.duration_ns.map_or("unknown".to_owned(), duration),
            at,
            detail,
        ]);
        remarks.extend(
            d.reason
                .as_ref()
                .map(|r| Piece::Note(format!("{name}: {r}"))),
        );
    }
    if !rows.is_empty() {
        out.push(Piece::Table(
            vec![
                ("method", false),
                ("downtime", true),
                ("frames", true),
                ("what", false),
            ],
            rows,
        ));
    }
    out.extend(remarks);
    if m.outcome.result != OutcomeKind::Completed && m.downtime.is_empty() {
        out.push(Piece::Note(
            "no downtime is given: the guest did not start on the destination".to_owned(),
        ));
    }
}

/// Characters, as a terminal counts columns for what is printed here.
fn width(s: &str) -> usize {
    s.chars().count()
}

fn text(piece: &Piece, color: bool, out: &mut String) {
    match piece {
        Piece::Heading(level, s) => {
            let (on, off) = if color {
                ("\x1b[1m", "\x1b[0m")
            } else {
                ("", "")
            };
            if !out.is_empty() {
                out.push('\n');
            }
            let indent = if *level > 1 { "  " } else { "" };
            out.push_str(&format!("{indent}{on}{s}{off}\n"));
        }
        Piece::Pairs(pairs) => {
            let w = pairs.iter().map(|(n, _)| width(n)).max().unwrap_or(0);
            for (name, value) in pairs {
                let lines = wrap(value, WIDTH - w - 4);
                for (i, line) in lines.iter().enumerate() {
                    let name = if i == 0 { name } else { "" };
                    out.push_str(&format!("  {name:<w$}  {line}\n"));
                }
            }
        }
        Piece::Table(heads, rows) => {
            let mut widths: Vec<usize> = heads.iter().map(|(h, _)| width(h)).collect();
            for row in rows {
                for (w, cell) in widths.iter_mut().zip(row) {
                    *w = (*w).max(width(cell));
                }
            }
            out.push('\n');
            let heads_row: Vec<String> = heads.iter().map(|(h, _)| (*h).to_owned()).collect();
            for row in std::iter::once(&heads_row).chain(rows) {
                let mut line = String::from("  ");
                for ((cell, w), (_, right)) in row.iter().zip(&widths).zip(heads) {
                    let cell = if *right {
                        format!("{cell:>w$}")
                    } else {
                        format!("{cell:<w$}")
                    };
                    line.push_str(&cell);
                    line.push_str("  ");
                }
                out.push_str(line.trim_end());
                out.push('\n');
            }
        }
        Piece::Note(s) => {
            for (i, line) in wrap(s, WIDTH - 4).iter().enumerate() {
                let lead = if i == 0 { "! " } else { "  " };
                out.push_str(&format!("  {lead}{line}\n"));
            }
        }
    }
}

/// Breaks at spaces; a word longer than the line stands alone.
fn wrap(s: &str, max: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in s.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && width(line) + 1 + width(word) > max {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn markdown(piece: &Piece, out: &mut String) {
    let cell = |s: &str| s.replace('|', "\\|");
    match piece {
        Piece::Heading(level, s) => {
            if !out.is_empty() {
                out.push('\n');
            }
            let hashes = "#".repeat(usize::from(*level) + 1);
            out.push_str(&format!("{hashes} {s}\n\n"));
        }
        Piece::Pairs(pairs) => {
            for (name, value) in pairs {
                out.push_str(&format!("- **{name}**: {value}\n"));
            }
        }
        Piece::Table(heads, rows) => {
            out.push('\n');
            let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
            out.push_str(&row(heads.iter().map(|(h, _)| cell(h)).collect()));
            let rule = |right: bool| if right { "---:" } else { "---" };
            out.push_str(&row(heads
                .iter()
                .map(|(_, r)| rule(*r).to_owned())
                .collect()));
            for r in rows {
                out.push_str(&row(r.iter().map(|c| cell(c)).collect()));
            }
            out.push('\n');
        }
        Piece::Note(s) => out.push_str(&format!("> {s}\n\n")),
    }
}
