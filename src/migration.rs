//! What a capture says about live migrations: who, which phases, how long, on what evidence.
//!
//! These types are the report: their serde form is `phasescope.report/1`. Durations are
//! nanoseconds, sizes are bytes. What is unknown is `None`, with a reason beside it.

mod assemble;
mod companions;
mod convergence;
mod downtime;
mod encrypted;
mod guests;
mod kept;
pub mod markers;
mod multifd;
pub mod openstack;
mod outcome;
mod records;
pub mod tracker;
mod transfer;

use serde::{Deserialize, Serialize};

use crate::net::Stamp;
use crate::time::Timestamp;
pub use markers::PhaseName;
pub use tracker::{Running, Tracker};

/// One migration of one guest, as far as the capture shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Migration {
    /// From 1, in order of first evidence.
    pub id: u32,
    /// Who moved.
    pub guest: Guest,
    /// From where.
    pub source: Host,
    /// To where.
    pub destination: Host,
    /// Who drove it.
    pub driver: Driver,
    /// How memory went.
    pub technique: Technique,
    /// How it ended.
    pub outcome: Outcome,
    /// In order of their starts.
    pub phases: Vec<Phase>,
    /// Time between phases that belongs to none; `None` where a phase is not bounded.
    pub gaps_ns: Option<i64>,
    /// Each of those.
    pub gaps: Vec<Hole>,
    /// Time that belongs to more than one phase.
    pub overlaps_ns: Option<i64>,
    /// libvirt's part: start of the remote connect to the end of cleanup.
    pub migration_time_ns: Option<i64>,
    /// Start of the first phase to the end of the last.
    pub total_time_ns: Option<i64>,
    /// First to last sign of a migration under a cloud that did not come to its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub elapsed_ns: Option<i64>,
    /// The memory transfer.
    pub transfer: Option<Transfer>,
    /// Disks copied beside the memory, over NBD or inside the stream.
    #[serde(default)]
    pub storage: Option<Storage>,
    /// When the guest stood still.
    pub pause: Option<Pause>,
    /// By every method, those without an answer with their reason.
    pub downtime: Vec<Downtime>,
    /// libvirt's calls of this migration.
    pub calls: Vec<Call>,
    /// What the hypervisor says of itself (libvirt's cookie), where it was on the wire.
    pub reported: Option<Reported>,
    /// What the cloud's own messages say of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub openstack: Option<openstack::Account>,
    /// What a reader should know besides.
    pub notes: Vec<String>,
}

/// A virtual machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Guest {
    /// Name.
    pub name: Option<String>,
    /// UUID.
    pub uuid: Option<String>,
    /// Machine type of its hypervisor, for example `pc-q35-9.2`.
    pub machine: Option<String>,
    /// Memory as the stream's block list or its definition gives it, bytes.
    pub memory_bytes: Option<u64>,
    /// Hardware addresses of its network devices.
    pub macs: Vec<String>,
}

/// A host.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Host {
    /// Network address.
    pub address: Option<String>,
    /// Its own name for itself.
    pub hostname: Option<String>,
}

/// Who drove the migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// The source's libvirt daemon talks to the destination's.
    LibvirtP2p,
    /// The same, and the stream goes through that connection.
    LibvirtTunnelled,
    /// A client talks to both daemons.
    LibvirtDirect,
    /// Nova, through libvirt on the hosts.
    Openstack,
    /// Only the stream was seen.
    None,
}

/// How memory went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Technique {
    /// Memory first, then the guest.
    PreCopy,
    /// The guest first, then memory.
    PostCopy,
    /// Pre-copy that switched to post-copy.
    Hybrid,
    /// The guest was not running.
    Offline,
    /// Not seen.
    Unknown,
}

/// How it ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// In one word.
    pub result: OutcomeKind,
    /// Why, as far as it is on the wire.
    pub reason: Option<String>,
}

/// The end of a migration in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeKind {
    /// The guest runs on the destination.
    Completed,
    /// Called off: the guest runs on the source.
    Cancelled,
    /// It went wrong.
    Failed,
    /// The destination would not have it.
    Refused,
    /// The capture ends first.
    Unfinished,
    /// Cannot be told.
    Unknown,
}

