//! The URIs of a migration: where the transfer goes, and which daemon is asked.
//!
//! Source: libvirt, `src/qemu/qemu_migration.c` (`qemuMigrationDstPrepareDirect` makes
//! `tcp:host:port`, and reads the forms with slashes) and `src/util/viruri.c`.

use crate::BLANK;

/// A URI taken apart as far as an address needs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MigrationUri {
    /// `tcp`, `rdma`, `unix`, `qemu+tls`, and so on.
    pub scheme: String,
    /// Name or address, without user and brackets; absent for UNIX sockets.
    pub host: Option<String>,
    /// TCP port, if given.
    pub port: Option<u16>,
}

impl MigrationUri {
    /// Reads `scheme:host:port` (libvirt's old form), `scheme://user@host:port/path`, with an IPv6
    /// address in brackets in either, and `scheme:/path`. Nothing if the scheme or the port cannot
    /// be one.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once(':')?;
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(letters) {
            return None;
        }
        let scheme = scheme.to_owned();
        if scheme == "unix" {
            return Some(Self {
                scheme,
                host: None,
                port: None,
            });
        }
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let address = authority
            .rsplit_once('@')
            .map_or(authority, |(_, address)| address);
        let (host, port) = if let Some(bracketed) = address.strip_prefix('[') {
            let (host, after) = bracketed.split_once(']')?;
            match after.strip_prefix(':') {
                Some(port) => (host, port),
                None if after.is_empty() => (host, ""),
                None => return None,
            }
        } else {
            address.rsplit_once(':').unwrap_or((address, ""))
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port {
            "" => None,
            _ if digits => Some(port.parse().ok()?),
            _ => return None,
        };
        Some(Self {
            scheme,
            host: (!host.is_empty()).then(|| host.to_owned()),
            port,
        })
    }
}

/// Blanks a password, and whatever follows a question mark or a number sign. Does nothing more the
/// second time.
///
/// A password ends at the last `@`, wherever that is, for an unescaped slash in a password must
/// not bring the rest of it to light; a stray `@` in a path so costs the port instead.
pub(super) fn mask(uri: &mut [u8]) {
    let start = memchr::memchr(b':', uri)
        .filter(|&colon| {
            uri.get(colon..)
                .is_some_and(|rest| rest.starts_with(b"://"))
        })
        .map_or(0, |colon| colon.saturating_add(3));
    if let Some(end) = memchr::memrchr(b'@', uri)
        && let Some(user_info) = uri.get_mut(start..end)
        && let Some(colon) = memchr::memchr(b':', user_info)
        && let Some(password) = user_info.get_mut(colon.saturating_add(1)..)
    {
        password.fill(BLANK);
    }
    if let Some(mark) = memchr::memchr2(b'?', b'#', uri)
        && let Some(query) = uri.get_mut(mark.saturating_add(1)..)
    {
        query.fill(BLANK);
    }
}
