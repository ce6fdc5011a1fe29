//! What hypervisors speak: libvirt's RPC, QEMU's streams, NBD, and what wraps them.

use phasescope_parsers::libvirt::cookie::Cookie;
use phasescope_parsers::libvirt::domain::DomainSummary;
use phasescope_parsers::libvirt::framing::{Framer, Item, MAX_KEPT_PAYLOAD, MAX_SKIPPED};
use phasescope_parsers::libvirt::header::Header;
use phasescope_parsers::libvirt::uri::MigrationUri;
use phasescope_parsers::libvirt::{message, redact};
use phasescope_parsers::qemu::ram::PageKind;
use phasescope_parsers::qemu::{block, multifd as channel, return_path as rp, stream, vmdesc};
use phasescope_parsers::{nbd as disk, ssh as shell, tls as record};

use super::pieces::{Log, both, cut, seed};

/// Messages, and how many bytes are in items.
#[derive(Debug, Default)]
struct Rpc {
    log: Log,
    accounted: u64,
}

impl Rpc {
    fn take(&mut self, item: Item<'_, ()>) {
        match item {
            Item::Message {
                header,
                offset,
                payload,
                missing,
                ..
            } => {
                assert!(payload.len() <= MAX_KEPT_PAYLOAD);
                let told = payload.len() as u64 + u64::from(missing);
                let streamed = u64::from(header.payload_len()).checked_sub(told);
                assert!(streamed == Some(0) || (streamed.is_some() && header.is_stream_data()));
                self.accounted += 28 + u64::from(header.payload_len() - missing);
                self.log.add(|| format!("{offset} {header:?} {missing}"));
                read(&header, payload);
            }
            Item::StreamData { data, .. } => assert!(!data.is_empty()),
            Item::Skipped { length, .. } => {
                assert!(length <= MAX_SKIPPED);
                self.accounted += length;
                self.log.lost = true;
            }
        }
    }
}

/// A payload and its blanked copy say the same.
fn read(header: &Header, payload: &[u8]) {
    let before = message::decode(header, payload);
    let mut copy = payload.to_vec();
    redact::redact(header, &mut copy);
    assert_eq!(copy.len(), payload.len());
    let after = message::decode(header, &copy);
    assert_eq!(before, after, "{header:?}");
    let blanked = copy.clone();
    redact::redact(header, &mut copy);
    assert_eq!(copy, blanked, "blanking twice is blanking once");
}

/// Framing, payloads and blanking of libvirt's RPC.
pub fn libvirt_rpc(data: &[u8]) {
    let (seed, data) = seed(data);
    both(seed, data, |pieces| {
        let mut rpc = Rpc::default();
        let mut framer = match seed & 0x100 != 0 {
            true => Framer::resynchronising(),
            false => Framer::new(),
        };
        rpc.log.lost = !framer.in_step();
        for piece in pieces {
            framer.push((), piece, &mut |item| rpc.take(item));
        }
        assert!(framer.resolved() <= framer.offset());
        framer.finish(&mut |item| rpc.take(item));
        // Every byte is in one item.
        assert_eq!(rpc.accounted, data.len() as u64);
        rpc.log
    });
    if let Ok(header) = Header::parse(data) {
        assert_eq!(header.to_bytes()[..], data[..28]);
        read(&header, &data[28..]);
    }
}

/// Cookies, definitions of domains, and URIs.
pub fn libvirt_xml(data: &[u8]) {
    let cookie = Cookie::parse(data);
    let domain = DomainSummary::parse(data);
    assert!(cookie.is_none() || domain.is_none(), "one root, one kind");
    if let Some(d) = domain {
        assert!(d.disks.len() <= 64);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = MigrationUri::parse(text);
    }
}

#[derive(Default)]
struct Stream {
    log: Log,
    pages: u64,
}

