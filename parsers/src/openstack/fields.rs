//! The fields of JSON bodies that are kept, by an allow list of keys. Tokens,
//! passwords and service catalogs are not on it; the token in a body of
//! Keystone's v2 API is hashed.

use serde_json::{Map, Value};

use super::calls::Call;
use crate::http::{Hash, MAX_BODY};
use crate::json::{Rules, Shape};
pub use crate::oslo::Migration;

/// Most elements listed from one body.
pub const MAX_LISTED: usize = 64;

/// The allow list for REST bodies, for this decoder and for the scrubber.
pub const RULES: Rules = Rules(&[
    ("id", Shape::Uuid),
    ("uuid", Shape::Uuid),
    ("status", Shape::Identifier),
    ("OS-EXT-STS:task_state", Shape::Identifier),
    ("OS-EXT-STS:vm_state", Shape::Identifier),
    ("OS-EXT-SRV-ATTR:host", Shape::Identifier),
    ("OS-EXT-SRV-ATTR:hypervisor_hostname", Shape::Identifier),
    ("host", Shape::Identifier),
    ("block_migration", Shape::Word),
    ("source_compute", Shape::Identifier),
    ("dest_compute", Shape::Identifier),
    ("migration_type", Shape::Identifier),
    ("instance_uuid", Shape::Uuid),
    ("server_uuid", Shape::Uuid),
    ("instance", Shape::Uuid),
    ("device_id", Shape::Uuid),
    ("volume_id", Shape::Uuid),
    ("volume_uuid", Shape::Uuid),
    ("attachment_id", Shape::Uuid),
    ("name", Shape::Event),
    ("tag", Shape::Uuid),
    ("binding:host_id", Shape::Identifier),
    ("binding:vif_type", Shape::Identifier),
    ("vif_type", Shape::Identifier),
    ("methods", Shape::Identifier),
    ("version", Shape::Version),
    ("min_version", Shape::Version),
]);

/// Key of a token's value in Keystone's v2 bodies.
pub(crate) const TOKEN_KEY: &str = "id";
/// Key of the object around it.
pub(crate) const TOKEN_OBJECT: &str = "token";

/// Actions on a server or a migration, by the body's key
/// (`nova/api/openstack/compute/migrate_server.py` and others).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// `os-migrateLive`
    LiveMigrate,
    /// `migrate`: a cold migration.
    Migrate,
    /// `resize`
    Resize,
    /// `evacuate`
    Evacuate,
    /// `force_complete`
    ForceComplete,
    /// `os-initialize_connection` (Cinder)
    InitializeConnection,
    /// `os-terminate_connection` (Cinder)
    TerminateConnection,
    /// `os-complete` (Cinder)
    Complete,
    /// Another one.
    Other,
}

/// The actions by key.
const ACTIONS: &[(&str, Action)] = &[
    ("os-migrateLive", Action::LiveMigrate),
    ("migrate", Action::Migrate),
    ("resize", Action::Resize),
    ("evacuate", Action::Evacuate),
    ("force_complete", Action::ForceComplete),
    ("os-initialize_connection", Action::InitializeConnection),
    ("os-terminate_connection", Action::TerminateConnection),
    ("os-complete", Action::Complete),
];

/// A server of Nova's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// UUID.
    pub id: Option<String>,
    /// `ACTIVE`, `MIGRATING`, …
    pub status: Option<String>,
    /// `OS-EXT-STS:task_state`
    pub task_state: Option<String>,
    /// `OS-EXT-STS:vm_state`
    pub vm_state: Option<String>,
    /// `OS-EXT-SRV-ATTR:host`, for administrators.
    pub host: Option<String>,
}

/// An external event (`os-server-external-events`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Name, one of [`crate::json::EVENTS`].
    pub name: Option<String>,
    /// Instance.
    pub server_uuid: Option<String>,
    /// `completed` or `failed`.
    pub status: Option<String>,
    /// The port, if the tag is a UUID.
    pub tag: Option<String>,
}

/// A port or a port's binding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binding {
    /// The port.
    pub port: Option<String>,
    /// The instance that the port belongs to.
    pub device_id: Option<String>,
    /// Host of the binding.
    pub host: Option<String>,
    /// `ACTIVE` or `INACTIVE`.
    pub status: Option<String>,
    /// Type of the interface.
    pub vif_type: Option<String>,
}

