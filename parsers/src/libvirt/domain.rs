//! What a domain's XML says of the VM.
//!
//! Source: libvirt, `docs/formatdomain.rst` and `src/conf/domain_conf.c`.

use super::xml::{self, Class, Rule};

/// Most addresses and disks taken of one domain.
const MAX_DEVICES: usize = 64;

/// What is read of a domain's XML; everything else is blanked.
pub(super) const RULES: [Rule; 8] = [
    Rule::new(&["domain"], &["name"], None, Class::Any),
    Rule::new(&["domain"], &["uuid"], None, Class::Hexadecimal),
    Rule::new(&["domain"], &["memory"], None, Class::Number),
    Rule::new(&["domain"], &["memory"], Some("unit"), Class::Identifier),
    Rule::new(&["domain"], &["vcpu"], None, Class::Number),
    Rule::new(
        &["domain", "os"],
        &["type"],
        Some("machine"),
        Class::Identifier,
    ),
    Rule::new(
        &["domain", "devices", "interface"],
        &["mac"],
        Some("address"),
        Class::Hexadecimal,
    ),
    Rule::new(
        &["domain", "devices", "disk"],
        &["target"],
        Some("dev"),
        Class::Identifier,
    ),
];

/// The few parts of a domain's XML that tell one VM from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainSummary {
    /// `name`.
    pub name: Option<String>,
    /// `uuid`.
    pub uuid: Option<[u8; 16]>,
    /// `devices/interface/mac@address`, in the order of the XML, at most 64.
    pub macs: Vec<[u8; 6]>,
    /// `memory`, in KiB whatever its unit: the most that the guest has after boot.
    pub memory_kib: Option<u64>,
    /// `vcpu`: the most that the guest may have.
    pub vcpus: Option<u32>,
    /// `devices/disk/target@dev`, in the order of the XML, at most 64.
    pub disks: Vec<String>,
    /// `os/type@machine`.
    pub machine: Option<String>,
}

impl DomainSummary {
    /// Reads a domain's XML. Nothing if it is no XML, has a document type, or is of something
    /// else; single parts that are absent or unreadable are left out.
    #[must_use]
    pub fn parse(xml: &[u8]) -> Option<Self> {
        let mut copy = xml.to_vec();
        xml::scrub(&mut copy, &RULES);
        Self::from_scrubbed(&copy)
    }

    /// As [`Self::parse`], of XML that has been through [`xml::scrub`].
    pub(super) fn from_scrubbed(scrubbed: &[u8]) -> Option<Self> {
        xml::read(scrubbed, |root| {
            if root.tag_name().name() != "domain" {
                return None;
            }
            let mut summary = Self {
                name: xml::child_text(root, "name"),
                uuid: xml::child_text(root, "uuid").and_then(|text| xml::hexadecimal(&text)),
                vcpus: xml::child_text(root, "vcpu").and_then(|text| text.parse().ok()),
                machine: xml::children(root, "os")
                    .flat_map(|os| xml::children(os, "type"))
                    .find_map(|kind| kind.attribute("machine"))
                    .map(str::to_owned),
                memory_kib: xml::children(root, "memory").next().and_then(memory_kib),
                ..Self::default()
            };
            for devices in xml::children(root, "devices") {
                let macs = xml::children(devices, "interface")
                    .flat_map(|interface| xml::children(interface, "mac"))
                    .filter_map(|mac| xml::hexadecimal(mac.attribute("address")?));
                summary
                    .macs
                    .extend(macs.take(MAX_DEVICES.saturating_sub(summary.macs.len())));
                let disks = xml::children(devices, "disk")
                    .flat_map(|disk| xml::children(disk, "target"))
                    .filter_map(|target| target.attribute("dev").map(str::to_owned));
                summary
                    .disks
                    .extend(disks.take(MAX_DEVICES.saturating_sub(summary.disks.len())));
            }
            Some(summary)
        })
    }
}

/// The size in a `memory` element. Units: libvirt, `src/util/virutil.c`, `virScaleInteger`; KiB if
/// none is given.
fn memory_kib(node: roxmltree::Node<'_, '_>) -> Option<u64> {
    let value: u64 = node.text()?.trim().parse().ok()?;
    let bytes: u64 = match node.attribute("unit").unwrap_or("KiB") {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "K" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "m" | "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "g" | "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "t" | "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    let kib = u128::from(value).checked_mul(u128::from(bytes))? / 1024;
    u64::try_from(kib).ok()
}
