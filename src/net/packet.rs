//! One frame, layer by layer: link, VLAN tags, tunnels, IP, transport.
//!
//! etherparse does the slicing, leniently: what was captured is used. What it does not know
//! (Linux cooked v2, BSD loopback, the tunnels) is a few fixed bytes each.

use std::fmt;
use std::net::IpAddr;

use etherparse::{
    Ethernet2HeaderSlice, Ipv4HeaderSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpHeaderSlice,
    TransportSlice,
};
use pnet_packet::tcp::TcpPacket;

use crate::capture::{Frame, LinkType};

/// Tunnels inside tunnels that are followed.
pub const MAX_TUNNELS: usize = 4;

/// UDP ports of VXLAN: RFC 7348, and Linux's older default.
const VXLAN_PORTS: [u16; 2] = [4789, 8472];
/// UDP port of Geneve (RFC 8926).
const GENEVE_PORT: u16 = 6081;

/// EtherTypes (IEEE 802 numbers).
mod ethertype {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const ARP: u16 = 0x0806;
    pub(super) const RARP: u16 = 0x8035;
    pub(super) const IPV6: u16 = 0x86dd;
    /// Transparent Ethernet bridging: an Ethernet frame in GRE or Geneve.
    pub(super) const ETHERNET: u16 = 0x6558;
}

/// IP protocol numbers (IANA).
mod ip_protocol {
    pub(super) const ICMP: u8 = 1;
    pub(super) const TCP: u8 = 6;
    pub(super) const GRE: u8 = 47;
    pub(super) const ICMPV6: u8 = 58;
}

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for Mac {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        let mut mac = [0; 6];
        let mut parts = s.split(':');
        for b in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(())?;
            *b = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        parts.next().is_none().then_some(Mac(mac)).ok_or(())
    }
}

/// A TCP segment: header fields and what was captured of its payload.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Sequence number of the first payload byte (of the SYN where it is set).
    pub sequence: u32,
    /// Acknowledgement number, where the ACK bit is set.
    pub acknowledgment: Option<u32>,
    /// Synchronise.
    pub syn: bool,
    /// No more data from the sender.
    pub fin: bool,
    /// Reset.
    pub rst: bool,
    /// Captured header.
    pub header: &'a [u8],
    /// Captured payload.
    pub payload: &'a [u8],
    /// Payload bytes on the wire; more than were captured where the snap length cut.
    pub wire_len: u32,
}

