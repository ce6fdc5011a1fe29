//! What a report leaves out because it is long: bytes over time of a migration's connections, and
//! the echo requests and replies around its switch-over. Read from the capture a second time,
//! when the report says which connections and echoes matter.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::capture::{Capture, CaptureError, Frame};
use crate::migration::{DowntimeMethod, Migration, Role};
use crate::net::{Body, Endpoint, Packet};
use crate::report::Report;
use crate::time::Timestamp;

/// Bins over the length of a migration, about.
const BINS: i64 = 300;
/// Echo requests kept for one migration.
pub const MAX_ECHOES: usize = 20_000;
/// Echoes are kept from this long before the pause to this long after it. Nanoseconds.
const AROUND_NS: i64 = 1_000_000_000;

/// Bytes on the wire in bins of equal length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Throughput {
    /// Start of the first bin, from the first packet of the capture; nanoseconds.
    pub start_ns: i64,
    /// Length of a bin, nanoseconds.
    pub bin_ns: i64,
    /// Bytes of frames in each bin, both directions, headers included.
    pub bytes: Vec<u64>,
}

/// An echo request, and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Echo {
    /// Time of the request, from the first packet of the capture; nanoseconds.
    pub request_ns: i64,
    /// Time of the reply; `None` where there was none.
    pub reply_ns: Option<i64>,
}

/// The series of one migration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Series {
    /// Of the connections that carry the guest (not of libvirt's).
    pub throughput: Throughput,
    /// Around the pause, in order of the requests.
    pub echoes: Vec<Echo>,
}

/// Start and end of everything a migration says, from the first packet of the capture;
/// nanoseconds.
pub fn span(m: &Migration) -> Option<(i64, i64)> {
    let bounds = m
        .phases
        .iter()
        .flat_map(|p| [&p.start, &p.end])
        .flatten()
        .map(|b| b.offset_ns);
    let rounds = m
        .transfer
        .iter()
        .flat_map(|t| &t.rounds)
        .flat_map(|r| [r.start_offset_ns, r.end_offset_ns]);
    let all: Vec<i64> = bounds.chain(rounds).collect();
    Some((*all.iter().min()?, *all.iter().max()?)).filter(|(a, b)| a < b)
}

/// The next of 1, 2, 5 × 10ⁿ.
fn round_up(n: i64) -> i64 {
    let mut power = 1_i64;
    loop {
        for step in [1, 2, 5] {
            if let Some(v) = power.checked_mul(step).filter(|v| *v >= n) {
                return v;
            }
        }
        let Some(next) = power.checked_mul(10) else {
            return i64::MAX;
        };
        power = next;
    }
}

/// One migration while the capture is read.
#[derive(Debug)]
struct Watch {
    series: Series,
    echo: Option<(IpAddr, IpAddr, u16)>,
    window: (i64, i64),
    waiting: HashMap<u16, usize>,
}

impl Watch {
    fn new(m: &Migration) -> Self {
        let mut series = Series::default();
        if let Some((from, to)) = span(m) {
            let bin = round_up(to.saturating_sub(from) / BINS + 1);
            let bins = to.saturating_sub(from) / bin + 1;
            series.throughput = Throughput {
                start_ns: from,
                bin_ns: bin,
                bytes: vec![0; usize::try_from(bins).unwrap_or(0)],
            };
        }
        let subject = m
            .downtime
            .iter()
            .filter(|d| {
                matches!(
                    d.method,
                    DowntimeMethod::LostEchoes | DowntimeMethod::EchoGap
                )
            })
            .find_map(|d| d.subject.as_deref());
        let pause = m.pause.as_ref();
        let stop = pause.and_then(|p| p.stop_earliest.as_ref().or(p.stop_latest.as_ref()));
        let resume = pause.and_then(|p| p.resume_latest.as_ref().or(p.resume_earliest.as_ref()));
        let window = match (stop, resume) {
            (Some(a), Some(b)) => (
                a.offset_ns.saturating_sub(AROUND_NS),
                b.offset_ns.saturating_add(AROUND_NS),
            ),
            _ => (i64::MAX, i64::MIN),
        };
        Self {
            series,
            echo: subject.and_then(echo_subject),
            window,
            waiting: HashMap::new(),
        }
    }

    fn bytes(&mut self, offset: i64, bytes: u32) {
        let t = &mut self.series.throughput;
        if t.bin_ns == 0 {
            return;
        }
        let bin = offset.saturating_sub(t.start_ns).div_euclid(t.bin_ns);
        if let Some(b) = usize::try_from(bin).ok().and_then(|i| t.bytes.get_mut(i)) {
            *b += u64::from(bytes);
        }
    }

    fn echo(&mut self, offset: i64, e: &EchoFrame) {
        let Some(subject) = self.echo else { return };
        if subject != (e.pinger, e.target, e.id) || offset < self.window.0 {
            return;
        }
        if e.reply {
            if let Some(i) = self.waiting.remove(&e.sequence) {
                let echo = &mut self.series.echoes[i];
                echo.reply_ns = echo.reply_ns.or(Some(offset));
            }
        } else if offset <= self.window.1 && self.series.echoes.len() < MAX_ECHOES {
            // The same request seen at a second place is the same request.
            if let std::collections::hash_map::Entry::Vacant(v) = self.waiting.entry(e.sequence) {
                v.insert(self.series.echoes.len());
                self.series.echoes.push(Echo {
                    request_ns: offset,
                    reply_ns: None,
                });
            }
        }
    }
}

