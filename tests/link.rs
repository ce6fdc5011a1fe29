//! Link layers, tags, tunnels, IP and TCP, as frames show them.

use std::net::IpAddr;

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, VlanId};
use phasescope::capture::{Frame, LinkType};
use phasescope::net::packet::Segment;
use phasescope::net::{Body, Mac, Packet};
use phasescope::time::Timestamp;

const FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TO: [u8; 6] = [2, 0, 0, 0, 0, 2];
const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const A6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const B6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const DATA: &[u8] = b"the payload of a segment";

fn frame(link: LinkType, data: &[u8]) -> Frame<'_> {
    Frame {
        number: 1,
        time: Timestamp::default(),
        interface: 0,
        link,
        wire_len: data.len() as u32,
        data,
    }
}

fn read(link: LinkType, data: &[u8]) -> Packet<'_> {
    Packet::read(&frame(link, data)).unwrap()
}

/// A packet with a TCP segment.
fn with_segment(ip: PacketBuilderStep<IpHeaders>) -> Vec<u8> {
    let mut b = Vec::new();
    ip.tcp(49152, 16509, 1000, 500)
        .ack(77)
        .write(&mut b, DATA)
        .unwrap();
    b
}

fn ip4() -> Vec<u8> {
    with_segment(PacketBuilder::ipv4(A, B, 64))
}

fn ip6() -> Vec<u8> {
    with_segment(PacketBuilder::ipv6(A6, B6, 64))
}

fn ethernet(ethertype: u16, inner: &[u8]) -> Vec<u8> {
    [&TO[..], &FROM, &ethertype.to_be_bytes(), inner].concat()
}

fn eth4() -> Vec<u8> {
    ethernet(0x0800, &ip4())
}

/// An IPv4 packet of a protocol that carries `inner`.
fn ip4_with(protocol: u8, inner: &[u8]) -> Vec<u8> {
    let mut b = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    b.extend([192, 168, 0, 1, 192, 168, 0, 2]);
    b.extend(inner);
    let total = (b.len() as u16).to_be_bytes();
    b[2..4].copy_from_slice(&total);
    b
}

fn udp(port: u16, inner: &[u8]) -> Vec<u8> {
    let mut b = Vec::new();
    PacketBuilder::ethernet2([6; 6], [7; 6])
        .ipv4([192, 168, 0, 1], [192, 168, 0, 2], 64)
        .udp(50000, port)
        .write(&mut b, inner)
        .unwrap();
    b
}

fn addresses(six: bool) -> (IpAddr, IpAddr) {
    if six {
        (A6.into(), B6.into())
    } else {
        (A.into(), B.into())
    }
}

fn tcp<'a>(p: &Packet<'a>) -> Segment<'a> {
    let Body::Tcp(s) = p.body else {
        panic!("no TCP: {p:?}")
    };
    s
}

/// The segment of [`ip4`] or [`ip6`] is there, whole.
fn check(p: &Packet<'_>, six: bool) {
    assert_eq!(p.addresses, Some(addresses(six)));
    let s = tcp(p);
    assert_eq!((s.source_port, s.destination_port), (49152, 16509));
    assert_eq!((s.sequence, s.acknowledgment), (1000, Some(77)));
    assert!(!s.syn && !s.fin && !s.rst);
    assert_eq!((s.payload, s.wire_len), (DATA, DATA.len() as u32));
    assert_eq!(s.header.len(), 20);
}

#[test]
fn ethernet_with_tags() {
    let p = |b: &[u8], six| {
        let p = read(LinkType::Ethernet, b);
        check(&p, six);
        assert_eq!(
            (p.source_mac, p.destination_mac),
            (Some(Mac(FROM)), Some(Mac(TO)))
        );
        assert_eq!(p.tunnel_source, None);
    };
    p(&eth4(), false);
    p(&ethernet(0x86dd, &ip6()), true);
    for tags in [
        &[0x8100u16][..],
        &[0x88a8],
        &[0x8100, 0x8100],
        &[0x88a8, 0x8100],
        &[0x9100, 0x8100],
    ] {
        for (ethertype, inner, six) in [(0x0800u16, ip4(), false), (0x86dd, ip6(), true)] {
            let mut tagged = ethertype.to_be_bytes().to_vec();
            tagged.extend(&inner);
            for tag in tags.iter().rev() {
                tagged = [&tag.to_be_bytes()[..], &[0x20, 7], &tagged].concat();
            }
            p(&[&TO[..], &FROM, &tagged].concat(), six);
        }
    }
    // And as another hand writes them.
    let id = |n| VlanId::try_new(n).unwrap();
    let builder = PacketBuilder::ethernet2(FROM, TO).double_vlan(id(5), id(6));
    let mut b = Vec::new();
    let builder = builder.ipv4(A, B, 9).tcp(49152, 16509, 1000, 1).ack(77);
    builder.write(&mut b, DATA).unwrap();
    p(&b, false);
}

