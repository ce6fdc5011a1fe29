//! Every way a migration can go, on built captures: drivers, outcomes, storage, TLS.

mod support;

use phasescope::migration::{Certainty, Driver, OutcomeKind, PhaseName as P, Role, Technique};
use support::rpc::{self, CONTINUE, ERROR, OK, REPLY, STREAM, Xdr, message};
use support::scene::*;
use support::stream::Stream;
use support::trace::{Connection, Side, Trace};

/// The phases of a pre-copy, peer to peer.
const ALL: [P; 5] = [
    P::RemoteConnect,
    P::Preparation,
    P::Transfer,
    P::Finish,
    P::Cleanup,
];

/// FINISH says that the migration was cancelled.
fn aborted(t: &mut Trace, c: &mut Connection) {
    finish(t, c, 90 * MS, 1);
    let text = "migration successfully aborted";
    failed(t, c, 95 * MS, 306, 2, 93, text);
    t.close(100 * MS, c);
}

#[test]
fn cancelled() {
    let (mut t, mut c) = begun(LIVE_P2P, "");
    let whole = Stream::precopy(b"x").0;
    let mut m = stream(&mut t, 60 * MS, &whole[..whole.len() / 3]);
    t.close(80 * MS, &mut m);
    aborted(&mut t, &mut c);
    let m = one(&t);
    assert_eq!(m.outcome.result, OutcomeKind::Cancelled);
    assert!(
        m.outcome
            .reason
            .as_ref()
            .expect("why")
            .contains("called it off")
    );
    assert_eq!(names(&m), ALL);
    assert!(m.downtime.is_empty(), "the guest never left");
    assert!(!m.transfer.expect("a transfer").pages.exact);
    assert_eq!(
        m.phases[3].start.as_ref().expect("seen").marker,
        "migrate-finish-cancel-call"
    );
}

#[test]
fn destination_dies() {
    let (mut t, mut c) = begun(LIVE_P2P, "");
    let whole = Stream::precopy(b"x").0;
    let mut m = stream(&mut t, 60 * MS, &whole[..whole.len() / 2]);
    t.reset(80 * MS, &mut m, Side::Server);
    aborted(&mut t, &mut c);
    let m = one(&t);
    assert_eq!(m.outcome.result, OutcomeKind::Failed);
    assert!(m.outcome.reason.as_ref().expect("why").contains("reset"));
    assert_eq!(phase(&m, P::Transfer).1, Some(80 * MS));
}

#[test]
fn refused_and_failed_in_preparation() {
    for (code, from, text, result) in [
        (67, 10, "unsupported configuration", OutcomeKind::Refused),
        (9, 20, "domain 'web' already exists", OutcomeKind::Refused),
        (9, 10, "operation failed", OutcomeKind::Failed),
        (1, 10, "internal error: qemu died", OutcomeKind::Failed),
    ] {
        let mut t = Trace::default();
        let mut c = open(&mut t, 16509);
        prepare(&mut t, &mut c, 3 * MS, LIVE_P2P);
        let body = rpc::error_from(code, from, text);
        let reply = message(303, REPLY, 1, ERROR, &body);
        t.send(40 * MS, &mut c, Side::Server, &reply);
        t.close(60 * MS, &mut c);
        let m = one(&t);
        assert_eq!(m.outcome.result, result);
        assert!(m.outcome.reason.as_ref().expect("why").contains(text));
        assert_eq!(names(&m), [P::RemoteConnect, P::Preparation, P::Cleanup]);
        assert_eq!(phase(&m, P::Preparation), (Some(2 * MS), Some(40 * MS)));
        assert!(m.transfer.is_none());
    }
}

#[test]
fn failed_in_finish() {
    let (mut t, mut c) = begun(LIVE_P2P, "");
    let mut m = stream(&mut t, 60 * MS, &Stream::precopy(b"x").0);
    t.close(80 * MS, &mut m);
    finish(&mut t, &mut c, 90 * MS, 0);
    failed(&mut t, &mut c, 95 * MS, 306, 2, 9, "guest did not start");
    t.close(100 * MS, &mut c);
    let m = one(&t);
    assert_eq!(m.outcome.result, OutcomeKind::Failed);
    assert!(
        m.outcome
            .reason
            .expect("why")
            .contains("guest did not start")
    );
    assert!(m.downtime.is_empty());
}

