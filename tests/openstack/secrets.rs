//! Planted secrets appear nowhere, and copies without them say the same.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::path;
use super::wire::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_phasescope");

/// Parts of what was planted; long ones may be broken by a segment's end.
const SECRETS: &[&str] = &[
    "gAAAAABplanted",
    "plantedTOKEN",
    "planted-password",
    "planted-catalog",
    "planted-user",
    "planted-broker",
    "planted-cookie",
    "planted-query",
];

fn run(arguments: &[&str], file: &Path) -> Vec<u8> {
    let out = Command::new(PROGRAM).args(arguments).arg(file).output();
    let out = out.unwrap();
    [out.stdout, out.stderr].concat()
}

fn assert_clean(what: &str, bytes: &[u8]) {
    for s in SECRETS {
        let found = bytes.windows(s.len()).any(|w| w == s.as_bytes());
        assert!(!found, "{s} in {what}");
    }
}

/// Everything with a secret in it that the protocols have.
fn planted() -> Wire {
    let mut w = Wire::default();
    let shell = (SOURCE, 50_000);
    w.login(1000, shell, TOKEN);
    w.ask(1100, shell, TOKEN, VM1, "req-1");
    // Secrets in a path, a query, a cookie and a body that is no JSON.
    let q = format!(
        "GET /v2.0/tokens/{TOKEN}?password=planted-query HTTP/1.1\r\nHost: c\r\n\
         Cookie: planted-cookie\r\nX-Service-Token: {TOKEN}\r\nAuthorization: Basic {PASSWORD}\r\n\r\n"
    );
    let r = format!(
        "HTTP/1.1 200 OK\r\nSet-Cookie: planted-cookie\r\nContent-Type: text/plain\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{PASSWORD}\r\n0\r\n\r\n",
        PASSWORD.len()
    );
    w.http((1150, 1160), (SOURCE, 50_001), 35_357, &q, &r);
    w.http(
        (1170, 1180),
        (SOURCE, 50_002),
        80,
        "GET /planted-catalog/planted-password HTTP/1.1\r\nUser-Agent: curl/8.0\r\n\r\n",
        "HTTP/1.1 404 planted-password\r\nContent-Length: 0\r\n\r\n",
    );
    // A connection to the broker from its beginning: SASL PLAIN.
    let (a, b) = ((SOURCE, 40_003), (CONTROLLER, 5672));
    w.open(1180, a, b);
    w.say(1181, a, b, b"AMQP\x00\x00\x09\x01");
    let response = b"\0planted-broker\0planted-password";
    let mut start_ok = vec![0, 10, 0, 11, 0, 0, 0, 0, 5];
    start_ok.extend(b"PLAIN");
    start_ok.extend((response.len() as u32).to_be_bytes());
    start_ok.extend(response);
    start_ok.extend(b"\x05en_US");
    let mut frame = vec![1, 0, 0];
    frame.extend((start_ok.len() as u32).to_be_bytes());
    frame.extend(start_ok);
    frame.push(0xCE);
    w.say(1182, a, b, &frame);
    w.run(1200, VM1, "req-1", "a");
    w.begin(1600, VM2, "req-2", "b");
    w.deliver(1700, SOURCE, "reply_1", &reply("b-pre", Some("Oops")));
    w
}