#[test]
fn padding_is_not_payload() {
    let mut b = Vec::new();
    PacketBuilder::ethernet2(FROM, TO)
        .ipv4(A, B, 64)
        .tcp(1, 2, 3, 4)
        .ack(5)
        .write(&mut b, b"")
        .unwrap();
    b.resize(60, 0);
    let p = read(LinkType::Ethernet, &b);
    assert_eq!((tcp(&p).payload, tcp(&p).wire_len), (&b""[..], 0));
}

#[test]
fn flags_and_options() {
    let mut b = Vec::new();
    PacketBuilder::ipv4(A, B, 64)
        .tcp(1, 2, 3, 4)
        .syn()
        .fin()
        .rst()
        .options_raw(&[1; 12])
        .unwrap()
        .write(&mut b, DATA)
        .unwrap();
    let p = read(LinkType::Raw, &b);
    let s = tcp(&p);
    assert!(s.syn && s.fin && s.rst);
    assert_eq!((s.acknowledgment, s.header.len()), (None, 32));
    assert_eq!((s.payload, s.wire_len), (DATA, DATA.len() as u32));
}

/// Linux cooked, version 1 or 2.
fn cooked(v2: bool, protocol: u16, inner: &[u8]) -> Vec<u8> {
    let (p, link) = (protocol.to_be_bytes(), [0, 0, 0, 3]);
    let mac = [2, 0, 0, 0, 0, 1, 0, 0];
    if v2 {
        [&p[..], &[0, 0], &link, &[0, 1], &[4, 6], &mac, inner].concat()
    } else {
        [&[0, 4, 0, 1, 0, 6][..], &mac, &p, inner].concat()
    }
}

#[test]
fn other_links() {
    for v2 in [false, true] {
        let link = if v2 {
            LinkType::LinuxSll2
        } else {
            LinkType::LinuxSll
        };
        check(&read(link, &cooked(v2, 0x0800, &ip4())), false);
        check(&read(link, &cooked(v2, 0x86dd, &ip6())), true);
        let tagged = [&[0, 5, 0x08, 0][..], &ip4()].concat();
        check(&read(link, &cooked(v2, 0x8100, &tagged)), false);
        let arp = arp();
        let of = |protocol| cooked(v2, protocol, &arp);
        assert!(matches!(read(link, &of(0x0806)).body, Body::Arp(b) if b == arp));
        assert!(matches!(read(link, &of(0x8035)).body, Body::Rarp(b) if b == arp));
        assert!(matches!(read(link, &of(0x88cc)).body, Body::Other(b) if b == arp));
        let short = cooked(v2, 0x0800, &[]);
        for n in 0..short.len() {
            assert!(Packet::read(&frame(link, &short[..n])).is_none());
        }
    }
    for family in [[2, 0, 0, 0], [0, 0, 0, 2], [30, 0, 0, 0]] {
        for link in [LinkType::Null, LinkType::Loop] {
            check(&read(link, &[&family[..], &ip4()].concat()), false);
            check(&read(link, &[&family[..], &ip6()].concat()), true);
            assert!(Packet::read(&frame(link, &family[..3])).is_none());
        }
    }
    for link in [LinkType::Raw, LinkType::Ipv4] {
        check(&read(link, &ip4()), false);
    }
    for link in [LinkType::Raw, LinkType::Ipv6] {
        check(&read(link, &ip6()), true);
    }
    assert!(Packet::read(&frame(LinkType::Other(147), &eth4())).is_none());
}

#[test]
fn numbers_of_links() {
    let known = [
        (0, LinkType::Null),
        (1, LinkType::Ethernet),
        (12, LinkType::Raw),
        (14, LinkType::Raw),
        (101, LinkType::Raw),
        (108, LinkType::Loop),
        (113, LinkType::LinuxSll),
        (228, LinkType::Ipv4),
        (229, LinkType::Ipv6),
        (276, LinkType::LinuxSll2),
        (105, LinkType::Other(105)),
    ];
    for (n, link) in known {
        assert_eq!(LinkType::from_number(n), link);
        // What pcap says about checksums stands above.
        assert_eq!(LinkType::from_number(n | 0x1400_0000), link);
        assert_eq!(LinkType::from_number(link.number().into()), link);
    }
}

