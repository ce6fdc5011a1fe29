//! Made captures at the edges of what a migration can be.

use phasescope::migration::{Boundary, Migration, OutcomeKind, PhaseName, Technique};
use serde_json::{Value, json};

use super::phase;
use super::wire::*;

const SHELL: End = (SOURCE, 50_000);

fn only(wire: &Wire) -> Migration {
    let mut report = wire.report();
    assert_eq!(report.migrations.len(), 1, "{:#?}", report.migrations);
    report.migrations.remove(0)
}

fn two(wire: &Wire) -> [Migration; 2] {
    let all = wire.report().migrations;
    all.try_into()
        .unwrap_or_else(|m: Vec<_>| panic!("{}", m.len()))
}

fn names(m: &Migration) -> Vec<&'static str> {
    m.phases.iter().map(|p| p.name.name()).collect()
}

fn told(boundary: Option<&Boundary>) -> (&str, i64) {
    let b = boundary.unwrap();
    (&b.marker, b.offset_ns / 1_000_000)
}

fn start(m: &Migration, name: PhaseName) -> (&str, i64) {
    told(phase(m, name).start.as_ref())
}

fn end(m: &Migration, name: PhaseName) -> (&str, i64) {
    told(phase(m, name).end.as_ref())
}

/// An RPC of the first request, about the first guest.
fn of_first(method: &str, id: Option<&str>) -> Value {
    rpc(method, id, "req-1", instance(VM1))
}

/// The request for an action on the first guest, and its answer.
fn act(w: &mut Wire, at: (u64, u64), body: &Value, status: u16, request: &str) {
    let path = format!("/v2.1/servers/{VM1}/action");
    let request = format!("x-compute-request-id: {request}\r\n");
    w.http(
        at,
        SHELL,
        8774,
        &post(&path, Some(TOKEN), &body.to_string()),
        &answer(status, &request, ""),
    );
}

/// Another request ends the first guest's migration: joined by the server in its path.
fn abort(w: &mut Wire, at: (u64, u64)) {
    w.http(
        at,
        SHELL,
        8774,
        &format!("DELETE /v2.1/servers/{VM1}/migrations/5 HTTP/1.1\r\nHost: c\r\n\r\n"),
        &answer(202, "x-compute-request-id: req-9\r\n", ""),
    );
}

fn noted(m: &Migration, word: &str) -> bool {
    m.notes.iter().any(|n| n.contains(word))
}

fn authentication(m: &Migration) -> Option<&str> {
    m.openstack.as_ref()?.authentication.as_deref()
}

/// A capture that begins a second before the first message.
fn wire() -> Wire {
    let mut w = Wire::default();
    w.open(0, (SOURCE, 60_000), (CONTROLLER, 9));
    w
}

#[test]
fn from_login_to_reply() {
    let mut w = wire();
    w.login(1000, SHELL, TOKEN);
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    w.run(1200, VM1, "req-1", "a");
    let m = only(&w);
    assert_eq!(
        names(&m),
        ["authentication", "initialization", "post-migration"]
    );
    assert_eq!(
        start(&m, PhaseName::Authentication),
        ("keystone-token-request", 1000)
    );
    assert_eq!(end(&m, PhaseName::Authentication).1, 1050);
    assert_eq!(
        start(&m, PhaseName::Initialization),
        ("server-lookup-request", 1100)
    );
    // The call monitor's sign of life at 1260 is no answer.
    assert_eq!(
        end(&m, PhaseName::Initialization),
        ("pre-live-migration-reply", 1280)
    );
    assert_eq!(start(&m, PhaseName::PostMigration).1, 1350);
    assert_eq!(
        end(&m, PhaseName::PostMigration),
        ("post-live-migration-reply", 1400)
    );
    assert_eq!(m.total_time_ns.unwrap() / 1_000_000, 400);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    assert_eq!(authentication(&m), Some("issued"));
    assert_eq!(m.guest.uuid.as_deref(), Some(VM1));
    assert_eq!(m.destination.hostname.as_deref(), Some("dst"));
}

#[test]
fn client_elsewhere_is_partial() {
    let mut w = wire();
    w.run(1200, VM1, "req-1", "a");
    let m = only(&w);
    assert_eq!(names(&m), ["initialization", "post-migration"]);
    assert_eq!(
        start(&m, PhaseName::Initialization),
        ("live-migration-delivered", 1200)
    );
    assert!(noted(&m, "partial"));
    assert_eq!(authentication(&m), None);
}