/// `10.99.0.1 to 10.99.0.101 id 14250`, as reports give it.
fn echo_subject(s: &str) -> Option<(IpAddr, IpAddr, u16)> {
    let (pinger, rest) = s.split_once(" to ")?;
    let (target, id) = rest.split_once(" id ")?;
    Some((
        pinger.parse().ok()?,
        target.parse().ok()?,
        id.split_whitespace().next()?.parse().ok()?,
    ))
}

#[derive(Debug)]
struct EchoFrame {
    reply: bool,
    pinger: IpAddr,
    target: IpAddr,
    id: u16,
    sequence: u16,
}

impl EchoFrame {
    fn read(packet: &Packet<'_>) -> Option<Self> {
        let (source, destination) = packet.addresses?;
        // ICMP types: RFC 792 and RFC 4443.
        let (data, request, reply) = match packet.body {
            Body::Icmp(d) => (d, 8, 0),
            Body::Icmpv6(d) => (d, 128, 129),
            _ => return None,
        };
        let (kind, numbers) = (*data.first()?, data.get(4..8)?);
        let reply = match kind {
            k if k == request => false,
            k if k == reply => true,
            _ => return None,
        };
        let (pinger, target) = if reply {
            (destination, source)
        } else {
            (source, destination)
        };
        Some(Self {
            reply,
            pinger,
            target,
            id: u16::from_be_bytes([numbers[0], numbers[1]]),
            sequence: u16::from_be_bytes([numbers[2], numbers[3]]),
        })
    }
}

type Ends = (Endpoint, Endpoint);

fn ends(a: Endpoint, b: Endpoint) -> Ends {
    if a <= b { (a, b) } else { (b, a) }
}

fn endpoint(s: &str) -> Option<Endpoint> {
    let a: std::net::SocketAddr = s.parse().ok()?;
    Some(Endpoint {
        ip: a.ip(),
        port: a.port(),
    })
}

/// Collects the series of all migrations of a report while its capture is read again.
#[derive(Debug)]
pub(crate) struct Collector {
    watches: Vec<Watch>,
    /// Frames of a connection, by its ends: first and last frame, migration.
    connections: HashMap<Ends, Vec<(u64, u64, usize)>>,
    first: Option<Timestamp>,
}

impl Collector {
    /// For the migrations of a report.
    pub(crate) fn new(report: &Report) -> Self {
        let mut connections: HashMap<Ends, Vec<_>> = HashMap::new();
        for (i, m) in report.migrations.iter().enumerate() {
            for c in m.transfer.iter().flat_map(|t| &t.connections) {
                if c.role == Role::Control {
                    continue;
                }
                if let (Some(a), Some(b)) = (endpoint(&c.client), endpoint(&c.server)) {
                    let frames = (c.first_frame, c.last_frame, i);
                    connections.entry(ends(a, b)).or_default().push(frames);
                }
            }
        }
        Self {
            watches: report.migrations.iter().map(Watch::new).collect(),
            connections,
            first: None,
        }
    }

    /// Takes the next frame.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>) {
        let first = *self.first.get_or_insert(frame.time);
        let offset = frame.time.since(first);
        let Some(packet) = Packet::read(frame) else {
            return;
        };
        if let (Body::Tcp(s), Some((source, destination))) = (&packet.body, packet.addresses) {
            let a = Endpoint {
                ip: source,
                port: s.source_port,
            };
            let b = Endpoint {
                ip: destination,
                port: s.destination_port,
            };
            for (from, to, i) in self.connections.get(&ends(a, b)).into_iter().flatten() {
                if (*from..=*to).contains(&frame.number)
                    && let Some(w) = self.watches.get_mut(*i)
                {
                    w.bytes(offset, frame.wire_len);
                }
            }
        } else if let Some(echo) = EchoFrame::read(&packet) {
            for w in &mut self.watches {
                w.echo(offset, &echo);
            }
        }
    }

    /// In the order of the report's migrations.
    pub(crate) fn finish(self) -> Vec<Series> {
        self.watches.into_iter().map(|w| w.series).collect()
    }
}

/// Reads a capture again for the series of its report; `proceed` is asked now and then whether to
/// go on.
///
/// # Errors
/// The system cannot read the capture.
pub fn collect(
    capture: &mut Capture,
    report: &Report,
    mut proceed: impl FnMut(&Capture) -> bool,
) -> Result<Vec<Series>, CaptureError> {
    let mut collector = Collector::new(report);
    while let Some(frame) = capture.next_frame()? {
        let number = frame.number;
        collector.frame(&frame);
        if number % 4096 == 0 && !proceed(capture) {
            break;
        }
    }
    Ok(collector.finish())
}