/// How a boundary is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// A message said so.
    Decoded,
    /// Opening or closing of a connection said so.
    Transport,
    /// From the shape of the traffic.
    Inferred,
}

impl Certainty {
    /// As reports give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decoded => "decoded",
            Self::Transport => "transport",
            Self::Inferred => "inferred",
        }
    }
}

/// A phase.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Phase {
    /// Which.
    pub name: PhaseName,
    /// Where it began.
    pub start: Option<Boundary>,
    /// Where it ended.
    pub end: Option<Boundary>,
    /// How long it took.
    pub duration_ns: Option<i64>,
    /// Part of the total time, 0 to 1.
    pub share: Option<f64>,
    /// Why a boundary is unknown.
    pub reason: Option<String>,
    /// Steps of it. Those that lie in the gap behind or before it hang on it too.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sub: Vec<openstack::SubPhase>,
}

/// One edge of a phase, and its evidence.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Boundary {
    /// When.
    pub time: String,
    /// The same, from the first packet of the capture.
    pub offset_ns: i64,
    /// The frame that proves it.
    pub frame: u64,
    /// The frame that holds the first byte of the message, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_frame: Option<u64>,
    /// The rule that made it a boundary; see `phasescope phases`.
    pub marker: String,
    /// How it is known.
    pub certainty: Certainty,
    /// Half the width of the interval in which it lies.
    pub uncertainty_ns: i64,
}

/// Time between two phases.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hole {
    /// The phase before.
    pub after: PhaseName,
    /// The phase behind.
    pub before: PhaseName,
    /// How long.
    pub duration_ns: i64,
}

/// A series of echo requests in the capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EchoSummary {
    /// Who asks.
    pub pinger: String,
    /// Who answers.
    pub target: String,
    /// Identifier.
    pub id: u16,
    /// Requests.
    pub requests: u64,
    /// Replies.
    pub replies: u64,
    /// Requests without a reply.
    pub unanswered: u64,
}

/// A moment in the capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub time: String,
    /// The same, from the first packet of the capture.
    pub offset_ns: i64,
    /// Frame.
    pub frame: u64,
}

/// The memory transfer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Transfer {
    /// Connections that carried it.
    pub connections: Vec<Connection>,
    /// Page records.
    pub pages: Pages,
    /// As QEMU counts its `transferred`: page records and section ends. `None` where not exact.
    pub transferred_bytes: Option<u64>,
    /// The same with the pages that multifd compressed at their full size: what QEMU before 8.1
    /// counts. Only where there are such pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transferred_uncompressed_bytes: Option<u64>,
    /// Bytes of page records, heads included.
    pub page_bytes: u64,
    /// Bytes that deltas and compression kept off the wire, against the same pages sent in full.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub saved_bytes: u64,
    /// Target page size.
    pub page_size: u32,
    /// Passes over memory, as far as they show.
    pub rounds: Vec<Round>,
    /// False where they were inferred: then there were at least so many.
    pub rounds_exact: bool,
    /// Bytes of device state, section heads included.
    pub device_bytes: u64,
    /// The last pass, with the guest stopped.
    pub stop_and_copy: Option<StopAndCopy>,
    /// The switch to post-copy.
    #[serde(default)]
    pub postcopy: Option<Postcopy>,
    /// Pages that multifd sent twice by mistake (a race in QEMU before 8.2); not in `pages`, for
    /// QEMU does not count them.
    #[serde(default)]
    pub sent_twice: u64,
    /// The stream was encrypted: nothing of its contents is known.
    #[serde(default)]
    pub encrypted: bool,
}

/// Disks copied beside the memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Storage {
    /// Names of the exports, or of the devices inside the stream.
    pub disks: Vec<String>,
    /// Bytes of WRITE requests, and of chunks with data inside the stream.
    pub written_bytes: u64,
    /// Bytes of WRITE_ZEROES requests and of chunks of zeroes, which are not sent.
    pub zeroed_bytes: u64,
    /// The last write.
    pub last_write: Option<Moment>,
    /// The connections could be read.
    pub exact: bool,
}

