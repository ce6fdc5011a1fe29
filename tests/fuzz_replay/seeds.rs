//! Seeds from the scrubbed fixtures and from the builders of the other tests.

use std::collections::BTreeMap;
use std::io::Write;

use phasescope::capture::Capture;
use phasescope::net::flow::Interest;
use phasescope::net::{Chunk, FlowInfo, Flows, Handler, Packet, Stamp, What};

use crate::support::rpc::{self, Xdr};
use crate::support::stream::Stream;
use crate::support::trace::{Side, Trace};
use crate::support::{fixture, kvm};

type Seed = (&'static str, String, Vec<u8>);

/// Bytes of one direction that make a seed.
const PART: usize = 3000;

/// First and last bytes of each direction, by connection.
#[derive(Default)]
struct Parts(BTreeMap<u64, (u16, [Vec<u8>; 2])>);

impl Handler<()> for Parts {
    fn chunk(&mut self, info: &FlowInfo, (): &mut (), chunk: Chunk<'_>) -> Interest {
        if let What::Data(_, bytes) = chunk.what {
            let new = || (info.server.port, Default::default());
            let (_, parts) = self.0.entry(info.id).or_insert_with(new);
            let part = &mut parts[chunk.direction.index()];
            part.extend_from_slice(bytes);
            // The beginning stays, and what came last.
            if part.len() > 4 * PART {
                let over = part.len() - 2 * PART;
                part.drain(PART..PART + over);
            }
        }
        Interest::Bytes
    }
}

fn parts(mut capture: Capture) -> impl Iterator<Item = (u16, [Vec<u8>; 2])> {
    let (mut flows, mut parts) = (Flows::default(), Parts::default());
    while let Some(frame) = capture.next_frame().expect("reads") {
        let stamp = Stamp {
            time: frame.time,
            frame: frame.number,
        };
        if let Some(packet) = Packet::read(&frame) {
            flows.packet(&packet, frame.wire_len, stamp, &mut parts);
        }
    }
    flows.finish(&mut parts);
    parts.0.into_values()
}

/// Two bytes that choose the cutting, then the bytes.
fn with_seed(seed: u16, bytes: &[u8]) -> Vec<u8> {
    [&seed.to_le_bytes()[..], bytes].concat()
}

fn from_fixtures(out: &mut Vec<Seed>) {
    let files = [
        ("idle", kvm("kvm-idle")),
        ("postcopy", kvm("kvm-postcopy")),
        ("multifd", kvm("kvm-multifd")),
        ("cloud", fixture("openstack/os-live-source.pcap.zst")),
    ];
    for (file, path) in files {
        let capture = Capture::open(&[path]).expect("the fixture opens");
        let mut kept: BTreeMap<&str, usize> = BTreeMap::new();
        for (port, [up, down]) in parts(capture) {
            let is = |b: &[u8], begin: &[u8]| b.starts_with(begin);
            let targets: &[(&'static str, &[u8])] = match port {
                16_509 => &[("libvirt_rpc", &up), ("libvirt_rpc", &down)],
                _ if is(&up, b"QEVM") => &[("qemu_stream", &up), ("return_path", &down)],
                _ if is(&up, &[0x11, 0x22, 0x33, 0x44]) => &[("multifd", &up)],
                _ if is(&up, b"AMQP") => &[("amqp", &up), ("amqp", &down)],
                _ if is(&down, b"HTTP/1.1") => &[("http", &up), ("http", &down)],
                _ => &[],
            };
            for (i, (target, bytes)) in targets.iter().enumerate() {
                let n = kept.entry(target).or_default();
                if *n < 6 && !bytes.is_empty() {
                    *n += 1;
                    // Bit 8 tells HTTP which side it is.
                    let side = if *target == "http" { i << 8 } else { 0 };
                    let bytes = &bytes[..bytes.len().min(2 * PART)];
                    let bytes = with_seed((side | 2) as u16, bytes);
                    out.push((target, format!("{file}-{n}"), bytes));
                }
            }
        }
    }
}

const UUID: [u8; 16] = [7; 16];

fn calls() -> Vec<Vec<u8>> {
    let cookie = rpc::cookie("vm", "07070707-0707-0707-0707-070707070707", "src", "");
    let call = |procedure, serial, body: &Xdr| rpc::message(procedure, rpc::CALL, serial, 0, body);
    let reply = |p, serial, body: &Xdr| rpc::message(p, rpc::REPLY, serial, rpc::OK, body);
    let uri = Xdr::default()
        .opaque(&cookie)
        .optional(Some("tcp:dst:49152"));
    vec![
        call(
            1,
            1,
            &Xdr::default().optional(Some("qemu:///system")).u32(0),
        ),
        reply(1, 1, &Xdr::default()),
        call(
            303,
            2,
            &Xdr::default()
                .parameters(&[("destination_name", "vm")])
                .opaque(&cookie)
                .u32(1),
        ),
        reply(303, 2, &uri),
        call(
            213,
            3,
            &Xdr::default()
                .domain("vm", UUID)
                .optional(None)
                .u64(3)
                .optional(None)
                .u64(0),
        ),
        rpc::message(
            215,
            rpc::STREAM,
            4,
            rpc::CONTINUE,
            &Xdr(vec![0x51, 0x45, 0x56, 0x4d]),
        ),
        rpc::message(
            305,
            rpc::REPLY,
            5,
            rpc::ERROR,
            &rpc::error(38, "cannot connect"),
        ),
        call(
            217,
            6,
            &Xdr::default()
                .string("vm")
                .opaque(&cookie)
                .optional(None)
                .u64(1)
                .u32(0),
        ),
    ]
}

fn stream() -> Vec<u8> {
    Stream::new()
        .command(1, &[])
        .command(2, &[0, 0, 0, 1])
        .ram_start(16)
        .ram(0x02, &[(0, Some(1)), (1, None), (3, None)])
        .ram(0x03, &[(1, None), (2, None)])
        .device(3, "timer", &[9; 24])
        .end()
        .0
}

/// A migration with everything that shows, a few kilobytes long.
fn trace() -> Trace {
    let mut t = Trace::default();
    let ms = |n: i64| n * 1_000_000;
    let mut c = t.connect(0, "10.0.0.1:40000", "10.0.0.2:16509");
    let mut at = 1;
    for m in calls() {
        let kind = m[19];
        let side = if kind == 1 {
            Side::Server
        } else {
            Side::Client
        };
        t.send(ms(at), &mut c, side, &m);
        at += 10;
    }
    let mut s = t.connect(ms(35), "10.0.0.1:40001", "10.0.0.2:49152");
    t.send(ms(36), &mut s, Side::Client, &stream());
    t.close(ms(90), &mut s);
    t.udp(ms(95), b"x");
    t.close(ms(100), &mut c);
    t
}

/// As the target `connections` reads it.
fn turns(parts: &[(u8, u8, u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (which, flags, time, bytes) in parts {
        for piece in bytes.chunks(1400) {
            out.extend([*which, *flags, *time]);
            out.extend((piece.len() as u16).to_le_bytes());
            out.extend(piece);
        }
        if bytes.is_empty() {
            out.extend([*which, *flags, *time, 0, 0]);
        }
    }
    out
}

fn built(out: &mut Vec<Seed>) {
    let mut add = |target, name: &str, bytes| out.push((target, name.to_owned(), bytes));
    let calls = calls();
    add("libvirt_rpc", "built", with_seed(2, &calls.concat()));
    for (n, cut) in [(0x102, "lost"), (3, "coarse")] {
        add("libvirt_rpc", cut, with_seed(n, &calls.concat()[11..]));
    }
    let nbd = "<nbd port='49153'><disk target='vda' capacity='1073741824'/></nbd>";
    add(
        "libvirt_xml",
        "cookie",
        rpc::cookie("vm", "07070707-0707-0707-0707-070707070707", "src", nbd),
    );
    let domain = b"<domain type='kvm'><name>vm</name><memory unit='KiB'>1024</memory><devices>\
        <disk type='file'><target dev='vda'/></disk><interface><mac address='52:54:00:00:00:01'/>\
        </interface></devices></domain>";
    add("libvirt_xml", "domain", domain.to_vec());
    add(
        "libvirt_xml",
        "entities",
        b"<!DOCTYPE a [<!ENTITY b 'bb'>]><domain><name>&b;</name></domain>".to_vec(),
    );
    add(
        "libvirt_xml",
        "uri",
        b"tcp:[2001:db8::1]:49152?a=b".to_vec(),
    );
    add("qemu_stream", "built", with_seed(2, &stream()));
    add("qemu_stream", "middle", with_seed(0x302, &stream()[70..]));
    add("qemu_vmdesc", "built", br#"{"page_size":4096,"devices":[{"name":"timer","fields":[{"size":8,"array_len":3}],"subsections":[{"vmsd_name":"a","version":1,"fields":[]}]},{"name":"b","size":4}]}"#.to_vec());
    let mut back = vec![];
    for m in [
        &[0, 2, 0, 4, 0, 0, 0, 1][..],
        &[
            0, 3, 0, 19, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 16, 0, 6, b'p', b'c', b'.', b'r', b'a', b'm',
        ],
        &[0, 4, 0, 12, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 16, 0],
        &[
            0, 5, 0, 2, 1, b'r', 0, 0, 0, 0, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
        ],
        &[1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef][..],
        &[0, 1, 0, 4, 0, 0, 0, 0],
    ] {
        back.extend(m);
    }
    add("return_path", "built", with_seed(1, &back));
    let mut device = (0x1000u64 | 0x01).to_be_bytes().to_vec();
    device.extend([3, b'v', b'd', b'a', 0, 0, 0, 0]);
    add("block_migration", "device", device);
    add(
        "block_migration",
        "bitmap",
        vec![0x1c, 1, b'b', 3, b'v', b'd', b'a', 0, 0, 2, 0, 1],
    );
    let greeting = b"NBDMAGICIHAVEOPT\x00\x03";
    let go =
        b"\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x0b\x00\x00\x00\x05drive\x00\x00";
    let answer =
        b"\x00\x03\xe8\x89\x04\x55\x65\xa9\x00\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00\x00";
    let mut write = b"\x25\x60\x95\x13\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x09".to_vec();
    write.extend([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]);
    let done = b"\x67\x44\x66\x98\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09";
    let mut nbd = vec![];
    for (side, bytes) in [
        (1u8, &greeting[..]),
        (0, go),
        (1, answer),
        (0, &write),
        (1, done),
    ] {
        nbd.extend([side, bytes.len() as u8]);
        nbd.extend(bytes);
    }
    add("nbd", "built", with_seed(2, &nbd));
    let mut hello = vec![22, 3, 1, 0, 0x42, 1, 0, 0, 0x3e, 3, 3];
    hello.extend([5; 32]);
    hello.extend([0, 0, 2, 0x13, 1, 1, 0, 0, 0x13]);
    hello.extend([
        0, 0, 0, 8, 0, 6, 0, 0, 3, b'd', b's', b't', 0, 43, 0, 3, 2, 3, 4,
    ]);
    hello.extend([20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 5, 1, 2, 3, 4, 5]);
    add("tls", "hello", with_seed(1, &hello));
    add(
        "ssh",
        "line",
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\0\0".to_vec(),
    );
    let mut amqp = b"AMQP\x00\x00\x09\x01".to_vec();
    amqp.extend([8, 0, 0, 0, 0, 0, 0, 0xce]);
    amqp.extend([
        1, 0, 1, 0, 0, 0, 14, 0, 60, 0, 40, 0, 0, 1, b'n', 4, b'c', b'o', b'n', b'd', 0, 0xce,
    ]);
    amqp.extend([
        2, 0, 1, 0, 0, 0, 14, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0xce,
    ]);
    amqp.extend([3, 0, 1, 0, 0, 0, 2, b'{', b'}', 0xce]);
    add("amqp", "built", with_seed(1, &amqp));
    let message = r#"{\"method\":\"live_migration\",\"args\":{\"dest\":\"c2\",\"instance\":{\"nova_object.name\":\"Instance\",\"nova_object.data\":{\"uuid\":\"07070707-0707-0707-0707-070707070707\",\"host\":\"c1\"}}},\"_request_id\":\"req-07070707-0707-0707-0707-070707070707\",\"_msg_id\":\"0707\"}"#;
    let oslo = format!(r#"{{"oslo.version":"2.0","oslo.message":"{message}"}}"#);
    add("oslo", "call", oslo.clone().into_bytes());
    add("oslo", "plain", message.replace('\\', "").into_bytes());
    let request = "POST /v2.1/servers/07070707-0707-0707-0707-070707070707/action HTTP/1.1\r\nHost: c\r\nX-Auth-Token: t\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{\"os-migrateLive\":{\"host\":1}}\n";
    add("http", "request", with_seed(1, request.as_bytes()));
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n5;x\r\n\":1}}\r\n0\r\nA: b\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    add("http", "chunked", with_seed(0x101, chunked.as_bytes()));
    add(
        "openstack",
        "path",
        b"/v2.1/servers/07070707-0707-0707-0707-070707070707/action".to_vec(),
    );
    add("openstack", "login", br#"{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"u","password":"p"}}}},"token":{"user":{"name":"u"},"expires_at":"2026-11-21T00:00:00Z"}}"#.to_vec());
    add("openstack", "server", br#"{"server":{"id":"07070707-0707-0707-0707-070707070707","status":"MIGRATING","OS-EXT-STS:task_state":"migrating","OS-EXT-SRV-ATTR:host":"c1"},"migrations":[{"id":1,"status":"completed"}]}"#.to_vec());
    add(
        "json_prefix",
        "object",
        br#"{"a":[1,2,{"b":"c\u0041\"d"}],"e":null,"f":-1.5e3}"#.to_vec(),
    );
    add("rules", "rule", b"downtime>+20%".to_vec());
    add(
        "rules",
        "pattern",
        b"{flavor}-*-run{n}.json\nsmall-a-run3.json".to_vec(),
    );
    add("rules", "mac", b"52:54:00:12:34:56".to_vec());
    add(
        "manifest",
        "csv",
        b"file,flavor,load\na.json,\"m1,small\",idle\nb.json,m1.large, busy \n".to_vec(),
    );
    let orders: Vec<u8> = (0u8..60)
        .flat_map(|n| [n.wrapping_mul(37), n % 7, 0, n, 2, 0xf0 | (n % 9)])
        .collect();
    add("reassembly", "honest", with_seed(3, &orders));
    add("reassembly", "anything", with_seed(0, &orders));
    let flags = [2u8, 18, 16, 24, 17, 4];
    let table: Vec<u8> = (0u8..40)
        .flat_map(|n| {
            [
                n,
                0,
                n,
                n,
                0,
                n.wrapping_mul(2),
                flags[usize::from(n) % 6],
                0,
                0,
                n,
            ]
        })
        .collect();
    add("flows", "mixed", table);
    let trace = trace();
    let pcap = trace.pcap();
    let (_, first) = &trace.frames[0];
    add("packet", "syn", with_seed(1, first));
    let mut vxlan = first[..34].to_vec();
    vxlan[23] = 17;
    vxlan.extend([0x30, 0, 0x12, 0xb5, 0, 100, 0, 0, 8, 0, 0, 0, 0, 0, 7, 0]);
    vxlan.extend(first);
    add("packet", "vxlan", with_seed(1, &vxlan));
    add("packet", "raw", with_seed(2, &first[14..]));
    add("report", "migration", pcap.clone());
    add("scrub", "migration", pcap.clone());
    let small = &pcap[..pcap.len().min(2000)];
    add("capture_file", "pcap", with_seed(7, small));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(small).expect("memory takes all");
    add(
        "capture_file",
        "gzip",
        with_seed(7, &gz.finish().expect("memory takes all")),
    );
    add(
        "capture_file",
        "zstd",
        with_seed(7, &zstd::bulk::compress(small, 3).expect("compresses")),
    );
    add("capture_file", "pcapng", with_seed(7, &pcapng(&trace)));
    for name in ["legacy05", "marker", "mixed"] {
        let bytes = std::fs::read(fixture(&format!("dpmi/{name}.cap"))).expect("reads");
        let bytes = &bytes[..bytes.len().min(3000)];
        add("capture_file", name, with_seed(7, bytes));
    }
    let stream_file = std::fs::read(fixture("dpmi/live-eth.stream.pcap")).expect("reads");
    add(
        "capture_file",
        "stream",
        with_seed(0x107, &stream_file[..stream_file.len().min(6000)]),
    );
    let mut frames = vec![];
    let opened = Capture::open(&[fixture("dpmi/live-eth.stream.pcap")]);
    let mut opened = opened.expect("the fixture opens");
    for _ in 0..4 {
        let frame = opened.next_frame().expect("reads").expect("a frame");
        let payload = &frame.data[14..];
        frames.extend((payload.len() as u16).to_le_bytes());
        frames.extend(payload);
    }
    add("dpmi_stream", "frames", frames);
    let (client, server) = (0x00u8, 0x10u8);
    let mut libvirt = vec![(client, 9u8, 10, &b""[..]), (server, 1, 10, b"")];
    for m in &calls {
        libvirt.push((if m[19] == 1 { server } else { client }, 0, 27, m));
    }
    let bytes = stream();
    libvirt.push((1, 9, 10, b""));
    libvirt.push((0x11, 1, 10, b""));
    libvirt.push((1, 0, 28, &bytes));
    libvirt.push((0x11, 0, 20, &back));
    libvirt.push((1, 2, 20, b""));
    libvirt.push((0x11, 2, 20, b""));
    add("connections", "libvirt", turns(&libvirt));
    let cloud = [
        (3, 9, 10, &b""[..]),
        (3, 0, 20, request.as_bytes()),
        (0x13, 0, 20, chunked.as_bytes()),
        (2, 0, 20, &amqp),
        (6, 0, 20, &go[..]),
        (7, 0, 20, b"SSH-2.0-x\r\n"),
        (4, 0, 20, &hello),
    ];
    add("connections", "cloud", turns(&cloud));
}

/// Section header, one interface, enhanced packets.
fn pcapng(trace: &Trace) -> Vec<u8> {
    let mut out = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let body = [body, &vec![0; body.len().next_multiple_of(4) - body.len()]].concat();
        let len = (body.len() as u32 + 12).to_le_bytes();
        out.extend(kind.to_le_bytes());
        out.extend(len);
        out.extend(&body);
        out.extend(len);
    };
    let mut section = 0x1a2b_3c4du32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    block(0x0a0d_0d0a, &section);
    let mut interface = vec![1, 0, 0, 0, 0, 0, 4, 0];
    interface.extend([
        2, 0, 3, 0, b'e', b't', b'h', 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0,
    ]);
    block(1, &interface);
    for (at, frame) in trace.frames.iter().take(6) {
        let mut packet = vec![0; 4];
        packet.extend(((at >> 32) as u32).to_le_bytes());
        packet.extend((*at as u32).to_le_bytes());
        packet.extend((frame.len() as u32).to_le_bytes());
        packet.extend((frame.len() as u32).to_le_bytes());
        packet.extend(frame);
        block(6, &packet);
    }
    out
}

/// Every seed: target, name, bytes.
pub(crate) fn all() -> Vec<Seed> {
    let mut out = Vec::new();
    from_fixtures(&mut out);
    built(&mut out);
    out
}
