//! What a cloud's messages tell of migrations: request id, instance, message id and token joined
//! into one story for each request to migrate.

mod clients;
mod phases;
mod report;
mod story;
mod veiled;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use phasescope_parsers::amqp::ContentMethod;
use phasescope_parsers::openstack::{Action, Call, Service};
use phasescope_parsers::oslo::{Envelope, Kind};

use super::records::{Attempt, Mark};
use crate::dissect::amqp::{Message, Said};
use crate::dissect::event::{self, Event};
use crate::dissect::http::{Http, Request, Response};
use crate::net::{Endpoint, FlowInfo, Stamp};
use crate::time::Timestamp;
use clients::Clients;
pub use report::{Account, HttpCall, RpcCall, SubPhase};
pub(super) use report::{account, merge_outcome, notes};
use story::{Asked, HttpRecord, MAX_KEPT, RpcRecord};
pub(super) use story::{Story, Wish};
pub(super) use veiled::Veiled;
use veiled::{Forgotten, Watch};

/// Stories that are open at once; past it the one that has been idle longest is told.
const MAX_STORIES: usize = 4096;

/// Calls whose replies are awaited; past it the oldest are forgotten.
const MAX_CALLS: usize = 65_536;

/// Requests to migrate that wait for their responses.
const MAX_OPEN: usize = 1024;

/// A story that has come to its end is told so long after its last message. Nanoseconds.
const SETTLE_NS: i64 = 15_000_000_000;

/// One whose hosts have come to their end without a word of the cloud. Nanoseconds.
const HOSTS_OVER_NS: i64 = 60_000_000_000;

/// Any other story is told after so long a silence. Nanoseconds.
const IDLE_NS: i64 = 1_800_000_000_000;

/// RPC methods that only a live migration has, and those that only a cold one has.
const LIVE: &[&str] = &[
    "live_migrate_instance",
    "check_can_live_migrate_destination",
    "check_can_live_migrate_source",
    "live_migration",
    "pre_live_migration",
    "post_live_migration_at_destination",
    "rollback_live_migration_at_destination",
];
const COLD: &[&str] = &["prep_resize", "resize_instance", "finish_resize"];

/// What the user decides after a cold migration, by a request of its own: it begins none.
const DECIDED: &[&str] = &["confirm_resize", "revert_resize", "finish_revert_resize"];

/// Is this an RPC that only a live migration has?
pub fn is_of_live_migration(method: &str) -> bool {
    LIVE.contains(&method)
}

/// A request to migrate without its response.
#[derive(Debug, Clone)]
struct Open {
    flow: u64,
    number: u64,
    instance: Option<String>,
    wish: Wish,
    asked: Asked,
    /// The story that was begun by its RPC.
    story: Option<u64>,
}

/// Joins messages into stories.
#[derive(Debug, Clone, Default)]
pub(super) struct Cloud {
    flows: HashMap<u64, (Endpoint, Endpoint)>,
    clients: Clients,
    /// What is inside TLS.
    veiled: Watch,
    stories: BTreeMap<u64, Story>,
    /// Stories by their request id.
    requests: HashMap<String, u64>,
    /// Stories, and places among their RPCs, by message id.
    calls: HashMap<String, (u64, usize)>,
    order: VecDeque<String>,
    open: VecDeque<Open>,
    next: u64,
    now: Timestamp,
}

impl Cloud {
    /// A connection was recognised.
    pub(super) fn recognised(&mut self, info: &FlowInfo) {
        self.flows.insert(info.id, (info.client, info.server));
    }

    /// A TLS connection was recognised.
    pub(super) fn recognised_tls(&mut self, info: &FlowInfo) {
        self.veiled.recognised(info);
    }

    /// What can be inferred of connections that cannot be read: of those before `opened`.
    ///
    /// # Errors
    /// So much came since that it is forgotten.
    pub(super) fn veiled(
        &self,
        source: IpAddr,
        opened: Stamp,
    ) -> Result<Option<Veiled>, Forgotten> {
        self.veiled.before(source, opened)
    }