#[test]
fn offline() {
    let mut t = Trace::default();
    let mut c = open(&mut t, 16509);
    prepare(&mut t, &mut c, 3 * MS, 0x2 | 0x400);
    prepared(&mut t, &mut c, 10 * MS, None, "");
    ended(&mut t, &mut c, 20 * MS);
    let m = one(&t);
    assert_eq!(m.technique, Technique::Offline);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    assert_eq!(
        names(&m),
        [P::RemoteConnect, P::Preparation, P::Finish, P::Cleanup]
    );
    let why = |d: &phasescope::migration::Downtime| d.reason.clone().expect("why");
    assert!(why(&m.downtime[0]).contains("was not running"));
}

#[test]
fn tunnelled() {
    let mut t = Trace::default();
    let mut c = open(&mut t, 16509);
    let args = guest("web", UUID).u32(LIVE_P2P | 0x4);
    call(&mut t, &mut c, 3 * MS, (304, 1), &args);
    let ret = Xdr::default().opaque(&cookie("beta", ""));
    reply(&mut t, &mut c, 50 * MS, (304, 1), &ret);
    let whole = Stream::precopy(b"SECRETSECRET").0;
    for (i, part) in whole.chunks(65_536).enumerate() {
        let data = message(304, STREAM, 1, CONTINUE, &Xdr(part.to_vec()));
        t.send((60 + i as i64) * MS, &mut c, Side::Client, &data);
    }
    let end = message(304, STREAM, 1, OK, &Xdr::default());
    t.send(80 * MS, &mut c, Side::Client, &end);
    t.send(81 * MS, &mut c, Side::Server, &end);
    ended(&mut t, &mut c, 90 * MS);
    let m = one(&t);
    assert_eq!(m.driver, Driver::LibvirtTunnelled);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    let transfer = m.transfer.as_ref().expect("a transfer");
    assert!(transfer.pages.exact);
    assert_eq!((transfer.pages.normal, transfer.pages.zero), (50, 22));
    let p = phase_of(&m, P::Transfer);
    assert_eq!(
        p.start.as_ref().expect("seen").marker,
        "migration-stream-header"
    );
    assert_eq!(p.end.as_ref().expect("seen").marker, "tunnel-stream-end");
    assert_eq!(transfer.connections.len(), 1, "one connection for all");
    // And its scrubbed copy says the same, without the pages.
    let (copy, _) = Trace::scrubbed(t.capture(), false);
    assert!(memchr::memmem::find(&copy.pcap(), b"SECRETSECRET").is_none());
    assert_eq!(report(&copy).to_json().ok(), report(&t).to_json().ok());
}

#[test]
fn driven_by_a_client() {
    let mut t = Trace::default();
    let client = "10.0.0.9";
    let mut s = t.connect(0, &format!("{client}:41000"), &format!("{SOURCE}:16509"));
    let mut d = t.connect(
        0,
        &format!("{client}:41001"),
        &format!("{DESTINATION}:16509"),
    );
    let begin = Xdr::default()
        .domain("web", UUID_BYTES)
        .optional(None)
        .u64(1)
        .optional(None)
        .u64(0);
    call(&mut t, &mut s, 10 * MS, (213, 5), &begin);
    let begun = Xdr::default()
        .opaque(&cookie("alpha", ""))
        .string("<domain/>");
    reply(&mut t, &mut s, 12 * MS, (213, 5), &begun);
    let prepare = Xdr::default()
        .opaque(&cookie("alpha", ""))
        .optional(None)
        .u64(1)
        .optional(Some("web"))
        .u64(0)
        .string("<domain/>");
    call(&mut t, &mut d, 14 * MS, (214, 8), &prepare);
    let ret = Xdr::default()
        .opaque(&cookie("beta", ""))
        .optional(Some("tcp:beta:49152"));
    reply(&mut t, &mut d, 30 * MS, (214, 8), &ret);
    let mut m = stream(&mut t, 40 * MS, &Stream::precopy(b"x").0);
    t.close(60 * MS, &mut m);
    let finish = Xdr::default()
        .string("web")
        .opaque(&cookie("alpha", ""))
        .optional(None)
        .optional(Some("tcp:beta:49152"))
        .u64(1)
        .u32(0);
    call(&mut t, &mut d, 70 * MS, (217, 9), &finish);
    let ret = Xdr::default()
        .domain("web", UUID_BYTES)
        .opaque(&cookie("beta", ""));
    reply(&mut t, &mut d, 80 * MS, (217, 9), &ret);
    let confirm = Xdr::default()
        .domain("web", UUID_BYTES)
        .opaque(&cookie("beta", ""))
        .u64(1)
        .u32(0);
    call(&mut t, &mut s, 82 * MS, (218, 6), &confirm);
    reply(&mut t, &mut s, 90 * MS, (218, 6), &Xdr::default());
    let m = one(&t);
    assert_eq!(m.driver, Driver::LibvirtDirect);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    assert_eq!(
        names(&m),
        [P::Preparation, P::Transfer, P::Finish, P::Cleanup]
    );
    assert_eq!(phase(&m, P::Preparation), (Some(10 * MS), Some(30 * MS)));
    assert_eq!(phase(&m, P::Cleanup), (Some(80 * MS), Some(90 * MS)));
    assert_eq!(m.source.address.as_deref(), Some(SOURCE));
    assert_eq!(m.destination.address.as_deref(), Some(DESTINATION));
}

