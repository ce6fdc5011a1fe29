//! Captures made of nothing: a controller, a source and a destination that talk HTTP and AMQP.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use phasescope::analysis;
use phasescope::capture::Capture;
use phasescope::report::Report;
use serde_json::{Value, json};

pub(crate) const CONTROLLER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
pub(crate) const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 21);

pub(crate) type End = (Ipv4Addr, u16);

/// 2026-01-01
const BEGIN: u64 = 1_767_225_600_000_000_000;
const SEGMENT: usize = 1400;

/// Frames, by their milliseconds.
#[derive(Default, Clone)]
pub(crate) struct Wire {
    frames: Vec<(u64, Vec<u8>)>,
    sequence: HashMap<(End, End), u32>,
}

impl Wire {
    fn segment(&mut self, at: u64, (a, b): (End, End), flags: u8, bytes: &[u8]) {
        let sequence = *self.sequence.get(&(a, b)).unwrap_or(&1000);
        let other = *self.sequence.get(&(b, a)).unwrap_or(&1000);
        let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let total = (40 + bytes.len()) as u16;
        f.extend([0x45, 0]);
        f.extend(total.to_be_bytes());
        f.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        f.extend(a.0.octets());
        f.extend(b.0.octets());
        f.extend(a.1.to_be_bytes());
        f.extend(b.1.to_be_bytes());
        f.extend(sequence.to_be_bytes());
        f.extend(other.to_be_bytes());
        f.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        f.extend(bytes);
        self.frames.push((at, f));
        let used = bytes.len() as u32 + u32::from(flags & 3 != 0);
        self.sequence.insert((a, b), sequence.wrapping_add(used));
    }

    /// A connection begins.
    pub(crate) fn open(&mut self, ms: u64, a: End, b: End) {
        self.segment(ms * 1_000_000, (a, b), 0x02, &[]);
        self.segment(ms * 1_000_000 + 1000, (b, a), 0x12, &[]);
    }

    /// `a` sends to `b`; each segment a microsecond after the one before.
    pub(crate) fn say(&mut self, ms: u64, a: End, b: End, bytes: &[u8]) {
        for (i, part) in bytes.chunks(SEGMENT).enumerate() {
            self.segment(ms * 1_000_000 + 2000 + i as u64 * 1000, (a, b), 0x18, part);
        }
    }

    /// As a file; every frame `late` nanoseconds later.
    pub(crate) fn pcap(&self, late: u64) -> Vec<u8> {
        let mut frames = self.frames.clone();
        frames.sort_by_key(|(at, _)| *at);
        let mut out = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
        out.extend([2, 0, 4, 0]);
        out.extend([0; 8]);
        out.extend(262_144_u32.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        for (at, f) in frames {
            let at = BEGIN + at + late;
            out.extend(((at / 1_000_000_000) as u32).to_le_bytes());
            out.extend(((at % 1_000_000_000) as u32).to_le_bytes());
            out.extend((f.len() as u32).to_le_bytes());
            out.extend((f.len() as u32).to_le_bytes());
            out.extend(f);
        }
        out
    }

    pub(crate) fn capture(&self) -> Capture {
        Capture::from_reader("made", std::io::Cursor::new(self.pcap(0))).unwrap()
    }

    pub(crate) fn report(&self) -> Report {
        analysis::analyze(&mut self.capture(), |_| true).unwrap()
    }
}

// ---- AMQP ----

fn short(s: &str) -> Vec<u8> {
    let mut out = vec![s.len() as u8];
    out.extend(s.as_bytes());
    out
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0, 1];
    out.extend((payload.len() as u32).to_be_bytes());
    out.extend(payload);
    out.push(0xCE);
    out
}

fn content(method: Vec<u8>, body: &[u8]) -> Vec<u8> {
    let mut head = vec![0, 60, 0, 0];
    head.extend((body.len() as u64).to_be_bytes());
    head.extend([0x80, 0]);
    head.extend(short("application/json"));
    let mut out = frame(1, &method);
    out.extend(frame(2, &head));
    for part in body.chunks(4088) {
        out.extend(frame(3, part));
    }
    out
}

