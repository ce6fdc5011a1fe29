//! The definitions of the phases: which event begins and ends which, in one table.
//!
//! Source of the definitions: the study that phasescope generalises, checked against libvirt's
//! code (`src/qemu/qemu_migration.c`, `src/remote/remote_driver.c`).

use serde::{Deserialize, Serialize};

use super::{Certainty, Driver};

/// A phase of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseName {
    /// The user proves who they are (OpenStack).
    Authentication,
    /// The request becomes a migration (OpenStack).
    Initialization,
    /// The source's daemon connects to the destination's.
    RemoteConnect,
    /// The destination makes ready: a hypervisor that waits for the stream.
    Preparation,
    /// Disks are copied.
    Storage,
    /// Memory is copied.
    Transfer,
    /// The guest starts on the destination.
    Finish,
    /// The source lets go of the guest.
    Cleanup,
    /// The cloud notes the guest's new place (OpenStack).
    PostMigration,
}

impl PhaseName {
    /// As reports give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Initialization => "initialization",
            Self::RemoteConnect => "remote-connect",
            Self::Preparation => "preparation",
            Self::Storage => "storage",
            Self::Transfer => "transfer",
            Self::Finish => "finish",
            Self::Cleanup => "cleanup",
            Self::PostMigration => "post-migration",
        }
    }
}

/// Which edge of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// It begins.
    Start,
    /// It ends.
    End,
}

/// Something seen that can bound a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// SYN of the libvirt connection.
    LibvirtOpened,
    /// REPLY of CONNECT_OPEN.
    OpenReply,
    /// CALL of BEGIN3 (a client drives).
    BeginCall,
    /// CALL of a PREPARE.
    PrepareCall,
    /// REPLY of a PREPARE, good.
    PrepareReply,
    /// REPLY of a PREPARE, an error.
    PrepareError,
    /// SYN of the migration connection.
    StreamOpened,
    /// The stream's magic.
    StreamHeader,
    /// The end of the stream's element list.
    StreamEnd,
    /// The migration connection is closed: the later FIN, or RST.
    StreamClosed,
    /// SYN of the first connection that carries disks.
    StorageOpened,
    /// The stream's first section `block`.
    BlockStart,
    /// The end of its last section `block`.
    BlockEnd,
    /// All disks are in step: libvirt opens the migration connection.
    StorageInStep,
    /// The last data of a tunnelled stream has been acknowledged.
    TunnelEnd,
    /// CALL of PERFORM (a client drives).
    PerformCall,
    /// REPLY of PERFORM, good.
    PerformReply,
    /// REPLY of PERFORM, an error.
    PerformError,
    /// CALL of a FINISH that asks for the guest to run.
    FinishCall,
    /// CALL of a FINISH that calls the migration off.
    FinishCancelCall,
    /// REPLY of a FINISH.
    FinishReply,
    /// CALL of CONFIRM3 (a client drives).
    ConfirmCall,
    /// REPLY of CONFIRM3 (a client drives).
    ConfirmReply,
    /// The libvirt connection is closed: the later FIN, or RST.
    LibvirtClosed,
    /// A version document of Keystone is asked for, directly before a token.
    KeystoneDiscovery,
    /// A token is asked for.
    TokenRequest,
    /// A token is issued.
    TokenResponse,
    /// The server is looked up.
    ServerLookup,
    /// `os-migrateLive` is asked for.
    MigrateRequest,
    /// `live_migration` reaches the source.
    MigrationDelivered,
    /// `live_migration` is sent.
    MigrationPublished,
    /// CALL of `pre_live_migration`.
    PreCall,
    /// Its reply reaches the source.
    PreReplyDelivered,
    /// Its reply is sent by the destination.
    PreReplyPublished,
    /// The source saves the migration's status `running`.
    RunningSaved,
    /// The source sends `post_live_migration_at_destination`.
    PostCall,
    /// It reaches the destination.
    PostCallDelivered,
    /// libvirt's part is over, and post-migration's end was seen.
    LibvirtOver,
    /// The reply of `post_live_migration_at_destination` reaches the source.
    PostReplyDelivered,
    /// It is sent by the destination.
    PostReplyPublished,
    /// The destination's `Instance.save` with its own name is answered.
    DestinationSaved,
    /// Notification `….post.dest.end`.
    PostDestNotice,
    /// Notification `…_post.end`.
    PostEndNotice,
    /// The source has console tokens deleted.
    TokensDeleted,
    /// The conductor's last reply before a silence.
    LastConductorReply,
    /// Inside TLS or SSH: much data follows PREPARE's answer.
    VeiledTunnel,
    /// Inside TLS or SSH: the answer to the last of it.
    VeiledTunnelEnd,
    /// Inside TLS: a client spoke to Keystone.
    VeiledLogin,
    /// Inside TLS: Keystone's last answer before the client turned to Nova.
    VeiledToken,
    /// Inside TLS: a client spoke to Nova.
    VeiledRequest,
    /// Inside TLS: the broker's last words to the source before libvirt's connection.
    VeiledReply,
}

