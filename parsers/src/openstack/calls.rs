//! Method and path suffix of the calls. Paths are matched from their end, so
//! that any prefix (`/identity`, `/compute`, a project id) may be in front.

use crate::http::Method;
use crate::json::is_uuid;

/// Most segments of a path that are looked at.
const MAX_SEGMENTS: usize = 16;

/// The services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Identity.
    Keystone,
    /// Compute.
    Nova,
    /// Network.
    Neutron,
    /// Block storage.
    Cinder,
    /// Placement.
    Placement,
    /// Images.
    Glance,
    /// A call that several services have.
    Any,
}

/// The calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// Version document, of Keystone (`keystone/api/discovery.py`) or another
    /// service.
    Discovery,
    /// POST `/v2.0/tokens`
    LoginV2,
    /// POST `/v3/auth/tokens`
    LoginV3,
    /// Federated login, `/v3/OS-FEDERATION/…`
    Federation,
    /// GET or HEAD of a token by a service.
    ValidateToken,
    /// DELETE of a token.
    RevokeToken,
    /// GET `/servers`, by name.
    ServerList,
    /// GET `/servers/detail`
    ServerDetails,
    /// GET `/servers/{server}`
    ServerShow,
    /// POST `/servers/{server}/action`; the body's key says which.
    ServerAction,
    /// GET `/servers/{server}/migrations`
    MigrationList,
    /// GET `/servers/{server}/migrations/{migration}`
    MigrationShow,
    /// DELETE `/servers/{server}/migrations/{migration}` (2.24)
    MigrationAbort,
    /// POST `/servers/{server}/migrations/{migration}/action` (2.22)
    MigrationAction,
    /// GET `/os-migrations`
    Migrations,
    /// POST `/os-server-external-events`
    ExternalEvents,
    /// GET `/v2.0/ports`
    PortList,
    /// GET `/v2.0/ports/{port}`
    PortShow,
    /// PUT `/v2.0/ports/{port}`
    PortUpdate,
    /// GET `/v2.0/ports/{port}/bindings`
    BindingList,
    /// POST `/v2.0/ports/{port}/bindings`
    BindingCreate,
    /// GET `/v2.0/ports/{port}/bindings/{host}`
    BindingShow,
    /// PUT `/v2.0/ports/{port}/bindings/{host}/activate`
    BindingActivate,
    /// DELETE `/v2.0/ports/{port}/bindings/{host}`
    BindingDelete,
    /// GET of networks, subnets, floating IPs or extensions.
    NetworkInfo,
    /// POST `/attachments`
    AttachmentCreate,
    /// GET `/attachments/{attachment}`
    AttachmentShow,
    /// PUT `/attachments/{attachment}`
    AttachmentUpdate,
    /// POST `/attachments/{attachment}/action`
    AttachmentAction,
    /// DELETE `/attachments/{attachment}`
    AttachmentDelete,
    /// GET `/volumes/{volume}`
    VolumeShow,
    /// POST `/volumes/{volume}/action` (initialize and terminate connection)
    VolumeAction,
    /// GET `/allocation_candidates`
    AllocationCandidates,
    /// GET `/allocations/{consumer}`
    AllocationShow,
    /// PUT `/allocations/{consumer}`
    AllocationUpdate,
    /// DELETE `/allocations/{consumer}`
    AllocationDelete,
    /// POST `/allocations`
    AllocationsUpdate,
    /// Anything under `/resource_providers`
    ResourceProviders,
    /// GET `/images/{image}`
    ImageShow,
    /// GET `/images/{image}/file`
    ImageFile,
}

/// One row of the table of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Methods.
    pub methods: &'static [Method],
    /// The path's last segments; `{…}` stands for any one segment, `**` at
    /// the end for any that follow.
    pub suffix: &'static str,
    /// Service.
    pub service: Service,
    /// Call.
    pub call: Call,
}

const GET: &[Method] = &[Method::Get];
const READ: &[Method] = &[Method::Get, Method::Head];
const POST: &[Method] = &[Method::Post];
const PUT: &[Method] = &[Method::Put];
const DELETE: &[Method] = &[Method::Delete];
const EVERY: &[Method] = &[
    Method::Get,
    Method::Head,
    Method::Post,
    Method::Put,
    Method::Patch,
    Method::Delete,
];