/// The switch to post-copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Postcopy {
    /// The destination may run the guest from here on (POSTCOPY_RUN). `None` where a broken
    /// post-copy goes on: it was in another connection.
    pub switch: Option<Moment>,
    /// Page records before it.
    pub pages_before: u64,
    /// Page records after it.
    pub pages_after: u64,
    /// Pages that the destination asked for.
    pub requests: u64,
    /// Of these, seen on their way afterwards.
    pub answered: u64,
    /// From the request to the page, nanoseconds: shortest, median, 95th percentile, longest.
    pub latency_ns: Option<[i64; 4]>,
}

/// The part of the stream after the guest stopped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StopAndCopy {
    /// The first byte that is sent only with the guest stopped.
    pub start: Moment,
    /// The last byte of memory.
    pub memory_end: Option<Moment>,
    /// The end of the element list; before post-copy, of the package that the guest needs to run.
    pub end: Option<Moment>,
    /// The destination says that it has loaded all.
    pub loaded: Option<Moment>,
    /// Pages sent in it.
    pub pages: u64,
}

/// One TCP connection of a migration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Connection {
    /// The side that opened it.
    pub client: String,
    /// The other side.
    pub server: String,
    /// What it is for.
    pub role: Role,
    /// Frames, both ways.
    pub packets: u64,
    /// Bytes of its frames on the wire, both ways.
    pub wire_bytes: u64,
    /// Payload both ways, each byte once.
    pub payload_bytes: u64,
    /// Of these, from client to server.
    pub payload_to_server_bytes: u64,
    /// Payload seen again.
    pub retransmitted_bytes: u64,
    /// Payload that the capture does not hold.
    pub missing_bytes: u64,
    /// First and last frame.
    pub first_frame: u64,
    /// See `first_frame`.
    pub last_frame: u64,
    /// Page records on it, those that were sent twice by mistake included; of a multifd or a
    /// preempt channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<u64>,
    /// Synchronisations of a multifd channel. They mark no rounds: QEMU makes one at each section,
    /// or at each wrap of its search (`migration/ram.c`, `multifd_flush_after_each_section`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syncs: Option<u64>,
    /// What its TLS handshake says, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Handshake>,
    /// What the identification lines say, where it is SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Identification>,
}

/// The software of both ends of an SSH connection (RFC 4253, section 4.2), as `OpenSSH_9.2p1`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identification {
    /// The client's.
    pub client: Option<String>,
    /// The server's.
    pub server: Option<String>,
}

/// What a TLS handshake says in clear.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// The version that the server chose, as `TLS 1.3`; a number in hexadecimal where it is unknown.
    pub version: Option<String>,
    /// Whom the client asked for (RFC 6066, section 3).
    pub server_name: Option<String>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The migration stream.
    Main,
    /// Pages beside it.
    Multifd,
    /// Requested pages in post-copy.
    PostcopyPreempt,
    /// Disks.
    Nbd,
    /// libvirt.
    Control,
}

/// Page records by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// Sent in full (QEMU's `normal`).
    pub normal: u64,
    /// One byte for all (QEMU's `duplicate`).
    pub zero: u64,
    /// Deltas.
    pub xbzrle: u64,
    /// Compressed one by one (QEMU's old multi-thread compression).
    pub compressed: u64,
    /// Of `normal`, those that multifd compressed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub normal_compressed: u64,
    /// The stream was seen whole; else these are lower bounds.
    pub exact: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// One pass over memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Round {
    /// From 1.
    pub index: u32,
    /// First page record, from the first packet of the capture.
    pub start_offset_ns: i64,
    /// Last page record.
    pub end_offset_ns: i64,
    /// Frame of the first page record.
    pub start_frame: u64,
    /// Frame of the last one.
    pub end_frame: u64,
    /// Page records.
    pub pages: u64,
    /// Of these, zero pages.
    pub zero_pages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes a second; `None` where all lies in one frame.
    pub bytes_per_second: Option<u64>,
    /// The guest stood still.
    pub stopped: bool,
}