/// What an IP packet or frame carries.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// TCP.
    Tcp(Segment<'a>),
    /// ICMP (v4), from its type byte.
    Icmp(&'a [u8]),
    /// ICMPv6, from its type byte.
    Icmpv6(&'a [u8]),
    /// ARP, from its hardware type.
    Arp(&'a [u8]),
    /// Reverse ARP, the same format (RFC 903).
    Rarp(&'a [u8]),
    /// UDP payload that is no tunnel.
    Udp(&'a [u8]),
    /// A fragment of an IP packet; not put together.
    Fragment(&'a [u8]),
    /// Anything else, from where it was not understood.
    Other(&'a [u8]),
}

/// A frame whose layers have been read.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Source MAC address of the innermost Ethernet frame.
    pub source_mac: Option<Mac>,
    /// Destination MAC address of the innermost Ethernet frame.
    pub destination_mac: Option<Mac>,
    /// Innermost source and destination address.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Sender of the outermost tunnel packet: the host that the inner frame came from.
    pub tunnel_source: Option<IpAddr>,
    /// What it carries.
    pub body: Body<'a>,
}

impl<'a> Packet<'a> {
    /// Reads the layers of a frame; `None` where not even the link layer can be read.
    pub fn read(frame: &Frame<'a>) -> Option<Packet<'a>> {
        let mut packet = Packet {
            source_mac: None,
            destination_mac: None,
            addresses: None,
            tunnel_source: None,
            body: Body::Other(frame.data),
        };
        // Bytes that the snap length cut off the end.
        let cut = (frame.wire_len as usize).saturating_sub(frame.data.len());
        let layer = Layer::of_link(frame.link, frame.data)?;
        if let Layer::Ethernet(bytes) = layer
            && let Some(packet) = Self::common(bytes)
        {
            return Some(packet);
        }
        let mut next = Some(layer);
        for _ in 0..=MAX_TUNNELS {
            let Some(layer) = next.take() else { break };
            next = packet.layer(layer, cut);
        }
        Some(packet)
    }

    /// TCP in a whole IPv4 packet in an Ethernet frame, which nearly all frames are: the short way
    /// to what [`Self::layer`] says of it.
    fn common(frame: &'a [u8]) -> Option<Packet<'a>> {
        let link = Ethernet2HeaderSlice::from_slice(frame).ok()?;
        if link.ether_type().0 != ethertype::IPV4 {
            return None;
        }
        let packet = frame.get(link.slice().len()..)?;
        let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
        if ip.protocol().0 != ip_protocol::TCP || ip.is_fragmenting_payload() {
            return None;
        }
        let (from, to) = (ip.slice().len(), usize::from(ip.total_len()));
        let payload = packet.get(from..to.min(packet.len()))?;
        Some(Packet {
            source_mac: Some(Mac(link.source())),
            destination_mac: Some(Mac(link.destination())),
            addresses: Some((ip.source_addr().into(), ip.destination_addr().into())),
            tunnel_source: None,
            body: Body::Tcp(segment(payload, to - from)?),
        })
    }

    /// Reads one stack of link, IP and transport; the frame inside it where it is a tunnel.
    fn layer(&mut self, layer: Layer<'a>, cut: usize) -> Option<Layer<'a>> {
        let sliced = match layer {
            Layer::Ethernet(bytes) => LaxSlicedPacket::from_ethernet(bytes).ok()?,
            Layer::Typed(ethertype, bytes) => {
                LaxSlicedPacket::from_ether_type(ethertype.into(), bytes)
            }
            Layer::Ip(bytes) => LaxSlicedPacket::from_ip(bytes).ok()?,
        };
        if let Some(LinkSlice::Ethernet2(e)) = &sliced.link {
            self.source_mac = Some(Mac(e.source()));
            self.destination_mac = Some(Mac(e.destination()));
        }
        let (addresses, ip) = match &sliced.net {
            Some(LaxNetSlice::Ipv4(v4)) => {
                let h = v4.header();
                let pair = (h.source_addr().into(), h.destination_addr().into());
                let total = usize::from(h.total_len()).checked_sub(h.slice().len());
                (pair, (v4.payload(), total.filter(|_| h.total_len() > 0)))
            }
            Some(LaxNetSlice::Ipv6(v6)) => {
                let h = v6.header();
                let pair = (h.source_addr().into(), h.destination_addr().into());
                let extensions = v6.extensions().slice().len();
                let total = usize::from(h.payload_length()).checked_sub(extensions);
                (
                    pair,
                    (v6.payload(), total.filter(|_| h.payload_length() > 0)),
                )
            }
            Some(LaxNetSlice::Arp(arp)) => {
                self.body = Body::Arp(arp.slice());
                return None;
            }
            None => {
                self.body = self.without_ip(&sliced, layer);
                return None;
            }
        };
        let (payload, stated) = ip;
        let bytes = payload.payload;
        // Segmentation offload leaves the length 0: then the frame's end is the packet's end.
        let wire_len = stated.unwrap_or(bytes.len() + cut);
        self.addresses = Some(addresses);
        if payload.fragmented {
            self.body = Body::Fragment(bytes);
            return None;
        }
        if payload.ip_number.0 == ip_protocol::GRE {
            self.tunnel_source.get_or_insert(addresses.0);
            let inner = gre(bytes);
            if inner.is_none() {
                self.body = Body::Other(bytes);
            }
            return inner;
        }
        self.body = match &sliced.transport {
            Some(TransportSlice::Tcp(_)) => {
                segment(bytes, wire_len).map_or(Body::Other(bytes), Body::Tcp)
            }
            Some(TransportSlice::Udp(udp)) => {
                let inner = udp.payload();
                let tunnel = match udp.destination_port() {
                    p if VXLAN_PORTS.contains(&p) => vxlan(inner),
                    GENEVE_PORT => geneve(inner),
                    _ => None,
                };
                if tunnel.is_some() {
                    self.tunnel_source.get_or_insert(addresses.0);
                    return tunnel;
                }
                Body::Udp(inner)
            }
            _ => match payload.ip_number.0 {
                ip_protocol::ICMP => Body::Icmp(bytes),
                ip_protocol::ICMPV6 => Body::Icmpv6(bytes),
                ip_protocol::TCP => short_tcp(bytes, wire_len),
                _ => Body::Other(bytes),
            },
        };
        None
    }

    /// Reverse ARP is not IP and not known to etherparse.
    fn without_ip(&self, sliced: &LaxSlicedPacket<'a>, layer: Layer<'a>) -> Body<'a> {
        if let Some(p) = sliced.ether_payload() {
            return match p.ether_type.0 {
                ethertype::RARP => Body::Rarp(p.payload),
                ethertype::ARP => Body::Arp(p.payload),
                _ => Body::Other(p.payload),
            };
        }
        match layer {
            Layer::Typed(ethertype::RARP, b) => Body::Rarp(b),
            Layer::Typed(_, b) | Layer::Ethernet(b) | Layer::Ip(b) => Body::Other(b),
        }
    }
}

/// A segment whose header was captured whole.
fn segment(bytes: &[u8], wire_len: usize) -> Option<Segment<'_>> {
    let tcp = TcpHeaderSlice::from_slice(bytes).ok()?;
    let header = tcp.slice();
    Some(Segment {
        source_port: tcp.source_port(),
        destination_port: tcp.destination_port(),
        sequence: tcp.sequence_number(),
        acknowledgment: tcp.ack().then(|| tcp.acknowledgment_number()),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        header,
        payload: bytes.get(header.len()..)?,
        wire_len: wire_len.saturating_sub(header.len()) as u32,
    })
}

/// A header that the snap length cut inside its options: the fixed twenty bytes are enough.
fn short_tcp(bytes: &[u8], wire_len: usize) -> Body<'_> {
    let Some(tcp) = TcpPacket::new(bytes) else {
        return Body::Other(bytes);
    };
    let header = usize::from(tcp.get_data_offset()) * 4;
    if header < TcpPacket::minimum_packet_size() {
        return Body::Other(bytes);
    }
    let has = |bit| tcp.get_flags() & bit != 0;
    use pnet_packet::tcp::TcpFlags as flags;
    Body::Tcp(Segment {
        source_port: tcp.get_source(),
        destination_port: tcp.get_destination(),
        sequence: tcp.get_sequence(),
        acknowledgment: has(flags::ACK).then(|| tcp.get_acknowledgement()),
        syn: has(flags::SYN),
        fin: has(flags::FIN),
        rst: has(flags::RST),
        header: bytes,
        payload: &[],
        wire_len: wire_len.saturating_sub(header) as u32,
    })
}

/// Where a stack of layers begins.
#[derive(Debug, Clone, Copy)]
enum Layer<'a> {
    Ethernet(&'a [u8]),
    /// An EtherType and its payload.
    Typed(u16, &'a [u8]),
    Ip(&'a [u8]),
}

impl<'a> Layer<'a> {
    fn of_link(link: LinkType, data: &'a [u8]) -> Option<Layer<'a>> {
        let be16 = |at: usize| Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]));
        Some(match link {
            LinkType::Ethernet => Layer::Ethernet(data),
            LinkType::Raw | LinkType::Ipv4 | LinkType::Ipv6 => Layer::Ip(data),
            // A 4-byte address family, in the byte order of the capturing host or of the network:
            // the IP version tells the same.
            LinkType::Null | LinkType::Loop => Layer::Ip(data.get(4..)?),
            // LINKTYPE_LINUX_SLL: 16 bytes, the protocol in the last two.
            LinkType::LinuxSll => Layer::Typed(be16(14)?, data.get(16..)?),
            // LINKTYPE_LINUX_SLL2: 20 bytes, the protocol in the first two.
            LinkType::LinuxSll2 => Layer::Typed(be16(0)?, data.get(20..)?),
            LinkType::Other(_) => return None,
        })
    }
}

/// VXLAN (RFC 7348): 8 bytes, the I flag set, then an Ethernet frame.
fn vxlan(b: &[u8]) -> Option<Layer<'_>> {
    (b.first()? & 0x08 != 0).then_some(Layer::Ethernet(b.get(8..)?))
}

/// Geneve (RFC 8926): version 0, options counted in four-byte words, protocol type at byte 2.
fn geneve(b: &[u8]) -> Option<Layer<'_>> {
    let &[first, _, t0, t1, ..] = b else {
        return None;
    };
    if first >> 6 != 0 {
        return None;
    }
    let inner = b.get(8 + usize::from(first & 0x3f) * 4..)?;
    Some(inner_layer(u16::from_be_bytes([t0, t1]), inner))
}

/// GRE (RFC 2784, 2890): optional checksum, key and sequence number of four bytes each.
fn gre(b: &[u8]) -> Option<Layer<'_>> {
    let &[flags, version, t0, t1, ..] = b else {
        return None;
    };
    if version & 0x07 != 0 {
        return None;
    }
    let optional = [0x80, 0x20, 0x10]
        .iter()
        .filter(|bit| flags & *bit != 0)
        .count();
    let inner = b.get(4 + optional * 4..)?;
    Some(inner_layer(u16::from_be_bytes([t0, t1]), inner))
}

fn inner_layer(ethertype: u16, inner: &[u8]) -> Layer<'_> {
    match ethertype {
        ethertype::ETHERNET => Layer::Ethernet(inner),
        ethertype::IPV4 | ethertype::IPV6 => Layer::Ip(inner),
        other => Layer::Typed(other, inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Capture;

    /// The long way for every frame.
    fn long(bytes: &[u8], cut: usize) -> Option<Packet<'_>> {
        let mut packet = Packet {
            source_mac: None,
            destination_mac: None,
            addresses: None,
            tunnel_source: None,
            body: Body::Other(bytes),
        };
        packet
            .layer(Layer::Ethernet(bytes), cut)
            .is_none()
            .then_some(packet)
    }

    #[test]
    fn the_short_way_says_what_the_long_one_does() {
        let mut short = 0;
        for name in [
            "kvm-idle",
            "kvm-late",
            "kvm-offload",
            "kvm-ipv6",
            "kvm-vlan",
        ] {
            let file = format!(
                "{}/fixtures/kvm/{name}.pcap.zst",
                env!("CARGO_MANIFEST_DIR")
            );
            let Ok(mut capture) = Capture::open(&[file.into()]) else {
                panic!("{name} does not open");
            };
            for _ in 0..600 {
                let Ok(Some(frame)) = capture.next_frame() else {
                    break;
                };
                // Cut anywhere in the headers, and not at all.
                for length in (0..=90).chain([frame.data.len()]) {
                    let bytes = &frame.data[..length.min(frame.data.len())];
                    let cut = frame.wire_len as usize - bytes.len();
                    if let Some(common) = Packet::common(bytes) {
                        short += 1;
                        let long = long(bytes, cut);
                        assert_eq!(format!("{:?}", Some(common)), format!("{long:?}"));
                    }
                }
            }
        }
        assert!(short > 5_000, "{short}");
    }
}