    /// A connection has ended.
    pub(super) fn ended(&mut self, info: &FlowInfo) {
        self.veiled.ended(info);
        self.flows.remove(&info.id);
    }

    /// Takes the next event.
    pub(super) fn event(&mut self, event: &Event) {
        self.now = self.now.max(event.stamp.time);
        let mark = Mark::of(event);
        match &event.kind {
            event::Kind::Amqp(a) => {
                if let Said::Message(m) = &a.what
                    && let Some(e) = &m.envelope
                {
                    self.message(m, e, mark);
                }
            }
            event::Kind::Http(h) => self.http(event, h, mark),
            event::Kind::Tls(t) => self.veiled.event(event, t),
            _ => {}
        }
    }

    // ---- AMQP ----

    fn message(&mut self, m: &Message, e: &Envelope, mark: Mark) {
        match e.kind {
            // The call monitor's sign of life is no answer.
            Kind::KeepAlive => {}
            Kind::Reply => {
                let Some((story, i)) = e.msg_id.as_ref().and_then(|id| self.calls.get(id)) else {
                    return;
                };
                if let Some(story) = self.stories.get_mut(story)
                    && let Some(rpc) = story.rpcs.get_mut(*i)
                {
                    rpc.reply(m.method, mark, e);
                    story.last = story.last.max(mark.stamp.time);
                }
            }
            Kind::Call | Kind::Cast | Kind::Request | Kind::Notification => {
                if let Some(id) = self.story_of(m, e, mark) {
                    self.request(id, m, e, mark);
                }
            }
        }
    }

    /// The story that a message belongs to; a new one where it begins one.
    fn story_of(&mut self, m: &Message, e: &Envelope, mark: Mark) -> Option<u64> {
        let ids = [&e.request_id, &e.global_request_id];
        let known = ids
            .into_iter()
            .flatten()
            .find_map(|id| self.requests.get(id));
        if let Some(id) = known {
            return Some(*id);
        }
        let method = e.method.as_deref().unwrap_or_default();
        let wish = match method {
            _ if LIVE.contains(&method) => Wish::Live,
            _ if COLD.contains(&method) => Wish::Cold,
            "migrate_server" if e.namespace.as_deref() == Some("compute_task") => Wish::Unknown,
            _ if DECIDED.contains(&method) => {
                let mut all = self.stories.iter().rev();
                let of = all.find(|(_, s)| {
                    s.wish == Wish::Cold && s.instance.is_some() && s.instance == e.instance_uuid
                });
                return of.map(|(id, _)| *id);
            }
            _ => {
                let id = self.about(e)?;
                // What an external event sets off goes by the event's request id.
                if method == "external_instance_event" {
                    for request in [&e.request_id, &e.global_request_id].into_iter().flatten() {
                        self.requests.entry(request.clone()).or_insert(id);
                    }
                }
                return Some(id);
            }
        };
        // A reply's or a return's exchange begins nothing.
        if m.method == ContentMethod::Return {
            return None;
        }
        let cut = e.truncated && e.request_id.is_none();
        if cut && let Some(id) = self.of_cut(e) {
            return Some(id);
        }
        let id = self.begin(wish, mark.begin.time);
        if let Some(request) = &e.request_id {
            self.requests.insert(request.clone(), id);
        }
        let instance = e.instance_uuid.clone();
        let open = self.open.iter_mut().rev().find(|o| {
            let same = o.instance.is_some() && o.instance == instance;
            o.story.is_none() && (same || (cut && instance.is_none()))
        });
        if let Some(story) = self.stories.get_mut(&id) {
            story.request_id.clone_from(&e.request_id);
            story.instance = instance;
            if let Some(open) = open {
                open.story = Some(id);
                story.first = story.first.min(open.asked.begin.time);
                story.asked = Some(open.asked.clone());
            }
        }
        Some(id)
    }

    /// The story of a message that was cut off before its request id: of its instance or, where
    /// that is cut too, the lone one that is open.
    fn of_cut(&self, e: &Envelope) -> Option<u64> {
        let mut open = self.stories.iter().rev().filter(|(_, s)| {
            let same = e.instance_uuid.is_none() || s.instance.is_none();
            !s.ended() && (same || s.instance == e.instance_uuid)
        });
        match (open.next(), open.next()) {
            (Some((id, _)), None) => Some(*id),
            // Of several with this instance the latest.
            (Some((id, s)), _) if s.instance.is_some() && s.instance == e.instance_uuid => {
                Some(*id)
            }
            _ => None,
        }
    }

