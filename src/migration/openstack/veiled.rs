//! A cloud whose messages are inside TLS: what ports, sizes and times of records let one infer.
//!
//! The services' ports are the only sign of what a connection carries, so that here, and here
//! alone, ports matter.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::dissect::MESSAGE_PAUSE_NS;
use crate::dissect::event::{Event, Tls};
use crate::migration::markers::Signal;
use crate::migration::records::{Mark, Turn};
use crate::net::{Direction, FlowInfo, Stamp};
use crate::time::Timestamp;

/// What a port tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// AMQP: a service and the broker.
    Broker,
    /// A client and Keystone.
    Keystone,
    /// A client and Nova's interface.
    Nova,
}

/// Ports of services that are encrypted as a whole: `amqps` (IANA); the interfaces' own ports, for
/// TLS may be ended there (`keystone/httpd/wsgi-keystone.conf`, `nova/conf/service.py`,
/// `osapi_compute_listen_port`), and those of TripleO's proxies (`tripleo-heat-templates`,
/// `network/endpoints/endpoint_data.yaml`).
const PORTS: &[(u16, Role)] = &[
    (5671, Role::Broker),
    (5000, Role::Keystone),
    (35_357, Role::Keystone),
    (13_000, Role::Keystone),
    (8774, Role::Nova),
    (13_774, Role::Nova),
];

/// A reply of oslo.messaging with its frames and headers is longer; the broker's acknowledgements
/// and heartbeats are shorter. Bytes.
const MIN_REPLY: u64 = 200;

/// A reply that came longer before libvirt's connection belongs to something else. Nanoseconds.
const REPLY_LOOK_BACK_NS: i64 = 30_000_000_000;

/// So does a client's connection. Nanoseconds.
const CLIENT_LOOK_BACK_NS: i64 = 60_000_000_000;

/// Connections that are remembered; past it the oldest make room.
const MAX_FLOWS: usize = 1024;

/// Turns that are remembered of one: the latest ones.
const MAX_TURNS: usize = 64;

#[derive(Debug, Clone)]
struct Flow {
    role: Role,
    client: IpAddr,
    /// First packet.
    first: Timestamp,
    /// The first two times that the client spoke: the first one may ask for a version document.
    asked: [Option<Turn>; 2],
    /// Answers that may be replies.
    answers: VecDeque<Turn>,
}

/// Encrypted connections of a cloud.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    flows: BTreeMap<u64, Flow>,
}

/// What could be inferred of one migration.
#[derive(Debug, Clone, Default)]
pub(in crate::migration) struct Veiled {
    /// The last replies from the broker before libvirt's connection.
    reply: Option<Mark>,
    /// The client's login.
    login: Option<(Mark, Mark)>,
    /// The client's first request to Nova.
    request: Option<Mark>,
}

impl Watch {
    /// A TLS connection was recognised.
    pub(super) fn recognised(&mut self, info: &FlowInfo) {
        let of = |(port, _): &&(u16, Role)| *port == info.server.port;
        let Some((_, role)) = PORTS.iter().find(of) else {
            return;
        };
        if self.flows.len() >= MAX_FLOWS {
            self.flows.pop_first();
        }
        let flow = Flow {
            role: *role,
            client: info.client.ip,
            first: info.first.time,
            asked: [None; 2],
            answers: VecDeque::new(),
        };
        self.flows.insert(info.id, flow);
    }

    /// Records of one of them.
    pub(super) fn event(&mut self, event: &Event, what: &Tls) {
        let (Some((id, direction)), Tls::Data { bytes }) = (event.flow, what) else {
            return;
        };
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        let turn = Turn::of(event, *bytes);
        match direction {
            Direction::ToServer => {
                if let Some(free) = flow.asked.iter_mut().find(|t| t.is_none()) {
                    *free = Some(turn);
                }
            }
            Direction::ToClient if *bytes >= MIN_REPLY => {
                if flow.answers.len() >= MAX_TURNS {
                    flow.answers.pop_front();
                }
                flow.answers.push_back(turn);
            }
            Direction::ToClient => {}
        }
    }

    /// What preceded the connection of `source` to the destination's daemon.
    pub(super) fn before(&self, source: IpAddr, opened: Stamp) -> Option<Veiled> {
        let reply = self.reply(source, opened);
        let nova = self.nova(opened);
        let login = nova.and_then(|n| self.login(n));
        let request = nova.and_then(|n| {
            let [first, second] = n.asked;
            let (first, second) = (first?.first, second.map(|t| t.first));
            let wide = second.map_or(0, |s| s.time.since(first.time));
            Some(uncertain(first, first, wide))
        });
        (reply.is_some() || request.is_some()).then_some(Veiled {
            reply,
            login,
            request,
        })
    }