fn publish(exchange: &str, key: &str, body: &[u8]) -> Vec<u8> {
    let mut m = vec![0, 60, 0, 40, 0, 0];
    m.extend(short(exchange));
    m.extend(short(key));
    m.push(0);
    content(m, body)
}

fn deliver(exchange: &str, key: &str, body: &[u8]) -> Vec<u8> {
    let mut m = vec![0, 60, 0, 60];
    m.extend(short("1"));
    m.extend([0, 0, 0, 0, 0, 0, 0, 7, 0]);
    m.extend(short(exchange));
    m.extend(short(key));
    content(m, body)
}

/// In the envelope of oslo.messaging.
pub(crate) fn envelope(inner: &Value) -> Vec<u8> {
    json!({"oslo.version": "2.0", "oslo.message": inner.to_string()})
        .to_string()
        .into_bytes()
}

/// A host's connections to the broker: one to send, one to receive.
pub(crate) fn sends(host: Ipv4Addr) -> (End, End) {
    ((host, 40_001), (CONTROLLER, 5672))
}

pub(crate) fn receives(host: Ipv4Addr) -> (End, End) {
    ((CONTROLLER, 5672), (host, 40_002))
}

impl Wire {
    pub(crate) fn publish(&mut self, ms: u64, host: Ipv4Addr, key: &str, inner: &Value) {
        let (a, b) = sends(host);
        self.say(ms, a, b, &publish("nova", key, &envelope(inner)));
    }

    pub(crate) fn deliver(&mut self, ms: u64, host: Ipv4Addr, key: &str, inner: &Value) {
        let (a, b) = receives(host);
        self.say(ms, a, b, &deliver("nova", key, &envelope(inner)));
    }

    /// A request and its response on a connection of its own.
    pub(crate) fn http(
        &mut self,
        (ms, answer): (u64, u64),
        client: End,
        server: u16,
        q: &str,
        r: &str,
    ) {
        let server = (CONTROLLER, server);
        if !self.sequence.contains_key(&(client, server)) {
            self.open(ms.saturating_sub(1), client, server);
        }
        self.say(ms, client, server, q.as_bytes());
        self.say(answer, server, client, r.as_bytes());
    }
}

// ---- OpenStack ----

pub(crate) const VM1: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const VM2: &str = "22222222-2222-4222-8222-222222222222";
pub(crate) const TOKEN: &str = "gAAAAABplantedTOKENplantedTOKENplantedTOKENplanted";
pub(crate) const PASSWORD: &str = "planted-password-7361";
pub(crate) const CATALOG: &str = "http://planted-catalog.example/v3";

/// An RPC's request.
pub(crate) fn rpc(method: &str, id: Option<&str>, request: &str, args: Value) -> Value {
    let mut v = json!({
        "method": method, "version": "6.0", "args": args,
        "_unique_id": format!("u-{method}-{request}-{}", id.unwrap_or("cast")),
        "_context_request_id": request,
        "_context_auth_token": TOKEN,
        "_context_service_catalog": [{"endpoints": [{"publicURL": CATALOG}]}],
        "_context_user_name": "planted-user",
    });
    if let Some(id) = id {
        v["_msg_id"] = json!(id);
        v["_reply_q"] = json!("reply_1");
    }
    v
}

pub(crate) fn reply(id: &str, failure: Option<&str>) -> Value {
    let failure = failure.map(|class| {
        json!({"class": class, "module": "nova.exception", "message": PASSWORD, "tb": []})
            .to_string()
    });
    json!({"result": null, "failure": failure, "ending": true, "_msg_id": id,
        "_unique_id": format!("u-reply-{id}")})
}

pub(crate) fn keep_alive(id: &str) -> Value {
    json!({"result": null, "failure": null, "ending": false, "_msg_id": id,
        "_unique_id": format!("u-alive-{id}")})
}

pub(crate) fn instance(uuid: &str) -> Value {
    json!({"instance": {"nova_object.name": "Instance", "nova_object.data": {
        "uuid": uuid, "host": "src", "task_state": "migrating", "user_data": PASSWORD}}})
}

