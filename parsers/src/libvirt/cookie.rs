//! The migration cookie: XML that the two daemons hand each other with every step.
//!
//! Source: libvirt, `src/qemu/qemu_migration_cookie.c`.

use super::xml::{self, Class, Rule};

/// Most features, disks and capabilities taken of one cookie, each.
const MAX_ITEMS: usize = 64;

/// Root element.
const ROOT: &str = "qemu-migration";

/// What is read of a cookie; everything else is blanked.
pub(super) const RULES: [Rule; 8] = [
    Rule::new(&[ROOT], &["name", "hostname"], None, Class::Any),
    Rule::new(&[ROOT], &["uuid", "hostuuid"], None, Class::Hexadecimal),
    Rule::new(&[ROOT], &["feature"], Some("name"), Class::Identifier),
    Rule::new(&[ROOT], &["nbd"], Some("port"), Class::Number),
    Rule::new(&[ROOT, "nbd"], &["disk"], Some("target"), Class::Identifier),
    Rule::new(&[ROOT, "nbd"], &["disk"], Some("capacity"), Class::Number),
    Rule::new(&[ROOT, "statistics"], &STATISTICS, None, Class::Number),
    Rule::new(
        &[ROOT, "capabilities"],
        &["cap"],
        Some("name"),
        Class::Identifier,
    ),
];

/// The elements below `statistics` that are read (`qemuMigrationCookieStatisticsXMLFormat`).
const STATISTICS: [&str; 28] = [
    "started",
    "stopped",
    "sent",
    "delta",
    "time_elapsed",
    "downtime",
    "setup_time",
    "memory_total",
    "memory_processed",
    "memory_remaining",
    "memory_bps",
    "memory_constant",
    "memory_normal",
    "memory_normal_bytes",
    "memory_dirty_rate",
    "memory_iteration",
    "memory_postcopy_requests",
    "memory_page_size",
    "disk_total",
    "disk_processed",
    "disk_remaining",
    "disk_bps",
    "auto_converge_throttle",
    "compression_cache",
    "compression_bytes",
    "compression_pages",
    "compression_cache_misses",
    "compression_overflow",
];

/// A migration cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    /// `name`: of the domain.
    pub name: Option<String>,
    /// `uuid`: of the domain.
    pub uuid: Option<[u8; 16]>,
    /// `hostname`: of the sender.
    pub hostname: Option<String>,
    /// `hostuuid`: of the sender.
    pub hostuuid: Option<[u8; 16]>,
    /// `feature@name`: what the receiver must understand; at most 64.
    pub features: Vec<String>,
    /// `nbd`: storage that is copied by NBD.
    pub nbd: Option<Nbd>,
    /// `statistics`.
    pub statistics: Option<Statistics>,
    /// `capabilities/cap@name`: QEMU's migration capabilities of the sender; at most 64.
    pub capabilities: Vec<String>,
}

/// Storage that is copied by NBD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nbd {
    /// `port`: where the destination listens; only the destination knows it.
    pub port: Option<u16>,
    /// `disk@target` and `disk@capacity` in bytes; at most 64.
    pub disks: Vec<(String, u64)>,
}

/// The job's statistics; times in milliseconds, sizes in bytes where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When the job began, by the source's clock, since 1970.
    pub started: Option<u64>,
    /// When the guest's processors stopped, by the source's clock.
    pub stopped: Option<u64>,
    /// When the cookie was made, by the source's clock.
    pub sent: Option<u64>,
    /// The destination's clock less the source's, the way there included.
    pub delta: Option<i64>,
    /// Time since the beginning.
    pub time_elapsed: Option<u64>,
    /// How long the guest stood still.
    pub downtime: Option<u64>,
    /// Time of setting up.
    pub setup_time: Option<u64>,
    /// Memory to be transferred.
    pub memory_total: Option<u64>,
    /// Memory transferred.
    pub memory_processed: Option<u64>,
    /// Memory that remains.
    pub memory_remaining: Option<u64>,
    /// Bytes a second.
    pub memory_bps: Option<u64>,
    /// Pages of one repeated byte.
    pub memory_constant: Option<u64>,
    /// Pages sent whole.
    pub memory_normal: Option<u64>,
    /// Bytes of the pages sent whole.
    pub memory_normal_bytes: Option<u64>,
    /// Pages a second that the guest writes to.
    pub memory_dirty_rate: Option<u64>,
    /// Rounds over the memory: QEMU's dirty-sync-count.
    pub memory_iteration: Option<u64>,
    /// Pages asked for in post-copy.
    pub memory_postcopy_requests: Option<u64>,
    /// Bytes of a page.
    pub memory_page_size: Option<u64>,
    /// Storage to be transferred.
    pub disk_total: Option<u64>,
    /// Storage transferred.
    pub disk_processed: Option<u64>,
    /// Storage that remains.
    pub disk_remaining: Option<u64>,
    /// Bytes of storage a second.
    pub disk_bps: Option<u64>,
    /// Percentage by which auto-converge slows the guest.
    pub auto_converge_throttle: Option<u64>,
    /// Size of the XBZRLE cache.
    pub compression_cache: Option<u64>,
    /// Bytes sent compressed.
    pub compression_bytes: Option<u64>,
    /// Pages sent compressed.
    pub compression_pages: Option<u64>,
    /// Pages that were not in the cache.
    pub compression_cache_misses: Option<u64>,
    /// Pages that grew by compression.
    pub compression_overflow: Option<u64>,
}