    /// The open story that a message with another request id is about: external events, and the
    /// network agents' words about the instance's ports.
    fn about(&self, e: &Envelope) -> Option<u64> {
        let (id, story) = match e.method.as_deref() {
            Some("external_instance_event") => {
                let of = |uuid: &Option<String>| {
                    let mut all = self.stories.iter().rev();
                    all.find(|(_, s)| s.instance.is_some() && s.instance == *uuid)
                };
                of(&e.instance_uuid)
                    .or_else(|| e.events.iter().find_map(|v| of(&v.instance_uuid)))?
            }
            Some(_) if !e.devices.is_empty() => self
                .stories
                .iter()
                .rev()
                .find(|(_, s)| s.ports.iter().any(|p| e.devices.iter().any(|d| is(d, p))))?,
            _ => return None,
        };
        (!story.ended() || self.now.since(story.last) < SETTLE_NS).then_some(*id)
    }

    fn begin(&mut self, wish: Wish, at: Timestamp) -> u64 {
        self.next += 1;
        self.stories
            .insert(self.next, Story::new(self.next, wish, at));
        self.next
    }

    fn request(&mut self, id: u64, m: &Message, e: &Envelope, mark: Mark) {
        let Some(story) = self.stories.get_mut(&id) else {
            return;
        };
        story.learn(m, e);
        let method = e.method.as_deref().unwrap_or_default();
        match method {
            _ if LIVE.contains(&method) => story.wish = Wish::Live,
            _ if COLD.contains(&method) && story.wish == Wish::Unknown => story.wish = Wish::Cold,
            "live_migration_abort" => {
                story.abort.get_or_insert(mark.begin);
            }
            _ => {}
        }
        // The agents go on about the ports for as long as they like.
        if e.devices.is_empty() {
            story.last = story.last.max(mark.stamp.time);
        }
        let known = e.unique_id.as_ref().and_then(|unique| {
            let of = |r: &RpcRecord| r.unique_id.as_ref() == Some(unique);
            story.rpcs.iter().rposition(of)
        });
        // A cut one has lost its id too: then the same method on its way through the broker.
        let known = known.or_else(|| {
            let half = |r: &RpcRecord| match m.method {
                ContentMethod::Publish => r.published.is_none(),
                _ => r.delivered.is_none(),
            };
            let of = |r: &RpcRecord| {
                r.unique_id.is_none()
                    && r.method == method
                    && r.routing_key == m.routing_key
                    && half(r)
            };
            let cut = e.truncated && e.unique_id.is_none();
            cut.then(|| story.rpcs.iter().rposition(of)).flatten()
        });
        if let Some(rpc) = known.and_then(|i| story.rpcs.get_mut(i)) {
            rpc.request(m.method, mark);
            return;
        }
        if story.rpcs.len() >= MAX_KEPT {
            story.left_out += 1;
            return;
        }
        let i = story.rpcs.len();
        let mut rpc = RpcRecord::new(m, e);
        rpc.request(m.method, mark);
        if rpc.object.as_deref() == Some("Migration.save")
            && let Some(status) = &rpc.status
            && story.status() != Some(status)
        {
            story.statuses.push((status.clone(), i));
        }
        story.rpcs.push(rpc);
        if let Some(msg_id) = &e.msg_id {
            if self.order.len() >= MAX_CALLS
                && let Some(old) = self.order.pop_front()
            {
                self.calls.remove(&old);
            }
            self.order.push_back(msg_id.clone());
            self.calls.insert(msg_id.clone(), (id, i));
        }
    }

    // ---- HTTP ----

