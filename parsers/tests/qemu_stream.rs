//! Migration streams, built by hand: what is decoded, whole, in slices, cut, with holes and
//! with wrong bytes.

#[path = "qemu_stream/build.rs"]
mod build;
#[path = "qemu_stream/holes.rs"]
mod holes;
#[path = "qemu_stream/limits.rs"]
mod limits;
#[path = "qemu_stream/return_path.rs"]
mod return_path;

use build::*;
use phasescope_parsers::qemu::command;
use phasescope_parsers::qemu::stream::{Decoder, MAX_ITEM, MAX_VMDESC, RamBlock};
use phasescope_parsers::qemu::{Probe, probe};
use proptest::prelude::*;

const JSON: &[u8] = br#"{"page_size":1024,"devices":[]}"#;

/// Device state that looks like anything: zeroes, marks of elements, page words, footers of
/// other sections and own footers with nothing plausible behind them.
fn nasty(own: u32, other: u32) -> Vec<u8> {
    let mut b = vec![0x7e, 0x7e, 0, 0, 0, 0, 4, 2, 3, 8, 0x7e];
    for (id, behind) in [
        (other, &[0x04, 0, 0, 0, 9, 3, b'a', b'b', b'c'][..]),
        (own, &[0xff]),
        (own, &[0x00, 0x05]),
        // A section whose name is not printable, one without a name, one of absurd id.
        (own, &[0x04, 0, 0, 0, 9, 3, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 1]),
        (own, &[0x04, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (own, &[0x04, 0x7f, 0, 0, 0, 3, b'a', b'b', b'c']),
        // Unknown sections, and commands of wrong length or number.
        (own, &[0x02, 0, 0, 0x33, 0x33]),
        (own, &[0x08, 0, 2, 0, 5]),
        (own, &[0x08, 0, 99, 0, 0]),
        (own, &[0x7e]),
    ] {
        b.push(0x7e);
        b.extend_from_slice(&id.to_be_bytes());
        b.extend_from_slice(behind);
    }
    b.extend_from_slice(&(PAGE | 0x28).to_be_bytes());
    b.extend_from_slice(&[0, 0, 0, 6]);
    b
}

/// Everything a pre-copy can send.
fn precopy() -> Stream {
    precopy_of(PAGE)
}

fn precopy_of(page: u64) -> Stream {
    let mut s = Stream::new();
    s.configuration("pc-q35-10.0");
    s.page_bits(page.ilog2());
    s.capabilities(&["x-ignore-shared", "mapped-ram"]);
    s.uuid(*b"0123456789abcdef");
    s.command(command::OPEN_RETURN_PATH, &[]);
    s.command(command::PING, &1u32.to_be_bytes());
    // Early setup: a device before the memory.
    s.device(9, "0000:00:04.0/virtio-mem", &[1; 40]);
    s.section(START, 2, "ram");
    let pages = 40 * page;
    s.block_list(&[
        ("pc.ram", pages, &[]),
        ("0000:00:02.0/vga.vram", 4 * page, &[1 << 21, 0x8000_0000]),
        ("/rom@etc/acpi/tables", 2 * page, &[0]),
    ]);
    s.flush();
    s.ram_end();
    s.section(PART, 2, "ram");
    s.page(Some("pc.ram"), 0, Sent::Normal);
    for n in 1..6 {
        s.page(None, n * page, Sent::Normal);
    }
    for n in 6..9 {
        s.page(None, n * page, Sent::Zero);
    }
    s.ram_end();
    s.section(PART, 2, "ram");
    // The block outlives the section.
    s.page(None, 9 * page, Sent::Zero);
    s.page(Some("0000:00:02.0/vga.vram"), 0, Sent::Compressed(77));
    s.page(None, page, Sent::Compressed(0));
    s.page(Some("pc.ram"), 3 * page, Sent::Xbzrle(0));
    s.page(None, 4 * page, Sent::Xbzrle(100));
    s.flush();
    s.page(Some("/rom@etc/acpi/tables"), page, Sent::Normal);
    s.ram_end();
    s.section(PART, 2, "ram");
    s.ram_end();
    s.command(command::SWITCHOVER_START, &[]);
    s.section(END, 2, "ram");
    for n in 20..26 {
        let block = (n == 20).then_some("pc.ram");
        s.page(block, n * page, Sent::Normal);
    }
    s.ram_end();
    s.device(0, "timer", &[0; 24]);
    s.device(3, "0000:00:03.0/virtio-net", &nasty(3, 7));
    s.device(7, "cpu_common", &[]);
    s.device(8, "kvmclock", &[0x7e]);
    s.end();
    s.vmdesc(JSON);
    s
}

fn postcopy() -> Stream {
    let mut s = Stream::new();
    s.configuration("pc-q35-9.2");
    s.command(command::OPEN_RETURN_PATH, &[]);
    s.command(command::PING, &1u32.to_be_bytes());
    s.advise();
    s.section(START, 4, "ram");
    s.block_list(&[("pc.ram", 64 * PAGE, &[])]);
    s.ram_end();
    s.section(PART, 4, "ram");
    s.page(Some("pc.ram"), 0, Sent::Zero);
    for n in 1..7 {
        s.page(None, n * PAGE, Sent::Normal);
    }
    s.ram_end();
    s.command(
        command::POSTCOPY_RAM_DISCARD,
        b"\0\x06pc.ram\0--------========",
    );
    s.command(command::PING, &2u32.to_be_bytes());
    s.package(|p| {
        p.command(4, &[]);
        p.device(0, "timer", &[9; 30]);
        p.device(5, "0000:00:03.0/virtio-net", &nasty(5, 0));
        p.command(command::PING, &3u32.to_be_bytes());
        p.command(command::POSTCOPY_RUN, &[]);
    });
    s.command(command::PING, &4u32.to_be_bytes());
    s.section(PART, 4, "ram");
    s.page(Some("pc.ram"), 30 * PAGE, Sent::Normal);
    for n in [31, 12, 13, 14, 15, 16, 17] {
        s.page(None, n * PAGE, Sent::Normal);
    }
    s.ram_end();
    s.section(END, 4, "ram");
    s.ram_end();
    s.end();
    s
}

/// Without footers; with the description as the machine pc-i440fx-2.3 had it, or without.
fn footerless(described: bool) -> Stream {
    let mut s = Stream::old();
    s.section(START, 2, "ram");
    s.block_list(&[("pc.ram", 16 << 12, &[])]);
    s.ram_end();
    s.section(PART, 2, "ram");
    s.page(Some("pc.ram"), 0, Sent::Normal);
    s.page(None, 1 << 12, Sent::Zero);
    s.ram_end();
    s.section(END, 2, "ram");
    s.page(None, 2 << 12, Sent::Normal);
    s.ram_end();
    s.device(0, "timer", &[0; 9]);
    // A known section, an id and a name that no QEMU writes, and a list's end without its JSON.
    let state =
        b"\x04\0\0\0\0\x05timer\0\0\0\0\0\0\0\x01\x04\xff\0\0\0\x01a\0\x06\0\0\x04\x04[\x7e";
    s.device(3, "serial", state);
    if described {
        s.device(4, "last", b"\0\0\0\x06\0\0\x06\x04");
        s.end();
        // A length of 0x0404: its bytes look like sections.
        let mut json = br#"{"page_size":4096}"#.to_vec();
        json.resize(0x404, b' ');
        s.vmdesc(&json);
    } else {
        s.section(FULL, 4, "last");
        s.put(&[0, 6, 1, 0]);
        s.put(&[0]);
    }
    s
}

fn all() -> [(&'static str, Stream); 4] {
    [
        ("precopy", precopy()),
        ("postcopy", postcopy()),
        ("2.3", footerless(true)),
        ("2.2", footerless(false)),
    ]
}

fn decode<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> (Decoder<u64>, Log) {
    let (mut decoder, mut log, mut offset) = (Decoder::new(), Log::default(), 0);
    for s in slices {
        decoder.push(offset, s, &mut log);
        offset += s.len() as u64;
        let held = offset - decoder.resolved();
        assert!(held <= (MAX_VMDESC + MAX_ITEM) as u64, "{held} bytes held");
    }
    decoder.finish(offset, &mut log);
    (decoder, log)
}

fn check(stream: &Stream, decoder: &Decoder<u64>, log: &Log) {
    assert_eq!(log.items, stream.want.items);
    assert_eq!(log.pages, stream.want.pages);
    assert_eq!(decoder.counts(), stream.total);
    assert_eq!(decoder.resolved(), stream.bytes.len() as u64);
    assert!(decoder.whole());
    let names: Vec<_> = decoder.blocks().iter().map(|b| b.name.clone()).collect();
    assert_eq!(names, stream.blocks);
    assert_eq!(u64::from(decoder.page_size()), stream.page);
    log.check_revealed(&stream.bytes);
}

#[test]
fn whole() {
    for (name, s) in all() {
        let (decoder, log) = decode([&s.bytes[..]]);
        check(&s, &decoder, &log);
        assert_eq!(decoder.ended(), name != "2.2");
    }
}

#[test]
fn slices_of_one_size() {
    for (_, s) in all() {
        for size in [1, 2, 3, 5, 7, 8, 9, 64, 100, 1000, 1460, 4096] {
            let (decoder, log) = decode(s.bytes.chunks(size));
            check(&s, &decoder, &log);
        }
    }
}

#[test]
fn what_the_builder_expects_is_what_was_meant() {
    // Guards the tests: a builder that forgot something would agree with itself.
    let s = precopy();
    for (name, times) in [
        ("Header", 1),
        ("Configuration", 1),
        ("Uuid", 1),
        ("Command", 3),
        ("SectionBegin", 10),
        ("RamBlocks { count: 3, bytes: 47104 }", 1),
        ("MultifdFlush", 2),
        ("RamEnd", 5),
        ("DeviceEnd", 5),
        ("EndOfStream", 1),
        ("VmDescription", 1),
        ("Lost", 0),
    ] {
        assert_eq!(s.want.has(name), times, "{name}");
    }
    assert_eq!((s.total.normal, s.total.zero), (13, 4));
    assert_eq!((s.total.xbzrle, s.total.compressed), (2, 2));
    assert_eq!(s.total.pages(), 21);
    let p = postcopy();
    assert_eq!((p.want.has("PackagedEnd"), p.want.has("Command")), (1, 10));
    let packaged = |i: &&String| i.contains("packaged: true");
    assert_eq!(p.want.items.iter().filter(packaged).count(), 2);
}

#[test]
fn used_lengths_of_blocks() {
    let (decoder, _) = decode([&precopy().bytes[..]]);
    let block = |name: &str, pages: u64| RamBlock {
        name: name.to_owned(),
        used_length: Some(pages * PAGE),
    };
    let want = [
        block("pc.ram", 40),
        block("0000:00:02.0/vga.vram", 4),
        block("/rom@etc/acpi/tables", 2),
    ];
    assert_eq!(decoder.blocks(), want);
}

#[test]
fn a_block_that_grows() {
    // A second list, in a later part, gives a block another length.
    let mut s = Stream::new();
    s.configuration("m");
    s.page_bits(10);
    s.section(START, 1, "ram");
    s.block_list(&[("pc.ram", 4 * PAGE, &[])]);
    s.ram_end();
    s.section(PART, 1, "ram");
    s.page(Some("pc.ram"), 3 * PAGE, Sent::Zero);
    s.blocks.clear();
    s.block_list(&[("pc.ram", 8 * PAGE, &[])]);
    s.page(Some("pc.ram"), 7 * PAGE, Sent::Zero);
    s.ram_end();
    for size in [1, usize::MAX] {
        let (decoder, log) = decode(s.bytes.chunks(size));
        check(&s, &decoder, &log);
    }
}

#[test]
fn probing() {
    let s = precopy();
    for n in 0..8 {
        assert_eq!(probe(&s.bytes[..n]), Probe::NeedMore);
    }
    assert_eq!(probe(&s.bytes), Probe::Yes);
    assert_eq!(probe(b"QEVM\0\0\0\x02"), Probe::No);
    assert_eq!(probe(b"HTTP"), Probe::No);
}

#[test]
fn not_a_stream() {
    for head in [&b"QEVM\0\0\0\x02rest"[..], b"GET / HTTP/1.1"] {
        let (decoder, log) = decode([head]);
        assert_eq!(log.items, ["0 Lost"]);
        assert!(!decoder.whole());
    }
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..12, 1usize..3000], 1..40)
}

/// `bytes` in slices of these sizes, again and again.
fn sliced<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut rest, mut parts) = (bytes, Vec::new());
    for n in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, more) = rest.split_at((*n).min(rest.len()));
        parts.push(part);
        rest = more;
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn slices_of_any_size(which in 0usize..4, sizes in cuts()) {
        let (_, s) = &all()[which];
        let (decoder, log) = decode(sliced(&s.bytes, &sizes));
        check(s, &decoder, &log);
    }

    #[test]
    fn device_state_of_any_kind(
        state in prop::collection::vec(prop_oneof![Just(0x7eu8), Just(0), any::<u8>()], 0..300),
        sizes in cuts(),
    ) {
        // An id that the state does not hold: its footer cannot be in it.
        let mut s = Stream::new();
        s.device(0xabcde, "some/device", &state);
        s.command(command::PING, &1u32.to_be_bytes());
        s.device(0xabcdf, "other", &state);
        s.end();
        s.vmdesc(JSON);
        let (decoder, log) = decode(sliced(&s.bytes, &sizes));
        prop_assert_eq!(&log.items, &s.want.items);
        prop_assert!(decoder.whole() && decoder.ended());
    }
}
