//! Opening a file: what is it, and in what is it wrapped?

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::block::Block;
use super::dpmi::inside::Inside;
use super::dpmi::{Dpmi, Notes};
use super::pcap::Pcap;
use super::pcapng::Pcapng;
use super::{CaptureError, Compression, Fault, Format, Interface, Record};

/// Largest zstd window that is accepted, as a power of two: that of `zstd --long=27`. Bounds the
/// decompressor's memory at 128 MiB.
const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// Bytes that tell the format.
const MAGIC_LEN: usize = 4;

/// An open capture file.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) name: String,
    pub(super) compression: Compression,
    pub(super) block: Block,
    records: Records,
    /// Gives the frames inside DPMI streams instead of those in the file.
    inside: Option<Box<Inside>>,
}

#[derive(Debug)]
pub(super) enum Records {
    Pcap(Pcap),
    Pcapng(Pcapng),
    Dpmi(Box<Dpmi>),
}

impl Records {
    #[inline]
    pub(super) fn next_record(&mut self, block: &mut Block) -> Result<Option<Record>, Fault> {
        match self {
            Records::Pcap(p) => p.next_record(block),
            Records::Pcapng(p) => p.next_record(block),
            Records::Dpmi(d) => d.next_record(block),
        }
    }

    fn notes(&self) -> Option<&Notes> {
        match self {
            Records::Dpmi(d) => Some(d.notes()),
            _ => None,
        }
    }
}

/// Counts what is read of the file.
struct Counting<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Reader {
    pub(super) fn open(path: &Path, count: Arc<AtomicU64>) -> Result<Self, CaptureError> {
        if path == Path::new("-") {
            return Self::new("-", Box::new(io::stdin()), count);
        }
        let name = path.display().to_string();
        let fail = |source| CaptureError::Open {
            name: name.clone(),
            source,
        };
        let file = File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.is_dir() {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        }
        Self::new(&name, Box::new(file), count)
    }

    pub(super) fn new(
        name: &str,
        input: Box<dyn Read + Send>,
        count: Arc<AtomicU64>,
    ) -> Result<Self, CaptureError> {
        let name = name.to_owned();
        let read = |source| CaptureError::Read {
            name: name.clone(),
            offset: 0,
            source,
        };
        let mut input = Counting {
            inner: input,
            count,
        };
        let magic = peek(&mut input).map_err(read)?;
        if magic.is_empty() {
            return Err(CaptureError::Empty { name });
        }
        let whole = io::Cursor::new(magic.clone()).chain(input);
        let (compression, input): (_, Box<dyn Read + Send>) = match *magic {
            [0x1f, 0x8b, ..] => (
                Compression::Gzip,
                Box::new(flate2::read::MultiGzDecoder::new(whole)),
            ),
            // A frame, or a skippable one in front of it (RFC 8878, section 3.1).
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                let mut z = zstd::Decoder::new(whole).map_err(read)?;
                z.window_log_max(MAX_ZSTD_WINDOW_LOG).map_err(read)?;
                (Compression::Zstd, Box::new(z))
            }
            _ => (Compression::None, Box::new(whole)),
        };
        let mut block = Block::new(input);
        let first = match block.want(MAGIC_LEN) {
            Ok(first) => first.get(..MAGIC_LEN).unwrap_or(first).to_vec(),
            Err(fault) => return Err(refused(name, &block, fault)),
        };
        let records = match *first {
            [] => return Err(CaptureError::Empty { name }),
            [0x0a, 0x0d, 0x0d, 0x0a] => Pcapng::new(&mut block).map(Records::Pcapng),
            _ if Pcap::is_magic(&first) => Pcap::new(&mut block).map(Records::Pcap),
            _ => match Dpmi::open(&mut block) {
                Ok(Some(dpmi)) => Ok(Records::Dpmi(Box::new(dpmi))),
                Ok(None) => {
                    let found = first
                        .iter()
                        .map(|b| format!("{b:02x} "))
                        .collect::<String>();
                    return Err(CaptureError::NotACapture {
                        name,
                        found: format!("the bytes {}", found.trim_end()),
                    });
                }
                Err(fault) => Err(fault),
            },
        };
        match records {
            Ok(records) => Ok(Self {
                name,
                compression,
                block,
                records,
                inside: None,
            }),
            Err(fault) => Err(refused(name, &block, fault)),
        }
    }

    pub(super) fn format(&self) -> Format {
        match &self.records {
            Records::Pcap(p) => p.format(),
            Records::Pcapng(_) => Format::Pcapng,
            Records::Dpmi(_) => Format::Dpmi,
        }
    }

    pub(super) fn version(&self) -> Option<(u16, u16)> {
        match &self.records {
            Records::Pcap(p) => Some(p.version()),
            Records::Pcapng(p) => p.version(),
            Records::Dpmi(d) => Some(d.version()),
        }
    }

    /// What DPMI says besides the frames read so far.
    pub(super) fn notes(&self) -> Option<Notes> {
        match &self.inside {
            Some(inside) => Some(inside.notes(self.records.notes())),
            None => self.records.notes().cloned(),
        }
    }

    /// From now on gives the frames inside DPMI streams.
    pub(super) fn look_inside(&mut self) {
        self.inside = Some(Box::default());
    }

    #[inline]
    pub(super) fn next_record(&mut self) -> Result<Option<Record>, Fault> {
        match &mut self.inside {
            Some(inside) => inside.next_record(&mut self.records, &mut self.block),
            None => self.records.next_record(&mut self.block),
        }
    }

    pub(super) fn interface(&self, n: u32) -> Interface {
        if let Some(inside) = &self.inside {
            return inside.interface(n);
        }
        match &self.records {
            Records::Dpmi(d) => d.interface(n),
            Records::Pcap(p) => p.interface(),
            Records::Pcapng(p) => p.interface(n),
        }
    }
}

fn refused(name: String, block: &Block, fault: Fault) -> CaptureError {
    match fault {
        Fault::Io(source) => CaptureError::Read {
            name,
            offset: block.offset(),
            source,
        },
        Fault::Damage(damage) => CaptureError::Broken { name, damage },
    }
}

/// The first bytes of the input, as many as it has up to [`MAGIC_LEN`].
fn peek(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::new();
    input.take(MAGIC_LEN as u64).read_to_end(&mut magic)?;
    Ok(magic)
}