impl stream::Sink<()> for Stream {
    fn item(&mut self, item: stream::Item<'_>, _: (), offset: u64) {
        self.log.lost |= item == stream::Item::Lost;
        self.log.add(|| format!("{offset} {item:?}"));
    }
    fn page(&mut self, block: Option<u16>, address: u64, kind: PageKind, bytes: u64) {
        self.pages += 1;
        self.log
            .add(|| format!("{block:?} {address} {kind:?} {bytes}"));
    }
    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.log.shown.reveal(offset, bytes);
    }
}

/// A migration's main channel, or its preempt channel.
pub fn qemu_stream(data: &[u8]) {
    let (seed, data) = seed(data);
    let middle = seed & 0x100 != 0;
    both(seed, data, |pieces| {
        let mut to = Stream::default();
        to.log.lost = middle;
        let mut decoder = match (middle, seed & 0x400 != 0) {
            (true, _) => stream::Decoder::in_the_middle(0),
            (false, true) => stream::Decoder::preempt(),
            (false, false) => stream::Decoder::new(),
        };
        let mut fed = 0;
        for (i, piece) in pieces.iter().enumerate() {
            decoder.push((), piece, &mut to);
            fed += piece.len() as u64;
            assert!(decoder.resolved() <= fed);
            assert!(decoder.blocks().len() <= stream::MAX_NAMES);
            if seed & 0x200 != 0 && pieces.len() > 1 && i == pieces.len() / 2 {
                // A hole of any length.
                let mut branch = decoder.clone();
                branch.gap(u64::from(seed) << 48, (), &mut Ignore);
                branch.push((), data, &mut Ignore);
                branch.finish((), &mut Ignore);
            }
        }
        decoder.finish((), &mut to);
        assert!(decoder.resolved() <= fed);
        to.log.shown.check(data);
        assert!(to.pages >= decoder.counts().pages());
        assert!(to.pages <= fed, "a record has bytes");
        assert_eq!(decoder.whole(), !to.log.lost);
        to.log
    });
}

struct Ignore;

impl stream::Sink<()> for Ignore {
    fn item(&mut self, _: stream::Item<'_>, _: (), _: u64) {}
    fn page(&mut self, _: Option<u16>, _: u64, _: phasescope_parsers::qemu::ram::PageKind, _: u64) {
    }
}

/// The JSON behind a stream.
pub fn qemu_vmdesc(data: &[u8]) {
    if let Some(d) = vmdesc::parse(data) {
        assert!(d.devices.len() <= data.len());
    }
}

/// What the destination writes back.
pub fn return_path(data: &[u8]) {
    let (seed, data) = seed(data);
    both(seed, data, |pieces| {
        let mut out = Vec::new();
        let mut path = rp::ReturnPath::new();
        for piece in pieces {
            path.push((), piece, &mut |m, (), _, raw: &[u8]| {
                assert!(raw.len() <= rp::MAX_MESSAGE);
                out.push((m, raw.to_vec()));
            });
            assert!(path.pending() <= rp::MAX_MESSAGE);
        }
        (out, path.in_step())
    });
}

impl channel::Sink<()> for Log {
    fn item(&mut self, item: channel::Item<'_>, _: (), offset: u64) {
        self.lost |= item == channel::Item::Lost;
        self.add(|| format!("{offset} {item:?}"));
    }
    fn page(&mut self, block: &[u8], offset: u64, zero: bool) {
        self.add(|| format!("{block:?} {offset} {zero}"));
    }
    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.shown.reveal(offset, bytes);
    }
}

/// A multifd channel.
pub fn multifd(data: &[u8]) {
    let (seed, data) = seed(data);
    let middle = seed & 0x100 != 0;
    both(seed, data, |pieces| {
        let mut log = Log {
            lost: middle,
            ..Log::default()
        };
        let mut decoder = match middle {
            true => channel::Channel::in_the_middle(0),
            false => channel::Channel::new(),
        };
        for piece in pieces {
            decoder.push((), piece, &mut log);
        }
        decoder.finish();
        log.shown.check(data);
        assert!(decoder.resolved() <= data.len() as u64);
        assert!(!decoder.whole() || !log.lost);
        // A page has eight bytes in a header; the items of one header are few.
        assert!(log.items.len() <= data.len() / 4 + 8);
        log
    });
}