#[test]
fn one_token_for_several_at_once() {
    let mut w = wire();
    w.login(1000, SHELL, TOKEN);
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    w.ask(1140, SHELL, TOKEN, VM2, "req-2");
    // Interleaved.
    w.run(1200, VM1, "req-1", "a");
    w.run(1205, VM2, "req-2", "b");
    let [a, b] = &two(&w);
    assert_eq!(
        (authentication(a), authentication(b)),
        (Some("issued"), Some("shared"))
    );
    assert_eq!(names(b), ["initialization", "post-migration"]);
    assert!(noted(b, "shared"));
    assert_eq!(start(b, PhaseName::Initialization).1, 1140);
    assert_eq!(end(b, PhaseName::PostMigration).1, 1405);
    assert_eq!(b.guest.uuid.as_deref(), Some(VM2));
}

#[test]
fn the_same_instance_again() {
    let mut w = wire();
    w.login(1000, SHELL, TOKEN);
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    w.run(1200, VM1, "req-1", "a");
    w.ask(2000, SHELL, TOKEN, VM1, "req-2");
    w.run(2100, VM1, "req-2", "b");
    let [a, b] = &two(&w);
    assert_eq!(end(a, PhaseName::PostMigration).1, 1400);
    assert_eq!(start(b, PhaseName::Initialization).1, 2000);
}

#[test]
fn a_token_from_before_is_no_authentication() {
    let mut w = wire();
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    w.run(1200, VM1, "req-1", "a");
    let m = only(&w);
    assert_eq!(authentication(&m), Some("unseen"));
    assert_eq!(names(&m), ["initialization", "post-migration"]);
    assert_eq!(m.total_time_ns.unwrap() / 1_000_000, 300);
}

#[test]
fn logging_in_again_is_inside() {
    let mut w = wire();
    w.http(
        (1000, 1010),
        SHELL,
        8774,
        &get(&format!("/v2.1/servers/{VM1}"), "old-token"),
        &answer(401, "", "{}"),
    );
    w.login(1020, SHELL, TOKEN);
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    w.run(1200, VM1, "req-1", "a");
    let m = only(&w);
    assert_eq!(start(&m, PhaseName::Initialization).1, 1000);
    assert!(noted(&m, "reauth"));
    assert!(m.overlaps_ns.unwrap() > 0);
}

#[test]
fn refused_by_the_interface() {
    let mut w = wire();
    w.look(1100, SHELL, TOKEN, VM1);
    w.migrate(1120, SHELL, TOKEN, VM1, "req-1", 400);
    let m = only(&w);
    assert_eq!(m.outcome.result, OutcomeKind::Refused);
    assert_eq!(m.outcome.reason.as_deref(), Some("Nova answered 400"));
    assert_eq!((m.total_time_ns, m.elapsed_ns.is_some()), (None, true));
}

#[test]
fn refused_by_a_check() {
    let mut w = wire();
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    let check = of_first("check_can_live_migrate_source", Some("c1"));
    w.deliver(1200, SOURCE, "compute.src", &check);
    w.publish(
        1210,
        SOURCE,
        "reply_1",
        &reply("c1", Some("InvalidSharedStorage")),
    );
    let m = only(&w);
    assert_eq!(m.outcome.result, OutcomeKind::Refused);
    let reason = "check_can_live_migrate_source failed: InvalidSharedStorage";
    assert_eq!(m.outcome.reason.as_deref(), Some(reason));
    assert_eq!(m.total_time_ns, None);
}

#[test]
fn nothing_follows() {
    let mut w = wire();
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    w.open(30_000, (SOURCE, 60_001), (CONTROLLER, 9));
    assert_eq!(only(&w).outcome.result, OutcomeKind::Refused);
}

#[test]
fn the_capture_ends_first() {
    let mut w = wire();
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    w.begin(1200, VM1, "req-1", "a");
    let m = only(&w);
    assert_eq!(m.outcome.result, OutcomeKind::Unfinished);
    assert_eq!(m.total_time_ns, None);
}

#[test]
fn the_destination_fails() {
    let mut w = wire();
    w.begin(1200, VM1, "req-1", "a");
    w.deliver(
        1300,
        SOURCE,
        "reply_1",
        &reply("a-pre", Some("DestinationDiskExists")),
    );
    w.publish(1310, SOURCE, "conductor", &save("s", "req-1", VM1, "error"));
    let m = only(&w);
    assert_eq!(m.outcome.result, OutcomeKind::Failed);
    assert_eq!(names(&m), ["initialization"]);
    assert!(m.outcome.reason.unwrap().contains("DestinationDiskExists"));
}

