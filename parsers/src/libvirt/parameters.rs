//! Typed parameters: lists of name, type and value.
//!
//! Source: libvirt, `src/remote/remote_protocol.x`, `remote_typed_param`; the names of a migration:
//! `include/libvirt/libvirt-domain.h`, `VIR_MIGRATE_PARAM_…`.

use super::{
    domain::DomainSummary,
    message::Value,
    reader::{Reader, Treatment, is_name},
};

/// Most parameters of a list (`REMOTE_DOMAIN_MIGRATE_PARAM_LIST_MAX` and
/// `REMOTE_DOMAIN_JOB_STATS_MAX`).
const MAX_PARAMETERS: u32 = 64;

/// The one string among a job's statistics, `VIR_DOMAIN_JOB_ERRMSG`.
const JOB_ERRMSG: &str = "errmsg";

/// The parameters of a migration, as far as they are read.
#[derive(Debug, Default)]
pub(super) struct MigrationParameters {
    pub(super) migrate_uri: Option<String>,
    pub(super) destination_name: Option<String>,
    pub(super) destination: Option<DomainSummary>,
    pub(super) listen_address: Option<String>,
    pub(super) compression: Vec<String>,
    pub(super) bandwidth: Option<u64>,
    pub(super) parallel_connections: Option<i32>,
    pub(super) disks_port: Option<i32>,
}

/// How a parameter of a known name is treated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Text(Treatment),
    Number,
}

/// The parameters whose values may remain. All others (`graphics_uri`, `migrate_disks`,
/// `tls.destination`, unknown ones) keep their name and type only.
const USES: [(&str, Use); 20] = [
    ("migrate_uri", Use::Text(Treatment::Uri)),
    ("disks_uri", Use::Text(Treatment::Uri)),
    ("destination_name", Use::Text(Treatment::Keep)),
    ("listen_address", Use::Text(Treatment::Keep)),
    ("compression", Use::Text(Treatment::Keep)),
    ("destination_xml", Use::Text(Treatment::Domain)),
    ("persistent_xml", Use::Text(Treatment::Domain)),
    ("bandwidth", Use::Number),
    ("bandwidth.postcopy", Use::Number),
    ("bandwidth.avail.switchover", Use::Number),
    ("disks_port", Use::Number),
    ("compression.mt.level", Use::Number),
    ("compression.mt.threads", Use::Number),
    ("compression.mt.dthreads", Use::Number),
    ("compression.xbzrle.cache", Use::Number),
    ("compression.zlib.level", Use::Number),
    ("compression.zstd.level", Use::Number),
    ("auto_converge.initial", Use::Number),
    ("auto_converge.increment", Use::Number),
    ("parallel.connections", Use::Number),
];

/// A value as it is on the wire.
enum Raw {
    Number(Value),
    Text(String),
    Domain(Option<DomainSummary>),
    Blanked,
}

/// The parameter list of a migration call.
pub(super) fn migration(reader: &mut Reader<'_>) -> Option<MigrationParameters> {
    let mut read = MigrationParameters::default();
    for _ in 0..count(reader)? {
        let name = reader.text(Treatment::Name)?;
        let known = USES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, known)| known);
        match (name.as_str(), value(reader, known)?) {
            ("migrate_uri", Raw::Text(text)) => read.migrate_uri = Some(text),
            ("destination_name", Raw::Text(text)) => read.destination_name = Some(text),
            ("listen_address", Raw::Text(text)) => read.listen_address = Some(text),
            ("compression", Raw::Text(text)) => read.compression.push(text),
            ("destination_xml", Raw::Domain(domain)) => read.destination = domain,
            ("bandwidth", Raw::Number(number)) => read.bandwidth = number.to_u64(),
            ("parallel.connections", Raw::Number(number)) => {
                read.parallel_connections = number.to_i32();
            }
            ("disks_port", Raw::Number(number)) => read.disks_port = number.to_i32(),
            _ => {}
        }
    }
    Some(read)
}

/// The parameter list of a job's statistics: all numbers, and the text of its error.
pub(super) fn statistics(reader: &mut Reader<'_>) -> Option<Vec<(String, Value)>> {
    let mut read = Vec::new();
    for _ in 0..count(reader)? {
        let name = reader.text(Treatment::Name)?;
        let known = match name.as_str() {
            name if !is_name(name.as_bytes()) => None,
            JOB_ERRMSG => Some(Use::Text(Treatment::Keep)),
            _ => Some(Use::Number),
        };
        match value(reader, known)? {
            Raw::Number(number) => read.push((name, number)),
            Raw::Text(text) => read.push((name, Value::String(text))),
            _ => {}
        }
    }
    Some(read)
}

/// How many parameters follow.
fn count(reader: &mut Reader<'_>) -> Option<u32> {
    reader.u32().filter(|&count| count <= MAX_PARAMETERS)
}

/// Type and value of a parameter.
fn value(reader: &mut Reader<'_>, known: Option<Use>) -> Option<Raw> {
    let kind = reader.u32()?;
    let number = known == Some(Use::Number);
    let value = match kind {
        1 if number => Value::Int(reader.i32()?),
        2 if number => Value::Uint(reader.u32()?),
        3 if number => Value::Llong(reader.u64()?.cast_signed()),
        4 if number => Value::Ullong(reader.u64()?),
        5 if number => Value::Double(f64::from_bits(reader.u64()?)),
        6 if number => Value::Boolean(reader.u32()? != 0),
        1 | 2 | 6 => return reader.zero(4).map(|()| Raw::Blanked),
        3..=5 => return reader.zero(8).map(|()| Raw::Blanked),
        7 => {
            return match known {
                Some(Use::Text(Treatment::Domain)) => reader.domain_xml().map(Raw::Domain),
                Some(Use::Text(treatment)) => reader.text(treatment).map(Raw::Text),
                _ => reader.skip(Treatment::Blank).map(|()| Raw::Blanked),
            };
        }
        _ => return None,
    };
    Some(Raw::Number(value))
}
