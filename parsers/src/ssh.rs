//! The identification line of SSH, which both ends send first and in clear. Nothing after it is
//! looked at.
//!
//! Source: RFC 4253 section 4.2 and, for the version 1.99, section 5.1.

use crate::intake::begins_with;
use crate::qemu::Probe;

/// Longest line, with CR and LF. Bytes.
pub const MAX_LINE: usize = 255;

/// How a line begins: protocol 2.0, or a server that also speaks version 1.
const PREFIXES: [&[u8]; 2] = [b"SSH-2.0-", b"SSH-1.99-"];

/// The identification line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identification<'a> {
    /// Protocol version, `2.0` or `1.99`.
    pub protocol: &'a str,
    /// Software version, for example `OpenSSH_9.2p1`.
    pub software: &'a str,
    /// What follows the first space; empty if nothing does.
    pub comments: &'a str,
}

/// Do these bytes begin an SSH connection? A server may send other lines before; that is rare
/// and not recognised.
pub fn probe(input: &[u8]) -> Probe {
    let mut verdict = Probe::No;
    for prefix in PREFIXES {
        match begins_with(input, prefix) {
            Probe::Yes => return Probe::Yes,
            Probe::NeedMore => verdict = Probe::NeedMore,
            Probe::No => {}
        }
    }
    verdict
}

/// The identification at the beginning of a direction's bytes, once its line has ended. `None`:
/// not yet, or not SSH, or not printable.
pub fn identification(input: &[u8]) -> Option<Identification<'_>> {
    if probe(input) != Probe::Yes {
        return None;
    }
    let window = input.get(..input.len().min(MAX_LINE))?;
    let end = memchr::memchr(b'\n', window)?;
    let line = window.get(..end)?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if !line.iter().all(|b| (0x20..0x7f).contains(b)) {
        return None;
    }
    let line = std::str::from_utf8(line).ok()?;
    let (protocol, rest) = line.strip_prefix("SSH-")?.split_once('-')?;
    let (software, comments) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(Identification {
        protocol,
        software,
        comments,
    })
}
