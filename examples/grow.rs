//! Writes a large capture to standard output: a small one repeated, each time later and with
//! other ports, so that every repetition is a migration of its own. For `make bench`.
//!
//!     cargo run --release --example grow -- fixture.pcap.zst 4096 > big.pcap
//!
//! The number is the least size in MiB. With `--segments N`, TCP payloads are cut into segments
//! of at most N bytes, as a host without segmentation offload sends them.

use std::io::{self, BufWriter, Write};

use phasescope::capture::{Capture, Frame};
use phasescope::net::{Body, Packet};

/// Time between the end of one repetition and the start of the next, nanoseconds.
const PAUSE_NS: i64 = 1_000_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(file), Some(mib)) = (args.next(), args.next()) else {
        return Err("usage: grow CAPTURE MIB [--segments N]".into());
    };
    let segment: usize = match (args.next().as_deref(), args.next()) {
        (Some("--segments"), Some(n)) => n.parse()?,
        _ => usize::MAX,
    };
    let limit = mib.parse::<u64>()? << 20;
    let mut frames = Vec::new();
    let mut capture = Capture::open(&[file.into()])?;
    while let Some(frame) = capture.next_frame()? {
        cut(&frame, segment, &mut frames);
    }
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
        return Err("the capture is empty".into());
    };
    let span = last.0 - first.0 + PAUSE_NS;
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let header: [u32; 6] = [0xa1b2_3c4d, 0x0004_0002, 0, 0, 262_144, 1];
    for word in header {
        out.write_all(&word.to_le_bytes())?;
    }
    let mut written = 24u64;
    let mut round = 0;
    while written < limit {
        for (time, data, port_at) in &mut frames {
            let ns = *time + span * round;
            let words = [
                (ns / 1_000_000_000) as u32,
                (ns % 1_000_000_000) as u32,
                data.len() as u32,
                data.len() as u32,
            ];
            for word in words {
                out.write_all(&word.to_le_bytes())?;
            }
            // The client's port moves; checksums are not looked at.
            if let Some(at) = *port_at
                && let Some(port) = data.get_mut(at..at + 2)
            {
                let n = u16::from_be_bytes([port[0], port[1]]);
                let moved = if n == u16::MAX { 32_768 } else { n + 1 };
                port.copy_from_slice(&moved.to_be_bytes());
            }
            out.write_all(data)?;
            written += 16 + data.len() as u64;
        }
        round += 1;
    }
    out.flush()?;
    Ok(())
}

/// The frame's time and bytes, and where the client's port stands; in segments of at most `max`.
fn cut(frame: &Frame<'_>, max: usize, out: &mut Vec<(i64, Vec<u8>, Option<usize>)>) {
    let time = frame.time.nanos();
    let tcp = Packet::read(frame).and_then(|p| match p.body {
        Body::Tcp(t) => Some(t),
        _ => None,
    });
    let Some(tcp) = tcp else {
        out.push((time, frame.data.to_vec(), None));
        return;
    };
    let begin = tcp.header.as_ptr() as usize - frame.data.as_ptr() as usize;
    // The ephemeral port is the client's.
    let client = begin
        + if tcp.source_port > tcp.destination_port {
            0
        } else {
            2
        };
    if tcp.payload.len() <= max {
        out.push((time, frame.data.to_vec(), Some(client)));
        return;
    }
    let head = begin + tcp.header.len();
    for (i, part) in tcp.payload.chunks(max).enumerate() {
        let mut data = frame.data[..head].to_vec();
        let sequence = tcp.sequence.wrapping_add((i * max) as u32);
        data[begin + 4..begin + 8].copy_from_slice(&sequence.to_be_bytes());
        // IPv4 without options directly in front of TCP: the total length.
        if begin >= 20 && data[begin - 20] == 0x45 {
            let total = (20 + tcp.header.len() + part.len()) as u16;
            data[begin - 18..begin - 16].copy_from_slice(&total.to_be_bytes());
        }
        data.extend_from_slice(part);
        out.push((time + i as i64 * 100, data, Some(client)));
    }
}
