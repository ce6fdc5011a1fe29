//! The envelope of oslo.messaging in the body of an AMQP message
//! (`oslo_messaging/_drivers/{common,amqpdriver,amqp}.py`,
//! `oslo_messaging/_utils.py`), and the few arguments of Nova's RPC methods
//! that tell migrations apart (`nova/compute/rpcapi.py`,
//! `nova/conductor/rpcapi.py`, `nova/objects/base.py`).

use serde_json::{Map, Value};

use crate::json::{Rules, Shape, is_identifier, parse_prefix, unescape_prefix};

/// Longest body that is read.
pub const MAX_ENVELOPE: usize = 2 << 20;
/// Most instances or events listed from one message.
pub const MAX_LISTED: usize = 64;

/// The allow list for RPC bodies, for this decoder and for the scrubber.
pub const RULES: Rules = Rules(&[
    ("oslo.version", Shape::Version),
    ("oslo.message", Shape::Json),
    ("method", Shape::Identifier),
    ("namespace", Shape::Identifier),
    ("version", Shape::Version),
    ("_msg_id", Shape::Identifier),
    ("_reply_q", Shape::Identifier),
    ("_unique_id", Shape::Identifier),
    ("_context_request_id", Shape::Identifier),
    ("_context_global_request_id", Shape::Identifier),
    ("_context_auth_token", Shape::Token),
    ("failure", Shape::Json),
    ("class", Shape::Identifier),
    ("module", Shape::Identifier),
    ("event_type", Shape::Identifier),
    ("publisher_id", Shape::Identifier),
    ("priority", Shape::Identifier),
    ("nova_object.name", Shape::Identifier),
    ("nova_object.namespace", Shape::Identifier),
    ("nova_object.version", Shape::Version),
    ("objname", Shape::Identifier),
    ("objmethod", Shape::Identifier),
    ("args", Shape::Uuid),
    ("uuid", Shape::Uuid),
    ("instance_uuid", Shape::Uuid),
    ("instance_uuids", Shape::Uuid),
    ("instance_id", Shape::Uuid),
    ("host", Shape::Identifier),
    ("node", Shape::Identifier),
    ("dest", Shape::Identifier),
    ("source_compute", Shape::Identifier),
    ("dest_compute", Shape::Identifier),
    ("status", Shape::Identifier),
    ("task_state", Shape::Identifier),
    ("vm_state", Shape::Identifier),
    ("migration_type", Shape::Identifier),
    ("name", Shape::Event),
    ("tag", Shape::Uuid),
    ("device", Shape::Identifier),
    ("devices", Shape::Identifier),
]);

/// Forms of the body (`oslo_messaging/_drivers/common.py`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// The fields at the top level: no envelope.
    V1,
    /// `oslo.version` and, as JSON in a string, `oslo.message`.
    V2,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request with `_msg_id`.
    Call,
    /// A request without `_msg_id`.
    Cast,
    /// A request that was cut off before it said which of these it is.
    Request,
    /// An answer, or before oslo.messaging 4.0.0 the empty message that ends
    /// one.
    Reply,
    /// A reply of the call monitor: nothing in it, and not ending
    /// (oslo.messaging 6.3.0 and later).
    KeepAlive,
    /// A notification.
    Notification,
}

/// A Nova object's method called at the conductor (`object_action`,
/// `object_class_action`, `object_class_action_versions`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectCall {
    /// Name of the object: `Instance`, `Migration`, …
    pub object: Option<String>,
    /// The object's method: `save`, …
    pub method: Option<String>,
}

/// A migration, as an object among an RPC's arguments or in an answer of Nova's interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Migration {
    /// Number of the migration.
    pub id: Option<u64>,
    /// UUID of the migration.
    pub uuid: Option<String>,
    /// Status: `queued`, `preparing`, `running`, `completed`, …
    pub status: Option<String>,
    /// Host that the instance leaves.
    pub source_compute: Option<String>,
    /// Host that the instance goes to.
    pub dest_compute: Option<String>,
    /// `live-migration`, …
    pub migration_type: Option<String>,
}

