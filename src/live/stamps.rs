//! Where the time stamps of captured frames come from: the host's clock, or the network adapter's.
//!
//! libpcap takes a type that a device does not have for the host's without a word that its crate
//! hands on. So the device is asked first, over ethtool's netlink family, for what libpcap asks
//! (`iface_ethtool_get_ts_info`, libpcap `pcap-linux.c`).

use std::io;

use pcap::TimestampType;

/// A type of time stamps, by tcpdump's names (pcap-tstamp(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stamps {
    /// The host's clock.
    #[default]
    Host,
    /// The adapter's clock, kept in step with the host's.
    Adapter,
    /// The adapter's clock as it is.
    AdapterUnsynced,
}

/// Types, their names, what they are, and the bit of `so_timestamping` that an adapter must have
/// (`SOF_TIMESTAMPING_SYS_HARDWARE`, `SOF_TIMESTAMPING_RAW_HARDWARE`, Linux `net_tstamp.h`).
const TYPES: [(Stamps, &str, &str, Option<u32>); 3] = [
    (Stamps::Host, "host", "the host's clock", None),
    (
        Stamps::Adapter,
        "adapter",
        "the adapter's clock, in step with the host's",
        Some(1 << 5),
    ),
    (
        Stamps::AdapterUnsynced,
        "adapter_unsynced",
        "the adapter's own clock",
        Some(1 << 6),
    ),
];

/// Every frame gets a stamp of the adapter's (bit `HWTSTAMP_FILTER_ALL`, Linux `net_tstamp.h`).
const FILTER_ALL: u32 = 1 << 1;

impl Stamps {
    /// Its name.
    pub fn name(self) -> &'static str {
        let found = TYPES.iter().find(|(t, ..)| *t == self);
        found.map_or("host", |(_, name, ..)| name)
    }

    pub(super) fn of_pcap(self) -> TimestampType {
        match self {
            Stamps::Host => TimestampType::Host,
            Stamps::Adapter => TimestampType::Adapter,
            Stamps::AdapterUnsynced => TimestampType::AdapterUnsynced,
        }
    }
}

impl std::str::FromStr for Stamps {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let found = TYPES.iter().find(|(_, name, ..)| *name == s);
        found.map(|(t, ..)| *t).ok_or_else(|| {
            let names: Vec<&str> = TYPES.iter().map(|(_, name, ..)| *name).collect();
            format!("one of {}", names.join(", "))
        })
    }
}

/// What a device has, by name and meaning.
///
/// # Errors
/// The device is not there, or does not tell.
pub fn supported(device: &str) -> io::Result<Vec<(Stamps, &'static str, &'static str)>> {
    // All devices at once have one clock in common: the host's.
    let (kinds, filters) = match device {
        "any" => (0, 0),
        _ => netlink::abilities(device)?,
    };
    let has = |bit: Option<u32>| bit.is_none_or(|b| filters & FILTER_ALL != 0 && kinds & b != 0);
    let types = TYPES.iter().filter(|(.., bit)| has(*bit));
    Ok(types.map(|(t, name, what, _)| (*t, *name, *what)).collect())
}

#[cfg(not(target_os = "linux"))]
mod netlink {
    pub(super) fn abilities(_: &str) -> std::io::Result<(u32, u32)> {
        Ok((0, 0))
    }
}