/// What is kept of a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// Methods of a login: `password`, `token`, …
    pub login_methods: Vec<String>,
    /// Keyed hash of the token in a body of Keystone's v2 API.
    pub token: Option<u64>,
    /// Action.
    pub action: Option<Action>,
    /// Host that an action asks for.
    pub host: Option<String>,
    /// `block_migration` of an action: true, false or `auto`.
    pub block_migration: Option<String>,
    /// Servers.
    pub servers: Vec<Server>,
    /// Migrations.
    pub migrations: Vec<Migration>,
    /// External events.
    pub events: Vec<Event>,
    /// Ports and bindings.
    pub bindings: Vec<Binding>,
    /// Instance of a Cinder attachment.
    pub instance_uuid: Option<String>,
    /// Volume of a Cinder attachment.
    pub volume_id: Option<String>,
    /// Cinder attachment.
    pub attachment_id: Option<String>,
}

type Object = Map<String, Value>;

fn parse(body: &[u8]) -> Option<Object> {
    if body.is_empty() || body.len() > MAX_BODY {
        return None;
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

fn inner<'a>(object: &'a Object, key: &str) -> Option<&'a Object> {
    object.get(key)?.as_object()
}

fn list<'a>(object: &'a Object, key: &str) -> impl Iterator<Item = &'a Value> {
    object
        .get(key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .take(MAX_LISTED)
}

/// The objects under `one`, or in the list under `many`.
fn objects<'a>(
    object: &'a Object,
    one: &str,
    many: &str,
) -> impl Iterator<Item = &'a Object> + use<'a> {
    inner(object, one)
        .into_iter()
        .chain(list(object, many).filter_map(Value::as_object))
        .collect::<Vec<_>>()
        .into_iter()
}

/// The fields of a request's body.
#[must_use]
pub fn request_fields(call: Call, body: &[u8], hash: Hash<'_>) -> Fields {
    let mut fields = Fields::default();
    let Some(object) = parse(body) else {
        return fields;
    };
    match call {
        Call::LoginV3 => fields.login(&object),
        Call::LoginV2 => fields.login_v2(&object, hash),
        Call::ServerAction
        | Call::MigrationAction
        | Call::VolumeAction
        | Call::AttachmentAction => fields.action(&object),
        Call::ExternalEvents => fields.events(&object),
        Call::PortUpdate | Call::BindingCreate | Call::BindingActivate => fields.bindings(&object),
        Call::AttachmentCreate | Call::AttachmentUpdate => fields.attachment(&object),
        _ => {}
    }
    fields
}

/// The fields of a response's body.
#[must_use]
pub fn response_fields(call: Call, body: &[u8], hash: Hash<'_>) -> Fields {
    let mut fields = Fields::default();
    let Some(object) = parse(body) else {
        return fields;
    };
    match call {
        Call::LoginV3 | Call::ValidateToken => {
            if let Some(token) = inner(&object, TOKEN_OBJECT) {
                fields.methods(token);
            }
            fields.access(&object, hash);
        }
        Call::LoginV2 => fields.access(&object, hash),
        Call::ServerList | Call::ServerDetails | Call::ServerShow => fields.servers(&object),
        Call::MigrationList | Call::MigrationShow | Call::Migrations => fields.migrations(&object),
        Call::ExternalEvents => fields.events(&object),
        Call::PortList
        | Call::PortShow
        | Call::PortUpdate
        | Call::BindingList
        | Call::BindingCreate
        | Call::BindingShow
        | Call::BindingActivate => fields.bindings(&object),
        Call::AttachmentCreate | Call::AttachmentShow | Call::AttachmentUpdate => {
            fields.attachment(&object);
        }
        _ => {}
    }
    fields
}

impl Fields {
    fn methods(&mut self, object: &Object) {
        self.login_methods = list(object, "methods")
            .filter_map(|value| RULES.value("methods", value))
            .collect();
    }