impl Migration {
    /// From the fields that both forms share.
    pub(crate) fn read(rules: Rules, data: &Object) -> Self {
        Self {
            id: data.get("id").and_then(Value::as_u64),
            uuid: rules.text(data, "uuid"),
            status: rules.text(data, "status"),
            source_compute: rules.text(data, "source_compute"),
            dest_compute: rules.text(data, "dest_compute"),
            migration_type: rules.text(data, "migration_type"),
        }
    }
}

/// An instance object among the arguments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instance {
    /// Host of the instance.
    pub host: Option<String>,
    /// Task state, `migrating` during a migration.
    pub task_state: Option<String>,
    /// State of the virtual machine.
    pub vm_state: Option<String>,
}

/// An external event among the arguments of `external_instance_event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Name of the event, one of [`crate::json::EVENTS`].
    pub name: String,
    /// Instance.
    pub instance_uuid: Option<String>,
    /// `completed` or `failed`.
    pub status: Option<String>,
    /// The port, if the tag is a UUID.
    pub tag: Option<String>,
}

/// The fields of a message that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Form of the body.
    pub generation: Generation,
    /// What the message is.
    pub kind: Kind,
    /// RPC method.
    pub method: Option<String>,
    /// Namespace of the method.
    pub namespace: Option<String>,
    /// Version that the sender chose.
    pub version: Option<String>,
    /// `_msg_id`: joins a call and its replies.
    pub msg_id: Option<String>,
    /// `_reply_q`: queue for the replies.
    pub reply_q: Option<String>,
    /// `_unique_id` of the message; a redelivery keeps it.
    pub unique_id: Option<String>,
    /// `_context_request_id`
    pub request_id: Option<String>,
    /// `_context_global_request_id`
    pub global_request_id: Option<String>,
    /// The instance that the arguments are about.
    pub instance_uuid: Option<String>,
    /// Further instances of the arguments.
    pub instance_uuids: Vec<String>,
    /// Instance object of the arguments.
    pub instance: Option<Instance>,
    /// Migration object of the arguments.
    pub migration: Option<Migration>,
    /// Object method of the arguments.
    pub object: Option<ObjectCall>,
    /// Argument `dest` or `host`.
    pub dest: Option<String>,
    /// Argument `block_migration`, when it is true or false.
    pub block_migration: Option<bool>,
    /// External events of the arguments.
    pub events: Vec<Event>,
    /// Argument `device` or `devices` of Neutron's agents: ports, or their interfaces.
    pub devices: Vec<String>,
    /// Type of a notification.
    pub event_type: Option<String>,
    /// Sender of a notification, `compute.HOST`.
    pub publisher_id: Option<String>,
    /// Exception type of a failed call.
    pub failure: Option<String>,
    /// Whether a reply has a result.
    pub result: bool,
    /// `ending` of a reply.
    pub ending: bool,
    /// Whether the body was cut off, so that fields may lack.
    pub truncated: bool,
}

/// Type name when a failure cannot be read.
const UNKNOWN_FAILURE: &str = "unknown";
const OUTER_KEY: &[u8] = b"\"oslo.message\"";

type Object = Map<String, Value>;

/// Decodes the body of a message; nothing if it is not one of
/// oslo.messaging's.
#[must_use]
pub fn decode(body: &[u8]) -> Option<Envelope> {
    if body.len() > MAX_ENVELOPE {
        return None;
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(outer)) => match outer.get("oslo.message") {
            Some(message) if outer.contains_key("oslo.version") => {
                let message = message.as_str()?;
                match serde_json::from_str::<Value>(message) {
                    Ok(Value::Object(inner)) => read(&inner, Generation::V2, false),
                    _ => None,
                }
            }
            _ => read(&outer, Generation::V1, false),
        },
        Ok(_) => None,
        Err(_) => decode_prefix(body),
    }
}