fn vxlan(inner: &[u8]) -> Vec<u8> {
    [&[0x08, 0, 0, 0, 0, 0, 42, 0][..], inner].concat()
}

fn geneve(words: u8, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    let mut b = vec![words, 0];
    b.extend(ethertype.to_be_bytes());
    b.extend([0, 0, 42, 0]);
    b.extend(vec![0x11; usize::from(words) * 4]);
    b.extend(inner);
    b
}

fn gre(flags: u8, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    let mut b = vec![flags, 0];
    b.extend(ethertype.to_be_bytes());
    b.extend(vec![0; (flags & 0xb0).count_ones() as usize * 4]);
    b.extend(inner);
    b
}

#[test]
fn tunnels() {
    let outer = IpAddr::from([192, 168, 0, 1]);
    let inside = |b: &[u8], six, macs: Option<[u8; 6]>| {
        let p = read(LinkType::Ethernet, b);
        check(&p, six);
        assert_eq!(p.tunnel_source, Some(outer));
        assert_eq!(p.source_mac, Some(Mac(macs.unwrap_or([6; 6]))));
    };
    let eth6 = ethernet(0x86dd, &ip6());
    for port in [4789, 8472] {
        inside(&udp(port, &vxlan(&eth4())), false, Some(FROM));
        inside(&udp(port, &vxlan(&eth6)), true, Some(FROM));
    }
    for words in [0, 1, 5, 63] {
        inside(
            &udp(6081, &geneve(words, 0x6558, &eth4())),
            false,
            Some(FROM),
        );
        inside(&udp(6081, &geneve(words, 0x0800, &ip4())), false, None);
        inside(&udp(6081, &geneve(words, 0x86dd, &ip6())), true, None);
    }
    let in_ip = |b: &[u8]| [&[7; 6][..], &[6; 6], &[8, 0], &ip4_with(47, b)].concat();
    for flags in [0, 0x80, 0x20, 0x10, 0xa0, 0xb0] {
        inside(&in_ip(&gre(flags, 0x0800, &ip4())), false, None);
        inside(&in_ip(&gre(flags, 0x86dd, &ip6())), true, None);
        inside(&in_ip(&gre(flags, 0x6558, &eth4())), false, Some(FROM));
    }
    // An announcement of a guest.
    let rarp = ethernet(0x8035, &arp());
    let b = udp(4789, &vxlan(&rarp));
    let p = read(LinkType::Ethernet, &b);
    assert!(matches!(p.body, Body::Rarp(b) if b[..28] == arp()));
    assert_eq!(
        (p.tunnel_source, p.source_mac),
        (Some(outer), Some(Mac(FROM)))
    );
}

#[test]
fn tunnels_that_are_none() {
    // Other ports, VXLAN without its flag, Geneve of another version, PPTP's GRE.
    let mut flagless = vxlan(&eth4());
    flagless[0] = 0;
    let mut newer = geneve(0, 0x6558, &eth4());
    newer[0] = 0x40;
    for (port, inner) in [(4790, vxlan(&eth4())), (4789, flagless), (6081, newer)] {
        let b = udp(port, &inner);
        let p = read(LinkType::Ethernet, &b);
        assert!(matches!(p.body, Body::Udp(u) if u == inner));
        assert_eq!(p.tunnel_source, None);
    }
    let mut pptp = gre(0x20, 0x880b, &ip4());
    pptp[1] = 1;
    let b = ip4_with(47, &pptp);
    assert!(matches!(read(LinkType::Raw, &b).body, Body::Other(u) if u == pptp));
}

#[test]
fn tunnels_in_tunnels() {
    let mut b = eth4();
    for n in 1..12 {
        b = udp(4789, &vxlan(&b));
        let p = read(LinkType::Ethernet, &b);
        // The bound holds, and below it the innermost packet is found.
        assert_eq!(matches!(p.body, Body::Tcp(_)), n <= 4, "{n} tunnels");
        assert!(p.tunnel_source.is_some());
    }
}