    fn http(&mut self, event: &Event, http: &Http, mark: Mark) {
        let Some((flow, direction)) = event.flow else {
            return;
        };
        let (Some(q), Some(&(client, server))) = (&http.request, self.flows.get(&flow)) else {
            return;
        };
        // Requests come from the client; ports may have told the sides wrong.
        let asks = match (http.response.is_some(), direction) {
            (false, d) => d,
            (true, d) => d.reverse(),
        };
        let (client, server) = match asks {
            crate::net::Direction::ToServer => (client, server),
            crate::net::Direction::ToClient => (server, client),
        };
        match &http.response {
            None => self.asked(flow, client, q, http),
            Some(r) if matches!(r.status, 100 | 102..=199) => {}
            Some(r) => {
                self.answered(flow, (client, server), q, r, http, mark);
            }
        }
    }

    /// A request to migrate begins.
    fn asked(&mut self, flow: u64, client: Endpoint, q: &Request, http: &Http) {
        let Some(call) = &q.call else { return };
        let wish = match (call.call, http.fields.action) {
            (Call::ServerAction, Some(Action::LiveMigrate)) => Wish::Live,
            (Call::ServerAction, Some(Action::Migrate | Action::Resize)) => Wish::Cold,
            _ => return,
        };
        let before = self.before(call.server.as_ref());
        let lookups = call
            .server
            .as_deref()
            .and_then(|s| self.clients.lookups_for(client.ip, s, q, before));
        let from = lookups.map_or(q.begin, |(from, _)| from);
        let asked = Asked {
            client: client.to_string(),
            begin: q.begin,
            response: None,
            api_version: q.api_version.clone(),
            lookups,
            authentication: self.clients.authentication(q.token, from),
        };
        if self.open.len() >= MAX_OPEN {
            self.open.pop_front();
        }
        self.open.push_back(Open {
            flow,
            number: q.number,
            instance: call.server.clone(),
            wish,
            asked,
            story: None,
        });
    }

    /// Until when an earlier request to migrate this server was under way: what its client asked
    /// meanwhile was how that one went.
    fn before(&self, server: Option<&String>) -> Option<Timestamp> {
        let of = self.stories.values().rev();
        let mut of = of.filter(|s| s.asked.is_some() && s.instance.as_ref() == server);
        let story = of.next()?;
        let begun = story.asked.as_ref().map(|a| a.begin.time);
        story.over_at().or(begun)
    }

    fn answered(
        &mut self,
        flow: u64,
        (client, server): (Endpoint, Endpoint),
        q: &Request,
        r: &Response,
        http: &Http,
        mark: Mark,
    ) {
        let Some(call) = &q.call else { return };
        match call.call {
            Call::Discovery => self.clients.discovery(client.ip, server, q, mark.stamp),
            Call::LoginV2 | Call::LoginV3 => {
                self.clients.login(client.ip, server, q, r, mark.stamp);
            }
            Call::ServerList | Call::ServerDetails | Call::ServerShow => {
                self.clients.lookup(client.ip, q, http, mark.stamp);
            }
            _ => {}
        }
        if call.service == Service::Nova {
            self.clients.nova(client.ip);
        }
        if let Some(i) = self
            .open
            .iter()
            .position(|o| (o.flow, o.number) == (flow, q.number))
            && let Some(open) = self.open.remove(i)
        {
            self.accepted(open, q, r, http, mark);
            return;
        }
        let story = q.request_id.as_ref().and_then(|id| self.requests.get(id));
        let story = story.copied().or_else(|| self.touched(q));
        if let Some(story) = story.and_then(|id| self.stories.get_mut(&id)) {
            let abort = call.call == Call::MigrationAbort && r.status < 300;
            if abort {
                story.abort.get_or_insert(q.begin);
            }
            for b in &http.fields.bindings {
                if let Some(port) = b.port.as_ref().or(call.port.as_ref())
                    && !story.ports.contains(port)
                {
                    story.ports.push(port.clone());
                }
            }
            story.keep(q, r, mark);
        }
    }

    /// The story that an abort or a forced completion is about.
    fn touched(&self, q: &Request) -> Option<u64> {
        let call = q.call.as_ref()?;
        let about = matches!(call.call, Call::MigrationAbort | Call::MigrationAction);
        let server = call.server.as_ref().filter(|_| about)?;
        let mut all = self.stories.iter().rev();
        all.find(|(_, s)| s.instance.as_ref() == Some(server))
            .map(|(id, _)| *id)
    }

