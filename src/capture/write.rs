//! Writing captures: pcap, or pcapng where there are several interfaces; compressed by file
//! ending; whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use super::{Format, Frame, Interface};
use crate::whole::WholeFile;

/// Snap length written where the source gives none.
const DEFAULT_SNAP_LENGTH: u32 = 262_144;

/// zstd's level and window (as `zstd -19 --long=27`): traces repeat themselves far apart.
const ZSTD_LEVEL: i32 = 19;
const ZSTD_WINDOW_LOG: u32 = 27;

/// A capture file in the making, under a temporary name until [`Writer::finish`].
pub struct Writer {
    out: Output,
    format: Format,
    /// Interfaces described so far (pcapng).
    described: u32,
}

enum Output {
    Plain(WholeFile),
    Gzip(flate2::write::GzEncoder<WholeFile>),
    Zstd(zstd::Encoder<'static, WholeFile>),
}

impl Output {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Output::Plain(w) => w,
            Output::Gzip(w) => w,
            Output::Zstd(w) => w,
        }
    }

    fn finish(self) -> io::Result<()> {
        let file = match self {
            Output::Plain(w) => w,
            Output::Gzip(w) => w.finish()?,
            Output::Zstd(w) => w.finish()?,
        };
        file.finish()
    }
}

impl Writer {
    /// Begins a file of this format; `.zst` and `.gz` at the end of the name compress it.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path, format: Format) -> io::Result<Self> {
        let file = WholeFile::create(path)?;
        let out = match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => Output::Gzip(flate2::write::GzEncoder::new(
                file,
                flate2::Compression::best(),
            )),
            Some("zst") => {
                let mut z = zstd::Encoder::new(file, ZSTD_LEVEL)?;
                z.long_distance_matching(true)?;
                z.window_log(ZSTD_WINDOW_LOG)?;
                Output::Zstd(z)
            }
            _ => Output::Plain(file),
        };
        let mut writer = Self {
            out,
            format,
            described: 0,
        };
        if format == Format::Pcapng {
            // Section header: block length, byte-order magic, version 1.0, length unknown.
            let mut b = Vec::new();
            b.extend(0x1a2b_3c4du32.to_le_bytes());
            b.extend([1, 0, 0, 0]);
            b.extend(u64::MAX.to_le_bytes());
            writer.block(0x0a0d_0d0a, &b)?;
        }
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.writer().write_all(bytes)
    }

    /// A pcapng block around a body whose length is a multiple of four.
    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = (body.len() as u32 + 12).to_le_bytes();
        self.put(&kind.to_le_bytes())?;
        self.put(&length)?;
        self.put(body)?;
        self.put(&length)
    }

    /// Writes a frame with other bytes than its own; `interfaces` are those of the capture so far.
    ///
    /// # Errors
    /// The system's.
    pub fn frame<'i>(
        &mut self,
        frame: &Frame<'_>,
        interfaces: impl Iterator<Item = &'i Interface>,
    ) -> io::Result<()> {
        for i in interfaces.skip(self.described as usize) {
            self.describe(i)?;
            self.described += 1;
        }
        let len = frame.data.len() as u32;
        let ns = frame.time.nanos();
        if self.format == Format::Pcapng {
            let mut head = Vec::with_capacity(20);
            head.extend(frame.interface.to_le_bytes());
            head.extend(((ns as u64 >> 32) as u32).to_le_bytes());
            head.extend((ns as u32).to_le_bytes());
            head.extend(len.to_le_bytes());
            head.extend(frame.wire_len.to_le_bytes());
            head.extend(frame.data);
            head.resize(head.len().next_multiple_of(4), 0);
            return self.block(6, &head);
        }
        let unit = if self.format == Format::PcapNanos {
            1
        } else {
            1000
        };
        let seconds = ns.div_euclid(1_000_000_000) as u32;
        let fraction = (ns.rem_euclid(1_000_000_000) / unit) as u32;
        for word in [seconds, fraction, len, frame.wire_len] {
            self.put(&word.to_le_bytes())?;
        }
        self.put(frame.data)
    }

    fn describe(&mut self, i: &Interface) -> io::Result<()> {
        let snap = match i.snap_length {
            0 => DEFAULT_SNAP_LENGTH,
            n => n,
        };
        if self.format == Format::Pcapng {
            let mut b = Vec::new();
            b.extend(i.link.number().to_le_bytes());
            b.extend([0, 0]);
            b.extend(i.snap_length.to_le_bytes());
            if let Some(name) = i.name.as_ref().filter(|n| n.len() < 256) {
                option(&mut b, 2, name.as_bytes());
            }
            // if_tsresol: nanoseconds.
            option(&mut b, 9, &[9]);
            option(&mut b, 0, &[]);
            return self.block(1, &b);
        }
        // pcap has one interface only.
        if self.described > 0 {
            return Ok(());
        }
        let magic: u32 = if self.format == Format::PcapNanos {
            0xa1b2_3c4d
        } else {
            0xa1b2_c3d4
        };
        self.put(&magic.to_le_bytes())?;
        self.put(&[2, 0, 4, 0])?;
        for word in [0, 0, snap, u32::from(i.link.number())] {
            self.put(&word.to_le_bytes())?;
        }
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(self) -> io::Result<()> {
        self.out.finish()
    }
}

/// A pcapng option, padded to four bytes.
fn option(b: &mut Vec<u8>, code: u16, value: &[u8]) {
    b.extend(code.to_le_bytes());
    b.extend((value.len() as u16).to_le_bytes());
    b.extend(value);
    b.resize(b.len().next_multiple_of(4), 0);
}