#[test]
fn length_zero_means_the_rest_of_the_frame() {
    // Segmentation offload: the driver fills the length in later.
    for (six, link) in [(false, LinkType::Ipv4), (true, LinkType::Ipv6)] {
        let mut b = if six { ip6() } else { ip4() };
        let at = if six { 4 } else { 2 };
        b[at..at + 2].fill(0);
        check(&read(link, &b), six);
        // More than 64 KiB in one piece, of which 96 bytes were captured.
        let mut cut = frame(link, &b);
        cut.wire_len = 100_000;
        let p = Packet::read(&cut).unwrap();
        let head = b.len() - DATA.len();
        assert_eq!(tcp(&p).payload, DATA);
        assert_eq!(tcp(&p).wire_len, 100_000 - head as u32);
    }
}

/// Cuts a frame at every length; what is left is never wrong.
fn cut(link: LinkType, whole: &[u8], header_end: usize) {
    for n in 0..whole.len() {
        let mut f = frame(link, &whole[..n]);
        f.wire_len = whole.len() as u32;
        let Some(p) = Packet::read(&f) else { continue };
        if let Body::Tcp(s) = p.body {
            // The fixed header is enough.
            assert!(n >= header_end, "cut at {n}");
            assert_eq!((s.source_port, s.destination_port), (49152, 16509));
            assert_eq!((s.sequence, s.acknowledgment), (1000, Some(77)));
            assert_eq!(s.wire_len, DATA.len() as u32, "cut at {n}");
            assert!(DATA.starts_with(s.payload));
            let left = whole.len() - n;
            assert_eq!(
                s.payload.len(),
                DATA.len().saturating_sub(left),
                "cut at {n}"
            );
        } else {
            assert!(n < header_end, "cut at {n}: {:?}", p.body);
        }
    }
}

#[test]
fn cut_at_every_length() {
    use LinkType::{Ethernet, LinuxSll, LinuxSll2, Null, Raw};
    let fixed = |b: &[u8]| b.len() - DATA.len();
    let tagged = [&TO[..], &FROM, &[0x81, 0, 0, 5, 8, 0], &ip4()].concat();
    let gre = ip4_with(47, &gre(0xb0, 0x0800, &ip4()));
    for (link, b) in [
        (Ethernet, eth4()),
        (Ethernet, ethernet(0x86dd, &ip6())),
        (Ethernet, tagged),
        (Raw, ip4()),
        (Null, [&[2, 0, 0, 0][..], &ip4()].concat()),
        (LinuxSll, cooked(false, 0x0800, &ip4())),
        (LinuxSll2, cooked(true, 0x86dd, &ip6())),
        (Ethernet, udp(4789, &vxlan(&eth4()))),
        (Ethernet, udp(6081, &geneve(3, 0x6558, &eth4()))),
        (Raw, gre),
    ] {
        cut(link, &b, fixed(&b));
    }
}

#[test]
fn cut_inside_options() {
    let mut b = Vec::new();
    PacketBuilder::ipv4(A, B, 64)
        .tcp(49152, 16509, 1000, 500)
        .ack(77)
        .options_raw(&[1; 40])
        .unwrap()
        .write(&mut b, DATA)
        .unwrap();
    cut(LinkType::Raw, &b, 40);
}

/// Body of an ARP or RARP packet.
fn arp() -> Vec<u8> {
    let mut b = vec![0, 1, 8, 0, 6, 4, 0, 3];
    b.extend([2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0]);
    b
}

#[test]
fn arp_and_rarp() {
    let arp = arp();
    let b = ethernet(0x0806, &arp);
    let p = read(LinkType::Ethernet, &b);
    assert!(matches!(p.body, Body::Arp(b) if b == arp));
    assert_eq!((p.source_mac, p.addresses), (Some(Mac(FROM)), None));
    let b = ethernet(0x8035, &arp);
    assert!(matches!(read(LinkType::Ethernet, &b).body, Body::Rarp(b) if b == arp));
    let tagged = [&[0, 7, 0x80, 0x35][..], &arp].concat();
    let b = ethernet(0x8100, &tagged);
    assert!(matches!(read(LinkType::Ethernet, &b).body, Body::Rarp(b) if b == arp));
    // Cut ones are what they were called.
    for n in 0..arp.len() {
        let b = ethernet(0x0806, &arp[..n]);
        assert!(matches!(read(LinkType::Ethernet, &b).body, Body::Arp(b) if b == &arp[..n]));
    }
}

