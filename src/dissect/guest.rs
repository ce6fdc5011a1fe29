//! Signs of life: echo, ARP, announcements, and the silences of each hardware address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::fast::RandomState;
use pnet_packet::Packet as _;
use pnet_packet::arp::{ArpOperations, ArpPacket};
use pnet_packet::icmpv6::ndp::{NdpOptionTypes, NeighborAdvertFlags, NeighborAdvertPacket};
use pnet_packet::icmpv6::{Icmpv6Packet, Icmpv6Types};

use super::event::{Echo, Event, Guest, Kind, Path, Sign};
use crate::net::{Body, Mac, Packet, Stamp};

/// Hardware addresses that are watched at once.
const MAX_MACS: usize = 8192;

/// Shorter silences are not told. Nanoseconds.
pub(crate) const MIN_SILENCE_NS: i64 = 5_000_000;

/// ICMP and ICMPv6 types of echo request and reply (RFC 792, RFC 4443).
const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);

/// Operation "request reverse" (RFC 903).
const RARP_REQUEST: u16 = 3;

/// Watches the guests.
#[derive(Debug, Clone, Default)]
pub(super) struct Guests {
    last: Vec<Heard>,
    /// Places in `last`.
    index: HashMap<Mac, usize, RandomState>,
    /// Places of the latest addresses: a bulk transfer alternates between two.
    recent: [usize; 4],
    oldest: usize,
    full: u64,
}

/// The last frame from a hardware address.
#[derive(Debug, Clone, Copy)]
struct Heard {
    mac: Mac,
    stamp: Stamp,
    path: Path,
}

impl Guests {
    /// Hardware addresses that found no place in the table.
    pub(super) fn overflow(&self) -> u64 {
        self.full
    }

    /// Takes any packet.
    pub(super) fn packet(
        &mut self,
        packet: &Packet<'_>,
        interface: u32,
        stamp: Stamp,
        out: &mut impl FnMut(Event),
    ) {
        let path = Path {
            interface,
            tunnel_source: packet.tunnel_source,
        };
        let mut tell = |guest| {
            out(Event {
                stamp,
                begin: stamp,
                flow: None,
                kind: Kind::Guest(guest),
            });
        };
        if let Some(mac) = packet.source_mac {
            let sign = match packet.body {
                Body::Rarp(_) => Sign::Rarp,
                _ => Sign::Frame,
            };
            if let Some(silence) = self.heard(mac, sign, path, stamp) {
                tell(silence);
            }
        }
        let guest = match packet.body {
            Body::Icmp(b) => echo(ECHO_V4, b, packet, path),
            Body::Icmpv6(b) => echo(ECHO_V6, b, packet, path).or_else(|| advertisement(b)),
            Body::Arp(b) => arp(b),
            Body::Rarp(b) => rarp(b),
            _ => None,
        };
        if let Some(guest) = guest {
            tell(guest);
        }
    }

    fn heard(&mut self, mac: Mac, by: Sign, path: Path, stamp: Stamp) -> Option<Guest> {
        let now = Heard { mac, stamp, path };
        let Some(at) = self.place(mac) else {
            if self.last.len() >= MAX_MACS {
                self.full += 1;
            } else {
                self.index.insert(mac, self.last.len());
                self.last.push(now);
            }
            return None;
        };
        let before = std::mem::replace(self.last.get_mut(at)?, now);
        (stamp.time.since(before.stamp.time) >= MIN_SILENCE_NS).then_some(Guest::Silence {
            mac,
            last: before.stamp,
            by,
            paths: (before.path, path),
        })
    }

    #[inline]
    fn place(&mut self, mac: Mac) -> Option<usize> {
        let is = |at: &usize| self.last.get(*at).is_some_and(|h| h.mac == mac);
        if let Some(at) = self.recent.iter().copied().find(|at| is(at)) {
            return Some(at);
        }
        let at = *self.index.get(&mac)?;
        self.recent[self.oldest] = at;
        self.oldest = (self.oldest + 1) % self.recent.len();
        Some(at)
    }
}

fn echo((request, reply): (u8, u8), b: &[u8], packet: &Packet<'_>, path: Path) -> Option<Guest> {
    let &[kind, 0, _, _, i0, i1, s0, s1, ..] = b else {
        return None;
    };
    if kind != request && kind != reply {
        return None;
    }
    let (source, destination) = packet.addresses?;
    let reply = kind == reply;
    let (pinger, target, target_mac) = if reply {
        (destination, source, packet.source_mac)
    } else {
        (source, destination, packet.destination_mac)
    };
    Some(Guest::Echo(Echo {
        reply,
        pinger,
        target,
        target_mac,
        id: u16::from_be_bytes([i0, i1]),
        sequence: u16::from_be_bytes([s0, s1]),
        path,
    }))
}

/// Ethernet and IPv4 addresses only (hardware type 1, lengths 6 and 4).
fn ethernet_arp(b: &[u8]) -> Option<ArpPacket<'_>> {
    ArpPacket::new(b).filter(|a| a.get_hw_addr_len() == 6 && a.get_proto_addr_len() == 4)
}

fn arp(b: &[u8]) -> Option<Guest> {
    let a = ethernet_arp(b)?;
    let address: Ipv4Addr = a.get_sender_proto_addr();
    let announces = [ArpOperations::Request, ArpOperations::Reply];
    Some(Guest::Arp {
        mac: Mac(a.get_sender_hw_addr().octets()),
        address: address.into(),
        gratuitous: address == a.get_target_proto_addr() && announces.contains(&a.get_operation()),
    })
}

/// QEMU announces with a "request reverse" whose sender and target are the guest's address
/// (`net/announce.c`).
fn rarp(b: &[u8]) -> Option<Guest> {
    let a = ethernet_arp(b)?;
    (a.get_operation().0 == RARP_REQUEST).then(|| Guest::Rarp {
        mac: Mac(a.get_sender_hw_addr().octets()),
    })
}

fn advertisement(b: &[u8]) -> Option<Guest> {
    if Icmpv6Packet::new(b)?.get_icmpv6_type() != Icmpv6Types::NeighborAdvert {
        return None;
    }
    let na = NeighborAdvertPacket::new(b)?;
    if na.get_flags() & NeighborAdvertFlags::Solicited != 0 {
        return None;
    }
    let address: Ipv6Addr = na.get_target_addr();
    let option = na
        .get_options_iter()
        .find(|o| o.get_option_type() == NdpOptionTypes::TargetLLAddr)?;
    let mac = option.payload().get(..6)?.try_into().ok()?;
    Some(Guest::NeighborAdvertisement {
        mac: Mac(mac),
        address: IpAddr::from(address),
    })
}