#[test]
fn no_output_shows_what_was_planted() {
    let folder = tempfile("planted");
    let file = folder.join("in.pcap");
    let original = planted().pcap(0);
    // They are there.
    for s in SECRETS {
        assert!(original.windows(s.len()).any(|w| w == s.as_bytes()), "{s}");
    }
    // Broken ones too: cut in the middle of a message.
    let cut = &original[..original.len() * 2 / 3];
    for (name, bytes) in [("whole", &original[..]), ("cut", cut)] {
        std::fs::write(&file, bytes).unwrap();
        for arguments in [
            &["analyze"][..],
            &["analyze", "--detail"],
            &["analyze", "--format", "json"],
            &["analyze", "--format", "markdown", "--detail"],
            &["events"],
            &["events", "--format", "ndjson"],
            &["capinfo"],
        ] {
            let out = run(arguments, &file);
            assert!(!out.is_empty());
            assert_clean(&format!("{name}: {arguments:?}"), &out);
        }
        let copy = folder.join("out.pcap");
        let done = Command::new(PROGRAM)
            .args(["scrub", "--force"])
            .args([&file, &copy])
            .output();
        assert!(done.unwrap().status.success());
        assert_clean(&format!("{name}: scrub"), &std::fs::read(&copy).unwrap());
        same(&file, &copy);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempfile(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("phasescope-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The same report and the same events, names of files aside.
fn same(a: &Path, b: &Path) {
    let report = |file: &Path| {
        let out = Command::new(PROGRAM)
            .args(["analyze", "--format", "json"])
            .arg(file)
            .output();
        let mut v: Value = serde_json::from_slice(&out.unwrap().stdout).unwrap();
        v["capture"]["files"] = Value::Null;
        v["capture"]["health"]["damage"] = Value::Null;
        v["capture"]["health"]["truncated_file"] = Value::Null;
        v
    };
    let (x, y) = (report(a), report(b));
    assert_eq!(x["migrations"], y["migrations"]);
    assert_eq!(x, y);
    let events = |file: &Path| {
        let out = Command::new(PROGRAM).arg("events").arg(file).output();
        String::from_utf8(out.unwrap().stdout).unwrap()
    };
    assert_eq!(events(a), events(b));
}

/// A copy of a copy.
#[test]
fn scrubbing_keeps_the_report() {
    let folder = tempfile("again");
    for name in ["os-live-source", "os-live-switch"] {
        let copy = folder.join("copy.pcap");
        let file = path(&format!("{name}.pcap.zst"));
        let done = Command::new(PROGRAM)
            .args(["scrub", "--force"])
            .args([&file, &copy])
            .output();
        assert!(done.unwrap().status.success());
        same(&file, &copy);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Past what `scrub` holds of one message, the rest of it is blank, and the next one is not.
#[test]
fn a_message_that_is_too_long_to_be_shown() {
    let folder = tempfile("long");
    let mut w = Wire::default();
    let shell = (SOURCE, 50_000);
    w.login(1000, shell, TOKEN);
    let part = format!(
        "{:x}\r\n{}\r\n",
        0x8000,
        PASSWORD.repeat(0x8000 / PASSWORD.len() + 1)
    );
    let part = part[..0x8000 + 6].to_owned() + "\r\n";
    let long = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        part.repeat(96)
    );
    w.http(
        (1060, 1070),
        shell,
        8774,
        &get("/v2.1/servers/detail", TOKEN),
        &long,
    );
    w.ask(1100, shell, TOKEN, VM1, "req-1");
    w.run(1200, VM1, "req-1", "a");
    let (file, copy) = (folder.join("in.pcap"), folder.join("out.pcap"));
    std::fs::write(&file, w.pcap(0)).unwrap();
    let done = Command::new(PROGRAM)
        .args(["scrub", "--force"])
        .args([&file, &copy])
        .output();
    assert!(done.unwrap().status.success());
    assert_clean("scrub", &std::fs::read(&copy).unwrap());
    let migrations = |file: &Path| {
        let out = run(&["analyze", "--format", "json"], file);
        let report: Value = serde_json::from_slice(&out).unwrap();
        report["migrations"].clone()
    };
    assert_eq!(migrations(&file), migrations(&copy));
    assert!(!migrations(&file)[0]["total_time_ns"].is_null());
    std::fs::remove_dir_all(folder).unwrap();
}

/// The copy of what two taps saw is that of two taps: both hold what one alone would.
#[test]
fn two_taps_in_one_copy() {
    let folder = tempfile("taps");
    let wire = planted();
    let files = [folder.join("a.pcap"), folder.join("b.pcap")];
    // The second tap sees each frame 3 µs later, when the first one's has been decided.
    for (file, late) in files.iter().zip([0, 3000]) {
        std::fs::write(file, wire.pcap(late)).unwrap();
    }
    let copy = folder.join("copy.pcapng");
    let done = Command::new(PROGRAM)
        .args(["scrub", "--force"])
        .args(&files)
        .arg(&copy)
        .output();
    assert!(done.unwrap().status.success());
    assert_clean("the copy of two taps", &std::fs::read(&copy).unwrap());
    let mut capture = phasescope::capture::Capture::open(&[copy]).unwrap();
    let mut payloads: Vec<Vec<Vec<u8>>> = vec![Vec::new(), Vec::new()];
    while let Some(frame) = capture.next_frame().unwrap() {
        payloads[frame.interface as usize].push(frame.data[54..].to_vec());
    }
    assert!(
        payloads[0]
            .iter()
            .any(|p| p.starts_with(b"POST /v3/auth/tokens"))
    );
    assert_eq!(payloads[0], payloads[1]);
    std::fs::remove_dir_all(folder).unwrap();
}

/// Nothing in the fixtures has the form of a token, and no key of a password has a value.
#[test]
fn the_fixtures_hold_no_secret() {
    let folder = std::fs::read_dir(path("")).unwrap();
    let captures: Vec<_> = folder
        .map(|f| f.unwrap().path())
        .filter(|f| f.extension().is_some_and(|e| e == "zst"))
        .collect();
    assert!(captures.len() >= 12);
    for file in captures {
        let bytes = zstd::decode_all(std::fs::File::open(&file).unwrap()).unwrap();
        for shape in [
            "gAAAAA",
            "lab-password",
            "planted",
            "http://controller",
            "BEGIN ",
        ] {
            let found = memchr::memmem::find(&bytes, shape.as_bytes());
            assert_eq!(found, None, "{shape} in {file:?}");
        }
    }
}

#[test]
fn debug_forms_hide_tokens() {
    use phasescope::dissect::{Dissector, Event, Sink};
    struct Text(String);
    impl Sink for Text {
        fn event(&mut self, event: Event) {
            self.0.push_str(&format!("{event:?}"));
        }
    }
    let mut capture = planted().capture();
    let (mut dissector, mut text) = (Dissector::default(), Text(String::new()));
    while let Some(frame) = capture.next_frame().unwrap() {
        dissector.frame(&frame, &mut text);
        assert_clean("the dissector", format!("{dissector:?}").as_bytes());
    }
    dissector.finish(&mut text);
    assert!(text.0.contains("Token(hidden)"));
    assert_clean("an event", text.0.as_bytes());
}