    /// The last replies before `opened`. The one that ends initialization is among those that came
    /// without a pause.
    fn reply(&self, source: IpAddr, opened: Stamp) -> Option<Mark> {
        let brokers = || self.flows.values().filter(|f| f.role == Role::Broker);
        // Management and migration may have networks of their own; then a lone host is the source.
        let mut hosts: Vec<IpAddr> = brokers().map(|f| f.client).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let host = match hosts[..] {
            [only] => only,
            _ => source,
        };
        let mut answers: Vec<&Turn> = brokers()
            .filter(|f| f.client == host)
            .flat_map(|f| &f.answers)
            .filter(|t| t.last <= opened)
            .filter(|t| opened.time.since(t.last.time) <= REPLY_LOOK_BACK_NS)
            .collect();
        answers.sort_unstable_by_key(|t| t.last);
        let last = answers.pop()?;
        // A turn may begin with a heartbeat long before: its end counts.
        let mut from = last.last;
        for t in answers.iter().rev() {
            if from.time.since(t.last.time) > MESSAGE_PAUSE_NS {
                break;
            }
            from = t.last;
        }
        let wide = last.last.time.since(from.time);
        Some(uncertain(last.last, last.last, wide))
    }

    /// The lone client's connection to Nova that was opened before.
    fn nova(&self, opened: Stamp) -> Option<&Flow> {
        let mut all = self.flows.values().filter(|f| {
            let wait = opened.time.since(f.first);
            f.role == Role::Nova && (0..=CLIENT_LOOK_BACK_NS).contains(&wait)
        });
        match (all.next(), all.next()) {
            (Some(f), None) => Some(f),
            _ => None,
        }
    }

    /// The last answers of Keystone to the client of this connection before it began.
    fn login(&self, nova: &Flow) -> Option<(Mark, Mark)> {
        let mut all = self.flows.values().filter(|f| {
            let wait = nova.first.since(f.first);
            let near = (0..=CLIENT_LOOK_BACK_NS).contains(&wait);
            f.role == Role::Keystone && f.client == nova.client && near
        });
        let (Some(k), None) = (all.next(), all.next()) else {
            return None;
        };
        let [first, second] = k.asked;
        let begin = first?.first;
        let answers = k.answers.iter().filter(|t| t.last.time <= nova.first);
        let answer = answers.max_by_key(|t| t.last)?;
        // One question more or less: a handshake's last message looks like one.
        let wide = second.map_or(0, |t| t.first.time.since(begin.time));
        let rest = nova.first.since(answer.last.time);
        Some((
            uncertain(begin, begin, wide),
            uncertain(answer.first, answer.last, rest),
        ))
    }
}

fn uncertain(begin: Stamp, stamp: Stamp, uncertainty_ns: i64) -> Mark {
    Mark {
        stamp,
        begin,
        uncertainty_ns: uncertainty_ns.max(0),
    }
}

impl Veiled {
    /// Was the broker spoken to in TLS? Then post-migration cannot be seen.
    pub(in crate::migration) fn broker(&self) -> bool {
        self.reply.is_some()
    }

    /// Was a client's request?
    pub(in crate::migration) fn client(&self) -> bool {
        self.request.is_some()
    }

    /// Everything that can bound a phase. `rpc`, `http`: these were not read in clear.
    pub(in crate::migration) fn signals(&self, rpc: bool, http: bool) -> Vec<(Signal, Mark)> {
        let login = self.login.filter(|_| http);
        let all = [
            (Signal::VeiledLogin, login.map(|(a, _)| a)),
            (Signal::VeiledToken, login.map(|(_, b)| b)),
            (Signal::VeiledRequest, self.request.filter(|_| http)),
            (Signal::VeiledReply, self.reply.filter(|_| rpc)),
        ];
        all.into_iter().filter_map(|(s, m)| Some((s, m?))).collect()
    }

    /// What a reader must know.
    pub(in crate::migration) fn notes(&self, rpc: bool, http: bool) -> Vec<String> {
        let mut out = Vec::new();
        if rpc && self.broker() {
            out.push(
                "that OpenStack drives this is inferred from the source's AMQP over TLS; the end \
                 of initialization is inferred from the sizes of records, and post-migration \
                 cannot be seen"
                    .to_owned(),
            );
        }
        if http && self.client() {
            out.push(
                "the client's requests are inside TLS: authentication and the start of \
                 initialization are inferred from its connections to the usual ports"
                    .to_owned(),
            );
        }
        out
    }
}