impl Cookie {
    /// Reads a cookie as it is on the wire, its final zero byte included. Nothing if it is no XML,
    /// has a document type, or is of something else; parts that are absent are left out.
    #[must_use]
    pub fn parse(opaque: &[u8]) -> Option<Self> {
        let mut copy = opaque.to_vec();
        scrub(&mut copy);
        Self::from_scrubbed(&copy)
    }

    /// As [`Self::parse`], of bytes that have been through [`scrub`].
    pub(super) fn from_scrubbed(scrubbed: &[u8]) -> Option<Self> {
        xml::read(scrubbed.strip_suffix(&[0]).unwrap_or(scrubbed), |root| {
            if root.tag_name().name() != ROOT {
                return None;
            }
            let uuid = |name| xml::child_text(root, name).and_then(|text| xml::hexadecimal(&text));
            Some(Self {
                name: xml::child_text(root, "name"),
                uuid: uuid("uuid"),
                hostname: xml::child_text(root, "hostname"),
                hostuuid: uuid("hostuuid"),
                features: names(root, "feature"),
                nbd: xml::children(root, "nbd").next().map(nbd),
                statistics: xml::children(root, "statistics").next().map(statistics),
                capabilities: xml::children(root, "capabilities")
                    .next()
                    .map(|capabilities| names(capabilities, "cap"))
                    .unwrap_or_default(),
            })
        })
    }
}

/// Blanks what [`Cookie::parse`] does not read, in place; the final zero byte stays.
pub(super) fn scrub(opaque: &mut [u8]) {
    let document = match opaque.split_last_mut() {
        Some((0, document)) => document,
        _ => opaque,
    };
    xml::scrub(document, &RULES);
}

/// The `name` attributes of the elements of a name.
fn names(node: roxmltree::Node<'_, '_>, element: &'static str) -> Vec<String> {
    xml::children(node, element)
        .filter_map(|child| child.attribute("name").map(str::to_owned))
        .take(MAX_ITEMS)
        .collect()
}

fn nbd(node: roxmltree::Node<'_, '_>) -> Nbd {
    let disk = |disk: roxmltree::Node<'_, '_>| {
        let target = disk.attribute("target")?.to_owned();
        Some((target, disk.attribute("capacity")?.parse().ok()?))
    };
    Nbd {
        port: node.attribute("port").and_then(|port| port.parse().ok()),
        disks: xml::children(node, "disk")
            .filter_map(disk)
            .take(MAX_ITEMS)
            .collect(),
    }
}

fn statistics(node: roxmltree::Node<'_, '_>) -> Statistics {
    let number = |name| xml::child_text(node, name).and_then(|text| text.parse().ok());
    Statistics {
        started: number("started"),
        stopped: number("stopped"),
        sent: number("sent"),
        delta: xml::child_text(node, "delta").and_then(|text| text.parse().ok()),
        time_elapsed: number("time_elapsed"),
        downtime: number("downtime"),
        setup_time: number("setup_time"),
        memory_total: number("memory_total"),
        memory_processed: number("memory_processed"),
        memory_remaining: number("memory_remaining"),
        memory_bps: number("memory_bps"),
        memory_constant: number("memory_constant"),
        memory_normal: number("memory_normal"),
        memory_normal_bytes: number("memory_normal_bytes"),
        memory_dirty_rate: number("memory_dirty_rate"),
        memory_iteration: number("memory_iteration"),
        memory_postcopy_requests: number("memory_postcopy_requests"),
        memory_page_size: number("memory_page_size"),
        disk_total: number("disk_total"),
        disk_processed: number("disk_processed"),
        disk_remaining: number("disk_remaining"),
        disk_bps: number("disk_bps"),
        auto_converge_throttle: number("auto_converge_throttle"),
        compression_cache: number("compression_cache"),
        compression_bytes: number("compression_bytes"),
        compression_pages: number("compression_pages"),
        compression_cache_misses: number("compression_cache_misses"),
        compression_overflow: number("compression_overflow"),
    }
}