#[test]
fn disks_over_nbd() {
    let (mut t, mut c) = begun(LIVE_P2P | 0x40, "  <nbd port='49153'/>\n");
    let mut n = t.connect(
        60 * MS,
        &format!("{SOURCE}:51000"),
        &format!("{DESTINATION}:49153"),
    );
    // Greeting, flags, GO for one export, acknowledged; one write, one write of zeroes.
    let mut greeting = b"NBDMAGICIHAVEOPT".to_vec();
    greeting.extend(3u16.to_be_bytes());
    t.send(61 * MS, &mut n, Side::Server, &greeting);
    let name = b"drive-virtio-disk0";
    let mut go = 3u32.to_be_bytes().to_vec();
    go.extend(b"IHAVEOPT");
    go.extend(7u32.to_be_bytes());
    go.extend((4 + name.len() as u32 + 2).to_be_bytes());
    go.extend((name.len() as u32).to_be_bytes());
    go.extend(name);
    go.extend(0u16.to_be_bytes());
    t.send(62 * MS, &mut n, Side::Client, &go);
    let mut ack = 0x0003_e889_0455_65a9u64.to_be_bytes().to_vec();
    ack.extend(7u32.to_be_bytes());
    ack.extend(1u32.to_be_bytes());
    ack.extend(0u32.to_be_bytes());
    t.send(63 * MS, &mut n, Side::Server, &ack);
    let request = |kind: u16, cookie: u64, length: u32| {
        let mut r = 0x2560_9513u32.to_be_bytes().to_vec();
        r.extend(0u16.to_be_bytes());
        r.extend(kind.to_be_bytes());
        r.extend(cookie.to_be_bytes());
        r.extend(0u64.to_be_bytes());
        r.extend(length.to_be_bytes());
        r
    };
    let mut write = request(1, 1, 100_000);
    write.resize(28 + 100_000, 0x55);
    t.send(64 * MS, &mut n, Side::Client, &write);
    t.send(66 * MS, &mut n, Side::Client, &request(6, 2, 1 << 20));
    let reply = |cookie: u64| {
        let mut r = 0x6744_6698u32.to_be_bytes().to_vec();
        r.extend(0u32.to_be_bytes());
        r.extend(cookie.to_be_bytes());
        r
    };
    t.send(
        67 * MS,
        &mut n,
        Side::Server,
        &[reply(1), reply(2)].concat(),
    );
    let mut m = stream(&mut t, 80 * MS, &Stream::precopy(b"x").0);
    t.close(100 * MS, &mut m);
    t.close(101 * MS, &mut n);
    ended(&mut t, &mut c, 110 * MS);
    let m = one(&t);
    let s = m.storage.as_ref().expect("storage");
    assert_eq!(s.disks, ["drive-virtio-disk0"]);
    assert_eq!((s.written_bytes, s.zeroed_bytes), (100_000, 1 << 20));
    assert_eq!(phase(&m, P::Storage), (Some(60 * MS), Some(80 * MS)));
    let p = phase_of(&m, P::Storage);
    assert_eq!(
        p.end.as_ref().expect("known").certainty,
        Certainty::Inferred
    );
    let roles: Vec<Role> = m
        .transfer
        .expect("one")
        .connections
        .iter()
        .map(|c| c.role)
        .collect();
    assert_eq!(roles, [Role::Main, Role::Nbd, Role::Control]);
}

