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

/// Connections that are remembered; past it one that is over makes room, else the one that has been
/// silent longest.
const MAX_FLOWS: usize = 1024;

/// Turns that are remembered of one: the latest ones.
const MAX_TURNS: usize = 64;

#[derive(Debug, Clone)]
struct Flow {
    role: Role,
    client: IpAddr,
    /// First packet.
    first: Timestamp,
    /// When it was heard last; nothing more will come where it is over.
    last: Timestamp,
    over: bool,
    /// The first two times that the client spoke: the first one may ask for a version document.
    asked: [Option<Turn>; 2],
    /// Answers that may be replies.
    answers: VecDeque<Turn>,
    /// The latest of those that made room for others.
    forgotten: Option<Stamp>,
}

/// Encrypted connections of a cloud.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    flows: BTreeMap<u64, Flow>,
    /// When those that made room for others were heard last.
    forgotten: Option<Timestamp>,
    /// One of them was not over.
    unheard: bool,
}

/// What an answer would depend on is not remembered any more.
#[derive(Debug, Clone, Copy)]
pub(in crate::migration) struct Forgotten;

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
            let all = self.flows.iter().map(|(id, f)| (!f.over, f.last, *id));
            if let Some((open, last, id)) = all.min() {
                self.flows.remove(&id);
                self.forgotten = self.forgotten.max(Some(last));
                self.unheard |= open;
            }
        }
        let flow = Flow {
            role: *role,
            client: info.client.ip,
            first: info.first.time,
            last: info.last.time,
            over: false,
            asked: [None; 2],
            answers: VecDeque::new(),
            forgotten: None,
        };
        self.flows.insert(info.id, flow);
    }

    /// A TLS connection is over.
    pub(super) fn ended(&mut self, info: &FlowInfo) {
        if let Some(flow) = self.flows.get_mut(&info.id) {
            flow.over = true;
        }
    }

    /// Records of one of them.
    pub(super) fn event(&mut self, event: &Event, what: &Tls) {
        let (Some((id, direction)), Tls::Data { bytes }) = (event.flow, what) else {
            return;
        };
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        flow.last = event.stamp.time;
        let turn = Turn::of(event, *bytes);
        match direction {
            Direction::ToServer => {
                if let Some(free) = flow.asked.iter_mut().find(|t| t.is_none()) {
                    *free = Some(turn);
                }
            }
            Direction::ToClient if *bytes >= MIN_REPLY => {
                if flow.answers.len() >= MAX_TURNS {
                    flow.forgotten = flow.answers.pop_front().map(|t| t.last);
                }
                flow.answers.push_back(turn);
            }
            Direction::ToClient => {}
        }
    }

    /// What preceded the connection of `source` to the destination's daemon.
    ///
    /// # Errors
    /// So much came since that it is forgotten.
    pub(super) fn before(
        &self,
        source: IpAddr,
        opened: Stamp,
    ) -> Result<Option<Veiled>, Forgotten> {
        // A login is looked for before a request, which is looked for before `opened`.
        let near = |t| opened.time.since(t) <= 2 * CLIENT_LOOK_BACK_NS;
        if self.unheard || self.forgotten.is_some_and(near) {
            return Err(Forgotten);
        }
        let reply = self.reply(source, opened)?;
        let nova = self.nova(opened);
        let login = nova.map_or(Ok(None), |n| self.login(n))?;
        let request = nova.and_then(|n| {
            let [first, second] = n.asked;
            let (first, second) = (first?.first, second.map(|t| t.first));
            let wide = second.map_or(0, |s| s.time.since(first.time));
            Some(uncertain(first, first, wide))
        });
        Ok((reply.is_some() || request.is_some()).then_some(Veiled {
            reply,
            login,
            request,
        }))
    }

    /// The last replies before `opened`. The one that ends initialization is among those that came
    /// without a pause.
    fn reply(&self, source: IpAddr, opened: Stamp) -> Result<Option<Mark>, Forgotten> {
        let brokers = || self.flows.values().filter(|f| f.role == Role::Broker);
        // Management and migration may have networks of their own; then a lone host is the source.
        let mut hosts: Vec<IpAddr> = brokers().map(|f| f.client).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let host = match hosts[..] {
            [only] => only,
            _ => source,
        };
        let of_host = || brokers().filter(|f| f.client == host);
        // A turn may begin with a heartbeat long before: its end counts.
        let mut answers: Vec<Stamp> = of_host()
            .flat_map(|f| &f.answers)
            .map(|t| t.last)
            .filter(|t| *t <= opened)
            .filter(|t| opened.time.since(t.time) <= REPLY_LOOK_BACK_NS)
            .collect();
        answers.sort_unstable();
        let forgotten = of_host().filter_map(|f| f.forgotten).max();
        // One of them may have been among those from then on, or have led up to them.
        let gone = |since: Stamp| {
            forgotten.is_some_and(|f| f >= since || since.time.since(f.time) <= MESSAGE_PAUSE_NS)
        };
        let Some(last) = answers.pop() else {
            let from = Stamp {
                time: opened.time.offset(-REPLY_LOOK_BACK_NS),
                ..opened
            };
            return match gone(from) {
                true => Err(Forgotten),
                false => Ok(None),
            };
        };
        let mut from = last;
        for t in answers.iter().rev() {
            if from.time.since(t.time) > MESSAGE_PAUSE_NS {
                break;
            }
            from = *t;
        }
        if gone(from) {
            return Err(Forgotten);
        }
        let wide = last.time.since(from.time);
        Ok(Some(uncertain(last, last, wide)))
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
    fn login(&self, nova: &Flow) -> Result<Option<(Mark, Mark)>, Forgotten> {
        let mut all = self.flows.values().filter(|f| {
            let wait = nova.first.since(f.first);
            let near = (0..=CLIENT_LOOK_BACK_NS).contains(&wait);
            f.role == Role::Keystone && f.client == nova.client && near
        });
        let (Some(k), None) = (all.next(), all.next()) else {
            return Ok(None);
        };
        let ([Some(first), second], answers) = (k.asked, k.answers.iter()) else {
            return Ok(None);
        };
        let begin = first.first;
        let answers = answers.filter(|t| t.last.time <= nova.first);
        let Some(answer) = answers.max_by_key(|t| t.last) else {
            return k.forgotten.map_or(Ok(None), |_| Err(Forgotten));
        };
        // One question more or less: a handshake's last message looks like one.
        let wide = second.map_or(0, |t| t.first.time.since(begin.time));
        let rest = nova.first.since(answer.last.time);
        Ok(Some((
            uncertain(begin, begin, wide),
            uncertain(answer.first, answer.last, rest),
        )))
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