/// One rule.
#[derive(Debug, Clone, Copy)]
pub struct Marker {
    /// Phase.
    pub phase: PhaseName,
    /// Its edge.
    pub edge: Edge,
    /// The lowest rank that was seen counts.
    pub rank: u8,
    /// Name in reports.
    pub name: &'static str,
    /// What must be seen.
    pub signal: Signal,
    /// What it is worth.
    pub certainty: Certainty,
    /// Under which drivers; empty: all.
    pub drivers: &'static [Driver],
    /// How to find it in Wireshark.
    pub filter: &'static str,
}

/// A phase that must have happened where one of these was seen, even if its own edges were not.
#[derive(Debug, Clone, Copy)]
pub struct Implied {
    /// Phase.
    pub phase: PhaseName,
    /// Seen.
    pub by: &'static [Signal],
    /// Under which drivers.
    pub drivers: &'static [Driver],
}

const TUNNELLED: &[Driver] = &[Driver::LibvirtTunnelled];
const PEER: &[Driver] = &[
    Driver::LibvirtP2p,
    Driver::LibvirtTunnelled,
    Driver::Openstack,
];
const DIRECT: &[Driver] = &[Driver::LibvirtDirect];
const LIBVIRT: &[Driver] = &[
    Driver::LibvirtP2p,
    Driver::LibvirtTunnelled,
    Driver::LibvirtDirect,
    Driver::Openstack,
];
const CLOUD: &[Driver] = &[Driver::Openstack];

#[expect(clippy::too_many_arguments, reason = "a row of the table")]
const fn row(
    phase: PhaseName,
    edge: Edge,
    rank: u8,
    name: &'static str,
    signal: Signal,
    certainty: Certainty,
    drivers: &'static [Driver],
    filter: &'static str,
) -> Marker {
    Marker {
        phase,
        edge,
        rank,
        name,
        signal,
        certainty,
        drivers,
        filter,
    }
}

use Certainty::{Decoded, Inferred, Transport};
use Edge::{End, Start};
use PhaseName as P;
use Signal as S;

