//! Redaction: same length, no secrets, and the decoders read the same.
#![allow(missing_docs, reason = "a test")]

mod cloud;

use cloud::*;
use phasescope_parsers::http::{Method, Side};
use phasescope_parsers::openstack::redact::*;
use phasescope_parsers::{BLANK, amqp, oslo};
use proptest::prelude::*;

fn has(text: &[u8], word: &str) -> bool {
    text.windows(word.len())
        .any(|window| window == word.as_bytes())
}

fn clean(text: &[u8]) -> bool {
    !has(text, SECRET) && !has(text, PASSWORD)
}

#[test]
fn envelopes_cut_anywhere() {
    for body in [
        envelope(&pre_live_migration()),
        pre_live_migration().into_bytes(),
    ] {
        for cut in 0..=body.len() {
            let original = &body[..cut];
            let mut redacted = original.to_vec();
            redact_amqp_body(&mut redacted, &hash);
            assert_eq!(redacted.len(), original.len());
            assert!(clean(&redacted));
            assert_eq!(
                oslo::decode(&redacted),
                oslo::decode(original),
                "cut at {cut}"
            );
        }
        let mut redacted = body.clone();
        redact_amqp_body(&mut redacted, &hash);
        assert!(has(&redacted, "pre_live_migration") && has(&redacted, INSTANCE));
        assert!(!has(&redacted, "admin"));
        let token = format!("{:016x}", hash(SECRET.as_bytes()));
        assert!(has(&redacted, &token));
        serde_json::from_slice::<serde_json::Value>(&redacted).unwrap();
    }
}

#[test]
fn failures_are_scanned_too() {
    let failure = serde_json::json!({"class": "Refused", "module": "nova.exception",
        "message": PASSWORD, "tb": [PASSWORD], "args": [PASSWORD]});
    let inner = serde_json::json!({"result": null, "failure": failure.to_string(), "_msg_id": "m",
        "ending": true});
    let body = envelope(&inner.to_string());
    let mut redacted = body.clone();
    redact_amqp_body(&mut redacted, &hash);
    assert!(clean(&redacted));
    assert_eq!(oslo::decode(&redacted), oslo::decode(&body));
    assert_eq!(
        oslo::decode(&redacted).unwrap().failure.as_deref(),
        Some("Refused")
    );
}

#[test]
fn other_bodies_are_blanked() {
    let mut body = format!("not json {PASSWORD}").into_bytes();
    redact_amqp_body(&mut body, &hash);
    assert!(body.iter().all(|&byte| byte == BLANK));
}

#[test]
fn methods_and_headers() {
    let start = amqp::decode_method(&start_ok()).is_some();
    assert!(start);
    for payload in [
        start_ok(),
        publish("nova", "compute.dst"),
        deliver(7, "", "reply_1"),
        method(10, 21, &[long(PASSWORD.as_bytes())]),
        method(10, 50, &[vec![1, 64], short(PASSWORD), vec![0, 60, 0, 40]]),
        method(
            60,
            50,
            &[vec![1, 56], short(PASSWORD), short("e"), short("k")],
        ),
        method(77, 50, &[short(PASSWORD)]),
        method(
            60,
            71,
            &[vec![0; 9], short("e"), short("k"), vec![0, 0, 0, 9]],
        ),
    ] {
        let mut redacted = payload.clone();
        redact_amqp_method(&mut redacted, &hash);
        assert_eq!(redacted.len(), payload.len());
        assert!(clean(&redacted));
        assert_eq!(
            amqp::decode_method(&redacted),
            amqp::decode_method(&payload)
        );
    }
    let mut plain = publish("nova", "compute.dst");
    redact_amqp_method(&mut plain, &hash);
    assert_eq!(plain, publish("nova", "compute.dst"));
    let header = content_header(9);
    let mut redacted = header.clone();
    redact_amqp_header(&mut redacted, &hash);
    assert!(clean(&redacted));
    assert_eq!(amqp::decode_header(&redacted), amqp::decode_header(&header));
}

/// All that is read from a message, without the hashes of tokens.
fn read(bytes: &[u8], side: Side) -> String {
    all_that_is_read(bytes, side, &|_| 0)
}