/// Reads a body that was cut off.
fn decode_prefix(body: &[u8]) -> Option<Envelope> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let (text, generation) = match memchr::memmem::find(body, OUTER_KEY) {
        Some(at) => {
            let before = body.get(..at)?;
            if !before.trim_ascii_end().ends_with(b"{") && !before.trim_ascii_end().ends_with(b",")
            {
                return None;
            }
            parse_prefix(before)?;
            let rest = body.get(at.saturating_add(OUTER_KEY.len())..)?;
            let rest = rest.trim_ascii_start().strip_prefix(b":")?;
            let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
            (unescape_prefix(rest), Generation::V2)
        }
        None => (body.to_vec(), Generation::V1),
    };
    match parse_prefix(&text)? {
        Value::Object(inner) => read(&inner, generation, true),
        _ => None,
    }
}

fn read(inner: &Object, generation: Generation, truncated: bool) -> Option<Envelope> {
    let text = |key| RULES.text(inner, key);
    let method = text("method");
    let event_type = text("event_type");
    let msg_id = text("_msg_id");
    let is_set = |key| inner.get(key).is_some_and(|value| !value.is_null());
    let ending = inner.get("ending").and_then(Value::as_bool);
    let result = is_set("result");
    let failure = inner.get("failure").filter(|value| !value.is_null());
    let kind = if method.is_some() {
        match (&msg_id, truncated) {
            (Some(_), _) => Kind::Call,
            (None, true) => Kind::Request,
            (None, false) => Kind::Cast,
        }
    } else if event_type.is_some() {
        Kind::Notification
    } else if inner.contains_key("result") || inner.contains_key("failure") {
        if ending == Some(false) && !result && failure.is_none() {
            Kind::KeepAlive
        } else {
            Kind::Reply
        }
    } else {
        return None;
    };
    let mut envelope = Envelope {
        generation,
        kind,
        method,
        namespace: text("namespace"),
        version: text("version"),
        msg_id,
        reply_q: text("_reply_q"),
        unique_id: text("_unique_id"),
        request_id: text("_context_request_id"),
        global_request_id: text("_context_global_request_id"),
        instance_uuid: None,
        instance_uuids: Vec::new(),
        instance: None,
        migration: None,
        object: None,
        dest: None,
        block_migration: None,
        events: Vec::new(),
        devices: Vec::new(),
        event_type,
        publisher_id: text("publisher_id"),
        failure: failure.map(failure_class),
        result,
        ending: ending.unwrap_or(false),
        truncated,
    };
    if let Some(Value::Object(args)) = inner.get("args") {
        envelope.arguments(args);
    }
    if envelope.kind == Kind::Notification {
        envelope.instance_uuid = inner.get("payload").and_then(payload_instance);
    }
    Some(envelope)
}

/// The instance of a notification's payload, versioned or not
/// (`nova/notifications/objects/instance.py`, `nova/compute/utils.py`).
fn payload_instance(payload: &Value) -> Option<String> {
    let payload = payload.as_object()?;
    let data = data_of(payload).unwrap_or(payload);
    RULES
        .text(data, "uuid")
        .or_else(|| RULES.text(data, "instance_id"))
}

/// The exception's class in a failure: JSON in a string, or an object.
fn failure_class(failure: &Value) -> String {
    let read = |value: &Value| value.as_object().and_then(|map| RULES.text(map, "class"));
    match failure {
        Value::String(text) => serde_json::from_str::<Value>(text)
            .ok()
            .and_then(|value| read(&value)),
        other => read(other),
    }
    .unwrap_or_else(|| UNKNOWN_FAILURE.to_owned())
}

/// `nova_object.data` of a serialized object.
fn data_of(object: &Object) -> Option<&Object> {
    object.get("nova_object.data")?.as_object()
}

/// The fields of an argument: a serialized object's data, or a plain
/// dictionary as in Juno.
fn fields(value: &Value) -> Option<&Object> {
    let object = value.as_object()?;
    Some(data_of(object).unwrap_or(object))
}

fn object_name(value: &Value) -> Option<String> {
    RULES.text(value.as_object()?, "nova_object.name")
}