/// Records of the old block migration and of dirty bitmaps.
pub fn block_migration(data: &[u8]) {
    for n in [data.len(), data.len() / 2] {
        if let Ok((rest, _)) = block::record(&data[..n]) {
            assert!(rest.len() < n);
        }
        if let Ok((rest, _)) = block::bitmap_record(&data[..n]) {
            assert!(rest.len() < n);
        }
    }
}

/// A log of each side. What one side has lost, the other may not understand.
#[derive(Debug, Default, PartialEq)]
struct Disk([Log; 2]);

fn index(side: disk::Side) -> usize {
    usize::from(side == disk::Side::Server)
}

impl disk::Sink<()> for Disk {
    fn item(&mut self, side: disk::Side, item: disk::Item<'_>, _: (), offset: u64) {
        if item == disk::Item::Lost {
            self.0.iter_mut().for_each(|log| log.lost = true);
        }
        self.0[index(side)].add(|| format!("{offset} {item:?}"));
    }
    fn reveal(&mut self, side: disk::Side, offset: u64, bytes: &[u8]) {
        self.0[index(side)].shown.reveal(offset, bytes);
    }
}

/// Both directions of NBD: turns of a side and a length, then bytes.
pub fn nbd(data: &[u8]) {
    let (seed, mut data) = seed(data);
    let mut turns = Vec::new();
    while let [head, low, rest @ ..] = data {
        let side = match head & 1 {
            0 => disk::Side::Client,
            _ => disk::Side::Server,
        };
        let n = usize::from(u16::from_le_bytes([*low, head >> 4])).min(rest.len());
        turns.push((side, &rest[..n]));
        data = &rest[n..];
    }
    let run = |cutting: bool| {
        let mut log = Disk::default();
        let middle = seed & 0x100 != 0;
        log.0.iter_mut().for_each(|l| l.lost = middle);
        let mut c = match middle {
            true => disk::Connection::in_the_middle(0, 0),
            false => disk::Connection::new(),
        };
        for (side, bytes) in &turns {
            let pieces = if cutting {
                cut(seed, bytes)
            } else {
                vec![*bytes]
            };
            for piece in pieces {
                c.push(*side, (), piece, &mut log);
            }
        }
        let fed = |s| {
            turns
                .iter()
                .filter(move |t| t.0 == s)
                .flat_map(|t| t.1)
                .copied()
        };
        for side in [disk::Side::Client, disk::Side::Server] {
            c.finish(side);
            let fed: Vec<u8> = fed(side).collect();
            assert!(c.resolved(side) <= fed.len() as u64);
            log.0[index(side)].shown.check(&fed);
        }
        log
    };
    assert_eq!(run(false), run(true));
}

impl record::Sink<()> for Log {
    fn item(&mut self, item: record::Item<'_>, _: (), offset: u64) {
        if let record::Item::ClientHello {
            server_name: Some(name),
            ..
        } = &item
        {
            assert!(name.len() <= record::MAX_SERVER_NAME);
        }
        self.lost |= item == record::Item::Lost;
        self.add(|| format!("{offset} {item:?}"));
    }
    fn reveal(&mut self, offset: u64, bytes: &[u8]) {
        self.shown.reveal(offset, bytes);
    }
}

/// One direction of TLS.
pub fn tls(data: &[u8]) {
    let (seed, data) = seed(data);
    both(seed, data, |pieces| {
        let mut log = Log::default();
        let mut decoder = record::Decoder::new();
        for piece in pieces {
            decoder.push((), piece, &mut log);
        }
        decoder.finish();
        log.shown.check(data);
        assert!(decoder.resolved() <= data.len() as u64);
        assert!(!decoder.whole() || !log.lost);
        log
    });
}

/// The identification line of SSH: once it is known, more bytes do not change it.
pub fn ssh(data: &[u8]) {
    let whole = shell::identification(data);
    for n in 0..data.len().min(300) {
        if let Some(early) = shell::identification(&data[..n]) {
            assert_eq!(Some(early), whole);
        }
    }
}
