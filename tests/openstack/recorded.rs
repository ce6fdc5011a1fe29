//! Migrations over a real oslo.messaging and RabbitMQ: what these say they sent and got is found
//! on the wire, and joined.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use phasescope::capture::Capture;
use phasescope::dissect::amqp::{Message, Said};
use phasescope::dissect::event::Kind as EventKind;
use phasescope::dissect::{Dissector, Event, Sink};
use phasescope::migration::openstack::RpcCall;
use phasescope::migration::{Migration, OutcomeKind, PhaseName};
use phasescope_parsers::amqp::ContentMethod;
use phasescope_parsers::oslo::Kind;
use serde_json::Value;

use super::{path, report_of};

const SCENARIOS: &[&str] = &[
    "live",
    "sync",
    "refused",
    "refused-sync",
    "pre-fails",
    "rollback",
    "abort",
    "block",
    "five",
    "two",
];

fn files(scenario: &str) -> (PathBuf, PathBuf) {
    let name = |ending: &str| path(&format!("rpc-{scenario}.{ending}"));
    (name("pcap.zst"), name("truth.json"))
}

fn read(truth: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(truth).unwrap()).unwrap()
}

fn list<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    v[key].as_array().unwrap()
}

/// Messages on the wire by what carried them and their unique id; first and last byte.
#[derive(Default)]
struct Wire(HashMap<(&'static str, String), (i64, i64, Message)>);

impl Sink for Wire {
    fn event(&mut self, event: Event) {
        let EventKind::Amqp(a) = event.kind else {
            return;
        };
        let Said::Message(m) = a.what else { return };
        let way = match m.method {
            ContentMethod::Publish => "out",
            ContentMethod::Deliver => "in",
            _ => return,
        };
        let Some(id) = m.envelope.as_ref().and_then(|e| e.unique_id.clone()) else {
            return;
        };
        let (begin, end) = (event.begin.time.nanos(), event.stamp.time.nanos());
        self.0.entry((way, id)).or_insert((begin, end, *m));
    }
}

fn wire(file: &Path) -> Wire {
    let mut capture = Capture::open(&[file.to_path_buf()]).unwrap();
    let (mut dissector, mut wire) = (Dissector::default(), Wire::default());
    while let Some(frame) = capture.next_frame().unwrap() {
        dissector.frame(&frame, &mut wire);
    }
    dissector.finish(&mut wire);
    wire
}

fn kind(name: &str) -> Kind {
    match name {
        "call" => Kind::Call,
        "cast" => Kind::Cast,
        "reply" => Kind::Reply,
        "keep-alive" => Kind::KeepAlive,
        "notification" => Kind::Notification,
        other => panic!("{other}"),
    }
}

/// All that oslo.messaging packed was published, and all that it unpacked was delivered before.
fn assert_all_on_the_wire(file: &Path, truth: &Value) -> usize {
    let wire = wire(file);
    let mut kinds = BTreeSet::new();
    for said in list(truth, "messages") {
        let way = if said["way"] == "out" { "out" } else { "in" };
        let id = said["unique_id"].as_str().unwrap().to_owned();
        let found = wire.0.get(&(way, id));
        let (begin, end, m) = found.unwrap_or_else(|| panic!("{file:?}: {said}"));
        let at = said["t_ns"].as_i64().unwrap();
        assert!(
            if way == "out" {
                *begin >= at
            } else {
                *end <= at
            },
            "{said}"
        );
        let e = m.envelope.as_ref().unwrap();
        let text = |key: &str| said[key].as_str();
        assert_eq!(e.kind, kind(text("kind").unwrap()));
        assert_eq!(e.msg_id.as_deref(), text("msg_id"));
        assert_eq!(e.request_id.as_deref(), text("request_id"));
        assert_eq!(e.failure.as_deref(), text("failure"));
        let method = e.method.as_ref().or(e.event_type.as_ref());
        assert_eq!(method.map(String::as_str), text("method"));
        assert!(!e.truncated && m.missing == 0);
        kinds.insert(said["kind"].as_str().unwrap());
    }
    kinds.len()
}

/// The requests to migrate that the client made, with the ids that Nova gave them.
fn asked(truth: &Value) -> Vec<(&str, Option<&str>)> {
    list(truth, "requests")
        .iter()
        .filter(|r| {
            let path = r["path"].as_str().unwrap();
            r["method"] == "POST" && path.ends_with("/action") && !path.contains("/migrations/")
        })
        .map(|r| {
            let path = r["path"].as_str().unwrap();
            let server = path.split("/servers/").nth(1).unwrap();
            (server.split('/').next().unwrap(), r["request_id"].as_str())
        })
        .collect()
}

/// All that has the request's id is in its migration, calls with their replies.
fn assert_all_joined(m: &Migration, truth: &Value) {
    let account = m.openstack.as_ref().unwrap();
    let request = account.request_id.as_deref();
    let mut left: Vec<&RpcCall> = account.rpcs.iter().collect();
    let said = list(truth, "messages").iter().filter(|s| {
        s["way"] == "out" && s["request_id"].is_string() && s["request_id"].as_str() == request
    });
    let mut found = 0;
    for s in said {
        let i = left.iter().position(|r| {
            (Some(r.method.as_str()), r.kind.as_str())
                == (s["method"].as_str(), s["kind"].as_str().unwrap())
                && r.msg_id.as_deref() == s["msg_id"].as_str()
        });
        let r = left.remove(i.unwrap_or_else(|| panic!("not joined: {s}")));
        assert!(r.published.is_some());
        // Nobody consumes notifications here.
        assert!(r.delivered.is_some() || r.kind == "notification", "{s}");
        let answered = r.reply_published.is_some() && r.reply_delivered.is_some();
        assert_eq!(answered, r.kind == "call", "{s}");
        let replies = list(truth, "messages").iter().filter(|x| {
            x["kind"] == "reply" && x["msg_id"].is_string() && x["msg_id"] == s["msg_id"]
        });
        let failure = replies.into_iter().find_map(|x| x["failure"].as_str());
        assert_eq!(r.failure.as_deref(), failure);
        found += 1;
    }
    assert!(found >= 4, "{found}");
    // What has another request id: the network's event and the abort.
    for r in left {
        assert!(
            [
                "external_instance_event",
                "live_migration_abort",
                "live_migration_force_complete"
            ]
            .contains(&r.method.as_str()),
            "{}",
            r.method
        );
    }
}

fn assert_scenario(scenario: &str, file: &Path, truth: &Value) {
    // At least calls and replies.
    assert!(assert_all_on_the_wire(file, truth) >= 2, "{scenario}");
    let report = report_of(&[file.to_path_buf()]);
    let asked = asked(truth);
    assert_eq!(report.migrations.len(), asked.len(), "{scenario}");
    for (m, (server, request)) in report.migrations.iter().zip(asked) {
        assert_eq!(m.guest.uuid.as_deref(), Some(server));
        let account = m.openstack.as_ref().unwrap();
        assert_eq!(account.request_id.as_deref(), request);
        assert_all_joined(m, truth);
        let (outcome, reason) = match scenario {
            "refused" => (
                OutcomeKind::Refused,
                Some("check_can_live_migrate_destination failed: MigrationPreCheckError"),
            ),
            "refused-sync" => (OutcomeKind::Refused, Some("Nova answered 400")),
            "pre-fails" => (
                OutcomeKind::Failed,
                Some("pre_live_migration failed: DestinationDiskExists"),
            ),
            "rollback" => (
                OutcomeKind::Failed,
                Some("Nova saved the migration as failed"),
            ),
            "abort" => (OutcomeKind::Cancelled, Some("aborted through Nova")),
            _ => (OutcomeKind::Completed, None),
        };
        assert_eq!(m.outcome.result, outcome, "{scenario}");
        assert_eq!(m.outcome.reason.as_deref(), reason, "{scenario}");
        let done = outcome == OutcomeKind::Completed;
        let post = m.phases.iter().any(|p| p.name == PhaseName::PostMigration);
        assert_eq!((m.total_time_ns.is_some(), post), (done, done));
        assert_eq!(m.elapsed_ns.is_some(), !done);
        if outcome != OutcomeKind::Refused {
            assert_eq!(account.source_host.as_deref(), truth["source"].as_str());
            assert_eq!(
                account.destination_host.as_deref(),
                truth["destination"].as_str()
            );
        }
    }
    // One token: the first request to migrate had it issued.
    let kinds: Vec<_> = report
        .migrations
        .iter()
        .map(|m| m.openstack.as_ref().unwrap().authentication.as_deref())
        .collect();
    assert_eq!(kinds[0], Some("issued"), "{scenario}");
    assert!(kinds[1..].iter().all(|k| *k == Some("shared")));
}

#[test]
fn every_message_is_found_and_joined() {
    for scenario in SCENARIOS {
        let (file, truth) = files(scenario);
        assert_scenario(scenario, &file, &read(&truth));
    }
}

/// Signs of life come before the reply, which alone ends initialization.
#[test]
fn signs_of_life_are_no_replies() {
    let (file, truth) = files("live");
    let truth = read(&truth);
    let m = report_of(std::slice::from_ref(&file)).migrations.remove(0);
    let of = |method: &str| {
        let rpcs = &m.openstack.as_ref().unwrap().rpcs;
        rpcs.iter().find(|r| r.method == method).unwrap().clone()
    };
    let pre = of("pre_live_migration");
    let alive = list(&truth, "messages")
        .iter()
        .filter(|s| s["kind"] == "keep-alive" && s["msg_id"].as_str() == pre.msg_id.as_deref())
        .filter(|s| s["way"] == "in");
    let last = alive.filter_map(|s| s["t_ns"].as_i64()).max().unwrap();
    let init = &m.phases[1];
    assert_eq!(init.name, PhaseName::Initialization);
    let end = init.end.as_ref().unwrap();
    let when = chrono::DateTime::parse_from_rfc3339(&end.time).unwrap();
    assert!(when.timestamp_nanos_opt().unwrap() > last);
    assert_eq!(pre.reply_delivered.unwrap().time, end.time);
}

/// Two at once: the second one waits for its turn, and the wait is a step of its own.
#[test]
fn the_queue_of_the_source_is_told() {
    let (file, _) = files("two");
    let report = report_of(&[file]);
    let queued: Vec<i64> = report
        .migrations
        .iter()
        .map(|m| {
            let steps = m.phases.iter().flat_map(|p| &p.sub);
            let mut queued = steps.filter(|s| s.name == "queued");
            queued.next().unwrap().duration_ns.unwrap()
        })
        .collect();
    // Behind the other's end, not behind its own arrival.
    let other = report.migrations[0].openstack.as_ref().unwrap();
    let done = other.statuses.last().unwrap().at.as_ref().unwrap();
    let second = report.migrations[1].openstack.as_ref().unwrap();
    let preparing = &second.statuses[1];
    assert_eq!(preparing.status, "preparing");
    assert!(preparing.at.as_ref().unwrap().offset_ns > done.offset_ns);
    assert!(queued[1] > queued[0]);
}

/// Only what crosses one host's port.
#[cfg(feature = "live")]
#[test]
fn one_port_alone() {
    let (file, truth) = files("live");
    let truth = read(&truth);
    let all = report_of(std::slice::from_ref(&file)).migrations.remove(0);
    let at = |host: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_phasescope"))
            .args(["analyze", "--format", "json", "-f", &format!("host {host}")])
            .arg(&file)
            .output()
            .unwrap();
        let report: phasescope::report::Report = serde_json::from_slice(&out.stdout).unwrap();
        let mut migrations = report.migrations;
        assert_eq!(migrations.len(), 1);
        migrations.remove(0)
    };
    let marks = |m: &Migration| -> Vec<(PhaseName, String, Option<String>)> {
        let name =
            |b: &Option<phasescope::migration::Boundary>| b.as_ref().map(|b| b.marker.clone());
        m.phases
            .iter()
            .map(|p| (p.name, name(&p.start).unwrap_or_default(), name(&p.end)))
            .collect()
    };
    let time = |m: &Migration, i: usize| m.phases[i].end.as_ref().unwrap().time.clone();
    // The source's: from the arrival of the request to the replies that it gets.
    let source = at("127.0.0.21");
    assert_eq!(
        marks(&source),
        [
            (
                PhaseName::Initialization,
                "live-migration-delivered".to_owned(),
                Some("pre-live-migration-reply".to_owned())
            ),
            (
                PhaseName::PostMigration,
                "post-live-migration-call".to_owned(),
                Some("post-live-migration-reply".to_owned())
            ),
        ]
    );
    assert_eq!(time(&source, 0), time(&all, 1));
    assert_eq!(time(&source, 1), time(&all, 2));
    assert!(source.notes.iter().any(|n| n.contains("partial")));
    // The destination's: what it sends and gets.
    let destination = at("127.0.0.22");
    assert_eq!(
        marks(&destination),
        [
            (
                PhaseName::Initialization,
                "pre-live-migration-call".to_owned(),
                Some("pre-live-migration-reply-published".to_owned())
            ),
            (
                PhaseName::PostMigration,
                "post-live-migration-delivered".to_owned(),
                Some("post-live-migration-reply-published".to_owned())
            ),
        ]
    );
    for m in [&source, &destination] {
        let a = m.openstack.as_ref().unwrap();
        assert_eq!(a.source_host.as_deref(), truth["source"].as_str());
        assert_eq!(a.destination_host.as_deref(), truth["destination"].as_str());
        assert_eq!(m.outcome.result, OutcomeKind::Completed);
    }
    // The client's: up to the answer to its request.
    let client = at("127.0.0.30");
    assert_eq!(client.phases[0].end.as_ref().unwrap().time, time(&all, 0));
    let start = |m: &Migration| m.phases[1].start.as_ref().unwrap().time.clone();
    assert_eq!(start(&client), start(&all));
    assert_eq!(client.total_time_ns, None);
}

/// The recipe itself, with a broker that it starts; only where RabbitMQ is installed.
#[test]
#[ignore = "starts RabbitMQ and fetches oslo.messaging: cargo test -- --ignored"]
#[expect(clippy::print_stderr, reason = "says that it was skipped")]
fn recorded_anew() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/record/openstack/record.sh");
    let folder = std::env::temp_dir().join("phasescope-record");
    let done = Command::new(recipe)
        .args(["-p", env!("CARGO_BIN_EXE_phasescope"), "-k", "-w"])
        .arg(&folder)
        .args(["live", "refused"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.code() == Some(77) {
        eprintln!("SKIPPED: {said}");
        return;
    }
    assert!(done.status.success(), "{said}");
    for scenario in ["live", "refused"] {
        let truth = read(&folder.join(format!("out/rpc-{scenario}.truth.json")));
        let raw = folder.join(format!("raw/{scenario}.pcap"));
        let copy = folder.join(format!("out/rpc-{scenario}.pcap.zst"));
        assert_scenario(scenario, &raw, &truth);
        assert_scenario(scenario, &copy, &truth);
        let planted = |bytes: &[u8]| bytes.windows(7).any(|w| w == b"planted");
        assert!(planted(&std::fs::read(&raw).unwrap()));
        let copied = zstd::decode_all(std::fs::File::open(&copy).unwrap()).unwrap();
        assert!(!planted(&copied));
        for arguments in [&["analyze", "--detail"][..], &["events"], &["capinfo"]] {
            let out = Command::new(env!("CARGO_BIN_EXE_phasescope"))
                .args(arguments)
                .arg(&raw)
                .output()
                .unwrap();
            assert!(out.status.success());
            assert!(
                !planted(&[out.stdout, out.stderr].concat()),
                "{arguments:?}"
            );
        }
    }
}

/// Every frame cut after so many bytes.
fn cut_to(scenario: &str, length: usize) -> Capture {
    let mut capture = Capture::open(&[files(scenario).0]).unwrap();
    let mut out = 0xa1b2_3c4d_u32.to_le_bytes().to_vec();
    out.extend([2, 0, 4, 0]);
    out.extend([0; 8]);
    out.extend((length as u32).to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    while let Some(frame) = capture.next_frame().unwrap() {
        let ns = frame.time.nanos();
        let data = &frame.data[..frame.data.len().min(length)];
        out.extend(((ns / 1_000_000_000) as u32).to_le_bytes());
        out.extend(((ns % 1_000_000_000) as u32).to_le_bytes());
        out.extend((data.len() as u32).to_le_bytes());
        out.extend(frame.wire_len.to_le_bytes());
        out.extend(data);
    }
    Capture::from_reader("cut", std::io::Cursor::new(out)).unwrap()
}

/// A snap length that cuts ids off: still one migration, and nothing is claimed that was not read.
#[test]
fn cut_bodies_make_no_migrations_of_their_own() {
    for length in [320, 512, 1024] {
        let report = phasescope::analysis::analyze(&mut cut_to("live", length), |_| true).unwrap();
        assert_eq!(report.migrations.len(), 1, "at {length}");
        let m = &report.migrations[0];
        let account = m.openstack.as_ref().unwrap();
        assert!(
            m.notes.iter().any(|n| n.contains("cut off")),
            "{:?}",
            m.notes
        );
        assert_eq!(m.total_time_ns, None);
        // The calls' ids are cut: that they are calls is not known, nor which replies are theirs.
        let post = "post_live_migration_at_destination";
        let post = account.rpcs.iter().find(|r| r.method == post).unwrap();
        assert_eq!(post.kind, "request");
        assert!(post.published.is_some() && post.delivered.is_some());
        assert!(!m.notes.iter().any(|n| n.contains("15.0.0")));
        assert_eq!(m.outcome.result, OutcomeKind::Unknown);
        let init = m
            .phases
            .iter()
            .find(|p| p.name == PhaseName::Initialization);
        assert!(init.unwrap().reason.as_ref().unwrap().contains("cut off"));
    }
    // Two at once are two as long as the instances can be read.
    let report = phasescope::analysis::analyze(&mut cut_to("two", 1024), |_| true).unwrap();
    assert_eq!(report.migrations.len(), 2);
}
