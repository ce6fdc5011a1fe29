//! Scrubbed copies: what waits for its decision, and what is kept for another tap.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use phasescope::capture::{Frame, LinkType};
use phasescope::scrub::{Scrubbing, Summary};
use phasescope::time::Timestamp;

use super::Tcp;
use crate::support::rpc::{CALL, OK, Xdr, message};
use crate::support::trace::START;

/// Bytes of packets that wait, and of payloads that have gone out and are remembered.
const MAX_WAITING: usize = 64 << 20;
const MAX_REMEMBERED: usize = 4 << 20;

/// Payload of a large packet.
const LARGE: usize = 60_000;

/// IPv4 and TCP without options.
const HEADERS: usize = 40;

/// A copy in the making; only small packets of it are kept.
#[derive(Default)]
struct Copy {
    scrubbing: Scrubbing,
    frames: u64,
    written: u64,
    small: Vec<Vec<u8>>,
}

impl Copy {
    fn frame(&mut self, interface: u32, data: &[u8]) {
        self.frames += 1;
        self.scrubbing.frame(&Frame {
            number: self.frames,
            time: Timestamp::from_nanos(START + self.frames as i64 * 1000),
            interface,
            link: LinkType::Raw,
            wire_len: data.len() as u32,
            data,
        });
        self.write();
    }

    fn write(&mut self) {
        let (written, small) = (&mut self.written, &mut self.small);
        let take = |frame: &Frame<'_>| {
            *written += 1;
            assert_eq!(frame.number, *written, "none is lost, and the order stays");
            if (HEADERS + 1..1000).contains(&frame.data.len()) {
                small.push(frame.data[HEADERS..].to_vec());
            }
            Ok::<(), std::convert::Infallible>(())
        };
        self.scrubbing.write(take).expect("cannot fail");
    }

    /// Payloads of the small packets.
    fn finish(mut self) -> (Vec<Vec<u8>>, Summary) {
        self.scrubbing.finish();
        self.write();
        assert_eq!(self.written, self.frames);
        (self.small, self.scrubbing.summary())
    }
}

/// The client's segment of a connection to this port.
fn segment(port: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let tcp = Tcp {
        from: ([10, 0, 0, 1], 40_000),
        to: ([10, 0, 0, 2], port),
        sequence,
        acknowledgment: (sequence > 0).then_some(1),
        syn: sequence == 0,
    };
    tcp.frame(payload)
}

/// A message that may be shown as it is.
fn open() -> Vec<u8> {
    let args = Xdr::default().optional(Some("qemu:///system")).u32(0);
    message(1, CALL, 0, OK, &args)
}

fn blank(payload: &[u8]) -> bool {
    payload.iter().all(|b| *b == 0)
}

/// A message in two segments, and so much between them.
fn in_two(between: usize, mut frame: impl FnMut(&[u8])) {
    let call = open();
    frame(&segment(16509, 0, b""));
    frame(&segment(16509, 1, &call[..40]));
    // Protocol 255 is reserved: nothing reads it.
    let mut other = segment(1, 1, &vec![0x55; LARGE]);
    other[9] = 255;
    for _ in 0..between / other.len() {
        frame(&other);
    }
    frame(&segment(16509, 41, &call[40..]));
}

#[test]
fn packets_that_wait() {
    let split = |between| {
        let (mut copy, call) = (Copy::default(), open());
        in_two(between, |data| copy.frame(0, data));
        let (small, summary) = copy.finish();
        assert_eq!(small[1], call[40..], "the message is understood");
        (small[0] == call[..40], blank(&small[0]), summary.hurried)
    };
    assert_eq!(split(MAX_WAITING - (1 << 20)), (true, false, 0));
    assert_eq!(split(MAX_WAITING + (1 << 20)), (false, true, 1));
}

#[test]
fn packets_that_wait_are_told() {
    let mut file = zstd::Encoder::new(Vec::new(), 1).expect("zstd");
    // Link type 101 is raw IP.
    let mut words = |words: &[u32], data: &[u8]| {
        let head: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        file.write_all(&[&head, data].concat())
            .expect("memory takes all");
    };
    words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 101], b"");
    in_two(MAX_WAITING + (1 << 20), |data| {
        words(
            &[1_700_000_000, 0, data.len() as u32, data.len() as u32],
            data,
        );
    });
    let path = |name| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (original, copy) = (path("waiting.pcap.zst"), path("waited.pcap.gz"));
    std::fs::write(&original, file.finish().expect("memory takes all")).expect("can be written");
    let out = Command::new(env!("CARGO_BIN_EXE_phasescope"))
        .args(["scrub", "--force"])
        .args([&original, &copy])
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(
        said.contains("warning: 1 packets waited too long"),
        "{said}"
    );
}

#[test]
fn payloads_for_another_tap() {
    // A message, so many other payloads, and the message's segment from another interface.
    let again = |between: usize| {
        let (mut copy, call) = (Copy::default(), open());
        for port in [16509, 22] {
            copy.frame(0, &segment(port, 0, b""));
        }
        copy.frame(0, &segment(16509, 1, &call));
        let ssh = b"SSH-2.0-OpenSSH_9.9\r\n";
        copy.frame(0, &segment(22, 1, ssh));
        let mut sequence = 1 + ssh.len() as u32;
        for _ in 0..between / LARGE {
            copy.frame(0, &segment(22, sequence, &vec![0x55; LARGE]));
            sequence += LARGE as u32;
        }
        copy.frame(1, &segment(16509, 1, &call));
        let (small, summary) = copy.finish();
        assert_eq!(summary.hurried, 0);
        assert_eq!(small[0], call);
        let last = small.last().expect("the other tap's");
        (*last == call, blank(last))
    };
    assert_eq!(again(MAX_REMEMBERED - 2 * LARGE), (true, false));
    assert_eq!(again(MAX_REMEMBERED + LARGE), (false, true));
}