/// A stream with storage and memory, and where its last chunk's section ends.
fn with_storage() -> (Vec<u8>, usize) {
    let disks = Stream::new()
        .block(1, "drive-virtio-disk0", &[])
        .ram_start(64)
        .block(
            2,
            "drive-virtio-disk0",
            &[(0, Some(b"disk".as_slice())), (1, None), (2, None)],
        )
        .block(2, "drive-virtio-disk1", &[(0, Some(b"disk".as_slice()))]);
    let n = disks.0.len();
    let rest = disks
        .ram(2, &[(0, Some(1)), (1, None)])
        .block(3, "", &[])
        .dirty_bitmap("drive-virtio-disk0", "backup", &[0xff; 64])
        .ram(3, &[(0, Some(2))])
        .device(3, "timer", b"state")
        .end();
    (rest.0, n)
}

#[test]
fn disks_inside_the_stream() {
    let (bytes, disks) = with_storage();
    let mut t = Trace::default();
    let mut m = stream(&mut t, 60 * MS, &bytes[..disks]);
    t.send(90 * MS, &mut m, Side::Client, &bytes[disks..]);
    t.close(100 * MS, &mut m);
    let whole = one(&t);
    let s = whole.storage.as_ref().expect("storage");
    assert_eq!(s.disks, ["drive-virtio-disk0", "drive-virtio-disk1"]);
    assert_eq!((s.written_bytes, s.zeroed_bytes), (2 << 20, 2 << 20));
    assert!(s.exact);
    let last = s.last_write.as_ref().expect("a write").offset_ns;
    // Offsets count from the handshake at 60 ms.
    assert!((2 * MS..30 * MS).contains(&last), "{last}");
    let transfer = whole.transfer.as_ref().expect("one");
    assert_eq!((transfer.pages.normal, transfer.pages.zero), (2, 1));
    // Neither the memory's bytes nor the devices' contain the disks'.
    assert!(transfer.pages.exact);
    assert!(transfer.transferred_bytes.expect("exact") < 3 * 4096);
    assert!(transfer.device_bytes < 100);

    let file = std::env::temp_dir().join(format!("phasescope-block-{}.pcap", std::process::id()));
    std::fs::write(&file, t.pcap()).expect("writes");
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_phasescope"))
        .arg("events")
        .arg(&file)
        .output()
        .expect("runs");
    std::fs::remove_file(&file).expect("was there");
    let out = String::from_utf8(out.stdout).expect("text");
    let lines = |name: &str| out.lines().filter(|l| l.contains(name)).count();
    assert_eq!(lines(" disks chunks="), 4, "{out}");
    assert_eq!(lines("devices=[\"drive-virtio-disk1\"]"), 1, "{out}");
    assert_eq!(lines(" dirty-bitmaps started=1 completed=0"), 1, "{out}");
    assert_eq!(lines(" dirty-bitmaps started=0 completed=1"), 1, "{out}");

    // The connection ends within the second chunk with data: one is told, as a lower bound.
    let mut t = Trace::default();
    let mut m = stream(&mut t, 60 * MS, &bytes[..disks - 1000]);
    t.close(100 * MS, &mut m);
    let broken = one(&t).storage.expect("storage");
    assert_eq!(broken.written_bytes, 1 << 20);
    assert!(!broken.exact);
}

fn client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 0x01, 1, 0]);
    let name = b"beta.example";
    let mut sni = vec![0, 0];
    sni.extend((name.len() as u16 + 5).to_be_bytes());
    sni.extend((name.len() as u16 + 3).to_be_bytes());
    sni.push(0);
    sni.extend((name.len() as u16).to_be_bytes());
    sni.extend(name);
    body.extend((sni.len() as u16).to_be_bytes());
    body.extend(sni);
    let mut hello = vec![1, 0];
    hello.extend((body.len() as u16).to_be_bytes());
    hello.extend(body);
    record(22, &hello)
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut r = vec![kind, 3, 3];
    r.extend((body.len() as u16).to_be_bytes());
    r.extend(body);
    r
}