#[test]
fn aborted_and_rolled_back() {
    let mut w = wire();
    w.begin(1200, VM1, "req-1", "a");
    w.deliver(1300, SOURCE, "reply_1", &reply("a-pre", None));
    w.publish(
        1310,
        SOURCE,
        "conductor",
        &save("s1", "req-1", VM1, "running"),
    );
    abort(&mut w, (1400, 1420));
    let rollback = of_first("rollback_live_migration_at_destination", None);
    w.publish(1500, SOURCE, "compute.dst", &rollback);
    w.publish(
        1600,
        SOURCE,
        "conductor",
        &save("s2", "req-1", VM1, "cancelled"),
    );
    let m = only(&w);
    assert_eq!(m.outcome.result, OutcomeKind::Cancelled);
    assert_eq!(names(&m), ["initialization"]);
    assert_eq!(m.total_time_ns, None);
    assert!(m.elapsed_ns.unwrap() >= 400_000_000);
}

#[test]
fn a_cold_migration_is_said_to_be_one() {
    let mut w = wire();
    let body = json!({"migrate": {"host": "dst"}});
    act(&mut w, (1100, 1110), &body, 202, "req-1");
    let resize = of_first("resize_instance", None);
    w.deliver(1200, SOURCE, "compute.src", &resize);
    let m = only(&w);
    assert_eq!(m.technique, Technique::Offline);
    assert!(m.phases.is_empty());
    assert!(noted(&m, "not a live migration"));
    assert!(m.outcome.reason.unwrap().contains("cold"));
    assert_eq!(m.total_time_ns, None);
}

/// Two replies, no reply at all to the last RPC, and its end by a notification.
#[test]
fn as_in_juno() {
    let mut w = wire();
    w.begin(1200, VM1, "req-1", "a");
    let first = json!({"result": {}, "failure": null, "_msg_id": "a-pre", "_unique_id": "r1"});
    let second = json!({"result": null, "failure": null, "ending": true, "_msg_id": "a-pre",
        "_unique_id": "r2"});
    w.deliver(1300, SOURCE, "reply_1", &first);
    w.deliver(1310, SOURCE, "reply_1", &second);
    let post = of_first("post_live_migration_at_destination", None);
    w.publish(1400, SOURCE, "compute.dst", &post);
    let notice = json!({"event_type": "compute.instance.live_migration._post.end",
        "publisher_id": "compute.src", "priority": "INFO", "_unique_id": "n1",
        "message_id": "m1", "payload": {"instance_id": VM1}, "_context_request_id": "req-1"});
    w.publish(1500, SOURCE, "notifications.info", &notice);
    let m = only(&w);
    assert_eq!(end(&m, PhaseName::Initialization).1, 1300);
    assert_eq!(
        end(&m, PhaseName::PostMigration),
        ("post-end-notification", 1500)
    );
    assert!(noted(&m, "15.0.0"));
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
}

/// Delivered again after the consumer's connection was lost: the first one counts.
#[test]
fn redelivered_messages_count_once() {
    let mut w = wire();
    w.run(1200, VM1, "req-1", "a");
    let mut args = instance(VM1);
    args["dest"] = json!("dst");
    let live = rpc("live_migration", None, "req-1", args);
    w.deliver(1210, SOURCE, "compute.src", &live);
    let m = only(&w);
    assert_eq!(start(&m, PhaseName::Initialization).1, 1200);
    let rpcs = &m.openstack.as_ref().unwrap().rpcs;
    let live = rpcs.iter().filter(|r| r.method == "live_migration");
    assert_eq!(live.map(|r| r.repeats).collect::<Vec<_>>(), [1]);
}

/// Client to proxy and proxy to server: one request.
#[test]
fn behind_a_proxy() {
    let mut w = wire();
    w.login(1000, SHELL, TOKEN);
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    let proxy = (CONTROLLER, 51_000);
    let body = json!({"os-migrateLive": {"host": null, "block_migration": "auto"}}).to_string();
    w.http(
        (1122, 1128),
        proxy,
        18_774,
        &post(&format!("/v2.1/servers/{VM1}/action"), Some(TOKEN), &body),
        &answer(202, "x-compute-request-id: req-1\r\n", ""),
    );
    w.run(1200, VM1, "req-1", "a");
    let m = only(&w);
    assert_eq!(
        start(&m, PhaseName::Initialization),
        ("server-lookup-request", 1100)
    );
    assert_eq!(authentication(&m), Some("issued"));
    assert_eq!(m.openstack.unwrap().requests.len(), 1);
}

