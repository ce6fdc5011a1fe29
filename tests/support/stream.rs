//! QEMU migration streams for built captures.
//!
//! Layouts: QEMU `migration/savevm.c`, `migration/ram.c`.

/// Page size of every stream built here.
pub const PAGE: usize = 4096;

const FOOTER: u8 = 0x7e;

/// A stream in the making.
#[derive(Default, Clone)]
pub struct Stream(pub Vec<u8>);

fn idstr(out: &mut Vec<u8>, s: &str) {
    out.push(s.len() as u8);
    out.extend(s.as_bytes());
}

impl Stream {
    /// Magic, version, configuration.
    pub fn new() -> Self {
        let mut out = vec![];
        out.extend(0x5145_564du32.to_be_bytes());
        out.extend(3u32.to_be_bytes());
        out.push(0x07);
        let machine = "pc-q35-9.2";
        out.extend((machine.len() as u32).to_be_bytes());
        out.extend(machine.as_bytes());
        Self(out)
    }

    /// A command.
    pub fn command(mut self, number: u16, payload: &[u8]) -> Self {
        self.0.push(0x08);
        self.0.extend(number.to_be_bytes());
        self.0.extend((payload.len() as u16).to_be_bytes());
        self.0.extend(payload);
        self
    }

    fn section(mut self, kind: u8, id: u32, head: Option<(&str, u32)>, payload: &[u8]) -> Self {
        self.0.push(kind);
        self.0.extend(id.to_be_bytes());
        if let Some((name, version)) = head {
            idstr(&mut self.0, name);
            self.0.extend(0u32.to_be_bytes());
            self.0.extend(version.to_be_bytes());
        }
        self.0.extend(payload);
        self.0.push(FOOTER);
        self.0.extend(id.to_be_bytes());
        self
    }

    /// START of `ram` with one block of this many pages.
    pub fn ram_start(self, pages: u64) -> Self {
        let bytes = pages * PAGE as u64;
        let mut p = vec![];
        p.extend((bytes | 0x04).to_be_bytes());
        idstr(&mut p, "pc.ram");
        p.extend(bytes.to_be_bytes());
        p.extend(0x10u64.to_be_bytes());
        self.section(0x01, 2, Some(("ram", 4)), &p)
    }

    /// PART (0x02) or END (0x03) of `ram` with these pages; `None` is a zero page.
    pub fn ram(self, kind: u8, pages: &[(u64, Option<u8>)]) -> Self {
        let mut p = vec![];
        for (i, (n, fill)) in pages.iter().enumerate() {
            // The block is named once in each section here.
            let flags = if fill.is_some() { 0x08 } else { 0x02 } | if i > 0 { 0x20 } else { 0 };
            p.extend(((n * PAGE as u64) | flags).to_be_bytes());
            if i == 0 {
                idstr(&mut p, "pc.ram");
            }
            match fill {
                Some(b) => p.extend(std::iter::repeat_n(*b, PAGE)),
                None => p.push(0),
            }
        }
        p.extend(0x10u64.to_be_bytes());
        self.section(kind, 2, None, &p)
    }

    /// START (0x01), PART or END of `block` with these chunks of 1 MiB of one disk; `None` is a
    /// chunk of zeroes. Layout: QEMU 8.2 `migration/block.c`.
    pub fn block(self, kind: u8, disk: &str, chunks: &[(u64, Option<&[u8]>)]) -> Self {
        const CHUNK: usize = 1 << 20;
        let mut p = vec![];
        for (n, content) in chunks {
            let sector = n * (CHUNK as u64 / 512);
            let flags = if content.is_some() { 0x01 } else { 0x09 };
            p.extend((sector << 9 | flags).to_be_bytes());
            idstr(&mut p, disk);
            p.extend(content.iter().flat_map(|c| c.iter().cycle().take(CHUNK)));
        }
        p.extend(0x02u64.to_be_bytes());
        self.section(kind, 7, (kind == 0x01).then_some(("block", 1)), &p)
    }

    /// `dirty-bitmap` with one bitmap, from START to END. Layout: QEMU
    /// `migration/block-dirty-bitmap.c`.
    pub fn dirty_bitmap(self, disk: &str, bitmap: &str, bits: &[u8]) -> Self {
        let mut start = vec![0x1c];
        idstr(&mut start, disk);
        idstr(&mut start, bitmap);
        start.extend(65_536u32.to_be_bytes());
        start.extend([1, 0x01]);
        let mut end = vec![0x4c];
        idstr(&mut end, disk);
        idstr(&mut end, bitmap);
        end.extend(0u64.to_be_bytes());
        end.extend((bits.len() as u32 * 8 * 128).to_be_bytes());
        end.extend((bits.len() as u64).to_be_bytes());
        end.extend(bits);
        end.extend([0x20, 0x01]);
        self.section(0x01, 8, Some(("dirty-bitmap", 1)), &start)
            .section(0x03, 8, None, &end)
    }

    /// FULL section of a device.
    pub fn device(self, id: u32, name: &str, state: &[u8]) -> Self {
        self.section(0x04, id, Some((name, 1)), state)
    }

    /// End of the list, and the description.
    pub fn end(mut self) -> Self {
        self.0.push(0x00);
        let json = br#"{"page_size": 4096, "devices": []}"#;
        self.0.push(0x06);
        self.0.extend((json.len() as u32).to_be_bytes());
        self.0.extend(json);
        self
    }

    /// A whole pre-copy of a small guest whose pages and devices hold `content`.
    pub fn precopy(content: &[u8]) -> Self {
        let first: Vec<(u64, Option<u8>)> = (0..64)
            .map(|n| {
                (
                    n,
                    (n % 3 != 0).then_some(content[n as usize % content.len()]),
                )
            })
            .collect();
        let second: Vec<(u64, Option<u8>)> = (0..8).map(|n| (n, Some(0xaa))).collect();
        Self::new()
            .ram_start(64)
            .ram(0x02, &first)
            .ram(0x03, &second)
            .device(3, "timer", content)
            .device(4, "0000:00:03.0/virtio-net", content)
            .end()
    }
}
