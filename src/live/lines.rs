//! What a service says: one JSON object a line, or one line of text.

use serde_json::{Value, json};

use super::engine::Notice;
use super::source::Drops;
use super::view::outcome;
use crate::dissect::event::{Event, Kind, Qemu};
use crate::migration::{Migration, OutcomeKind};
use crate::report::events::{self, OpenConnections};
use crate::report::{CaptureSummary, units};
use crate::time::Timestamp;

/// Version of the lines' keys.
pub const SCHEMA: &str = "phasescope.live/1";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object each.
    Ndjson,
    /// For people.
    Text,
}

/// From notices to lines.
#[derive(Debug)]
pub(crate) struct Lines {
    format: LineFormat,
    connections: OpenConnections,
    first: Option<Timestamp>,
    drops: Drops,
    /// The capture has ended: what is told now was open.
    ending: bool,
}

/// Is this worth a line of its own? Each section of a stream and each call of a daemon is not.
fn interesting(event: &Event) -> bool {
    match &event.kind {
        Kind::Recognised(..) | Kind::Closing { .. } | Kind::Gap { .. } | Kind::Guest(_) => true,
        Kind::Rpc(rpc) => rpc
            .name
            .is_some_and(|n| n.contains("MIGRATE") || n.contains("CONNECT_OPEN")),
        Kind::Qemu(q) => matches!(
            q,
            Qemu::Header
                | Qemu::Configuration { .. }
                | Qemu::RamBlocks { .. }
                | Qemu::Round(_)
                | Qemu::Stopped { .. }
                | Qemu::Command { .. }
                | Qemu::EndOfStream
                | Qemu::Lost
                | Qemu::Found
                | Qemu::ReturnPath(_)
        ),
        _ => false,
    }
}

/// The keys of `value` behind a `type`.
fn typed(kind: &str, value: &Value) -> String {
    let body = value.to_string();
    match body.strip_prefix('{') {
        Some("}") => format!("{{\"type\":\"{kind}\"}}"),
        Some(rest) => format!("{{\"type\":\"{kind}\",{rest}"),
        None => format!("{{\"type\":\"{kind}\",\"value\":{body}}}"),
    }
}

impl Lines {
    /// In this format.
    pub(crate) fn new(format: LineFormat) -> Self {
        Self {
            format,
            connections: OpenConnections::default(),
            first: None,
            drops: Drops::default(),
            ending: false,
        }
    }

    /// The first line.
    pub(crate) fn start(&self, source: &[String], kind: &str) -> String {
        match self.format {
            LineFormat::Ndjson => typed(
                "start",
                &json!({"schema": SCHEMA, "source": source, "kind": kind}),
            ),
            LineFormat::Text => format!("{kind}: {}", source.join(", ")),
        }
    }

    /// The line of a notice, if it is worth one.
    pub(crate) fn notice(&mut self, notice: &Notice<'_>) -> Option<String> {
        match notice {
            Notice::Event(e) => self.event(e),
            Notice::Migration(m) => Some(self.migration(m)),
        }
    }

    fn event(&mut self, event: &Event) -> Option<String> {
        let first = *self.first.get_or_insert(event.stamp.time);
        let ends = self.connections.take(event);
        if !interesting(event) {
            return None;
        }
        match self.format {
            LineFormat::Ndjson => {
                let line = events::json(event, ends, first)?;
                Some(format!("{{\"type\":\"event\",{}", line.strip_prefix('{')?))
            }
            LineFormat::Text => events::line(event, ends, first),
        }
    }

    /// From now on, what is told was still open.
    pub(crate) fn ending(&mut self) {
        self.ending = true;
    }

    fn migration(&self, m: &Migration) -> String {
        let open = self.ending && m.outcome.result == OutcomeKind::Unfinished;
        let kind = if open { "open" } else { "migration" };
        match self.format {
            LineFormat::Ndjson => typed(kind, &serde_json::to_value(m).unwrap_or(Value::Null)),
            LineFormat::Text => {
                let total = m.total_time_ns.map_or("?".to_owned(), units::duration);
                let down = m.downtime.iter().find_map(|d| d.duration_ns);
                format!(
                    "{kind} {} {}: {}, total {total}, downtime {}",
                    m.id,
                    units::printable(m.guest.name.as_deref().unwrap_or("?")),
                    outcome(m.outcome.result),
                    down.map_or("?".to_owned(), units::duration)
                )
            }
        }
    }

    /// A line where more has been dropped since the last one.
    pub(crate) fn drops(&mut self, drops: Drops) -> Option<String> {
        if drops == self.drops {
            return None;
        }
        self.drops = drops;
        let value = json!({
            "kernel": drops.kernel,
            "interface": drops.interface,
            "queue": drops.queue,
            "recorder": drops.recorder,
        });
        Some(match self.format {
            LineFormat::Ndjson => typed("dropped", &value),
            LineFormat::Text => format!("dropped packets: {value}"),
        })
    }

    /// Lines that a slow reader missed.
    pub(crate) fn missed(&self, n: u64) -> String {
        match self.format {
            LineFormat::Ndjson => typed("missed", &json!({"events": n})),
            LineFormat::Text => format!("{n} events are not shown: they were not read in time"),
        }
    }

    /// The last line.
    pub(crate) fn end(&self, capture: &CaptureSummary, migrations: usize) -> String {
        match self.format {
            LineFormat::Ndjson => typed(
                "end",
                &json!({"migrations": migrations, "capture": capture}),
            ),
            LineFormat::Text => format!(
                "end: {} packets, {migrations} migrations",
                units::count(capture.packets)
            ),
        }
    }
}
