//! Descriptions, lists and records that no QEMU writes.

use phasescope_parsers::qemu::stream::MAX_NAMES;

use super::*;

#[test]
fn a_description_of_four_gigabytes_is_not_kept() {
    let mut s = Stream::new();
    s.end();
    s.put(&[6]);
    s.put32(u32::MAX);
    let (mut decoder, mut log) = (Decoder::new(), Log::default());
    decoder.push(0, &s.bytes, &mut log);
    let chunk = vec![b' '; 1 << 16];
    let mut at = s.bytes.len() as u64;
    for _ in 0..100 {
        decoder.push(at, &chunk, &mut log);
        at += chunk.len() as u64;
        assert_eq!(decoder.resolved(), at);
    }
    decoder.finish(at, &mut log);
    let want = format!("VmDescription {{ length: {}, json: None }}", u32::MAX);
    assert_eq!(log.has(&want), 1);
}

#[test]
fn the_longest_description_that_is_kept() {
    for (n, kept) in [(MAX_VMDESC, true), (MAX_VMDESC + 1, false)] {
        let mut s = Stream::new();
        s.end();
        s.put(&[6]);
        s.put32(n as u32);
        let mut json = b"{".to_vec();
        json.resize(n, b' ');
        s.put(&json);
        for size in [1460, usize::MAX] {
            let (decoder, log) = decode(s.bytes.chunks(size));
            let last = log.items.last().unwrap();
            assert_eq!(last.contains("json: Some"), kept);
            assert_eq!(log.has("VmDescription"), 1);
            assert_eq!(decoder.resolved(), s.bytes.len() as u64);
        }
    }
}

#[test]
fn endless_lists_end() {
    // Blocks.
    let mut s = Stream::new();
    s.section(START, 1, "ram");
    s.put64((1 << 44) | 4);
    for n in 0..2 * MAX_NAMES {
        s.counted(&format!("block{n}"));
        s.put64(4096);
    }
    let (decoder, log) = decode(s.bytes.chunks(1460));
    assert_eq!((decoder.blocks().len(), log.has("Lost")), (MAX_NAMES, 1));
    // Sections.
    let mut s = Stream::new();
    for n in 0..2 * MAX_NAMES as u32 {
        s.device(n, "device", &[]);
    }
    let (_, log) = decode(s.bytes.chunks(1460));
    assert_eq!(log.has("SectionBegin"), MAX_NAMES);
    assert!(log.has("Lost") > 0);
    // Capabilities, and a machine name that would never end.
    for body in [
        &b"\x05\x1aconfiguration/capabilities\0\0\0\x01\xff\xff\xff\xff"[..],
        b"",
    ] {
        let mut s = Stream::new();
        s.configuration("m");
        s.put(body);
        if body.is_empty() {
            s.put(b"\x07\xff\xff\xff\xff");
        }
        s.put(&[b'x'; 3000]);
        let (_, log) = decode(s.bytes.chunks(100));
        assert_eq!(log.has("Lost"), 1);
    }
}

#[test]
fn records_that_no_qemu_writes() {
    let words = [
        0u64,
        0x18,
        PAGE | 0x10,
        0x28 | 512,
        PAGE | 0x200,
        0x80,
        0x28 | (40 * PAGE),
        0x01,
    ];
    for word in words {
        let mut s = Stream::new();
        s.configuration("m");
        s.page_bits(10);
        s.section(START, 2, "ram");
        s.block_list(&[("pc.ram", 40 * PAGE, &[])]);
        s.ram_end();
        s.section(PART, 2, "ram");
        s.page(Some("pc.ram"), 0, Sent::Zero);
        let at = s.bytes.len();
        s.put64(word);
        s.put(&[CONTENT; 64]);
        let (decoder, log) = decode([&s.bytes[..]]);
        let last = log.items.last().unwrap();
        assert_eq!(*last, format!("{at} Lost"), "{word:#x}");
        assert_eq!(decoder.counts().pages(), 1);
    }
}
