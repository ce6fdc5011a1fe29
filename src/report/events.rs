//! Events one line each: fields once, printed as text or JSON.

pub(crate) mod cloud;

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use phasescope_parsers::libvirt::header::{MessageType, Status, program_name};
use phasescope_parsers::libvirt::message::Body;
use phasescope_parsers::qemu::return_path::Message;

use crate::dissect::event::{Event, Guest, Kind, Multifd, Nbd, Preempt, Qemu, Rpc, Ssh, Tls};
use crate::net::tcp::Missing;
use crate::net::{Direction, Endpoint};
use crate::time::Timestamp;

/// Where an event was seen.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The side that opened the connection.
    pub client: Endpoint,
    /// The other side.
    pub server: Endpoint,
}

/// The ends of the connections that are open, by number.
#[derive(Debug, Default)]
pub struct OpenConnections(HashMap<u64, Ends>);

impl OpenConnections {
    /// Keeps what an event says of them; returns where the event was seen.
    pub fn take(&mut self, event: &Event) -> Option<Ends> {
        match &event.kind {
            Kind::Recognised(_, info) => {
                let ends = Ends {
                    client: info.client,
                    server: info.server,
                };
                self.0.insert(info.id, ends);
            }
            Kind::Ended(_, info) => {
                self.0.remove(&info.id);
            }
            _ => {}
        }
        event.flow.and_then(|(id, _)| self.0.get(&id).copied())
    }
}

