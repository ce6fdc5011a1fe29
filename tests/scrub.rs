//! Scrubbed copies: nothing secret in them, the same report out of them.

mod support;

use std::io::Cursor;

use phasescope::analysis::analyze;
use phasescope::capture::Capture;
use phasescope::report::Report;
use phasescope::scrub::Summary;
use support::rpc::{self, Xdr};
use support::scene::{LIVE_P2P, MS, call, open, reply, stream};
use support::stream::Stream;
use support::trace::{Side, Trace};
use support::{KVM, RECORDED, kvm};

/// Stands wherever a secret stands.
const SECRET: &str = "Tr0ub4dor&3";

const UUID: &str = "8fe90840-ae4f-4388-b8a6-28ee50ed00c1";

fn definition() -> String {
    format!(
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\
         <name>web</name><uuid>{UUID}</uuid><memory unit='KiB'>131072</memory><vcpu>2</vcpu>\
         <os><type machine='pc-q35-9.2'>hvm</type></os>\
         <devices><interface type='bridge'><mac address='52:54:00:01:02:03'/></interface>\
         <graphics type='vnc' passwd='{SECRET}'/></devices>\
         <qemu:commandline><qemu:env name='TOKEN' value='{SECRET}'/></qemu:commandline></domain>"
    )
}

/// A migration with secrets in the definition, in unknown calls, in pages and beside it.
fn planted() -> Trace {
    let mut t = Trace::default();
    let mut c = open(&mut t, 16509);
    // DOMAIN_SET_USER_PASSWORD: not read, so blank.
    let password = Xdr::default().string(SECRET);
    call(&mut t, &mut c, 3 * MS, (357, 1), &password);
    let prepare = Xdr::default()
        .parameters(&[
            ("destination_xml", &definition()),
            ("somebody.s_parameter", SECRET),
        ])
        .opaque(&rpc::cookie("web", UUID, "alpha", ""))
        .u32(LIVE_P2P);
    call(&mut t, &mut c, 4 * MS, (303, 2), &prepare);
    let prepared = Xdr::default()
        .opaque(&rpc::cookie("web", UUID, "beta", ""))
        .optional(Some("tcp:10.0.0.2:49152"));
    reply(&mut t, &mut c, 50 * MS, (303, 2), &prepared);
    let mut m = stream(&mut t, 60 * MS, &Stream::precopy(SECRET.as_bytes()).0);
    t.close(70 * MS, &mut m);
    let finish = Xdr::default()
        .parameters(&[
            ("destination_name", "web"),
            ("destination_xml", &definition()),
        ])
        .opaque(&rpc::cookie("web", UUID, "alpha", ""))
        .u32(LIVE_P2P)
        .u32(0);
    call(&mut t, &mut c, 80 * MS, (306, 3), &finish);
    let finished = Xdr::default()
        .domain("web", [7; 16])
        .opaque(&rpc::cookie("web", UUID, "beta", ""));
    reply(&mut t, &mut c, 90 * MS, (306, 3), &finished);
    t.close(100 * MS, &mut c);
    // Something else on the same network.
    let mut other = t.connect(5 * MS, "10.0.0.9:1234", "10.0.0.8:80");
    let http = format!("GET / HTTP/1.1\r\nAuthorization: Basic {SECRET}\r\n\r\n");
    t.send(6 * MS, &mut other, Side::Client, http.as_bytes());
    t.udp(7 * MS, SECRET.as_bytes());
    t
}

fn copy(capture: Capture, thin: bool) -> (Vec<u8>, Summary) {
    let (copy, summary) = Trace::scrubbed(capture, thin);
    (copy.pcap(), summary)
}