fn messages() -> Vec<(Side, Vec<u8>)> {
    let login = format!(
        r#"{{"auth": {{"identity": {{"methods": ["password", "token"], "token": {{"id": "{SECRET}"}}, "password": {{"user": {{"name": "admin", "password": "{PASSWORD}"}}}}}}}}}}"#
    );
    let v2 = format!(
        r#"{{"access": {{"token": {{"id": "{SECRET}", "expires": "{PASSWORD}"}}, "user": {{"name": "{PASSWORD}"}}}}}}"#
    );
    let server = format!(
        r#"{{"server": {{"id": "{INSTANCE}", "status": "ACTIVE", "name": "{PASSWORD}", "{PASSWORD} key": 1, "status2": "\u0041\ud83d\ude00{PASSWORD}", "OS-EXT-SRV-ATTR:host": "not an id"}}}}"#
    );
    vec![
        (
            Side::Requests,
            format!(
                "POST http://u:{PASSWORD}@h/v3/auth/tokens?a={PASSWORD}&{PASSWORD}%22=x HTTP/1.1\r\nHost: h:5000\r\nContent-Type: application/json\r\nX-Auth-Token: {SECRET}\r\nCookie: {PASSWORD}\r\nX-Empty:\r\nContent-Length: {}\r\n\r\n{login}",
                login.len()
            )
            .replace(&format!("&{PASSWORD}%22"), "&q%22")
            .into_bytes(),
        ),
        (
            Side::Requests,
            format!("GET /v2.0/tokens/{SECRET}/endpoints#{PASSWORD} HTTP/1.1\r\nUser-Agent: a b\r\nAuthorization: {PASSWORD}\r\n\r\n").into_bytes(),
        ),
        (
            Side::Responses,
            format!(
                "HTTP/1.1 200 {PASSWORD}\r\nContent-Type: application/json\r\nX-Subject-Token: {SECRET}\r\nContent-Length: {}\r\n\r\n{v2}",
                v2.len()
            )
            .into_bytes(),
        ),
        (
            Side::Responses,
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n{:x};e={PASSWORD}\r\n{}\r\n0\r\nT: {PASSWORD}\r\n\r\n",
                60,
                &server[..60],
                server.len() - 60,
                &server[60..]
            )
            .into_bytes(),
        ),
        (
            Side::Responses,
            format!("HTTP/1.1 500 Error\r\nContent-Type: text/html\r\n\r\n<p>{PASSWORD}</p>").into_bytes(),
        ),
        (Side::Requests, format!("nonsense {PASSWORD}").into_bytes()),
    ]
}

#[test]
fn http_messages() {
    for (side, message) in messages() {
        let mut redacted = message.clone();
        redact_http(&mut redacted, side, Some(Method::Get), &hash);
        let shown = String::from_utf8_lossy(&redacted).into_owned();
        assert_eq!(redacted.len(), message.len());
        assert!(clean(&redacted), "{shown}");
        assert_eq!(read(&redacted, side), read(&message, side), "{shown}");
    }
}

#[test]
fn equal_tokens_stay_equal() {
    let blank = |token: &str| {
        let mut head = format!("GET / HTTP/1.1\r\nX-Auth-Token: {token}\r\n\r\n").into_bytes();
        redact_http_head(&mut head, Side::Requests, &hash);
        head
    };
    let other = SECRET.replace('T', "U");
    assert_eq!(blank(SECRET), blank(SECRET));
    assert_ne!(blank(SECRET), blank(&other));
    let digits = format!("{:016x}", hash(SECRET.as_bytes()));
    assert!(has(&blank(SECRET), &digits));
}

proptest! {
    #[test]
    fn random_changes_of_envelopes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
                                   cut in any::<prop::sample::Index>()) {
        let body = changed(envelope(&pre_live_migration()), changes, cut);
        let mut redacted = body.clone();
        redact_amqp_body(&mut redacted, &hash);
        prop_assert_eq!(redacted.len(), body.len());
        let blank = redacted.iter().all(|&byte| byte == BLANK);
        prop_assert!(blank || oslo::decode(&redacted) == oslo::decode(&body));
    }

    #[test]
    fn random_changes_of_http(which in 0_usize..6, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let (side, mut message) = messages().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        let length = message.len();
        redact_http(&mut message, side, None, &hash);
        prop_assert_eq!(message.len(), length);
    }

    #[test]
    fn random_methods(bytes in prop::collection::vec(any::<u8>(), 0..200), class in 0_usize..66) {
        let info = amqp::METHODS[class % amqp::METHODS.len()];
        let payload = method(info.class, info.method, &[bytes]);
        let mut redacted = payload.clone();
        redact_amqp_method(&mut redacted, &hash);
        redact_amqp_header(&mut redacted.clone(), &hash);
        prop_assert_eq!(amqp::decode_method(&redacted), amqp::decode_method(&payload));
    }
}