/// The port between two hosts is plugged late, and the source waits for it.
#[test]
fn the_wait_for_the_network() {
    let mut w = wire();
    w.begin(1200, VM1, "req-1", "a");
    w.deliver(1300, SOURCE, "reply_1", &reply("a-pre", None));
    let event = rpc(
        "external_instance_event",
        None,
        "req-other",
        json!({"instances": [{"nova_object.name": "Instance", "nova_object.data": {"uuid": VM1}}],
            "events": [{"nova_object.name": "InstanceExternalEvent", "nova_object.data": {
                "instance_uuid": VM1, "name": "network-vif-plugged", "status": "completed"}}]}),
    );
    w.deliver(1380, SOURCE, "compute.src", &event);
    w.publish(
        1400,
        SOURCE,
        "conductor",
        &save("s1", "req-1", VM1, "running"),
    );
    let m = only(&w);
    let wait = phase(&m, PhaseName::Initialization)
        .sub
        .iter()
        .find(|s| s.name == "vif-wait")
        .unwrap();
    assert_eq!(wait.duration_ns.unwrap() / 1_000_000, 80);
}

/// Clients that take ids and names alike try the name as an id first.
#[test]
fn a_name_tried_as_an_id_is_a_lookup() {
    let mut w = wire();
    w.login(1000, SHELL, TOKEN);
    let found = json!({"servers": [{"id": VM1}]}).to_string();
    w.http(
        (1060, 1065),
        SHELL,
        8774,
        &get("/v2.1/servers/web-server", TOKEN),
        &answer(404, "", "{}"),
    );
    w.http(
        (1070, 1075),
        SHELL,
        8774,
        &get("/v2.1/servers/detail?name=web-server", TOKEN),
        &answer(200, "", &found),
    );
    w.migrate(1120, SHELL, TOKEN, VM1, "req-1", 202);
    w.run(1200, VM1, "req-1", "a");
    let m = only(&w);
    assert_eq!(
        start(&m, PhaseName::Initialization),
        ("server-lookup-request", 1060)
    );
}

/// A client that asks how it goes, and migrates again with the same token.
#[test]
fn polling_is_no_lookup_of_the_next_one() {
    let mut w = wire();
    w.login(1000, SHELL, TOKEN);
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    for at in [1150, 1250, 1350] {
        w.look(at, SHELL, TOKEN, VM1);
    }
    w.run(1200, VM1, "req-1", "a");
    w.ask(2000, SHELL, TOKEN, VM1, "req-2");
    w.run(2100, VM1, "req-2", "b");
    let [a, b] = &two(&w);
    assert_eq!(start(a, PhaseName::Initialization).1, 1100);
    assert_eq!(start(b, PhaseName::Initialization).1, 2000);
    assert_eq!(
        (authentication(a), authentication(b)),
        (Some("issued"), Some("shared"))
    );
}

/// What the user decides on a resize, by another request, is no migration of its own.
#[test]
fn a_confirmed_resize_is_one() {
    let mut w = wire();
    let body = json!({"resize": {"flavorRef": "2"}});
    act(&mut w, (1100, 1110), &body, 202, "req-1");
    let resize = of_first("resize_instance", None);
    w.deliver(1200, SOURCE, "compute.src", &resize);
    let finish = of_first("finish_resize", None);
    w.publish(1300, SOURCE, "compute.dst", &finish);
    let body = json!({"confirmResize": null});
    act(&mut w, (2100, 2110), &body, 204, "req-2");
    let confirm = rpc("confirm_resize", None, "req-2", instance(VM1));
    w.deliver(2200, SOURCE, "compute.src", &confirm);
    let m = only(&w);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    assert!(noted(&m, "not a live migration"));
}

/// The abort came when the guest was there already.
#[test]
fn an_abort_that_came_too_late() {
    let mut w = wire();
    w.run(1200, VM1, "req-1", "a");
    abort(&mut w, (1390, 1395));
    assert_eq!(only(&w).outcome.result, OutcomeKind::Completed);
}

/// A pre-check fails on one host, and the conductor takes another one.
#[test]
fn the_conductor_tries_again() {
    let mut w = wire();
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    for (at, id, failure) in [
        (1130, "c1", Some("MigrationPreCheckError")),
        (1160, "c2", None),
    ] {
        let check = of_first("check_can_live_migrate_source", Some(id));
        w.deliver(at, SOURCE, "compute.src", &check);
        w.publish(at + 10, SOURCE, "reply_1", &reply(id, failure));
    }
    w.run(1200, VM1, "req-1", "a");
    let m = only(&w);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    assert_eq!(m.outcome.reason, None);
    let checks = m.phases.iter().flat_map(|p| &p.sub);
    let checks = checks.into_iter().find(|s| s.name == "pre-checks").unwrap();
    assert_eq!(checks.duration_ns.unwrap() / 1_000_000, 40);
}