const fn route(
    methods: &'static [Method],
    suffix: &'static str,
    service: Service,
    call: Call,
) -> Route {
    Route {
        methods,
        suffix,
        service,
        call,
    }
}

use Service::{Cinder, Glance, Keystone, Neutron, Nova, Placement};

/// The calls by method and path suffix; the first row that fits counts.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    route(POST, "v3/auth/tokens", Keystone, Call::LoginV3),
    route(READ, "v3/auth/tokens", Keystone, Call::ValidateToken),
    route(DELETE, "v3/auth/tokens", Keystone, Call::RevokeToken),
    route(POST, "v2.0/tokens", Keystone, Call::LoginV2),
    route(READ, "v2.0/tokens/{token}", Keystone, Call::ValidateToken),
    route(DELETE, "v2.0/tokens/{token}", Keystone, Call::RevokeToken),
    route(EVERY, "v3/OS-FEDERATION/**", Keystone, Call::Federation),
    route(GET, "servers", Nova, Call::ServerList),
    route(GET, "servers/detail", Nova, Call::ServerDetails),
    route(GET, "servers/{server}", Nova, Call::ServerShow),
    route(POST, "servers/{server}/action", Nova, Call::ServerAction),
    route(GET, "servers/{server}/migrations", Nova, Call::MigrationList),
    route(GET, "servers/{server}/migrations/{migration}", Nova, Call::MigrationShow),
    route(DELETE, "servers/{server}/migrations/{migration}", Nova, Call::MigrationAbort),
    route(POST, "servers/{server}/migrations/{migration}/action", Nova, Call::MigrationAction),
    route(GET, "os-migrations", Nova, Call::Migrations),
    route(POST, "os-server-external-events", Nova, Call::ExternalEvents),
    route(GET, "v2.0/ports", Neutron, Call::PortList),
    route(GET, "v2.0/ports/{port}", Neutron, Call::PortShow),
    route(PUT, "v2.0/ports/{port}", Neutron, Call::PortUpdate),
    route(GET, "v2.0/ports/{port}/bindings", Neutron, Call::BindingList),
    route(POST, "v2.0/ports/{port}/bindings", Neutron, Call::BindingCreate),
    route(GET, "v2.0/ports/{port}/bindings/{host}", Neutron, Call::BindingShow),
    route(PUT, "v2.0/ports/{port}/bindings/{host}/activate", Neutron, Call::BindingActivate),
    route(DELETE, "v2.0/ports/{port}/bindings/{host}", Neutron, Call::BindingDelete),
    route(GET, "v2.0/networks/**", Neutron, Call::NetworkInfo),
    route(GET, "v2.0/subnets/**", Neutron, Call::NetworkInfo),
    route(GET, "v2.0/floatingips/**", Neutron, Call::NetworkInfo),
    route(GET, "v2.0/extensions/**", Neutron, Call::NetworkInfo),
    route(POST, "attachments", Cinder, Call::AttachmentCreate),
    route(GET, "attachments/{attachment}", Cinder, Call::AttachmentShow),
    route(PUT, "attachments/{attachment}", Cinder, Call::AttachmentUpdate),
    route(POST, "attachments/{attachment}/action", Cinder, Call::AttachmentAction),
    route(DELETE, "attachments/{attachment}", Cinder, Call::AttachmentDelete),
    route(GET, "volumes/{volume}", Cinder, Call::VolumeShow),
    route(POST, "volumes/{volume}/action", Cinder, Call::VolumeAction),
    route(GET, "allocation_candidates", Placement, Call::AllocationCandidates),
    route(GET, "allocations/{consumer}", Placement, Call::AllocationShow),
    route(PUT, "allocations/{consumer}", Placement, Call::AllocationUpdate),
    route(DELETE, "allocations/{consumer}", Placement, Call::AllocationDelete),
    route(POST, "allocations", Placement, Call::AllocationsUpdate),
    route(EVERY, "resource_providers/**", Placement, Call::ResourceProviders),
    route(GET, "images/{image}/file", Glance, Call::ImageFile),
    route(READ, "images/{image}", Glance, Call::ImageShow),
];