/// A migration's connection inside TLS from 60 ms on, a record a millisecond.
fn encrypted(t: &mut Trace, records: i64) -> Connection {
    let mut m = channel(t, 60 * MS);
    t.send(61 * MS, &mut m, Side::Client, &client_hello());
    let record = record(23, &[9; 16_000]);
    for i in 0..records {
        t.send((62 + i) * MS, &mut m, Side::Client, &record);
    }
    m
}

#[test]
fn tls_on_the_migration_port() {
    let (mut t, mut c) = begun(LIVE_P2P | 0x10000, "");
    let mut m = encrypted(&mut t, 20);
    t.close(90 * MS, &mut m);
    ended(&mut t, &mut c, 100 * MS);
    let m = one(&t);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    let transfer = m.transfer.as_ref().expect("a transfer");
    assert!(transfer.encrypted && !transfer.pages.exact);
    assert_eq!(
        phase(&m, P::Transfer),
        (Some(60 * MS), Some(90 * MS + 1000))
    );
    assert!(
        m.downtime
            .iter()
            .all(|d| d.duration_ns.is_none() && d.reason.is_some())
    );
}

#[test]
fn two_guests_at_once() {
    let mut t = Trace::default();
    for (i, name) in ["web", "db"].into_iter().enumerate() {
        let shift = i as i64 * 5 * MS;
        let (a, b) = (40_000 + i, 50_000 + i);
        let port = 49_152 + i;
        let mut c = t.connect(
            shift,
            &format!("{SOURCE}:{a}"),
            &format!("{DESTINATION}:16509"),
        );
        let uuid = UUID.replace("01020304", &format!("0102030{i}"));
        let args = guest(name, &uuid).u32(LIVE_P2P);
        call(&mut t, &mut c, shift + 3 * MS, (303, 1), &args);
        let ret = Xdr::default()
            .opaque(&rpc::cookie(name, &uuid, "beta", ""))
            .optional(Some(&format!("tcp:beta:{port}")));
        reply(&mut t, &mut c, shift + 20 * MS, (303, 1), &ret);
        let server = format!("{DESTINATION}:{port}");
        let mut m = t.connect(shift + 30 * MS, &format!("{SOURCE}:{b}"), &server);
        let pages: Vec<(u64, Option<u8>)> = (0..10 + i as u64).map(|n| (n, Some(1))).collect();
        let bytes = Stream::new().ram_start(64).ram(2, &pages).ram(3, &[]).end();
        t.send(shift + 31 * MS, &mut m, Side::Client, &bytes.0);
        t.close(shift + 50 * MS, &mut m);
        let args = guest(name, &uuid).u32(LIVE_P2P).u32(0);
        call(&mut t, &mut c, shift + 60 * MS, (306, 2), &args);
        finished(&mut t, &mut c, shift + 70 * MS);
        t.close(shift + 80 * MS, &mut c);
    }
    let r = report(&t);
    assert_eq!(r.migrations.len(), 2);
    for (m, (name, pages)) in r.migrations.iter().zip([("web", 10), ("db", 11)]) {
        assert_eq!(m.guest.name.as_deref(), Some(name));
        assert_eq!(m.transfer.as_ref().expect("one").pages.normal, pages);
    }
}

#[test]
fn only_the_stream() {
    let mut t = Trace::default();
    let mut m = stream(&mut t, 60 * MS, &Stream::precopy(b"x").0);
    t.close(80 * MS, &mut m);
    let m = one(&t);
    assert_eq!(m.driver, Driver::None);
    assert_eq!(names(&m), [P::Transfer]);
    assert_eq!(m.outcome.result, OutcomeKind::Unknown);
    assert!(m.outcome.reason.is_some());
    assert!(m.guest.name.is_none());
}

#[test]
fn over_ipv6() {
    let mut t = Trace::default();
    let mut c = t.connect(0, "[fd00::1]:40000", "[fd00::2]:16509");
    prepare(&mut t, &mut c, 3 * MS, LIVE_P2P);
    prepared(&mut t, &mut c, 50 * MS, Some("tcp:[fd00::2]:49152"), "");
    let mut m = t.connect(60 * MS, "[fd00::1]:50000", "[fd00::2]:49152");
    t.send(61 * MS, &mut m, Side::Client, &Stream::precopy(b"x").0);
    t.close(80 * MS, &mut m);
    ended(&mut t, &mut c, 90 * MS);
    let m = one(&t);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    assert!(m.transfer.expect("joined").pages.exact);
    assert_eq!(m.destination.address.as_deref(), Some("fd00::2"));
}

