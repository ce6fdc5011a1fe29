//! A DPMI stream, sent over UDP on this host.

use std::net::UdpSocket;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use phasescope::capture::{Capture, Options};
use phasescope::live::dpmi::{Address, DpmiStream};
use phasescope::live::source::{Message, Outlet, Shared, Source};

use crate::path;

/// The measurement frames in a capture of them: what follows the Ethernet header.
fn measurement_frames(name: &str) -> Vec<Vec<u8>> {
    let mut capture = Capture::open(&[path(name)]).unwrap();
    let mut out = Vec::new();
    while let Some(f) = capture.next_frame().unwrap() {
        if f.data[12..14] == [0x08, 0x10] {
            out.push(f.data[14..].to_vec());
        }
    }
    out
}

/// An own port, that nobody else has.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Number, picoseconds-exact time and bytes of each frame.
type Seen = Vec<(u64, String, Vec<u8>)>;

fn receive(frames: &[Vec<u8>]) -> (Seen, Arc<Shared>) {
    let port = free_port();
    let address: Address = format!("udp://127.0.0.1:{port}").parse().unwrap();
    let mut stream = DpmiStream::open(&address).unwrap();
    let shared = Arc::new(Shared::default());
    let (tx, rx): (_, mpsc::Receiver<Message>) = sync_channel(1024);
    let mut out = Outlet::new(shared.clone(), tx, None, false);
    let for_source = shared.clone();
    let thread = std::thread::spawn(move || stream.run(&mut out, &for_source).map(|_| ()));
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (n, f) in frames.iter().enumerate() {
        sender.send_to(f, ("127.0.0.1", port)).unwrap();
        // Not faster than they are taken, so that the socket's buffer never fills.
        let begun = Instant::now();
        while shared.streams().is_none_or(|s| s.frames <= n as u64) {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "frame {n} does not come"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    shared.stop();
    thread.join().unwrap().unwrap();
    let mut seen = Vec::new();
    while let Ok(Message::Batch(batch)) = rx.try_recv() {
        for f in batch.frames() {
            seen.push((f.number, f.time.to_string(), f.data.to_vec()));
        }
    }
    (seen, shared)
}

#[test]
fn a_stream_gives_what_the_file_holds() {
    let name = "fixtures/dpmi/live-eth.stream.pcap";
    let (seen, shared) = receive(&measurement_frames(name));
    let inside = Options { dpmi_inside: true };
    let mut capture = Capture::open_with(&[path(name)], inside).unwrap();
    let mut expected = Seen::new();
    while let Some(f) = capture.next_frame().unwrap() {
        expected.push((f.number, f.time.to_string(), f.data.to_vec()));
    }
    assert!(!expected.is_empty());
    assert_eq!(seen, expected);
    let counts = shared.streams().unwrap();
    assert_eq!((counts.streams, counts.lost), (1, 0));
    assert!(shared.interfaces().iter().all(|i| i.point.is_some()));
}

#[test]
fn a_loss_is_counted() {
    let mut frames = measurement_frames("fixtures/dpmi/live-eth.stream.pcap");
    assert!(frames.len() > 2);
    frames.remove(1);
    let (_, shared) = receive(&frames);
    let counts = shared.streams().unwrap();
    assert_eq!((counts.gaps, counts.lost), (1, 1));
}

#[test]
fn addresses() {
    let ethernet = Address::Ethernet("eth1".to_owned(), [1, 0, 0, 0, 0, 1]);
    assert_eq!("eth1/01:00:00:00:00:01".parse(), Ok(ethernet));
    let udp = Address::Udp("239.0.0.1:2064".to_owned());
    assert_eq!("udp://239.0.0.1:2064".parse(), Ok(udp.clone()));
    assert_eq!("udp://239.0.0.1".parse(), Ok(udp));
    for wrong in [
        "",
        "eth1",
        "eth1/01:00",
        "/01:00:00:00:00:01",
        "eth1/zz:00:00:00:00:01",
    ] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong}");
    }
}