/// Segments that are version documents of the services, behind any prefix.
const VERSIONS: &[&str] = &["v1", "v2", "v2.0", "v2.1", "v3"];

/// Prefixes of Keystone behind a web server that serves all interfaces (DevStack `lib/keystone`);
/// alone they are its list of versions.
const KEYSTONE_PREFIXES: &[&str] = &["identity", "identity_admin", "keystone"];

/// What a path says about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// Service.
    pub service: Service,
    /// Call.
    pub call: Call,
    /// The server, if the path names one by UUID.
    pub server: Option<String>,
    /// The port, if the path names one by UUID.
    pub port: Option<String>,
    /// The migration's number or UUID.
    pub migration: Option<String>,
    /// The host of a port binding.
    pub host: Option<String>,
    /// The allocation's consumer, an instance's or a migration's UUID.
    pub consumer: Option<String>,
}

impl Classified {
    const fn new(service: Service, call: Call) -> Self {
        Self {
            service,
            call,
            server: None,
            port: None,
            migration: None,
            host: None,
            consumer: None,
        }
    }

    fn set(&mut self, name: &str, segment: &str) {
        let uuid = || is_uuid(segment).then(|| segment.to_owned());
        let text = || crate::json::is_identifier(segment).then(|| segment.to_owned());
        match name {
            "{server}" => self.server = uuid(),
            "{port}" => self.port = uuid(),
            "{migration}" => {
                let number = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
                self.migration = if number { text() } else { uuid() };
            }
            "{host}" => self.host = text(),
            "{consumer}" => self.consumer = uuid(),
            _ => {}
        }
    }
}

/// Whether `segments` are what `pattern` says, and the named ones taken over.
fn fits(pattern: &[&str], segments: &[&str]) -> bool {
    pattern.len() == segments.len()
        && pattern
            .iter()
            .zip(segments)
            .all(|(pattern, segment)| pattern.starts_with('{') || pattern == segment)
}

fn apply(route: &Route, segments: &[&str]) -> Option<Classified> {
    let pattern: Vec<&str> = route.suffix.split('/').collect();
    let mut found = Classified::new(route.service, route.call);
    if let Some((&"**", head)) = pattern.split_last() {
        return segments
            .windows(head.len())
            .any(|window| fits(head, window))
            .then_some(found);
    }
    let tail = segments.get(segments.len().checked_sub(pattern.len())?..)?;
    if !fits(&pattern, tail) {
        return None;
    }
    for (name, segment) in pattern.iter().zip(tail) {
        found.set(name, segment);
    }
    Some(found)
}

/// Whether a segment of a request's path is kept: the words of [`ROUTES`], versions, Keystone's
/// prefixes, UUIDs, numbers, and what the call's classification keeps.
pub(crate) fn is_kept(segment: &str, found: Option<&Classified>) -> bool {
    let word = || {
        ROUTES
            .iter()
            .flat_map(|route| route.suffix.split('/'))
            .chain(VERSIONS.iter().copied())
            .chain(KEYSTONE_PREFIXES.iter().copied())
            .any(|word| word == segment)
    };
    let number = || segment.len() <= 20 && segment.bytes().all(|byte| byte.is_ascii_digit());
    let host = || found.and_then(|found| found.host.as_deref()) == Some(segment);
    word() || number() || is_uuid(segment) || host()
}

/// The call of a request, by its method and its path without the query.
#[must_use]
pub fn classify(method: Method, path: &str) -> Option<Classified> {
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .take(MAX_SEGMENTS)
        .collect();
    let found = ROUTES
        .iter()
        .filter(|route| route.methods.contains(&method))
        .find_map(|route| apply(route, &segments));
    if found.is_some() || method != Method::Get {
        return found;
    }
    let is_document = match segments.last() {
        None => true,
        Some(last) => {
            let alone = segments.len() == 1 && KEYSTONE_PREFIXES.contains(last);
            alone || (VERSIONS.contains(last) && segments.len() <= 2)
        }
    };
    is_document.then(|| Classified::new(Service::Any, Call::Discovery))
}
