//! The payloads that concern a migration.
//!
//! Source: libvirt, `src/remote/remote_protocol.x` (layouts, `remote_…_args` and `remote_…_ret`)
//! and `src/rpc/virnetprotocol.x` (`struct virNetMessageError`). Flags take eight bytes in the
//! older calls and four in those with parameters.

use super::{
    cookie::Cookie,
    domain::DomainSummary,
    header::{Header, MessageType, PROGRAM_REMOTE, Status},
    reader::Reader,
};

mod layouts;

/// What a payload says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing that is read here.
    Other,
    /// The procedure is known, but the payload is cut off or does not fit it.
    Damaged,
    /// A reply (or the abort of a stream) of any procedure with status ERROR.
    Error(RpcError),
    /// Call `CONNECT_OPEN`.
    Open {
        /// The hypervisor's URI, as `qemu:///system`.
        uri: Option<String>,
        /// 1: read-only.
        flags: u32,
    },
    /// Reply to `AUTH_LIST`: 0 none, 1 SASL, 2 polkit.
    AuthList(Vec<u32>),
    /// Call `CONNECT_SUPPORTS_FEATURE`: the feature's number.
    Feature(i32),
    /// Reply to `CONNECT_SUPPORTS_FEATURE`: above 0 for yes.
    FeatureSupported(i32),
    /// Reply to `CONNECT_GET_HOSTNAME`.
    Hostname(String),
    /// The domain that a call is about, or that a lookup found.
    Domain(DomainRef),
    /// Call of a begin procedure.
    Begin(Begin),
    /// Its reply.
    BeginReply {
        /// `cookie_out`.
        cookie: Option<Cookie>,
        /// From `xml`.
        domain: Option<DomainSummary>,
    },
    /// Call of a prepare procedure.
    Prepare(Prepare),
    /// Its reply.
    PrepareReply {
        /// `cookie_out`.
        cookie: Option<Cookie>,
        /// `uri_out`: where the transfer goes; absent if `uri_in` said it all.
        uri: Option<String>,
    },
    /// Call of a perform procedure.
    Perform(Perform),
    /// Its reply.
    PerformReply {
        /// `cookie_out`; absent before protocol 3.
        cookie: Option<Cookie>,
    },
    /// Call of a finish procedure.
    Finish(Finish),
    /// Its reply.
    FinishReply {
        /// The domain on the destination.
        domain: Option<DomainRef>,
        /// `cookie_out`; absent before protocol 3.
        cookie: Option<Cookie>,
    },
    /// Call of a confirm procedure.
    Confirm(Confirm),
    /// Event `DOMAIN_EVENT_LIFECYCLE` or `DOMAIN_EVENT_CALLBACK_LIFECYCLE`.
    Lifecycle {
        /// Of which domain.
        domain: DomainRef,
        /// `virDomainEventType`.
        event: i32,
        /// Its detail.
        detail: i32,
    },
    /// Event `DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION`: a round over the memory begins.
    Iteration {
        /// Of which domain.
        domain: DomainRef,
        /// Which round.
        iteration: i32,
    },
    /// Event `DOMAIN_EVENT_CALLBACK_JOB_COMPLETED`.
    JobCompleted {
        /// Of which domain.
        domain: DomainRef,
        /// At most 64 names and values; of strings only `errmsg`.
        statistics: Vec<(String, Value)>,
    },
    /// Reply to `DOMAIN_GET_JOB_STATS`.
    JobStatistics {
        /// `virDomainJobType`.
        kind: i32,
        /// At most 64 names and values; of strings only `errmsg`.
        statistics: Vec<(String, Value)>,
    },
    /// Reply to `DOMAIN_GET_JOB_INFO`.
    JobInfo(JobInfo),
}

/// An error, `struct virNetMessageError`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// `virErrorNumber`.
    pub code: i32,
    /// `virErrorDomain`.
    pub domain: i32,
    /// `virErrorLevel`.
    pub level: i32,
    /// For people.
    pub message: Option<String>,
}

/// A domain as calls name it, `remote_nonnull_domain`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainRef {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its number on its host; -1 if it does not run.
    pub id: i32,
}

/// Value of a typed parameter, `remote_typed_param_value`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Type 1.
    Int(i32),
    /// Type 2.
    Uint(u32),
    /// Type 3.
    Llong(i64),
    /// Type 4.
    Ullong(u64),
    /// Type 5.
    Double(f64),
    /// Type 6.
    Boolean(bool),
    /// Type 7.
    String(String),
}

impl Value {
    /// An integer of any type that fits.
    #[must_use]
    pub fn to_u64(&self) -> Option<u64> {
        match *self {
            Self::Int(value) => u64::try_from(value).ok(),
            Self::Uint(value) => Some(value.into()),
            Self::Llong(value) => u64::try_from(value).ok(),
            Self::Ullong(value) => Some(value),
            Self::Double(_) | Self::Boolean(_) | Self::String(_) => None,
        }
    }

    /// An integer of any type that fits.
    #[must_use]
    pub(crate) fn to_i32(&self) -> Option<i32> {
        match *self {
            Self::Int(value) => Some(value),
            Self::Uint(value) => i32::try_from(value).ok(),
            Self::Llong(value) => i32::try_from(value).ok(),
            Self::Ullong(value) => i32::try_from(value).ok(),
            Self::Double(_) | Self::Boolean(_) | Self::String(_) => None,
        }
    }
}

/// Call `DOMAIN_MIGRATE_BEGIN3` or `DOMAIN_MIGRATE_BEGIN3_PARAMS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// With typed parameters.
    pub params: bool,
    /// Which domain.
    pub domain: DomainRef,
    /// `virDomainMigrateFlags`.
    pub flags: u64,
    /// Its name on the destination, if it is to change.
    pub destination_name: Option<String>,
}