fn report(pcap: Vec<u8>) -> Report {
    let mut capture = Capture::from_reader("built", Cursor::new(pcap)).expect("a capture");
    analyze(&mut capture, |_| true).expect("reads")
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

#[test]
fn nothing_secret_is_left_and_the_report_is_the_same() {
    let trace = planted();
    let original = trace.pcap();
    assert!(holds(&original, SECRET.as_bytes()), "it was there");
    let (scrubbed, summary) = copy(trace.capture(), false);
    assert_eq!(summary.packets, trace.frames.len() as u64);
    assert_eq!(scrubbed.len(), original.len());
    assert!(!holds(&scrubbed, SECRET.as_bytes()));
    // Pages: a run of one letter of the secret.
    for letter in SECRET.bytes() {
        assert!(!holds(&scrubbed, &[letter; 64]), "{}", char::from(letter));
    }
    let (before, after) = (report(original), report(scrubbed));
    assert_eq!(before.migrations.len(), 1);
    let m = &before.migrations[0];
    assert_eq!(m.guest.name.as_deref(), Some("web"));
    let transfer = m.transfer.as_ref().expect("a transfer");
    assert!(transfer.pages.exact);
    assert_eq!((transfer.pages.normal, transfer.pages.zero), (50, 22));
    assert_eq!(before.to_json().ok(), after.to_json().ok());
    assert!(!holds(
        before.to_json().expect("JSON").as_bytes(),
        SECRET.as_bytes()
    ));
}

#[test]
fn checksums_are_right() {
    let (scrubbed, _) = copy(planted().capture(), false);
    let mut capture = Capture::from_reader("built", Cursor::new(scrubbed)).expect("a capture");
    let mut checked = 0;
    while let Some(frame) = capture.next_frame().expect("reads") {
        let sliced = etherparse::SlicedPacket::from_ethernet(frame.data).expect("whole");
        let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else {
            panic!("IPv4 only");
        };
        let header = ip.header().to_header();
        match sliced.transport {
            Some(etherparse::TransportSlice::Tcp(tcp)) => {
                let sum = tcp
                    .to_header()
                    .calc_checksum_ipv4(&header, tcp.payload())
                    .expect("fits");
                assert_eq!(sum, tcp.checksum(), "frame {}", frame.number);
                checked += 1;
            }
            Some(etherparse::TransportSlice::Udp(udp)) => {
                let sum = udp
                    .to_header()
                    .calc_checksum_ipv4(&header, udp.payload())
                    .expect("fits");
                assert_eq!(sum, udp.checksum(), "frame {}", frame.number);
                checked += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(checked > 100);
}

#[test]
fn a_scrubbed_capture_scrubs_to_itself() {
    for name in KVM.into_iter().chain(RECORDED) {
        // In the middle of a stream the first anchor may be another one once contents are blank.
        if name == "kvm-late" {
            continue;
        }
        let open = || Capture::open(&[kvm(name)]).expect("the fixture");
        let mut original = Vec::new();
        let mut capture = open();
        while let Some(f) = capture.next_frame().expect("reads") {
            original.push((f.time.nanos() - support::trace::START, f.data.to_vec()));
        }
        let original = Trace { frames: original }.pcap();
        let (again, summary) = copy(open(), false);
        assert_eq!(summary.hurried, 0);
        assert!(original == again, "{name}");
    }
}

#[test]
fn thin_copies_have_the_same_boundaries() {
    let trace = planted();
    let (thin, summary) = copy(trace.capture(), true);
    assert!(summary.packets < trace.frames.len() as u64 / 2);
    let (before, after) = (report(trace.pcap()), report(thin));
    let times = |r: &Report| -> Vec<_> {
        r.migrations[0]
            .phases
            .iter()
            .map(|p| (p.name, p.duration_ns, p.start.as_ref().map(|b| b.offset_ns)))
            .collect()
    };
    assert_eq!(times(&before), times(&after));
    let pages = |r: &Report| r.migrations[0].transfer.as_ref().map(|t| t.pages);
    assert_eq!(pages(&before), pages(&after));
}

#[test]
fn disks_inside_the_stream() {
    let stream = Stream::new()
        .block(1, "drive-virtio-disk0", &[])
        .ram_start(64)
        .block(
            2,
            "drive-virtio-disk0",
            &[(0, Some(SECRET.as_bytes())), (1, None)],
        )
        .block(3, "", &[])
        .dirty_bitmap("drive-virtio-disk0", "backup", SECRET.as_bytes())
        .ram(3, &[(0, Some(1))])
        .end();
    let mut t = Trace::default();
    let mut m = t.connect(0, "10.0.0.1:50000", "10.0.0.2:49152");
    t.send(1_000_000, &mut m, Side::Client, &stream.0);
    t.close(50_000_000, &mut m);
    let holds = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
    assert!(holds(&t.pcap()));
    let (out, _) = copy(t.capture(), false);
    assert!(!holds(&out));
    let storage = |c: Capture| {
        let mut c = c;
        let r = analyze(&mut c, |_| true).expect("reads");
        let s = r.migrations[0].storage.clone().expect("storage");
        (s.disks, s.written_bytes, s.zeroed_bytes, s.exact)
    };
    let before = storage(t.capture());
    assert_eq!(before.1, 1 << 20);
    let after = Capture::from_reader("built", Cursor::new(out)).expect("opens");
    assert_eq!(storage(after), before);
}
