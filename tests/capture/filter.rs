//! Filters in tcpdump's language.

use etherparse::PacketBuilder;

use super::*;

fn segment(port: u16) -> Vec<u8> {
    let mut b = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(49152, port, 1, 1)
        .write(&mut b, b"x")
        .unwrap();
    b
}

/// The same packet behind another link.
fn behind(link: u16, ip: &[u8]) -> Vec<u8> {
    let front: &[u8] = match link {
        0 => &[2, 0, 0, 0],
        108 => &[0, 0, 0, 2],
        1 => &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0],
        113 => &[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0],
        276 => &[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0],
        _ => &[],
    };
    [front, ip].concat()
}

#[test]
fn on_every_link() {
    let mut ng = Ng::new(false);
    let links = [1u16, 113, 276, 0, 108, 101, 228];
    for (n, link) in links.iter().enumerate() {
        ng.interface(*link, 0, &[]);
        for port in [22, 16509] {
            let b = behind(*link, &segment(port));
            ng.packet(n as u32, 1, b.len() as u32, &b);
        }
    }
    let mut capture = open(&ng.bytes).unwrap();
    capture.set_filter("tcp port 16509").unwrap();
    let frames = drain(&mut capture);
    // The others keep their numbers.
    let numbers: Vec<u64> = frames.iter().map(|f| f.number).collect();
    assert_eq!(numbers, [2, 4, 6, 8, 10, 12, 14]);
    assert_eq!(capture.files()[0].packets, 14);
    let mut capture = open(&ng.bytes).unwrap();
    capture.set_filter("udp").unwrap();
    assert_eq!(drain(&mut capture), []);
}

#[test]
fn that_is_none() {
    let mut capture = open(&pcap(&some())).unwrap();
    let e = capture.set_filter("port port").unwrap_err();
    let CaptureError::Filter { expression, reason } = &e else {
        panic!("{e}")
    };
    assert!(expression == "port port" && !reason.is_empty());
    // The capture is as it was.
    assert_eq!(drain(&mut capture).len(), 4);
}