/// The table.
#[rustfmt::skip]
pub const MARKERS: &[Marker] = &[
    row(P::Authentication, Start, 1, "keystone-discovery-request", S::KeystoneDiscovery, Decoded, CLOUD, "http.request.method==GET, Keystone's, within 2 s before the next row"),
    row(P::Authentication, Start, 2, "keystone-token-request", S::TokenRequest, Decoded, CLOUD, "http.request.method==POST && http.request.uri matches \"/v3/auth/tokens|/v2.0/tokens\""),
    row(P::Authentication, End, 1, "keystone-token-response", S::TokenResponse, Decoded, CLOUD, "http.response.code in {200,201}, with the token of the request to migrate"),
    row(P::Authentication, Start, 3, "keystone-tls-request", S::VeiledLogin, Inferred, CLOUD, "the client's first tls.record.content_type==23 to Keystone's port"),
    row(P::Authentication, End, 2, "keystone-tls-answer", S::VeiledToken, Inferred, CLOUD, "Keystone's last tls.record.content_type==23 before the client opens a connection to Nova"),
    row(P::Initialization, Start, 1, "server-lookup-request", S::ServerLookup, Decoded, CLOUD, "http.request.method==GET && http.request.uri contains \"/servers\""),
    row(P::Initialization, Start, 2, "live-migrate-request", S::MigrateRequest, Decoded, CLOUD, "http.request.method==POST && http.request.uri contains \"/action\""),
    row(P::Initialization, Start, 3, "nova-tls-request", S::VeiledRequest, Inferred, CLOUD, "the client's first tls.record.content_type==23 to Nova's port"),
    row(P::Initialization, Start, 4, "live-migration-delivered", S::MigrationDelivered, Decoded, CLOUD, "amqp.method.method==60 && frame contains \"live_migration\""),
    row(P::Initialization, Start, 5, "live-migration-published", S::MigrationPublished, Decoded, CLOUD, "amqp.method.method==40 && frame contains \"live_migration\""),
    row(P::Initialization, Start, 6, "pre-live-migration-call", S::PreCall, Decoded, CLOUD, "amqp.method.method==40 && frame contains \"pre_live_migration\""),
    row(P::Initialization, End, 1, "pre-live-migration-reply", S::PreReplyDelivered, Decoded, CLOUD, "amqp.method.method==60 && frame contains its _msg_id"),
    row(P::Initialization, End, 2, "pre-live-migration-reply-published", S::PreReplyPublished, Decoded, CLOUD, "amqp.method.method==40 && frame contains its _msg_id"),
    row(P::Initialization, End, 3, "migration-running-saved", S::RunningSaved, Decoded, CLOUD, "amqp.method.method==40 && frame contains \"running\""),
    row(P::Initialization, End, 4, "broker-tls-answer", S::VeiledReply, Inferred, CLOUD, "tls.record.content_type==23 && tcp.srcport==5671, the last one of 200 bytes or more before libvirt's SYN"),
    row(P::Initialization, End, 5, "libvirt-connection-opened", S::LibvirtOpened, Transport, CLOUD, "tcp.flags.syn==1 && tcp.flags.ack==0, libvirt's port"),
    row(P::RemoteConnect, Start, 1, "libvirt-connection-opened", S::LibvirtOpened, Transport, PEER, "tcp.flags.syn==1 && tcp.flags.ack==0, libvirt's port"),
    row(P::RemoteConnect, End, 1, "libvirt-open-reply", S::OpenReply, Decoded, PEER, "libvirt.procedure==1 && libvirt.type==1"),
    row(P::Preparation, Start, 1, "libvirt-open-reply", S::OpenReply, Decoded, PEER, "libvirt.procedure==1 && libvirt.type==1"),
    row(P::Preparation, Start, 1, "migrate-begin-call", S::BeginCall, Decoded, DIRECT, "libvirt.procedure in {213,302} && libvirt.type==0"),
    row(P::Preparation, Start, 2, "migrate-prepare-call", S::PrepareCall, Decoded, DIRECT, "libvirt.procedure in {61,108,214,303} && libvirt.type==0"),
    row(P::Preparation, End, 1, "migrate-prepare-reply", S::PrepareReply, Decoded, LIBVIRT, "libvirt.procedure in {61,108,148,214,215,303,304} && libvirt.type==1"),
    row(P::Preparation, End, 2, "migrate-prepare-error", S::PrepareError, Decoded, LIBVIRT, "the same, libvirt.status==1"),
    row(P::Preparation, End, 3, "migrate-perform-call", S::PerformCall, Inferred, DIRECT, "libvirt.procedure in {62,216,305} && libvirt.type==0: the client calls it when PREPARE has been answered"),
    row(P::Storage, Start, 1, "nbd-connection-opened", S::StorageOpened, Transport, LIBVIRT, "tcp.flags.syn==1 && tcp.flags.ack==0, NBD port"),
    row(P::Storage, End, 1, "migration-connection-opened", S::StorageInStep, Certainty::Inferred, LIBVIRT, "libvirt migrates memory when the disks are in step"),
    row(P::Storage, Start, 2, "block-section-start", S::BlockStart, Decoded, &[], "tcp contains 05:62:6c:6f:63:6b (the name `block`)"),
    row(P::Storage, End, 2, "block-section-end", S::BlockEnd, Decoded, &[], "the word 00:00:00:00:00:00:00:02 of the last section `block`"),
    row(P::Transfer, Start, 1, "migration-connection-opened", S::StreamOpened, Transport, &[], "tcp.flags.syn==1 && tcp.flags.ack==0, migration port"),
    row(P::Transfer, Start, 2, "migration-stream-header", S::StreamHeader, Decoded, &[], "tcp contains 51:45:56:4d"),
    row(P::Transfer, Start, 3, "tunnel-data", S::VeiledTunnel, Inferred, TUNNELLED, "the first large message on libvirt's connection after the answer to PREPARE"),
    row(P::Transfer, End, 1, "migration-connection-closed", S::StreamClosed, Transport, &[], "tcp.flags.fin==1 (the later one) or tcp.flags.reset==1"),
    row(P::Transfer, End, 1, "tunnel-stream-end", S::TunnelEnd, Decoded, TUNNELLED, "libvirt.type==3 && libvirt.status==0"),
    row(P::Transfer, End, 2, "migration-stream-end", S::StreamEnd, Decoded, &[], "the byte 0x00 after the last section"),
    row(P::Transfer, End, 3, "tunnel-data-end", S::VeiledTunnelEnd, Inferred, TUNNELLED, "the answer to the last large message before the one that stands for FINISH"),
    row(P::Finish, Start, 1, "migrate-finish-call", S::FinishCall, Decoded, LIBVIRT, "libvirt.procedure in {63,109,217,306} && libvirt.type==0"),
    row(P::Finish, Start, 2, "migrate-finish-cancel-call", S::FinishCancelCall, Decoded, LIBVIRT, "the same, with cancelled=1"),
    row(P::Finish, Start, 3, "migrate-perform-reply", S::PerformReply, Inferred, DIRECT, "libvirt.procedure in {62,216,305} && libvirt.type==1: the client calls FINISH when it has this"),
    row(P::Finish, End, 1, "migrate-finish-reply", S::FinishReply, Decoded, LIBVIRT, "libvirt.procedure in {63,109,217,306} && libvirt.type==1"),
    row(P::Finish, End, 2, "migrate-confirm-call", S::ConfirmCall, Inferred, DIRECT, "libvirt.procedure in {218,307} && libvirt.type==0: the client calls it when FINISH has been answered"),
    row(P::Cleanup, Start, 1, "migrate-finish-reply", S::FinishReply, Decoded, LIBVIRT, "libvirt.procedure in {63,109,217,306} && libvirt.type==1"),
    row(P::Cleanup, Start, 2, "migrate-prepare-error", S::PrepareError, Decoded, PEER, "libvirt.status==1"),
    row(P::Cleanup, Start, 3, "migrate-confirm-call", S::ConfirmCall, Inferred, DIRECT, "libvirt.procedure in {218,307} && libvirt.type==0"),
    row(P::Cleanup, End, 1, "libvirt-connection-closed", S::LibvirtClosed, Transport, PEER, "tcp.flags.fin==1 (the later one) or tcp.flags.reset==1"),
    row(P::Cleanup, End, 1, "migrate-confirm-reply", S::ConfirmReply, Decoded, DIRECT, "libvirt.procedure in {218,307} && libvirt.type==1"),
    row(P::PostMigration, Start, 1, "post-live-migration-call", S::PostCall, Decoded, CLOUD, "amqp.method.method==40 && frame contains \"post_live_migration_at_destination\""),
    row(P::PostMigration, Start, 2, "post-live-migration-delivered", S::PostCallDelivered, Decoded, CLOUD, "amqp.method.method==60 && frame contains \"post_live_migration_at_destination\""),
    row(P::PostMigration, Start, 3, "libvirt-cleanup-end", S::LibvirtOver, Transport, CLOUD, "as cleanup's end"),
    row(P::PostMigration, End, 1, "post-live-migration-reply", S::PostReplyDelivered, Decoded, CLOUD, "amqp.method.method==60 && frame contains its _msg_id (Nova 15.0.0 and later)"),
    row(P::PostMigration, End, 2, "post-live-migration-reply-published", S::PostReplyPublished, Decoded, CLOUD, "amqp.method.method==40 && frame contains its _msg_id (Nova 15.0.0 and later)"),
    row(P::PostMigration, End, 3, "destination-instance-saved", S::DestinationSaved, Decoded, CLOUD, "the reply to object_action, Instance.save with the destination's name"),
    row(P::PostMigration, End, 4, "post-dest-end-notification", S::PostDestNotice, Decoded, CLOUD, "frame contains \"post.dest.end\""),
    row(P::PostMigration, End, 5, "post-end-notification", S::PostEndNotice, Decoded, CLOUD, "frame contains \"_post.end\""),
    row(P::PostMigration, End, 6, "console-tokens-cast", S::TokensDeleted, Decoded, CLOUD, "frame contains \"delete_tokens_for_instance\""),
    row(P::PostMigration, End, 7, "last-conductor-reply", S::LastConductorReply, Inferred, CLOUD, "the last reply with this request id before 1 s of silence"),
];

/// Phases that are there even where neither edge was seen.
pub const IMPLIED: &[Implied] = &[
    Implied {
        phase: P::RemoteConnect,
        by: &[
            S::PrepareCall,
            S::PrepareReply,
            S::FinishCall,
            S::FinishCancelCall,
        ],
        drivers: PEER,
    },
    Implied {
        phase: P::Preparation,
        by: &[S::PrepareCall, S::FinishCall, S::FinishCancelCall],
        drivers: LIBVIRT,
    },
    Implied {
        phase: P::Transfer,
        by: &[S::FinishCall],
        drivers: LIBVIRT,
    },
    Implied {
        phase: P::Initialization,
        by: &[S::PostCall, S::RunningSaved, S::PostReplyDelivered],
        drivers: CLOUD,
    },
    Implied {
        phase: P::PostMigration,
        by: &[S::FinishReply],
        drivers: CLOUD,
    },
];