    /// The answer to a request to migrate.
    fn accepted(&mut self, open: Open, q: &Request, r: &Response, http: &Http, mark: Mark) {
        // It will be asked again, with another token.
        if r.status == 401 {
            if let Some(story) = open.story.and_then(|id| self.stories.get_mut(&id)) {
                story.asked = None;
            }
            return;
        }
        let request_id = r
            .compute_request_id
            .clone()
            .or_else(|| http.request_id.clone());
        let known = request_id
            .as_ref()
            .and_then(|id| self.requests.get(id).copied())
            .or(open.story);
        let id = known.unwrap_or_else(|| self.begin(open.wish, open.asked.begin.time));
        if let Some(request) = &request_id {
            self.requests.insert(request.clone(), id);
        }
        let Some(story) = self.stories.get_mut(&id) else {
            return;
        };
        // The same request behind a proxy: the client's side, which was first, counts.
        let again = story
            .asked
            .as_ref()
            .is_some_and(|a| a.response.is_some() && a.begin <= open.asked.begin);
        if again {
            return;
        }
        if story.wish == Wish::Unknown {
            story.wish = open.wish;
        }
        story.request_id = story.request_id.take().or(request_id);
        story.instance = story.instance.take().or(open.instance);
        story.first = story.first.min(open.asked.begin.time);
        story.asked = Some(Asked {
            response: Some((r.status, mark)),
            ..open.asked
        });
        story.keep(q, r, mark);
    }

    // ---- telling ----

    /// The story of an attempt: of the same instance, begun before it, the latest of these.
    pub(super) fn claim(&self, attempt: &Attempt) -> Option<u64> {
        let begun = attempt.signals.iter().map(|(_, m)| m.begin.time).min()?;
        let uuid = attempt.uuid.map(|u| super::assemble::format_uuid(&u));
        let fits = |s: &&Story| s.first <= begun && s.wish != Wish::Cold;
        if uuid.is_some() {
            let mut of = self.stories.values().rev().filter(fits);
            return of.find(|s| s.instance == uuid).map(|s| s.id);
        }
        // Without an identity only a lone candidate is taken.
        let mut around = self.stories.values().filter(fits).filter(|s| {
            let (from, to) = s.libvirt_window();
            from.is_some_and(|f| f <= begun) && to.is_none_or(|t| begun <= t)
        });
        match (around.next(), around.next()) {
            (Some(s), None) => Some(s.id),
            _ => None,
        }
    }

    /// Is the story over, and has it been for a while? `hosts`: libvirt's part ended then.
    pub(super) fn settled(&self, id: u64, now: Timestamp, hosts: Option<Timestamp>) -> bool {
        self.stories.get(&id).is_none_or(|s| {
            let (wait, last) = match hosts {
                _ if s.ended() => (SETTLE_NS, s.last),
                Some(hosts) => (HOSTS_OVER_NS, s.last.max(hosts)),
                None => (IDLE_NS, s.last),
            };
            now.since(last) > wait
        })
    }

    /// Stories that are over, or too many.
    pub(super) fn over(&self, now: Timestamp) -> Vec<u64> {
        let settled = self
            .stories
            .keys()
            .filter(|id| self.settled(**id, now, None));
        let excess = self.stories.len().saturating_sub(MAX_STORIES);
        settled
            .chain(self.stories.keys().take(excess))
            .copied()
            .collect()
    }

    /// All stories that are left.
    pub(super) fn left(&self) -> Vec<u64> {
        self.stories.keys().copied().collect()
    }

    /// The lone story in whose libvirt part this moment lies.
    pub(super) fn awaits(&self, at: Timestamp) -> Option<u64> {
        let mut around = self.stories.values().filter(|s| {
            let (from, to) = s.libvirt_window();
            s.wish == Wish::Live && from.is_some_and(|f| f <= at) && to.is_none_or(|t| at <= t)
        });
        match (around.next(), around.next()) {
            (Some(s), None) => Some(s.id),
            _ => None,
        }
    }