/// When the guest stood still: as intervals, for the wire does not show the very moments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pause {
    /// The source stopped it no earlier than this…
    pub stop_earliest: Option<Moment>,
    /// …and no later than this.
    pub stop_latest: Option<Moment>,
    /// The stop as the source's libvirt tells it in its FINISH cookie, in whole milliseconds; what
    /// it carries was sent a little before its frame, so this is rather late than early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reported: Option<Moment>,
    /// The destination started it no earlier than this…
    pub resume_earliest: Option<Moment>,
    /// …and no later than this.
    pub resume_latest: Option<Moment>,
    /// Shortest pause that fits.
    pub min_ns: Option<i64>,
    /// Longest pause that fits.
    pub max_ns: Option<i64>,
}

/// Downtime by one method.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Downtime {
    /// Which.
    pub method: DowntimeMethod,
    /// The answer.
    pub duration_ns: Option<i64>,
    /// How sure.
    pub certainty: Option<Certainty>,
    /// Echo requests without an answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lost: Option<u64>,
    /// Time between two of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interval_ns: Option<i64>,
    /// What it was measured on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    /// From where…
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<Moment>,
    /// …to where.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<Moment>,
    /// Why there is no answer, or what the reader must know.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// A way to measure downtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DowntimeMethod {
    /// Unanswered echo requests × their interval.
    LostEchoes,
    /// Longest gap between echo replies around the switch-over.
    EchoGap,
    /// Last reply by way of the source to first by way of the destination.
    PathSwitch,
    /// No frame from the guest's hardware address.
    GuestSilence,
    /// From the first byte sent with the guest stopped to the end of the stream.
    StopAndCopy,
    /// QEMU's own figure, from libvirt's cookie.
    Reported,
}

impl DowntimeMethod {
    /// Its name in reports, and what it measures.
    pub fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::LostEchoes => ("lost-echoes", "unanswered echo requests × their interval"),
            Self::EchoGap => (
                "echo-gap",
                "between the echo replies around the switch-over",
            ),
            Self::PathSwitch => (
                "path-switch",
                "last reply via source to first via destination",
            ),
            Self::GuestSilence => ("guest-silence", "no frame from the guest's MAC address"),
            Self::StopAndCopy => ("stop-and-copy", "bytes sent with the guest stopped"),
            Self::Reported => ("reported", "QEMU's own figure in libvirt's cookie"),
        }
    }
}

/// A libvirt call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// Program, for example `REMOTE`.
    pub program: String,
    /// Procedure, by name where known.
    pub procedure: String,
    /// Serial.
    pub serial: u32,
    /// The call's last byte.
    pub call: Option<Moment>,
    /// The reply's last byte.
    pub reply: Option<Moment>,
    /// `ok` or `error`; `None` without a reply.
    pub status: Option<String>,
    /// Call to reply.
    pub duration_ns: Option<i64>,
}

/// The hypervisor's own figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// Downtime, ms.
    pub downtime_ms: Option<u64>,
    /// Time since the start of the job, ms.
    pub time_elapsed_ms: Option<u64>,
    /// Time for setting up, ms.
    pub setup_time_ms: Option<u64>,
    /// Dirty-bitmap syncs.
    pub iterations: Option<u64>,
    /// Pages sent in full.
    pub normal_pages: Option<u64>,
    /// Zero pages.
    pub constant_pages: Option<u64>,
    /// Bytes of memory sent.
    pub memory_processed_bytes: Option<u64>,
    /// Page requests in post-copy.
    pub postcopy_requests: Option<u64>,
}

/// Turns stamps into moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// The first packet of the capture.
    pub(crate) first: Timestamp,
}

impl Clock {
    pub(crate) fn moment(self, s: Stamp) -> Moment {
        Moment {
            time: s.time.to_string(),
            offset_ns: s.time.since(self.first),
            frame: s.frame,
        }
    }
}
