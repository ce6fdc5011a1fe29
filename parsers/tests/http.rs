//! The HTTP decoder and the calls of OpenStack.
#![allow(missing_docs, reason = "a test")]

mod cloud;

use cloud::*;
use phasescope_parsers::http::*;
use phasescope_parsers::openstack::{self, Action, Call};
use proptest::prelude::*;

fn requests() -> Vec<u8> {
    let login = format!(
        r#"{{"auth": {{"identity": {{"methods": ["password"], "password": {{"user": {{"name": "admin", "password": "{PASSWORD}"}}}}}}}}}}"#
    );
    let action = r#"{"os-migrateLive": {"host": "compute2", "block_migration": "auto"}}"#;
    format!(
        "GET /v3 HTTP/1.1\r\nHost: controller:5000\r\n\r\n\
         POST /v3/auth/tokens?nocatalog HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\nAuthorization: Basic {PASSWORD}\r\n\r\n{login}\
         GET /v2.1/servers?name={PASSWORD} HTTP/1.1\r\nX-Auth-Token: {SECRET}\r\nUser-Agent: python-novaclient\r\n\r\n\
         HEAD /v2.0/tokens/{SECRET} HTTP/1.1\r\nX-Subject-Token: {SECRET}\r\n\r\n\
         POST /v2.1/servers/{INSTANCE}/action HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nX-Auth-Token: {SECRET}\r\n\r\n\
         {:x}\r\n{}\r\n{:x};ext={PASSWORD}\r\n{}\r\n0\r\nX-Trailer: {PASSWORD}\r\n\r\n\
         PUT /v2/images/1/file HTTP/1.1\r\nContent-Type: application/octet-stream\r\nContent-Length: 9\r\n\r\nGET / HTT\
         DELETE /v2.0/ports/{PORT}/bindings/compute1 HTTP/1.1\r\n\r\n",
        login.len(),
        10,
        &action[..10],
        action.len() - 10,
        &action[10..]
    )
    .into_bytes()
}

fn responses() -> Vec<u8> {
    let server = format!(
        r#"{{"server": {{"id": "{INSTANCE}", "status": "ACTIVE", "adminPass": "{PASSWORD}", "OS-EXT-STS:task_state": null}}}}"#
    );
    format!(
        "HTTP/1.1 100 Continue\r\n\r\n\
         HTTP/1.1 201 CREATED\r\nContent-Type: application/json\r\nX-Subject-Token: {SECRET}\r\nSet-Cookie: {PASSWORD}\r\nContent-Length: {}\r\n\r\n{server}\
         HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n\
         HTTP/1.1 204 No Content\r\nX-OpenStack-Request-ID: req-1\r\n\r\n\
         HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
         HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{server}",
        server.len()
    )
    .into_bytes()
}

const EXPECTED: [Method; 5] = [
    Method::Post,
    Method::Head,
    Method::Delete,
    Method::Post,
    Method::Get,
];

fn decoder(side: Side) -> Decoder<usize> {
    let mut decoder = Decoder::new(side);
    if side == Side::Responses {
        EXPECTED.iter().for_each(|&method| decoder.expect(method));
    }
    decoder
}

fn note(log: &mut Vec<String>, item: Item<'_, usize>) {
    let place = |content: &Content<'_, usize>| {
        format!(
            "{} {} {} {}",
            String::from_utf8_lossy(content.body.bytes()),
            content.length,
            content.missing,
            content.complete
        )
    };
    match item {
        Item::Request(r) => log.push(format!(
            "{:?} {} {:?} {:?} {}",
            r.method,
            r.path,
            r.query,
            r.headers,
            place(&r.content)
        )),
        Item::Response(r) => log.push(format!(
            "{} {:?} {:?} {}",
            r.status,
            r.request,
            r.headers,
            place(&r.content)
        )),
        Item::Skipped { .. } => {}
    }
}

fn run(mut decoder: Decoder<usize>, bytes: &[u8], piece: usize) -> Vec<String> {
    let mut log = Vec::new();
    for (index, part) in bytes.chunks(piece).enumerate() {
        decoder.push(index * piece, part, &hash, &mut |item| note(&mut log, item));
    }
    decoder.finish(&mut |item| note(&mut log, item));
    log
}

#[test]
fn any_pieces() {
    for (side, bytes, count) in [
        (Side::Requests, requests(), 7),
        (Side::Responses, responses(), 6),
    ] {
        let whole = run(decoder(side), &bytes, bytes.len());
        assert_eq!(whole.len(), count, "{whole:#?}");
        assert!(whole.iter().all(|line| line.ends_with("true")));
        for piece in [1, 2, 5, 33] {
            assert_eq!(run(decoder(side), &bytes, piece), whole);
        }
        for cut in 0..bytes.len() {
            let mut log = Vec::new();
            let mut decoder = decoder(side);
            decoder.push(0, &bytes[..cut], &hash, &mut |item| note(&mut log, item));
            decoder.push(cut, &bytes[cut..], &hash, &mut |item| note(&mut log, item));
            decoder.finish(&mut |item| note(&mut log, item));
            assert_eq!(log, whole, "cut at {cut}");
        }
    }
}

#[test]
fn planted_secrets_are_not_shown() {
    for (side, bytes) in [(Side::Requests, requests()), (Side::Responses, responses())] {
        let text = all_that_is_read(&bytes, side, &hash);
        assert!(!text.contains(SECRET) && !text.contains(PASSWORD), "{text}");
        assert!(text.contains(&hash(SECRET.as_bytes()).to_string()));
    }
}