/// Call of one of the seven prepare procedures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// Of the migration protocol: 1, 2 or 3.
    pub version: u8,
    /// With typed parameters.
    pub params: bool,
    /// The transfer follows as a stream on this connection.
    pub tunnelled: bool,
    /// `cookie_in`.
    pub cookie: Option<Cookie>,
    /// `uri_in`, or the parameter `migrate_uri`.
    pub uri_in: Option<String>,
    /// Name on the destination.
    pub destination_name: Option<String>,
    /// `virDomainMigrateFlags`.
    pub flags: u64,
    /// Limit in MiB/s; 0 for none.
    pub bandwidth: Option<u64>,
    /// From `dom_xml`, or the parameter `destination_xml`.
    pub domain: Option<DomainSummary>,
    /// Parameter `parallel.connections`.
    pub parallel_connections: Option<i32>,
    /// Parameter `disks_port`: for NBD.
    pub disks_port: Option<i32>,
    /// Parameters `compression`: the methods.
    pub compression: Vec<String>,
    /// Parameter `listen_address`.
    pub listen_address: Option<String>,
}

/// Call `DOMAIN_MIGRATE_PERFORM`, `DOMAIN_MIGRATE_PERFORM3` or `DOMAIN_MIGRATE_PERFORM3_PARAMS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Perform {
    /// Of the migration protocol: 1 (protocol 2 has no call of its own) or 3.
    pub version: u8,
    /// With typed parameters.
    pub params: bool,
    /// Which domain.
    pub domain: DomainRef,
    /// The destination's daemon, in a peer-to-peer migration of protocol 3.
    pub dconnuri: Option<String>,
    /// Where the transfer goes (or, in an older peer-to-peer migration, the destination's daemon);
    /// the parameter `migrate_uri`.
    pub uri: Option<String>,
    /// `virDomainMigrateFlags`.
    pub flags: u64,
    /// `cookie_in`.
    pub cookie: Option<Cookie>,
}

/// Call of one of the four finish procedures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Of the migration protocol: 1, 2 or 3.
    pub version: u8,
    /// With typed parameters.
    pub params: bool,
    /// Name on the destination.
    pub destination_name: Option<String>,
    /// `cookie_in`.
    pub cookie: Option<Cookie>,
    /// Where the transfer went; the parameter `migrate_uri`.
    pub uri: Option<String>,
    /// The destination's daemon.
    pub dconnuri: Option<String>,
    /// `virDomainMigrateFlags`.
    pub flags: u64,
    /// 0 if the transfer succeeded: `retcode` in protocol 2, `cancelled` in 3, absent in 1.
    pub cancelled: Option<i32>,
}

/// Call `DOMAIN_MIGRATE_CONFIRM3` or `DOMAIN_MIGRATE_CONFIRM3_PARAMS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// With typed parameters.
    pub params: bool,
    /// Which domain.
    pub domain: DomainRef,
    /// `cookie_in`.
    pub cookie: Option<Cookie>,
    /// `virDomainMigrateFlags`.
    pub flags: u64,
    /// 0 if the migration succeeded.
    pub cancelled: i32,
}

/// Progress of a job, `remote_domain_get_job_info_ret`; times in milliseconds, sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobInfo {
    /// `virDomainJobType`.
    pub kind: i32,
    /// Time since the job began.
    pub time_elapsed: u64,
    /// Time that remains, of a bounded job.
    pub time_remaining: u64,
    /// Memory and storage.
    pub data: Progress,
    /// Memory.
    pub memory: Progress,
    /// Storage.
    pub file: Progress,
}

/// How far something has got, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All of it.
    pub total: u64,
    /// What is done.
    pub processed: u64,
    /// What is not.
    pub remaining: u64,
}

/// Reads a message's payload, which begins after the 28 bytes of its header.
///
/// A payload shorter than the header says is [`Body::Damaged`], unless nothing would be read of
/// it anyway; bytes behind the end of a layout are not looked at. Passwords and queries of URIs
/// come as `x`, and of XML only what [`DomainSummary`] and [`Cookie`] hold.
#[must_use]
pub fn decode(header: &Header, payload: &[u8]) -> Body {
    read(header, payload.len(), &mut Reader::new(payload))
}

/// As [`decode`], from a reader at the beginning of a payload of `length` bytes.
pub(super) fn read(header: &Header, length: usize, reader: &mut Reader<'_>) -> Body {
    let whole = u32::try_from(length).is_ok_and(|length| length >= header.payload_len());
    match body(header, reader) {
        Some(Body::Other) => Body::Other,
        Some(body) if whole => body,
        _ => Body::Damaged,
    }
}

/// Chooses the layout.
fn body(header: &Header, reader: &mut Reader<'_>) -> Option<Body> {
    if header.program != PROGRAM_REMOTE {
        return Some(Body::Other);
    }
    if matches!(
        header.kind,
        MessageType::CallWithFds | MessageType::ReplyWithFds
    ) {
        // How many file descriptors come with the bytes, on a UNIX socket.
        reader.u32()?;
    }
    match (header.kind, header.status) {
        (MessageType::Reply | MessageType::ReplyWithFds | MessageType::Stream, Status::Error) => {
            layouts::error(reader)
        }
        (MessageType::Call | MessageType::CallWithFds, Status::Ok) => {
            layouts::call(header.procedure, reader)
        }
        (MessageType::Reply | MessageType::ReplyWithFds, Status::Ok) => {
            layouts::reply(header.procedure, reader)
        }
        (MessageType::Message, Status::Ok) => layouts::event(header.procedure, reader),
        _ => Some(Body::Other),
    }
}