impl Envelope {
    fn arguments(&mut self, args: &Object) {
        self.dest = RULES
            .text(args, "dest")
            .or_else(|| RULES.text(args, "host"));
        self.block_migration = args.get("block_migration").and_then(Value::as_bool);
        if let Some(instance) = args.get("instance").and_then(fields) {
            self.take_instance(instance);
        }
        if let Some(migration) = args.get("migration").and_then(fields) {
            self.take_migration(migration);
        }
        self.take_object(args);
        if let Some(spec) = args.get("request_spec").and_then(fields) {
            self.about(RULES.text(spec, "instance_uuid"));
        }
        self.about(RULES.text(args, "instance_uuid"));
        for key in ["instances", "instance_uuids"] {
            for value in list(args.get(key)) {
                let uuid = match fields(value) {
                    Some(instance) => RULES.text(instance, "uuid"),
                    None => RULES.value(key, value),
                };
                self.about(uuid);
            }
        }
        let device = RULES.text(args, "device");
        let devices = list(args.get("devices")).filter_map(|v| RULES.value("devices", v));
        self.devices = device.into_iter().chain(devices).collect();
        for event in list(args.get("events")).filter_map(fields) {
            let Some(name) = RULES.text(event, "name") else {
                continue;
            };
            self.events.push(Event {
                name,
                instance_uuid: RULES.text(event, "instance_uuid"),
                status: RULES.text(event, "status"),
                tag: RULES.text(event, "tag"),
            });
        }
    }

    /// The first instance is the one the message is about.
    fn about(&mut self, uuid: Option<String>) {
        let Some(uuid) = uuid else { return };
        if self.instance_uuid.is_none() {
            self.instance_uuid = Some(uuid);
        } else if self.instance_uuid.as_ref() != Some(&uuid)
            && self.instance_uuids.len() < MAX_LISTED
            && !self.instance_uuids.contains(&uuid)
        {
            self.instance_uuids.push(uuid);
        }
    }

    fn take_instance(&mut self, data: &Object) {
        self.about(RULES.text(data, "uuid"));
        self.instance = Some(Instance {
            host: RULES.text(data, "host"),
            task_state: RULES.text(data, "task_state"),
            vm_state: RULES.text(data, "vm_state"),
        });
    }

    fn take_migration(&mut self, data: &Object) {
        self.about(RULES.text(data, "instance_uuid"));
        self.migration = Some(Migration::read(RULES, data));
    }

    /// `objinst`, `objname` and `objmethod` of the conductor's methods.
    fn take_object(&mut self, args: &Object) {
        let method = RULES.text(args, "objmethod");
        let instance = args.get("objinst");
        let name = instance
            .and_then(object_name)
            .or_else(|| RULES.text(args, "objname"));
        if method.is_none() && name.is_none() {
            return;
        }
        match (name.as_deref(), instance.and_then(fields)) {
            (Some("Instance"), Some(data)) => self.take_instance(data),
            (Some("Migration"), Some(data)) => self.take_migration(data),
            (_, Some(data)) => self.about(RULES.text(data, "instance_uuid")),
            (Some("Instance"), None) if method.as_deref() == Some("get_by_uuid") => {
                let first = list(args.get("args")).next();
                self.about(first.and_then(|value| RULES.value("args", value)));
            }
            (_, None) if is_by_instance(method.as_deref()) => {
                let first = list(args.get("args")).next();
                self.about(first.and_then(|value| RULES.value("args", value)));
            }
            _ => {}
        }
        if let Some(kwargs) = args.get("kwargs").and_then(Value::as_object) {
            self.about(RULES.text(kwargs, "instance_uuid"));
        }
        self.object = Some(ObjectCall {
            object: name,
            method,
        });
    }
}

/// `get_by_instance_uuid` and the like.
fn is_by_instance(method: Option<&str>) -> bool {
    method.is_some_and(|method| method.contains("by_instance") && is_identifier(method))
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .take(MAX_LISTED)
}