#[test]
fn late_start_gives_nulls_with_reasons() {
    let mut t = Trace::default();
    let mut c = t.unseen(&format!("{SOURCE}:40000"), &format!("{DESTINATION}:16509"));
    let mut m = stream(&mut t, 60 * MS, &Stream::precopy(b"x").0);
    t.close(80 * MS, &mut m);
    ended(&mut t, &mut c, 90 * MS);
    let m = one(&t);
    assert_eq!(names(&m), ALL);
    assert_eq!(phase(&m, P::RemoteConnect), (None, None));
    assert!(m.phases[0].reason.is_some());
    assert!(m.total_time_ns.is_none() && m.migration_time_ns.is_none());
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    assert!(m.transfer.expect("joined by time and hosts").pages.exact);
}

#[test]
fn one_direction_is_unknown_not_unfinished() {
    let (mut t, mut c) = begun(LIVE_P2P, "");
    let mut m = stream(&mut t, 60 * MS, &Stream::precopy(b"x").0);
    t.close(80 * MS, &mut m);
    ended(&mut t, &mut c, 90 * MS);
    // The mirror port shows only what the source sends.
    let source = [2, 0, 10, 0, 0, 1];
    t.frames.retain(|(_, f)| f[6..12] == source);
    let m = one(&t);
    assert_eq!(m.outcome.result, OutcomeKind::Unknown);
    assert!(m.outcome.reason.expect("why").contains("one direction"));
    let open = &m.phases[0];
    assert!(open.start.is_some() && open.end.is_none());
    assert!(open.reason.as_ref().expect("why").contains("one direction"));
    assert!(m.transfer.expect("joined").pages.exact);
}

#[test]
fn libvirt_inside_tls() {
    let mut t = Trace::default();
    let mut c = t.connect(
        0,
        &format!("{SOURCE}:40000"),
        &format!("{DESTINATION}:16514"),
    );
    t.send(MS, &mut c, Side::Client, &client_hello());
    t.send(MS + 1, &mut c, Side::Server, &record(23, &[1; 40]));
    // Nine small calls and their answers, then PREPARE.
    let (small, upload, answer) = (
        record(23, &[1; 50]),
        record(23, &[1; 9000]),
        record(23, &[1; 700]),
    );
    for i in 2..11 {
        t.send(i * MS, &mut c, Side::Client, &small);
        t.send(i * MS + 1000, &mut c, Side::Server, &small);
    }
    t.send(12 * MS, &mut c, Side::Client, &upload);
    t.send(40 * MS, &mut c, Side::Server, &answer);
    let mut m = encrypted(&mut t, 100);
    t.close(170 * MS, &mut m);
    t.send(180 * MS, &mut c, Side::Client, &upload);
    t.send(190 * MS, &mut c, Side::Server, &answer);
    // A keepalive request, a second later, is no part of the answer.
    t.send(1190 * MS, &mut c, Side::Server, &small);
    t.send(1191 * MS, &mut c, Side::Client, &small);
    t.close(1200 * MS, &mut c);
    let m = one(&t);
    assert_eq!(names(&m), ALL);
    assert_eq!(
        phase(&m, P::Preparation),
        (Some(4 * MS + 1000), Some(40 * MS))
    );
    assert_eq!(
        phase(&m, P::Transfer),
        (Some(60 * MS), Some(170 * MS + 1000))
    );
    assert_eq!(phase(&m, P::Finish).1, Some(190 * MS));
    for p in &m.phases {
        for b in [&p.start, &p.end] {
            assert_ne!(b.as_ref().expect("bounded").certainty, Certainty::Decoded);
        }
    }
    let open = m.phases[0].end.as_ref().expect("bounded");
    assert!(open.uncertainty_ns > 0);
    assert_eq!(m.outcome.result, OutcomeKind::Unknown);
    assert!(m.transfer.expect("a stream").encrypted);
}
