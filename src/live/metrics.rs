//! Numbers for Prometheus (text format 0.0.4) on a small HTTP listener.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::view::{View, outcome, page_bytes};
use crate::migration::Migration;

/// Upper bounds of the buckets, seconds.
const BUCKETS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 1800.0,
];
/// A client may take so long to ask, and to listen.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a request that are read.
const MAX_REQUEST: usize = 4096;

#[derive(Debug, Clone, Default)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, ns: i64) {
        let seconds = ns as f64 / 1e9;
        for (n, bound) in self.counts.iter_mut().zip(BUCKETS) {
            *n += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn print(&self, name: &str, label: &str, value: &str, out: &mut String) {
        for (n, bound) in self.counts.iter().zip(BUCKETS) {
            let _ = writeln!(
                out,
                "{name}_bucket{{{label}=\"{value}\",le=\"{bound}\"}} {n}"
            );
        }
        let _ = writeln!(
            out,
            "{name}_bucket{{{label}=\"{value}\",le=\"+Inf\"}} {count}\n\
             {name}_sum{{{label}=\"{value}\"}} {sum}\n\
             {name}_count{{{label}=\"{value}\"}} {count}",
            count = self.count,
            sum = self.sum
        );
    }
}

/// What has been counted of finished migrations.
#[derive(Debug, Default)]
pub struct Tally {
    outcomes: BTreeMap<&'static str, u64>,
    phases: BTreeMap<&'static str, Histogram>,
    downtimes: BTreeMap<&'static str, Histogram>,
    totals: BTreeMap<&'static str, Histogram>,
    pages: u64,
    page_bytes: u64,
}

impl Tally {
    /// Counts a finished migration in.
    pub fn count(&mut self, m: &Migration) {
        let how = outcome(m.outcome.result);
        *self.outcomes.entry(how).or_default() += 1;
        for p in &m.phases {
            if let Some(d) = p.duration_ns {
                self.phases.entry(p.name.name()).or_default().observe(d);
            }
        }
        for d in &m.downtime {
            if let Some(ns) = d.duration_ns {
                let (method, _) = d.method.describe();
                self.downtimes.entry(method).or_default().observe(ns);
            }
        }
        if let Some(t) = m.total_time_ns {
            self.totals.entry(how).or_default().observe(t);
        }
        if let Some(t) = &m.transfer {
            self.pages += t.pages.normal + t.pages.zero + t.pages.xbzrle + t.pages.compressed;
            self.page_bytes += page_bytes(m);
        }
    }

    /// The page that Prometheus reads.
    pub fn page(&self, view: &View) -> String {
        let mut out = String::new();
        let c = &view.capture;
        let (h, drops) = (&c.health, &view.load.drops);
        let mut one = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = writeln!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
            );
        };
        one(
            "phasescope_packets_total",
            "counter",
            "Packets looked at.",
            c.packets,
        );
        one(
            "phasescope_bytes_total",
            "counter",
            "Their bytes on the wire.",
            c.bytes,
        );
        one(
            "phasescope_connections_total",
            "counter",
            "TCP connections seen.",
            c.connections,
        );
        one(
            "phasescope_missing_bytes_total",
            "counter",
            "TCP payload that was sent but not captured.",
            h.missing_bytes,
        );
        one(
            "phasescope_retransmitted_bytes_total",
            "counter",
            "TCP payload seen again.",
            h.retransmitted_bytes,
        );
        one(
            "phasescope_cut_packets_total",
            "counter",
            "Packets cut by the snap length.",
            h.cut_packets,
        );
        one(
            "phasescope_migrations_running",
            "gauge",
            "Migrations that are not over.",
            view.running.len() as u64,
        );
        one(
            "phasescope_pages_total",
            "counter",
            "Memory pages sent by finished migrations.",
            self.pages,
        );
        one(
            "phasescope_page_bytes_total",
            "counter",
            "Bytes of page records sent by finished migrations.",
            self.page_bytes,
        );
        one(
            "phasescope_queue_batches",
            "gauge",
            "Batches of packets that wait for the analysis.",
            view.load.queued as u64,
        );
        one(
            "phasescope_memory_bytes",
            "gauge",
            "Resident memory of this process.",
            view.load.memory_bytes,
        );
        if let Some(s) = &view.load.streams {
            one(
                "phasescope_dpmi_frames_lost_total",
                "counter",
                "DPMI measurement frames whose sequence numbers are missing.",
                s.lost,
            );
        }
        let places = [
            ("kernel", drops.kernel),
            ("interface", drops.interface),
            ("queue", drops.queue),
            ("recorder", drops.recorder),
        ];
        family(
            &mut out,
            "phasescope_dropped_packets_total",
            "Packets dropped, by place.",
            "place",
            places,
        );
        family(
            &mut out,
            "phasescope_migrations_total",
            "Finished migrations, by outcome.",
            "outcome",
            self.outcomes.iter().map(|(o, n)| (*o, *n)),
        );
        for (name, help, label, all) in [
            (
                "phasescope_phase_duration_seconds",
                "Durations of phases.",
                "phase",
                &self.phases,
            ),
            (
                "phasescope_downtime_seconds",
                "Downtimes, by the method of measuring.",
                "method",
                &self.downtimes,
            ),
            (
                "phasescope_migration_duration_seconds",
                "Start of the first phase to the end of the last, by outcome.",
                "outcome",
                &self.totals,
            ),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
            for (value, histogram) in all {
                histogram.print(name, label, value, &mut out);
            }
        }
        out
    }
}

fn family<'a>(
    out: &mut String,
    name: &str,
    help: &str,
    label: &str,
    values: impl IntoIterator<Item = (&'a str, u64)>,
) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
    for (value, n) in values {
        let _ = writeln!(out, "{name}{{{label}=\"{value}\"}} {n}");
    }
}

/// What the listener reads.
#[derive(Debug, Clone)]
pub struct Board {
    /// The latest view.
    pub view: Arc<Mutex<Arc<View>>>,
    /// What has been counted.
    pub tally: Arc<Mutex<Tally>>,
}

impl Board {
    fn page(&self) -> String {
        let view = self
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.page(&view)
    }
}

/// Answers scrapes on a thread of its own, one after the other, until the process ends.
///
/// # Errors
/// The address cannot be had.
pub fn serve(address: SocketAddr, board: Board) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    std::thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that goes away is its own fault.
                let _ = answer(client, &board);
            }
        })?;
    Ok(bound)
}

fn answer(mut client: TcpStream, board: &Board) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut part = [0; 512];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < MAX_REQUEST {
        match client.read(&mut part)? {
            0 => break,
            n => request.extend_from_slice(part.get(..n).unwrap_or_default()),
        }
    }
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let target = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
    let (status, body) = match (line.starts_with(b"GET "), target) {
        (true, b"/metrics" | b"/") => ("200 OK", board.page()),
        (true, _) => ("404 Not Found", "see /metrics\n".to_owned()),
        (false, _) => ("405 Method Not Allowed", "GET only\n".to_owned()),
    };
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