    /// A story that is left.
    pub(super) fn story(&self, id: u64) -> Option<&Story> {
        self.stories.get(&id)
    }

    /// Takes a story out.
    pub(super) fn take(&mut self, id: u64) -> Option<Story> {
        let story = self.stories.remove(&id)?;
        self.requests.retain(|_, s| *s != id);
        self.calls.retain(|_, (s, _)| *s != id);
        let calls = &self.calls;
        self.order.retain(|m| calls.contains_key(m));
        Some(story)
    }
}

/// Is this device the port? Agents name it by its id, or as `tap` and the id's first letters
/// (`neutron_lib/constants.py`, `TAP_DEVICE_PREFIX`; an interface's name has 14 letters).
fn is(device: &str, port: &str) -> bool {
    const LETTERS: usize = 11;
    let short = device.strip_prefix("tap").filter(|d| d.len() >= LETTERS);
    device == port || short.is_some_and(|d| port.starts_with(d))
}

impl Story {
    /// Keeps a request and its response.
    fn keep(&mut self, q: &Request, r: &Response, mark: Mark) {
        self.last = self.last.max(mark.stamp.time);
        if self.requests.len() >= MAX_KEPT {
            self.left_out += 1;
            return;
        }
        // The same request behind a proxy lies inside the client's.
        let same = |h: &&mut HttpRecord| {
            (&h.request.call, h.request.method) == (&q.call, q.method) && h.request.token == q.token
        };
        let inside =
            |a: (Stamp, Stamp), b: (Stamp, Stamp)| b.0.time <= a.0.time && a.1.time <= b.1.time;
        let new = (q.begin, mark.stamp);
        for h in self.requests.iter_mut().filter(same) {
            let old = (h.begin, h.end.stamp);
            if inside(new, old) {
                return;
            }
            if inside(old, new) {
                h.request = q.clone();
                (h.status, h.begin, h.end) = (r.status, q.begin, mark);
                return;
            }
        }
        self.requests.push(HttpRecord {
            request: q.clone(),
            status: r.status,
            begin: q.begin,
            end: mark,
        });
    }

    /// Where libvirt's part can lie: behind the answer of the destination, before the call that
    /// follows it.
    fn libvirt_window(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let pre = self.rpc("pre_live_migration");
        let post = self.rpc("post_live_migration_at_destination");
        (
            pre.and_then(RpcRecord::answer).map(|m| m.stamp.time),
            post.and_then(RpcRecord::begin).map(|m| m.stamp.time),
        )
    }

    /// When the last RPC that belongs to a phase, or that saved the migration's end, was answered.
    fn over_at(&self) -> Option<Timestamp> {
        let post = self.rpc("post_live_migration_at_destination");
        let saved = |s: &str| self.saved(s).and_then(RpcRecord::answer);
        let ends = ["completed", "error", "failed", "cancelled"];
        let saved = ends.iter().find_map(|s| saved(s));
        let last = saved.or_else(|| post.and_then(RpcRecord::answer));
        last.map(|m| m.stamp.time)
    }

    /// Nothing more is to come but what trails behind.
    pub(super) fn ended(&self) -> bool {
        let answered = |m: &str| self.rpc(m).is_some_and(|r| r.answer().is_some());
        let failed = |m: &str| self.rpc(m).is_some_and(|r| r.failure.is_some());
        let refused = self
            .asked
            .as_ref()
            .and_then(|a| a.response)
            .is_some_and(|(status, _)| status >= 400);
        let status = matches!(
            self.status(),
            Some("completed" | "error" | "failed" | "cancelled")
        );
        let post = self.rpc("post_live_migration_at_destination");
        let cast = post.is_some_and(|r| r.kind == Kind::Cast);
        refused
            || status
            || cast
            || self.wish == Wish::Cold
            || answered("post_live_migration_at_destination")
            || failed("pre_live_migration")
    }
}

/// The first byte of a message, as a mark of its own.
fn first(stamp: Stamp) -> Mark {
    Mark::at(stamp)
}

pub(super) use phases::{elapsed_of, settled_of, sub_phases};
