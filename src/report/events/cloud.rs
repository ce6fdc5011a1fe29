//! What AMQP and HTTP events have to say.

use serde_json::json;

use phasescope_parsers::amqp::ContentMethod;
use phasescope_parsers::openstack::{Action, Call, Fields, Service};
use phasescope_parsers::oslo::{Envelope, Kind};

use super::Named;
use crate::dissect::amqp::{Amqp, Message, Said};
use crate::dissect::http::{Http, Request};

/// `LiveMigrate` as `live-migrate`.
fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (i, c) in name.char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The call's name in reports.
pub(crate) fn call_name(call: Call) -> String {
    kebab(&format!("{call:?}"))
}

/// The service's name in reports; none for a call that several have.
pub(crate) fn service_name(service: Service) -> Option<String> {
    (service != Service::Any).then(|| kebab(&format!("{service:?}")))
}

/// The action's name in reports.
pub(crate) fn action_name(action: Action) -> String {
    kebab(&format!("{action:?}"))
}

/// The name of what a message is.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Call => "call",
        Kind::Cast => "cast",
        Kind::Request => "request",
        Kind::Reply => "reply",
        Kind::KeepAlive => "keep-alive",
        Kind::Notification => "notification",
    }
}

/// The method that carries a message.
pub(crate) fn carrier(method: ContentMethod) -> &'static str {
    match method {
        ContentMethod::Publish => "basic.publish",
        ContentMethod::Deliver => "basic.deliver",
        ContentMethod::GetOk => "basic.get-ok",
        ContentMethod::Return => "basic.return",
        ContentMethod::Unknown => "unknown",
    }
}

pub(super) fn amqp(event: &Amqp) -> (&'static str, Named) {
    let channel = ("channel", json!(event.channel));
    let fields = match &event.what {
        Said::ProtocolHeader([_, major, minor, revision]) => vec![
            ("method", json!("protocol-header")),
            ("version", json!(format!("{major}-{minor}-{revision}"))),
        ],
        Said::Method {
            number: (class, method),
            name,
            fields,
        } => {
            let name = name.map_or_else(|| format!("{class}.{method}"), str::to_owned);
            let mut out = vec![("method", json!(name)), channel];
            out.extend(fields.iter().map(|(k, v)| (*k, json!(v))));
            out
        }
        Said::Message(m) => {
            let mut out = vec![("method", json!(carrier(m.method))), channel];
            message(m, &mut out);
            out
        }
    };
    ("amqp", fields)
}

fn message(m: &Message, out: &mut Named) {
    out.extend([
        ("exchange", json!(m.exchange)),
        ("routing_key", json!(m.routing_key)),
        ("length", json!(m.body_size)),
    ]);
    if m.redelivered {
        out.push(("redelivered", json!(true)));
    }
    if m.missing > 0 {
        out.push(("missing", json!(m.missing)));
    }
    if m.compressed {
        out.push(("compressed", json!(true)));
    }
    if let Some(e) = &m.envelope {
        envelope(e, out);
    }
}

fn envelope(e: &Envelope, out: &mut Named) {
    out.extend([
        ("kind", json!(kind_name(e.kind))),
        ("rpc", json!(e.method)),
        ("namespace", json!(e.namespace)),
        ("version", json!(e.version)),
        ("msg_id", json!(e.msg_id)),
        ("unique_id", json!(e.unique_id)),
        ("request_id", json!(e.request_id)),
        ("global_request_id", json!(e.global_request_id)),
        ("event_type", json!(e.event_type)),
        ("publisher", json!(e.publisher_id)),
        ("instance", json!(e.instance_uuid)),
        ("failure", json!(e.failure)),
        ("destination", json!(e.dest)),
    ]);
    if let Some(o) = &e.object {
        out.push(("object", json!(o.object)));
        out.push(("object_method", json!(o.method)));
    }
    if let Some(m) = &e.migration {
        out.push(("migration", json!(m.uuid)));
        out.push(("migration_status", json!(m.status)));
    }
    if let Some(i) = &e.instance {
        out.push(("host", json!(i.host)));
        out.push(("task_state", json!(i.task_state)));
    }
    for event in &e.events {
        out.push(("external_event", json!(event.name)));
        out.push(("port", json!(event.tag)));
    }
    if matches!(e.kind, Kind::Reply | Kind::KeepAlive) {
        out.push(("ending", json!(e.ending)));
    }
    if e.truncated {
        out.push(("truncated", json!(true)));
    }
}

pub(super) fn http(event: &Http) -> (&'static str, Named) {
    let mut out = Named::new();
    let asked = event.request.as_ref();
    match (&event.response, asked) {
        (Some(r), q) => {
            out.push(("status", json!(r.status)));
            out.push(("request", json!(q.map(|q| q.number))));
            if let Some(q) = q {
                call(q, &mut out);
            }
            out.push(("compute_request_id", json!(r.compute_request_id)));
            if r.token.is_some() {
                out.push(("token", json!("issued")));
            }
        }
        (None, Some(q)) => {
            out.push(("request", json!(q.number)));
            call(q, &mut out);
            if q.by_name {
                out.push(("by_name", json!(true)));
            }
            out.push(("api_version", json!(q.api_version)));
            if q.token.is_some() {
                out.push(("token", json!("given")));
            }
        }
        (None, None) => {}
    }
    out.push(("request_id", json!(event.request_id)));
    body(&event.fields, &mut out);
    out.push(("length", json!(event.length)));
    if event.unread > 0 {
        out.push(("unread", json!(event.unread)));
    }
    if !event.complete {
        out.push(("complete", json!(false)));
    }
    let name = match event.response {
        Some(_) => "http-response",
        None => "http-request",
    };
    (name, out)
}

/// Path class and its ids; of other paths nothing is kept.
fn call(q: &Request, out: &mut Named) {
    out.push(("method", json!(q.method.name())));
    let Some(c) = &q.call else { return };
    out.extend([
        ("service", json!(service_name(c.service))),
        ("call", json!(call_name(c.call))),
        ("server", json!(c.server)),
        ("port", json!(c.port)),
        ("migration", json!(c.migration)),
        ("host", json!(c.host)),
        ("consumer", json!(c.consumer)),
    ]);
}

fn body(f: &Fields, out: &mut Named) {
    if !f.login_methods.is_empty() {
        out.push(("login", json!(f.login_methods)));
    }
    out.push(("action", json!(f.action.map(action_name))));
    out.push(("to_host", json!(f.host)));
    out.push(("block_migration", json!(f.block_migration)));
    let servers: Vec<_> = f.servers.iter().filter_map(|s| s.id.as_ref()).collect();
    if !servers.is_empty() {
        out.push(("servers", json!(servers)));
    }
    for e in &f.events {
        out.push(("external_event", json!(e.name)));
        out.push(("instance", json!(e.server_uuid)));
    }
    out.push(("volume", json!(f.volume_id)));
    out.push(("attachment", json!(f.attachment_id)));
}