/// Linux `netlink.h`, `genetlink.h`, `ethtool_netlink.h`. Numbers are in the host's byte order;
/// an attribute is a length, a type and a value, padded to four bytes.
#[cfg(target_os = "linux")]
mod netlink {
    use std::io;
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
        socket,
    };

    const REQUEST: u16 = 1;
    const ERROR: u16 = 2;
    /// Bytes of the two headers before a message's attributes.
    const HEADERS: usize = 16 + 4;
    /// Family, command and attributes of the controller: `GETFAMILY`, family's id and name.
    const CONTROLLER: u16 = 0x10;
    const GET_FAMILY: u8 = 3;
    const FAMILY_ID: u16 = 1;
    const FAMILY_NAME: u16 = 2;
    /// `ETHTOOL_MSG_TSINFO_GET`; its attributes: header (device's name, flags), kinds, filters.
    const TIME_STAMPS: u8 = 25;
    const HEADER: u16 = 1;
    const HEADER_NAME: u16 = 2;
    const HEADER_FLAGS: u16 = 3;
    const COMPACT_BITSETS: u32 = 1;
    const KINDS: u16 = 2;
    const FILTERS: u16 = 4;
    const BITSET_VALUE: u16 = 4;
    /// Flags of an attribute's type: nested (which the kernel wants to be told), network byte order.
    const NESTED: u16 = 0x8000;
    const TYPE_FLAGS: u16 = 0xc000;
    /// Longest answer.
    const MAX_ANSWER: usize = 16 << 10;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(value.len() + 8);
        out.extend((value.len() as u16 + 4).to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
        bytes.get(at..at + N)?.try_into().ok()
    }

    /// The value of an attribute.
    fn find(mut all: &[u8], wanted: u16) -> Option<&[u8]> {
        loop {
            let length = usize::from(u16::from_ne_bytes(number(all, 0)?));
            let kind = u16::from_ne_bytes(number(all, 2)?) & !TYPE_FLAGS;
            let value = all.get(4..length)?;
            if kind == wanted {
                return Some(value);
            }
            all = all.get(length.next_multiple_of(4)..)?;
        }
    }

    /// Asks and gives the attributes of the answer.
    fn ask(fd: &impl AsRawFd, family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
        let mut m = Vec::new();
        m.extend(((HEADERS + attributes.len()) as u32).to_ne_bytes());
        m.extend(family.to_ne_bytes());
        m.extend(REQUEST.to_ne_bytes());
        // Sequence number and sender: there is one question at a time.
        m.extend([0; 8]);
        m.extend([command, 1, 0, 0]);
        m.extend(attributes);
        let fd = fd.as_raw_fd();
        sendto(fd, &m, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = vec![0; MAX_ANSWER];
        let n = recv(fd, &mut answer, MsgFlags::empty())?;
        answer.truncate(n);
        let strange = || io::Error::from(io::ErrorKind::InvalidData);
        let kind = u16::from_ne_bytes(number(&answer, 4).ok_or_else(strange)?);
        if kind == ERROR {
            let code = i32::from_ne_bytes(number(&answer, 16).ok_or_else(strange)?);
            return Err(io::Error::from_raw_os_error(code.saturating_neg()));
        }
        Ok(answer.split_off(HEADERS.min(n)))
    }

    /// The first 32 bits of a bitset.
    fn bits(answer: &[u8], kind: u16) -> u32 {
        let value = find(answer, kind).and_then(|set| find(set, BITSET_VALUE));
        let word = value.and_then(|v| number(v, 0));
        word.map_or(0, u32::from_ne_bytes)
    }

    /// Kinds of time stamps, and for which frames the adapter makes them.
    pub(super) fn abilities(device: &str) -> io::Result<(u32, u32)> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkGeneric,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let name = attribute(FAMILY_NAME, b"ethtool\0");
        let family = ask(&fd, CONTROLLER, GET_FAMILY, &name)?;
        let id = find(&family, FAMILY_ID).and_then(|v| number(v, 0));
        let id = u16::from_ne_bytes(id.ok_or(io::ErrorKind::InvalidData)?);
        let mut of = attribute(HEADER_NAME, &[device.as_bytes(), &[0]].concat());
        of.extend(attribute(HEADER_FLAGS, &COMPACT_BITSETS.to_ne_bytes()));
        let answer = ask(&fd, id, TIME_STAMPS, &attribute(HEADER | NESTED, &of))?;
        Ok((bits(&answer, KINDS), bits(&answer, FILTERS)))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn attributes() {
            let mut all = attribute(7, b"odd");
            all.extend(attribute(
                KINDS | 0x8000,
                &attribute(BITSET_VALUE, &[0x60, 0, 0, 0]),
            ));
            assert_eq!(find(&all, 7), Some(&b"odd"[..]));
            assert_eq!(bits(&all, KINDS), u32::from_ne_bytes([0x60, 0, 0, 0]));
            assert_eq!(bits(&all, FILTERS), 0);
            for n in 0..all.len() {
                let _ = bits(&all[..n], KINDS);
            }
            assert_eq!(find(&[0; 8], 1), None);
        }
    }
}
