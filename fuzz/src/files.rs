//! Capture files of every format, plain and compressed, and streams of measurement points.

use std::io::Read;

use phasescope::capture::dpmi::StreamDecoder;
use phasescope::capture::{Capture, CaptureError, MAX_FRAME, MAX_INTERFACES, Options};

use super::pieces::seed;

/// Gives a few bytes at a time, as a pipe does.
struct Drops {
    bytes: std::io::Cursor<Vec<u8>>,
    most: usize,
}

impl Read for Drops {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = buf.len().min(self.most);
        self.bytes.read(&mut buf[..n])
    }
}

/// Frames of one file that are looked at: compressed input can hold very many.
const MAX_FRAMES: u64 = 20_000;

/// Everything that can be told of a file.
fn read(data: &[u8], most: usize, inside: bool) -> Vec<String> {
    let drops = Drops {
        bytes: std::io::Cursor::new(data.to_vec()),
        most,
    };
    let options = Options {
        dpmi_inside: inside,
    };
    let mut capture = match Capture::from_reader_with("f", drops, options) {
        Ok(c) => c,
        Err(CaptureError::Read { .. }) => panic!("memory can be read"),
        Err(e) => return vec![e.to_string()],
    };
    let mut out = Vec::new();
    let mut last = 0;
    while let Some(f) = capture.next_frame().expect("memory can be read") {
        assert_eq!(f.number, last + 1);
        last = f.number;
        assert!(f.data.len() <= MAX_FRAME && f.data.len() <= f.wire_len as usize);
        let sum = f
            .data
            .iter()
            .fold(0u32, |s, b| s.rotate_left(5) ^ u32::from(*b));
        if out.len() < 1000 {
            out.push(format!(
                "{:?} {} {:?} {} {} {sum}",
                f.time,
                f.interface,
                f.link,
                f.wire_len,
                f.data.len()
            ));
        }
        if last == MAX_FRAMES {
            break;
        }
    }
    assert!(capture.interfaces().count() <= MAX_INTERFACES);
    let file = &capture.files()[0];
    assert_eq!(file.packets, last);
    assert!(file.steps_back < last.max(1));
    assert!(file.times.is_none_or(|(a, b)| a <= b));
    if last < MAX_FRAMES {
        out.push(format!("{file:?}"));
    }
    out
}

/// A capture file says the same at once and in drops.
pub fn capture_file(data: &[u8]) {
    let (seed, data) = seed(data);
    let inside = seed & 0x100 != 0;
    let whole = read(data, usize::MAX, inside);
    let drops = read(data, 1 + usize::from(seed as u8), inside);
    // What a decompressor has in hand when it meets nonsense depends on how much was asked of it.
    let broken = |told: &[String]| told.iter().any(|t| t.contains("the compressed data is"));
    assert!(
        broken(&whole) || broken(&drops) || whole == drops,
        "{whole:?}\n{drops:?}"
    );
}

/// Measurement frames: a length of two bytes, then the frame.
pub fn dpmi_stream(mut data: &[u8]) {
    let mut decoder = StreamDecoder::default();
    let (mut records, mut frames) = (0u64, 0u64);
    while let [a, b, rest @ ..] = data {
        let n = usize::from(u16::from_le_bytes([*a, *b])).min(rest.len());
        let (frame, more) = rest.split_at(n);
        decoder.push(frame, &mut |r| {
            records += 1;
            assert_eq!(frame.get(r.at..r.at + r.data.len()), Some(r.data));
            assert!(r.data.len() <= MAX_FRAME);
        });
        frames += 1;
        data = more;
    }
    let c = decoder.counts();
    assert_eq!(c.records, records);
    assert_eq!(c.frames + c.repeated + c.foreign, frames);
}