#[test]
fn icmp_udp_and_others() {
    let mut b = Vec::new();
    PacketBuilder::ipv4(A, B, 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut b, b"ping")
        .unwrap();
    let p = read(LinkType::Raw, &b);
    assert!(matches!(p.body, Body::Icmp(i) if i[0] == 8 && i.ends_with(b"ping")));
    assert_eq!(p.addresses, Some(addresses(false)));
    let mut b = Vec::new();
    PacketBuilder::ipv6(A6, B6, 64)
        .icmpv6_echo_reply(1, 2)
        .write(&mut b, b"pong")
        .unwrap();
    assert!(matches!(read(LinkType::Raw, &b).body, Body::Icmpv6(i) if i[0] == 129));
    let b = udp(53, b"query");
    assert!(matches!(
        read(LinkType::Ethernet, &b).body,
        Body::Udp(b"query")
    ));
    let b = ip4_with(132, b"sctp");
    assert!(matches!(read(LinkType::Raw, &b).body, Body::Other(b"sctp")));
    let b = ethernet(0x88cc, b"lldp");
    assert!(matches!(
        read(LinkType::Ethernet, &b).body,
        Body::Other(b"lldp")
    ));
}

#[test]
fn fragments() {
    for word in [0x2000u16, 0x2005, 0x0005] {
        let mut b = ip4();
        b[6..8].copy_from_slice(&word.to_be_bytes());
        let p = read(LinkType::Raw, &b);
        assert!(matches!(p.body, Body::Fragment(f) if f == &b[20..]));
        assert_eq!(p.addresses, Some(addresses(false)));
    }
    // DF alone is no fragment.
    let mut b = ip4();
    b[6] = 0x40;
    check(&read(LinkType::Raw, &b), false);
    // IPv6: a fragment header, then the same; one that is whole again is read.
    let whole = ip6();
    for (offset, fragment) in [(0x0001u16, true), (0x0010, true), (0, false)] {
        let mut b = whole[..40].to_vec();
        b[6] = 44;
        b.extend([6, 0]);
        b.extend(offset.to_be_bytes());
        b.extend([0; 4]);
        b.extend(&whole[40..]);
        let length = (b.len() as u16 - 40).to_be_bytes();
        b[4..6].copy_from_slice(&length);
        let p = read(LinkType::Raw, &b);
        if fragment {
            assert!(matches!(p.body, Body::Fragment(f) if f == &whole[40..]));
        } else {
            check(&p, true);
        }
    }
}

#[test]
fn ipv6_extensions_are_not_payload() {
    let whole = ip6();
    let mut b = whole[..40].to_vec();
    // Hop-by-hop and destination options, eight bytes each.
    b[6] = 0;
    b.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    b.extend([6, 0, 1, 4, 0, 0, 0, 0]);
    b.extend(&whole[40..]);
    let length = (b.len() as u16 - 40).to_be_bytes();
    b[4..6].copy_from_slice(&length);
    check(&read(LinkType::Ipv6, &b), true);
}

#[test]
fn mac_addresses() {
    let mac: Mac = "52:54:00:ab:cd:ef".parse().unwrap();
    assert_eq!(mac, Mac([0x52, 0x54, 0, 0xab, 0xcd, 0xef]));
    assert_eq!(mac.to_string(), "52:54:00:ab:cd:ef");
    for bad in [
        "",
        "52:54:00:ab:cd",
        "52:54:00:ab:cd:ef:",
        "5254:00:ab:cd:e",
        "52:54:00:ab:cd:gg",
    ] {
        assert!(bad.parse::<Mac>().is_err(), "{bad}");
    }
}

mod noise {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_of_any_link(
            link in prop::sample::select(vec![0u32, 1, 101, 108, 113, 228, 229, 276]),
            wire in 0u32..200_000,
            which in 0usize..4,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..10),
        ) {
            let mut data = match which {
                0 => super::eth4(),
                1 => super::udp(4789, &super::vxlan(&super::eth4())),
                2 => super::udp(6081, &super::geneve(2, 0x6558, &super::eth4())),
                _ => super::ip4_with(47, &super::gre(0xb0, 0x86dd, &super::ip6())),
            };
            for (at, b) in &changes {
                *at.get_mut(&mut data) = *b;
            }
            let mut f = super::frame(super::LinkType::from_number(link), &data);
            f.wire_len = wire.max(data.len() as u32);
            if let Some(p) = super::Packet::read(&f)
                && let super::Body::Tcp(s) = p.body
            {
                prop_assert!(s.payload.len() + s.header.len() <= data.len());
            }
        }
    }
}