#[test]
fn gaps_are_survived() {
    let bytes = requests();
    let last = run(decoder(Side::Requests), &bytes, bytes.len());
    for from in 0..bytes.len() - 120 {
        let mut log = Vec::new();
        let mut decoder = decoder(Side::Requests);
        decoder.push(0, &bytes[..from], &hash, &mut |item| note(&mut log, item));
        decoder.gap(30, &mut |item| note(&mut log, item));
        decoder.push(1, &bytes[from + 30..], &hash, &mut |item| {
            note(&mut log, item)
        });
        assert_eq!(log.last(), last.last(), "gap at {from}");
        assert_eq!(decoder.resolved(), bytes.len() as u64);
    }
}

#[test]
fn a_gap_inside_a_body_is_counted() {
    let mut head =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
            .to_vec();
    head.extend([b'a'; 100]);
    let mut log = Vec::new();
    let mut decoder = Decoder::<usize>::new(Side::Responses);
    decoder.push(0, &head, &hash, &mut |item| note(&mut log, item));
    decoder.gap(999_900, &mut |item| note(&mut log, item));
    decoder.push(1, &responses(), &hash, &mut |item| note(&mut log, item));
    assert!(log[0].ends_with(" 1000000 999900 true"), "{log:?}");
    assert!(log[1].starts_with("100 "));
}

#[test]
fn picked_up_in_the_middle() {
    let bytes = requests();
    let whole = run(decoder(Side::Requests), &bytes, bytes.len());
    for from in 0..bytes.len() - 120 {
        let log = run(Decoder::in_the_middle(Side::Requests), &bytes[from..], 11);
        assert_eq!(log.last(), whole.last(), "from {from}");
    }
}

#[test]
fn calls() {
    let table = [
        (Method::Get, "/", Call::Discovery),
        (Method::Get, "/identity/v3/", Call::Discovery),
        (Method::Get, "/v2.1", Call::Discovery),
        (Method::Post, "/identity/v3/auth/tokens", Call::LoginV3),
        (Method::Get, "/v3/auth/tokens", Call::ValidateToken),
        (Method::Post, "/v2.0/tokens", Call::LoginV2),
        (Method::Get, "/v2.0/tokens/*", Call::ValidateToken),
        (Method::Get, "/v2/8f/servers", Call::ServerList),
        (Method::Get, "/v2.1/servers/detail", Call::ServerDetails),
        (Method::Get, "/v2.0/ports", Call::PortList),
        (
            Method::Post,
            "/v2.1/os-server-external-events",
            Call::ExternalEvents,
        ),
        (Method::Post, "/v3/8f/attachments", Call::AttachmentCreate),
        (
            Method::Get,
            "/allocation_candidates",
            Call::AllocationCandidates,
        ),
        (Method::Get, "/v2/images/8f", Call::ImageShow),
        (Method::Get, "/v2.0/networks/8f", Call::NetworkInfo),
        (Method::Post, "/v3/OS-FEDERATION/websso", Call::Federation),
    ];
    for (method, path, call) in table {
        assert_eq!(
            openstack::classify(method, path).unwrap().call,
            call,
            "{path}"
        );
    }
    let path = format!("/compute/v2.1/servers/{INSTANCE}/migrations/4");
    let found = openstack::classify(Method::Delete, &path).unwrap();
    assert_eq!(found.call, Call::MigrationAbort);
    assert_eq!(found.server.as_deref(), Some(INSTANCE));
    assert_eq!(found.migration.as_deref(), Some("4"));
    let path = format!("/v2.0/ports/{PORT}/bindings/compute2/activate");
    let found = openstack::classify(Method::Put, &path).unwrap();
    assert_eq!(found.call, Call::BindingActivate);
    assert_eq!(found.host.as_deref(), Some("compute2"));
    assert_eq!(openstack::classify(Method::Get, "/favicon.ico"), None);
}

#[test]
fn fields_of_bodies() {
    let action = br#"{"os-migrateLive": {"host": "compute2", "block_migration": "auto"}}"#;
    let fields = openstack::request_fields(Call::ServerAction, action, &hash);
    assert_eq!(fields.action, Some(Action::LiveMigrate));
    assert_eq!(fields.host.as_deref(), Some("compute2"));
    assert_eq!(fields.block_migration.as_deref(), Some("auto"));
    let access =
        format!(r#"{{"access": {{"token": {{"id": "{SECRET}"}}, "serviceCatalog": []}}}}"#);
    let fields = openstack::response_fields(Call::LoginV2, access.as_bytes(), &hash);
    assert_eq!(fields.token, Some(hash(SECRET.as_bytes())));
    let events = format!(
        r#"{{"events": [{{"name": "network-vif-plugged", "server_uuid": "{INSTANCE}", "tag": "{PORT}", "status": "completed"}}]}}"#
    );
    let fields = openstack::request_fields(Call::ExternalEvents, events.as_bytes(), &hash);
    assert_eq!(fields.events[0].tag.as_deref(), Some(PORT));
}

proptest! {
    #[test]
    fn random_changes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
                      piece in 1_usize..100, first: bool) {
        let (side, mut bytes) = if first { (Side::Requests, requests()) } else { (Side::Responses, responses()) };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = run(decoder(side), &bytes, bytes.len());
        let pieces = run(decoder(side), &bytes, piece);
        prop_assert_eq!(whole, pieces);
    }
}