/// Behind a web server that gives each interface a path of its own, on one port.
#[test]
fn interfaces_behind_one_port() {
    let mut w = wire();
    let one = |w: &mut Wire, at, q: String, r: String| w.http(at, SHELL, 80, &q, &r);
    let none = "GET /identity HTTP/1.1\r\nHost: c\r\n\r\n".to_owned();
    one(&mut w, (900, 905), none, answer(300, "", "{}"));
    let issued = format!("X-Subject-Token: {TOKEN}\r\n");
    one(
        &mut w,
        (910, 950),
        post("/identity/v3/auth/tokens", None, &login_body()),
        answer(201, &issued, "{}"),
    );
    let server = format!("/compute/v2.1/servers/{VM1}");
    let found = json!({"server": {"id": VM1}}).to_string();
    one(
        &mut w,
        (1000, 1010),
        get(&server, TOKEN),
        answer(200, "", &found),
    );
    let body = json!({"os-migrateLive": {"host": "dst", "block_migration": false,
        "disk_over_commit": false}});
    one(
        &mut w,
        (1020, 1190),
        post(&format!("{server}/action"), Some(TOKEN), &body.to_string()),
        answer(202, "x-compute-request-id: req-1\r\n", ""),
    );
    w.run(1200, VM1, "req-1", "a");
    let m = only(&w);
    assert_eq!(
        start(&m, PhaseName::Authentication),
        ("keystone-discovery-request", 900)
    );
    assert_eq!(end(&m, PhaseName::Authentication).1, 950);
    assert_eq!(start(&m, PhaseName::Initialization).1, 1000);
}

/// Nova 33 sends to another topic; hosts may be named with dots.
#[test]
fn another_topic_and_names_with_dots() {
    let mut w = wire();
    let mut args = instance(VM1);
    args["dest"] = json!("dst.cell-1.example");
    let live = rpc("live_migration", None, "req-1", args);
    w.deliver(1200, SOURCE, "compute-alt.src.cell-1.example", &live);
    let pre = of_first("pre_live_migration", Some("p"));
    w.publish(1220, SOURCE, "compute-alt.dst.cell-1.example", &pre);
    w.deliver(1300, SOURCE, "reply_host:nova-compute:1", &reply("p", None));
    let post = of_first("post_live_migration_at_destination", Some("q"));
    w.publish(1400, SOURCE, "compute-alt.dst.cell-1.example", &post);
    w.deliver(1450, SOURCE, "reply_host:nova-compute:1", &reply("q", None));
    let m = only(&w);
    assert_eq!(m.source.hostname.as_deref(), Some("src.cell-1.example"));
    assert_eq!(
        m.destination.hostname.as_deref(),
        Some("dst.cell-1.example")
    );
    assert_eq!(end(&m, PhaseName::PostMigration).1, 1450);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
}

/// An answer longer than what is kept of one: that it was not kept whole is told, and the next
/// messages on the connection are read.
#[test]
fn an_answer_of_three_mebibytes_in_chunks() {
    use phasescope::dissect::event::Kind;
    use phasescope::dissect::{Dissector, Event, Sink};
    #[derive(Default)]
    struct Answers(Vec<(u64, u64, bool)>);
    impl Sink for Answers {
        fn event(&mut self, event: Event) {
            if let Kind::Http(h) = event.kind
                && h.response.is_some()
            {
                self.0.push((h.length, h.unread, h.complete));
            }
        }
    }
    let mut w = wire();
    w.login(1000, SHELL, TOKEN);
    let part = format!("{:x}\r\n{}\r\n", 0x8000, "x".repeat(0x8000));
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        part.repeat(96)
    );
    w.http(
        (1060, 1070),
        SHELL,
        8774,
        &get("/v2.1/servers/detail", TOKEN),
        &long,
    );
    w.ask(1100, SHELL, TOKEN, VM1, "req-1");
    w.run(1200, VM1, "req-1", "a");
    let m = only(&w);
    assert_eq!(start(&m, PhaseName::Initialization).1, 1100);
    assert_eq!(authentication(&m), Some("issued"));
    let mut capture = w.capture();
    let (mut dissector, mut answers) = (Dissector::default(), Answers::default());
    while let Some(frame) = capture.next_frame().unwrap() {
        dissector.frame(&frame, &mut answers);
    }
    dissector.finish(&mut answers);
    let kept = phasescope_parsers::http::MAX_BODY as u64;
    let long = (3 << 20, (3 << 20) - kept, true);
    assert_eq!(answers.0.iter().filter(|a| **a == long).count(), 1);
    assert_eq!(answers.0.iter().filter(|a| a.1 > 0).count(), 1);
}