    /// `auth.identity.methods` (`keystoneauth1/identity/v3/base.py`).
    fn login(&mut self, object: &Object) {
        if let Some(identity) = inner(object, "auth").and_then(|auth| inner(auth, "identity")) {
            self.methods(identity);
        }
    }

    /// `auth.passwordCredentials` or `auth.token`
    /// (`keystoneauth1/identity/v2.py`).
    fn login_v2(&mut self, object: &Object, hash: Hash<'_>) {
        let Some(auth) = inner(object, "auth") else {
            return;
        };
        if auth.contains_key("passwordCredentials") {
            self.login_methods.push("password".to_owned());
        }
        if let Some(token) = inner(auth, TOKEN_OBJECT) {
            self.login_methods.push("token".to_owned());
            self.token_of(token, hash);
        }
    }

    /// `access.token.id` of the v2 API.
    fn access(&mut self, object: &Object, hash: Hash<'_>) {
        if let Some(token) = inner(object, "access").and_then(|access| inner(access, TOKEN_OBJECT))
        {
            self.token_of(token, hash);
        }
    }

    fn token_of(&mut self, token: &Object, hash: Hash<'_>) {
        self.token = token
            .get(TOKEN_KEY)
            .and_then(Value::as_str)
            .map(|token| hash(token.as_bytes()));
    }

    fn action(&mut self, object: &Object) {
        let known = ACTIONS
            .iter()
            .find_map(|&(key, action)| Some((action, object.get(key)?)));
        let Some((action, arguments)) = known else {
            self.action = (!object.is_empty()).then_some(Action::Other);
            return;
        };
        self.action = Some(action);
        if let Some(arguments) = arguments.as_object() {
            self.host = RULES.text(arguments, "host");
            self.block_migration = match arguments.get("block_migration") {
                Some(Value::Bool(flag)) => Some(flag.to_string()),
                Some(other) => RULES.value("block_migration", other),
                None => None,
            };
        }
    }

    fn servers(&mut self, object: &Object) {
        self.servers = objects(object, "server", "servers")
            .map(|server| Server {
                id: RULES.text(server, "id"),
                status: RULES.text(server, "status"),
                task_state: RULES.text(server, "OS-EXT-STS:task_state"),
                vm_state: RULES.text(server, "OS-EXT-STS:vm_state"),
                host: RULES.text(server, "OS-EXT-SRV-ATTR:host"),
            })
            .collect();
    }

    fn migrations(&mut self, object: &Object) {
        self.migrations = objects(object, "migration", "migrations")
            .map(|migration| Migration::read(RULES, migration))
            .collect();
    }

    fn events(&mut self, object: &Object) {
        self.events = list(object, "events")
            .filter_map(Value::as_object)
            .map(|event| Event {
                name: RULES.text(event, "name"),
                server_uuid: RULES.text(event, "server_uuid"),
                status: RULES.text(event, "status"),
                tag: RULES.text(event, "tag"),
            })
            .collect();
    }

    fn bindings(&mut self, object: &Object) {
        let ports = objects(object, "port", "ports").map(|port| Binding {
            port: RULES.text(port, "id"),
            device_id: RULES.text(port, "device_id"),
            host: RULES.text(port, "binding:host_id"),
            status: RULES.text(port, "status"),
            vif_type: RULES.text(port, "binding:vif_type"),
        });
        let bindings = objects(object, "binding", "bindings")
            .chain(objects(object, "port_binding", "port_bindings"))
            .map(|binding| Binding {
                host: RULES.text(binding, "host"),
                status: RULES.text(binding, "status"),
                vif_type: RULES.text(binding, "vif_type"),
                ..Binding::default()
            });
        self.bindings = ports.chain(bindings).take(MAX_LISTED).collect();
    }

    /// `attachment` (`cinder/api/v3/attachments.py`); the connector and the
    /// connection's data are not read.
    fn attachment(&mut self, object: &Object) {
        if let Some(attachment) = inner(object, "attachment") {
            self.instance_uuid = RULES
                .text(attachment, "instance_uuid")
                .or_else(|| RULES.text(attachment, "instance"));
            self.volume_id = RULES
                .text(attachment, "volume_id")
                .or_else(|| RULES.text(attachment, "volume_uuid"));
            self.attachment_id = RULES.text(attachment, "id");
        }
    }
}
