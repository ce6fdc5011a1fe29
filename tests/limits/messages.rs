//! Texts inside messages: JSON, XML, HTTP.

use phasescope::analysis::Analysis;
use phasescope::report::{Format, events, render};
use phasescope_parsers::http::{self, Decoder, Item, MAX_BODY};
use phasescope_parsers::libvirt::cookie::Cookie;
use phasescope_parsers::libvirt::domain::DomainSummary;
use phasescope_parsers::openstack::redact::{redact_amqp_body, redact_http_body};
use phasescope_parsers::openstack::{ROUTES, request_fields, response_fields};
use phasescope_parsers::qemu::vmdesc;
use phasescope_parsers::{json, oslo};

use crate::support::rpc::{self, CALL, ERROR, OK, REPLY, Xdr, message};
use crate::support::trace::{Side, Trace};

/// A document that opens `deep` brackets, closed or not.
fn nested(open: &str, middle: &str, close: &str, deep: usize) -> Vec<u8> {
    [open.repeat(deep), middle.to_owned(), close.repeat(deep)]
        .concat()
        .into_bytes()
}

#[test]
fn deep_json() {
    let hash = |_: &[u8]| 7;
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"devices\":[", "]}")] {
        for deep in [127, 128, 129, 300, 200_000] {
            for middle in ["1", ""] {
                let text = nested(open, middle, close, deep);
                // Too deep is no JSON; nothing recurses into it.
                for bytes in [&text[..], &text[..text.len() / 2]] {
                    if deep > 300 {
                        assert_eq!(vmdesc::parse(bytes), None);
                        assert!(oslo::decode(bytes).is_none());
                        assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_err());
                    }
                    let _ = json::parse_prefix(bytes);
                    for route in ROUTES {
                        if deep > 300 {
                            break;
                        }
                        let _ = request_fields(route.call, bytes, &hash);
                        let _ = response_fields(route.call, bytes, &hash);
                    }
                    let mut copy = bytes.to_vec();
                    redact_http_body(&mut copy, &hash);
                    redact_amqp_body(&mut copy, &hash);
                    assert_eq!(copy.len(), bytes.len());
                }
            }
        }
    }
}

/// Ten entities, each ten times the one before.
fn laughs(root: &str, name: &str) -> Vec<u8> {
    let mut out = String::from("<!DOCTYPE a [<!ENTITY a0 'ha'>");
    for n in 1..10 {
        let ten = format!("&a{};", n - 1).repeat(10);
        out.push_str(&format!("<!ENTITY a{n} '{ten}'>"));
    }
    out.push_str(&format!("]><{root}><{name}>&a9;</{name}></{root}>"));
    out.into_bytes()
}

#[test]
fn xml_entities() {
    // A document type is refused, so no entity is ever expanded.
    assert_eq!(DomainSummary::parse(&laughs("domain", "name")), None);
    assert_eq!(Cookie::parse(&laughs("qemu-migration", "name")), None);
    let outside = b"<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>\
        <domain><name>&x;</name></domain>";
    assert_eq!(DomainSummary::parse(outside), None);
    // Unknown entities without a document type are no text either.
    let unknown = DomainSummary::parse(b"<domain><name>&x;</name></domain>");
    assert!(unknown.is_none_or(|d| d.name.is_none_or(|n| !n.contains('&') || n == "&x;")));
}

#[test]
fn deep_and_wide_xml() {
    let deep = nested("<domain>", "", "</domain>", 100_000);
    assert_eq!(DomainSummary::parse(&deep), None);
    let disk = "<disk><target dev='vda'/></disk>";
    let many = format!("<domain><devices>{}</devices></domain>", disk.repeat(5000));
    let read = DomainSummary::parse(many.as_bytes()).expect("a domain");
    assert_eq!(read.disks.len(), 64);
    let endless = format!(
        "<domain><devices>{}</devices></domain>",
        disk.repeat(40_000)
    );
    assert_eq!(DomainSummary::parse(endless.as_bytes()), None);
}

/// Kept bytes, length, and missing of the first response in these bytes.
fn response(bytes: &[u8]) -> (usize, u64, bool) {
    let mut decoder = Decoder::new(http::Side::Responses);
    let mut found = None;
    decoder.push((), bytes, &|_| 7, &mut |item| {
        if let Item::Response(r) = item {
            let c = r.content;
            found.get_or_insert((c.body.bytes().len(), c.length, c.complete));
        }
    });
    found.expect("a response")
}

#[test]
fn long_and_compressed_http_bodies() {
    let json = format!("{{\"a\":\"{}\"}}", "b".repeat(1 << 20));
    let head = |more: &str, n: usize| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{more}Content-Length: {n}\r\n\r\n"
        )
    };
    let plain = [head("", json.len()).as_bytes(), json.as_bytes()].concat();
    assert_eq!(response(&plain), (MAX_BODY, json.len() as u64, true));
    // Nothing is ever inflated: a bomb is as long as it is on the wire.
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        std::io::Write::write_all(&mut gz, &vec![b'['; 1 << 20]).expect("memory takes all");
    }
    let bomb = gz.finish().expect("memory takes all");
    let bytes = [
        head("Content-Encoding: gzip\r\n", bomb.len()).as_bytes(),
        &bomb,
    ]
    .concat();
    let (kept, length, complete) = response(&bytes);
    assert!(kept <= bomb.len() && complete);
    assert_eq!(length, bomb.len() as u64);
}

#[test]
fn names_and_errors_do_not_act_on_a_terminal() {
    // Sets the title, clears the screen, begins a line of its own; C1 controls as well.
    let evil = "\u{1b}]0;t\u{7}\u{1b}[2J\n  outcome       completed\r\u{9b}31m";
    let mut t = Trace::default();
    let mut c = t.connect(0, "10.0.0.1:40000", "10.0.0.2:16509");
    let args = Xdr::default()
        .parameters(&[("destination_name", evil)])
        .opaque(&rpc::cookie(
            "web",
            "01020304-0506-0708-090a-0b0c0d0e0f10",
            "alpha",
            "",
        ))
        .u32(3);
    t.send(
        1000,
        &mut c,
        Side::Client,
        &message(303, CALL, 1, OK, &args),
    );
    let refused = message(303, REPLY, 1, ERROR, &rpc::error(38, evil));
    t.send(100_000, &mut c, Side::Server, &refused);
    t.close(200_000, &mut c);
    let report = super::report(&t);
    let reason = report.migrations[0].outcome.reason.as_deref();
    assert!(
        reason.is_some_and(|r| r.contains(evil)),
        "data stays as it is: {reason:?}"
    );
    for format in [Format::Text { color: false }, Format::Markdown] {
        let text = render(&report, format);
        assert!(text.contains("\\u{1b}]0;t\\u{7}"), "{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        assert!(!text.contains("\n  outcome       completed"), "{text}");
    }
    let mut lines = vec![];
    let mut capture = t.capture();
    let mut analysis = Analysis::default();
    while let Some(frame) = capture.next_frame().expect("reads") {
        analysis.frame_seen(&frame, &mut |e| {
            lines.extend(events::line(e, None, frame.time))
        });
    }
    assert!(lines.iter().any(|l| l.contains("outcome")), "{lines:?}");
    assert!(
        !lines.iter().any(|l| l.contains(char::is_control)),
        "{lines:?}"
    );
}