/// The host saves the migration's status.
pub(crate) fn save(id: &str, request: &str, uuid: &str, status: &str) -> Value {
    rpc(
        "object_action",
        Some(id),
        request,
        json!({"objinst": {"nova_object.name": "Migration", "nova_object.data": {
            "id": 5, "uuid": "99999999-9999-4999-8999-999999999999", "instance_uuid": uuid,
            "status": status}}, "objmethod": "save", "args": [], "kwargs": {}}),
    )
}

pub(crate) fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: c\r\nX-Auth-Token: {token}\r\n\r\n")
}

pub(crate) fn post(path: &str, token: Option<&str>, body: &str) -> String {
    let token = token.map_or(String::new(), |t| format!("X-Auth-Token: {t}\r\n"));
    format!(
        "POST {path} HTTP/1.1\r\nHost: c\r\n{token}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn answer(status: u16, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} OK\r\n{headers}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn login_body() -> String {
    json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
        "name": "planted-user", "password": PASSWORD}}}}})
    .to_string()
}

impl Wire {
    /// Login, lookup and the request to migrate, from `ms` on; `token`: issued here.
    pub(crate) fn login(&mut self, ms: u64, client: End, token: &str) {
        let catalog = json!({"token": {"catalog": [{"url": CATALOG}], "methods": ["password"]}});
        let headers = format!("X-Subject-Token: {token}\r\n");
        self.http(
            (ms, ms + 50),
            client,
            5000,
            &post("/v3/auth/tokens", None, &login_body()),
            &answer(201, &headers, &catalog.to_string()),
        );
    }

    pub(crate) fn ask(&mut self, ms: u64, client: End, token: &str, uuid: &str, request: &str) {
        self.look(ms, client, token, uuid);
        self.migrate(ms + 20, client, token, uuid, request, 202);
    }

    pub(crate) fn look(&mut self, ms: u64, client: End, token: &str, uuid: &str) {
        let server = json!({"server": {"id": uuid, "status": "ACTIVE", "adminPass": PASSWORD}});
        self.http(
            (ms, ms + 10),
            client,
            8774,
            &get(&format!("/v2.1/servers/{uuid}"), token),
            &answer(200, "", &server.to_string()),
        );
    }

    pub(crate) fn migrate(
        &mut self,
        ms: u64,
        client: End,
        token: &str,
        uuid: &str,
        request: &str,
        status: u16,
    ) {
        let body = json!({"os-migrateLive": {"host": null, "block_migration": "auto"}});
        let headers = format!("x-compute-request-id: {request}\r\n");
        self.http(
            (ms, ms + 10),
            client,
            8774,
            &post(
                &format!("/v2.1/servers/{uuid}/action"),
                Some(token),
                &body.to_string(),
            ),
            &answer(status, &headers, ""),
        );
    }

    /// What the source's port sees of the rest, 200 ms in all.
    pub(crate) fn run(&mut self, ms: u64, uuid: &str, request: &str, tag: &str) {
        self.begin(ms, uuid, request, tag);
        let id = |n: &str| format!("{tag}-{n}");
        self.deliver(ms + 60, SOURCE, "reply_1", &keep_alive(&id("pre")));
        self.deliver(ms + 80, SOURCE, "reply_1", &reply(&id("pre"), None));
        let save = save(&id("run"), request, uuid, "running");
        self.publish(ms + 90, SOURCE, "conductor", &save);
        let post = rpc(
            "post_live_migration_at_destination",
            Some(&id("post")),
            request,
            instance(uuid),
        );
        self.publish(ms + 150, SOURCE, "compute.dst", &post);
        self.deliver(ms + 200, SOURCE, "reply_1", &reply(&id("post"), None));
    }

    /// Up to the call of `pre_live_migration`.
    pub(crate) fn begin(&mut self, ms: u64, uuid: &str, request: &str, tag: &str) {
        let mut args = instance(uuid);
        args["dest"] = json!("dst");
        let live = rpc("live_migration", None, request, args);
        self.deliver(ms, SOURCE, "compute.src", &live);
        let id = format!("{tag}-pre");
        let pre = rpc("pre_live_migration", Some(&id), request, instance(uuid));
        self.publish(ms + 20, SOURCE, "compute.dst", &pre);
    }
}
