//! Commands of the stream (element 0x08): `u16 command, u16 length, length bytes`.
//!
//! Source: QEMU `migration/savevm.c`, `enum qemu_vm_cmd` and `mig_cmd_args`.

use nom::multi::length_data;
use nom::number::streaming::be_u16;
use nom::{IResult, Parser};

/// Number and name of a command, and the payload length that QEMU requires (`None`: any).
pub struct CommandSpec {
    /// `MIG_CMD_*` without the prefix.
    pub name: &'static str,
    /// Number on the wire.
    pub number: u16,
    /// Lengths of the payload that are legal, bytes.
    pub lengths: Option<&'static [u16]>,
}

const fn spec(number: u16, name: &'static str, lengths: Option<&'static [u16]>) -> CommandSpec {
    CommandSpec {
        name,
        number,
        lengths,
    }
}

/// The destination may write on the same socket from now on.
pub const OPEN_RETURN_PATH: u16 = 1;
/// Answered by a PONG with the same value.
pub const PING: u16 = 2;
/// Post-copy may be used later; gives page sizes.
pub const POSTCOPY_ADVISE: u16 = 3;
/// The destination may start its virtual CPUs.
pub const POSTCOPY_RUN: u16 = 5;
/// Pages that the destination must forget, for they will come again.
pub const POSTCOPY_RAM_DISCARD: u16 = 6;
/// A nested element list of announced length follows.
pub const PACKAGED: u16 = 7;
/// A broken post-copy goes on.
pub const POSTCOPY_RESUME: u16 = 9;
/// The destination shall say which pages of a block have arrived.
pub const RECV_BITMAP: u16 = 10;
/// The guest is stopped and the last pass begins (QEMU 10.0).
pub const SWITCHOVER_START: u16 = 11;

/// All commands, in the order of their numbers (0 to 11).
pub const COMMANDS: [CommandSpec; 12] = [
    spec(0, "INVALID", None),
    spec(1, "OPEN_RETURN_PATH", Some(&[0])),
    spec(2, "PING", Some(&[4])),
    spec(3, "POSTCOPY_ADVISE", Some(&[0, 16])),
    spec(4, "POSTCOPY_LISTEN", Some(&[0])),
    spec(5, "POSTCOPY_RUN", Some(&[0])),
    spec(6, "POSTCOPY_RAM_DISCARD", None),
    spec(7, "PACKAGED", Some(&[4])),
    spec(8, "ENABLE_COLO", Some(&[0])),
    spec(9, "POSTCOPY_RESUME", Some(&[0])),
    spec(10, "RECV_BITMAP", None),
    spec(11, "SWITCHOVER_START", Some(&[0])),
];

/// A command and its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// Number, see [`COMMANDS`].
    pub number: u16,
    /// Payload, at most 65,535 bytes.
    pub payload: &'a [u8],
}

impl Command<'_> {
    /// QEMU's name, or `UNKNOWN`.
    pub fn name(&self) -> &'static str {
        COMMANDS
            .get(usize::from(self.number))
            .map_or("UNKNOWN", |c| c.name)
    }

    /// Known number with a legal length?
    pub(crate) fn plausible(&self) -> bool {
        head_plausible(self.number, self.payload.len())
    }

    /// The payload as one big-endian `u32` (PING, PACKAGED).
    pub fn value(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.payload.get(..4)?.try_into().ok()?))
    }

    /// Target page size of POSTCOPY_ADVISE, bytes.
    pub(crate) fn advised_page_size(&self) -> Option<u64> {
        Some(u64::from_be_bytes(
            self.payload.get(8..16)?.try_into().ok()?,
        ))
    }
}

/// Is this a known number with a legal length?
pub(crate) fn head_plausible(number: u16, length: usize) -> bool {
    COMMANDS
        .get(usize::from(number))
        .filter(|c| c.number != 0)
        .is_some_and(|c| {
            c.lengths
                .is_none_or(|l| l.iter().any(|l| usize::from(*l) == length))
        })
}

/// A command, after its 0x08 byte.
///
/// # Errors
/// nom's: too few bytes, with how many are missing where that is known.
pub fn command(input: &[u8]) -> IResult<&[u8], Command<'_>> {
    (be_u16, length_data(be_u16))
        .map(|(number, payload)| Command { number, payload })
        .parse(input)
}
