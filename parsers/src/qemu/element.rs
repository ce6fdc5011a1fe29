//! Top-level elements of the stream: section headers, footers, configuration.
//!
//! Source: QEMU `migration/savevm.c` (`save_section_header`, `save_section_footer`,
//! `vmstate_configuration`).

use nom::bytes::streaming::take;
use nom::multi::length_data;
use nom::number::streaming::{be_u8, be_u32, be_u64};
use nom::{IResult, Parser};

/// The byte that opens an element (`QEMU_VM_*`, savevm.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ElementType {
    /// End of the element list.
    Eof = 0x00,
    /// An iterable's first part.
    SectionStart = 0x01,
    /// A later part: a time slice, not a round.
    SectionPart = 0x02,
    /// An iterable's last part, sent while the guest is stopped.
    SectionEnd = 0x03,
    /// A device's whole state.
    SectionFull = 0x04,
    /// Only inside the payload of other elements.
    Subsection = 0x05,
    /// JSON that describes the device state, after [`ElementType::Eof`].
    VmDescription = 0x06,
    /// Machine type and stream features.
    Configuration = 0x07,
    /// A command, see [`super::command`].
    Command = 0x08,
    /// End mark of a section, with its id.
    SectionFooter = 0x7e,
}

impl ElementType {
    /// QEMU's name without `QEMU_VM_`, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::SectionStart => "section-start",
            Self::SectionPart => "section-part",
            Self::SectionEnd => "section-end",
            Self::SectionFull => "section-full",
            Self::Subsection => "subsection",
            Self::VmDescription => "vmdescription",
            Self::Configuration => "configuration",
            Self::Command => "command",
            Self::SectionFooter => "section-footer",
        }
    }
}

/// Section ids above this are taken for damage: QEMU counts them up from 0 per registered device.
pub const MAX_SECTION_ID: u32 = 1 << 20;

/// Version ids in use are small; a larger one is taken for damage.
pub const MAX_SECTION_VERSION: u32 = 1000;

/// Longest machine name that is believed (`QEMU_VM_CONFIGURATION`). Bytes.
pub const MAX_MACHINE_NAME: usize = 256;

/// Head of a START or FULL section, after its type byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionHead<'a> {
    /// Registration counter of the source; only meaningful within this stream.
    pub id: u32,
    /// Device name (`idstr`), for example `ram` or `0000:00:03.0/virtio-net`.
    pub name: &'a [u8],
    /// Tells equal devices apart.
    pub instance: u32,
    /// Version of the device's state format.
    pub version: u32,
}

/// `u32 id, u8 n, n bytes idstr, u32 instance_id, u32 version_id`.
///
/// # Errors
/// nom's: too few bytes, with how many are missing where that is known.
pub(crate) fn section_head(input: &[u8]) -> IResult<&[u8], SectionHead<'_>> {
    (be_u32, length_data(be_u8), be_u32, be_u32)
        .map(|(id, name, instance, version)| SectionHead {
            id,
            name,
            instance,
            version,
        })
        .parse(input)
}

impl SectionHead<'_> {
    /// Could a real QEMU have written this? Used to believe a header that was found by scanning.
    pub(crate) fn plausible(&self) -> bool {
        self.id < MAX_SECTION_ID
            && self.version < MAX_SECTION_VERSION
            && !self.name.is_empty()
            && self.name.iter().all(|b| (0x20..0x7f).contains(b))
    }
}

/// Body of a configuration subsection (`0x05, u8 n, name, u32 version, body`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSubsection<'a> {
    /// `configuration/target-page-bits`: log2 of the target's page size.
    TargetPageBits(u32),
    /// `configuration/capabilities`: number of capability names that follow.
    Capabilities(u32),
    /// `configuration/uuid`: the guest's UUID, 16 bytes.
    Uuid(&'a [u8]),
}

/// One configuration subsection, after its 0x05 byte. The names of `capabilities` follow and are
/// read by [`capability_name`].
///
/// # Errors
/// A name that this format does not know ends in `nom::Err::Error`: its length cannot be told.
pub(crate) fn config_subsection(input: &[u8]) -> IResult<&[u8], ConfigSubsection<'_>> {
    let (rest, (name, _version)) = (length_data(be_u8), be_u32).parse(input)?;
    match name {
        b"configuration/target-page-bits" => {
            be_u32.map(ConfigSubsection::TargetPageBits).parse(rest)
        }
        b"configuration/capabilities" => be_u32.map(ConfigSubsection::Capabilities).parse(rest),
        b"configuration/uuid" => take(16usize).map(ConfigSubsection::Uuid).parse(rest),
        _ => Err(nom::Err::Error(nom::error::Error::new(
            input,
            nom::error::ErrorKind::Tag,
        ))),
    }
}

/// One name of `configuration/capabilities`: `u8 n, n bytes`.
///
/// # Errors
/// nom's: too few bytes, with how many are missing where that is known.
pub(crate) fn capability_name(input: &[u8]) -> IResult<&[u8], &[u8]> {
    length_data(be_u8).parse(input)
}

/// One entry of the RAM block list: `u8 n, n bytes name, u64 used_length` (bytes).
///
/// # Errors
/// nom's: too few bytes, with how many are missing where that is known.
pub(crate) fn ram_block(input: &[u8]) -> IResult<&[u8], (&[u8], u64)> {
    (length_data(be_u8), be_u64).parse(input)
}