/// What there is to say, in the order of saying it.
type Named = Vec<(&'static str, Value)>;

/// An event's name and its fields.
type Said = (&'static str, Named);

/// `None` for bookkeeping.
fn fields(kind: &Kind) -> Option<Said> {
    Some(match kind {
        Kind::Ended(..) => return None,
        Kind::Recognised(protocol, info) => (
            "connection",
            vec![
                ("protocol", json!(protocol.name())),
                ("opened_frame", json!(info.opened.map(|s| s.frame))),
            ],
        ),
        Kind::Closing { reset } => (if *reset { "reset" } else { "fin" }, vec![]),
        Kind::Gap {
            offset,
            length,
            missing,
        } => {
            let why = match missing {
                Missing::Lost => "lost",
                Missing::Cut => "cut",
            };
            (
                "gap",
                vec![
                    ("offset", json!(offset)),
                    ("length", json!(length)),
                    ("why", json!(why)),
                ],
            )
        }
        Kind::Rpc(rpc) => ("libvirt-rpc", rpc_fields(rpc)),
        Kind::Qemu(q) => qemu_fields(q),
        Kind::Multifd(m) => multifd_fields(m),
        Kind::Preempt(p) => preempt_fields(p),
        Kind::Nbd(n) => nbd_fields(n),
        Kind::Tls(t) => tls_fields(t),
        Kind::Ssh(s) => ssh_fields(s),
        Kind::Amqp(a) => cloud::amqp(a),
        Kind::Http(h) => cloud::http(h),
        Kind::Guest(g) => guest_fields(g)?,
    })
}

fn rpc_fields(rpc: &Rpc) -> Named {
    let h = &rpc.header;
    let kind = match h.kind {
        MessageType::Call => "call",
        MessageType::Reply => "reply",
        MessageType::Message => "message",
        MessageType::Stream => "stream",
        MessageType::CallWithFds => "call-with-fds",
        MessageType::ReplyWithFds => "reply-with-fds",
        MessageType::StreamHole => "stream-hole",
    };
    let status = match h.status {
        Status::Ok => "ok",
        Status::Error => "error",
        Status::Continue => "continue",
    };
    let procedure = rpc.name.map_or_else(|| json!(h.procedure), |n| json!(n));
    let mut fields = vec![
        ("program", json!(program_name(h.program))),
        ("procedure", procedure),
        ("type", json!(kind)),
        ("serial", json!(h.serial)),
        ("status", json!(status)),
        ("length", json!(h.length)),
    ];
    if rpc.missing > 0 {
        fields.push(("missing", json!(rpc.missing)));
    }
    match &rpc.body {
        Body::Error(e) => {
            fields.push(("code", json!(e.code)));
            fields.push(("message", json!(e.message)));
        }
        Body::Feature(n) => fields.push(("feature", json!(n))),
        Body::FeatureSupported(n) => fields.push(("supported", json!(n))),
        Body::Prepare(p) => {
            fields.push(("domain", json!(p.destination_name)));
            fields.push(("flags", json!(format!("{:#x}", p.flags))));
        }
        Body::PrepareReply { uri, .. } => fields.push(("uri", json!(uri))),
        Body::Finish(f) => {
            fields.push(("domain", json!(f.destination_name)));
            fields.push(("cancelled", json!(f.cancelled)));
        }
        Body::FinishReply { domain, cookie } => {
            fields.push(("domain", json!(domain.as_ref().map(|d| &d.name))));
            let downtime = cookie
                .as_ref()
                .and_then(|c| c.statistics.as_ref()?.downtime);
            fields.push(("downtime_ms", json!(downtime)));
        }
        Body::Perform(p) => fields.push(("domain", json!(p.domain.name))),
        Body::Begin(b) => fields.push(("domain", json!(b.domain.name))),
        Body::Confirm(c) => {
            fields.push(("domain", json!(c.domain.name)));
            fields.push(("cancelled", json!(c.cancelled)));
        }
        Body::Iteration { iteration, .. } => fields.push(("iteration", json!(iteration))),
        Body::Damaged => fields.push(("damaged", json!(true))),
        _ => {}
    }
    fields
}

fn qemu_fields(q: &Qemu) -> Said {
    match q {
        Qemu::Header => ("stream-header", vec![]),
        Qemu::Configuration { machine } => ("configuration", vec![("machine", json!(machine))]),
        Qemu::Uuid(_) => ("uuid", vec![]),
        Qemu::Section {
            kind,
            id,
            name,
            packaged,
        } => {
            let mut f = vec![
                ("type", json!(kind.name())),
                ("id", json!(id)),
                ("device", json!(name)),
            ];
            if *packaged {
                f.push(("packaged", json!(true)));
            }
            ("section", f)
        }
        Qemu::RamBlocks {
            count,
            bytes,
            page_size,
        } => (
            "ram-blocks",
            vec![
                ("blocks", json!(count)),
                ("bytes", json!(bytes)),
                ("page_size", json!(page_size)),
            ],
        ),
        Qemu::RamPart {
            kind,
            counts,
            complete,
        } => (
            "ram",
            vec![
                ("type", json!(kind.map(|k| k.name()))),
                ("normal", json!(counts.normal)),
                ("zero", json!(counts.zero)),
                ("xbzrle", json!(counts.xbzrle)),
                ("compressed", json!(counts.compressed)),
                ("bytes", json!(counts.bytes)),
                ("complete", json!(complete)),
            ],
        ),
        Qemu::Disks {
            counts, complete, ..
        } => (
            "disks",
            vec![
                ("chunks", json!(counts.chunks)),
                ("zero_chunks", json!(counts.zero_chunks)),
                ("bytes", json!(counts.bytes)),
                ("devices", json!(counts.devices)),
                ("complete", json!(complete)),
            ],
        ),
        Qemu::Bitmaps { counts, complete } => (
            "dirty-bitmaps",
            vec![
                ("started", json!(counts.started)),
                ("completed", json!(counts.completed)),
                ("bytes", json!(counts.bytes)),
                ("complete", json!(complete)),
            ],
        ),
        Qemu::Device { name, length } => (
            "device",
            vec![("device", json!(name)), ("length", json!(length))],
        ),
        Qemu::Command { name, value, .. } => {
            let mut f = vec![("command", json!(name))];
            f.extend(value.map(|v| ("value", json!(v))));
            ("command", f)
        }
        Qemu::PackagedEnd => ("packaged-end", vec![]),
        Qemu::EndOfStream => ("end-of-stream", vec![]),
        Qemu::VmDescription { length, agreeing } => {
            let mut f = vec![("length", json!(length))];
            if let Some((n, all)) = agreeing {
                f.push(("devices", json!(all)));
                f.push(("agreeing", json!(n)));
            }
            ("vm-description", f)
        }
        Qemu::MultifdFlush => ("multifd-flush", vec![]),
        Qemu::Round(r) => (
            "round",
            vec![
                ("index", json!(r.index)),
                ("pages", json!(r.counts.pages())),
                ("bytes", json!(r.counts.bytes)),
                ("start_frame", json!(r.start.frame)),
                ("end_frame", json!(r.end.frame)),
            ],
        ),
        Qemu::Stopped { since } => (
            "guest-stopped",
            vec![("since_frame", json!(since.map(|s| s.frame)))],
        ),
        Qemu::Requests(r) => (
            "page-requests",
            vec![
                ("pages", json!(r.requests)),
                ("answered", json!(r.answered)),
            ],
        ),
        Qemu::Lost => ("out-of-step", vec![]),
        Qemu::Found => ("in-step", vec![]),
        Qemu::ReturnPath(m) => match m {
            Message::Shut(status) => ("return-path-shut", vec![("value", json!(status))]),
            Message::Pong(value) => ("return-path-pong", vec![("value", json!(value))]),
            Message::ReqPages {
                block,
                start,
                length,
            } => (
                "return-path-request",
                vec![
                    ("block", json!(block)),
                    ("start", json!(start)),
                    ("length", json!(length)),
                ],
            ),
            Message::RecvBitmap { block } => ("return-path-bitmap", vec![("block", json!(block))]),
            Message::ResumeAck(value) => ("return-path-resume-ack", vec![("value", json!(value))]),
            Message::SwitchoverAck => ("return-path-switchover-ack", vec![]),
        },
    }
}

fn multifd_fields(m: &Multifd) -> Said {
    match m {
        Multifd::Initial { channel, .. } => ("multifd-initial", vec![("channel", json!(channel))]),
        Multifd::Packet(p) => (
            "multifd-packet",
            vec![
                ("number", json!(p.packet_num)),
                ("normal", json!(p.normal)),
                ("zero", json!(p.zero)),
                ("compressed", json!(p.compressed)),
                ("data", json!(p.data)),
            ],
        ),
        Multifd::DeviceState { device, bytes } => (
            "multifd-device-state",
            vec![("device", json!(device)), ("length", json!(bytes))],
        ),
        Multifd::Sync { packet_num } => ("multifd-sync", vec![("number", json!(packet_num))]),
        Multifd::Lost => ("out-of-step", vec![]),
        Multifd::Found => ("in-step", vec![]),
    }
}

fn nbd_fields(n: &Nbd) -> Said {
    match n {
        Nbd::Option { name, export } => (
            "nbd-option",
            vec![("option", json!(name)), ("export", json!(export))],
        ),
        Nbd::Ready => ("nbd-ready", vec![]),
        Nbd::Requests {
            requests,
            written,
            zeroed,
        } => (
            "nbd-requests",
            vec![
                ("requests", json!(requests)),
                ("written", json!(written)),
                ("zeroed", json!(zeroed)),
            ],
        ),
        Nbd::Disconnect => ("nbd-disconnect", vec![]),
        Nbd::Tls => ("nbd-starttls", vec![]),
        Nbd::Lost => ("out-of-step", vec![]),
    }
}

fn preempt_fields(p: &Preempt) -> Said {
    match p {
        Preempt::Page {
            block,
            address,
            bytes,
            ..
        } => (
            "preempt-page",
            vec![
                ("block", json!(block)),
                ("offset", json!(address)),
                ("bytes", json!(bytes)),
            ],
        ),
        Preempt::Lost => ("out-of-step", vec![]),
    }
}

fn tls_fields(t: &Tls) -> Said {
    match t {
        Tls::ClientHello {
            server_name,
            offered,
        } => (
            "tls-client-hello",
            vec![
                ("server_name", json!(server_name)),
                ("version", json!(offered.map(|v| format!("{v:#06x}")))),
            ],
        ),
        Tls::ServerHello { version } => (
            "tls-server-hello",
            vec![("version", json!(format!("{version:#06x}")))],
        ),
        Tls::Data { bytes } => ("tls-data", vec![("bytes", json!(bytes))]),
        Tls::Lost => ("out-of-step", vec![]),
    }
}

fn ssh_fields(s: &Ssh) -> Said {
    match s {
        Ssh::Identification { protocol, software } => (
            "ssh-identification",
            vec![("version", json!(protocol)), ("software", json!(software))],
        ),
        Ssh::Data { bytes } => ("ssh-data", vec![("bytes", json!(bytes))]),
    }
}

fn guest_fields(g: &Guest) -> Option<Said> {
    let (name, fields) = match g {
        // Every ping would be a line; the report sums them up.
        Guest::Echo(_) => return None,
        Guest::Rarp { mac } => ("rarp", vec![("mac", json!(mac.to_string()))]),
        Guest::Arp {
            mac,
            address,
            gratuitous: true,
        } => (
            "gratuitous-arp",
            vec![
                ("mac", json!(mac.to_string())),
                ("address", json!(address.to_string())),
            ],
        ),
        Guest::Arp { .. } | Guest::Silence { .. } => return None,
        Guest::NeighborAdvertisement { mac, address } => (
            "neighbor-advertisement",
            vec![
                ("mac", json!(mac.to_string())),
                ("address", json!(address.to_string())),
            ],
        ),
    };
    Some((name, fields))
}

fn arrow(ends: Ends, direction: Direction) -> (Endpoint, Endpoint) {
    match direction {
        Direction::ToServer => (ends.client, ends.server),
        Direction::ToClient => (ends.server, ends.client),
    }
}

/// `   2324  10.001234567  10.0.0.1:40000 > 10.0.0.2:16509  libvirt-rpc procedure=…`
pub fn line(event: &Event, ends: Option<Ends>, first: Timestamp) -> Option<String> {
    let (name, fields) = fields(&event.kind)?;
    let mut out = format!(
        "{:>8}  {:>14}  ",
        event.stamp.frame,
        super::units::seconds(event.stamp.time.since(first))
    );
    if let (Some(ends), Some((_, d))) = (ends, event.flow) {
        let (from, to) = arrow(ends, d);
        out.push_str(&format!("{from} > {to}  "));
    }
    out.push_str(name);
    for (key, value) in fields {
        let value = match value {
            Value::Null => continue,
            Value::String(s) if !s.contains(' ') => s,
            other => other.to_string(),
        };
        out.push_str(&format!(" {key}={}", super::units::printable(&value)));
    }
    Some(out)
}

/// The same as one JSON object.
pub fn json(event: &Event, ends: Option<Ends>, first: Timestamp) -> Option<String> {
    let (name, fields) = fields(&event.kind)?;
    let mut o = Map::new();
    o.insert("time".into(), json!(event.stamp.time.to_string()));
    o.insert("offset_ns".into(), json!(event.stamp.time.since(first)));
    o.insert("frame".into(), json!(event.stamp.frame));
    if event.begin.frame != event.stamp.frame {
        o.insert("first_frame".into(), json!(event.begin.frame));
    }
    if let (Some(ends), Some((id, d))) = (ends, event.flow) {
        let (from, to) = arrow(ends, d);
        o.insert(
            "flow".into(),
            json!({"id": id, "from": from.to_string(), "to": to.to_string()}),
        );
    }
    o.insert("event".into(), json!(name));
    for (key, value) in fields {
        if !value.is_null() {
            o.insert(key.into(), value);
        }
    }
    Some(Value::Object(o).to_string())
}
