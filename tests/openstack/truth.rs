//! The live migration in a real deployment against the logs of its services.

use phasescope::migration::openstack::{Account, RpcCall};
use phasescope::migration::{
    Boundary, Certainty, Driver, Migration, Moment, OutcomeKind, PhaseName,
};
use serde_json::Value;

use super::{path, phase, report_of};

const SOURCE: &str = "os-live-source.pcap.zst";
const SWITCH: &str = "os-live-switch.pcap.zst";

fn truth() -> Value {
    serde_json::from_slice(&std::fs::read(path("os-live.truth.json")).unwrap()).unwrap()
}

fn migration(file: &str) -> Migration {
    let mut report = report_of(&[path(file)]);
    assert_eq!(report.migrations.len(), 1);
    report.migrations.remove(0)
}

fn ns(time: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(time)
        .unwrap()
        .timestamp_nanos_opt()
        .unwrap()
}

fn int(v: &Value) -> i64 {
    v.as_i64().unwrap()
}

fn edge(b: &Option<Boundary>) -> i64 {
    ns(&b.as_ref().unwrap().time)
}

fn account(m: &Migration) -> &Account {
    m.openstack.as_ref().unwrap()
}

#[test]
fn eight_phases_from_the_sources_port_alone() {
    let m = migration(SOURCE);
    assert_eq!(m.driver, Driver::Openstack);
    assert_eq!(m.outcome.result, OutcomeKind::Completed);
    assert_eq!(m.outcome.reason, None);
    let expected = [
        (
            PhaseName::Authentication,
            "keystone-discovery-request",
            "keystone-token-response",
        ),
        (
            PhaseName::Initialization,
            "server-lookup-request",
            "pre-live-migration-reply",
        ),
        (
            PhaseName::RemoteConnect,
            "libvirt-connection-opened",
            "libvirt-open-reply",
        ),
        (
            PhaseName::Preparation,
            "libvirt-open-reply",
            "migrate-prepare-reply",
        ),
        (
            PhaseName::Transfer,
            "migration-connection-opened",
            "migration-connection-closed",
        ),
        (
            PhaseName::Finish,
            "migrate-finish-call",
            "migrate-finish-reply",
        ),
        (
            PhaseName::Cleanup,
            "migrate-finish-reply",
            "libvirt-connection-closed",
        ),
        (
            PhaseName::PostMigration,
            "post-live-migration-call",
            "post-live-migration-reply",
        ),
    ];
    assert_eq!(m.phases.len(), expected.len());
    for (p, (name, start, end)) in m.phases.iter().zip(expected) {
        let (s, e) = (p.start.as_ref().unwrap(), p.end.as_ref().unwrap());
        assert_eq!(
            (p.name, s.marker.as_str(), e.marker.as_str()),
            (name, start, end)
        );
        for b in [s, e] {
            let transport = b.marker.starts_with("libvirt-connection")
                || b.marker.starts_with("migration-connection");
            let sure = match transport {
                true => Certainty::Transport,
                false => Certainty::Decoded,
            };
            assert_eq!(b.certainty, sure, "{}", b.marker);
        }
        assert!(p.duration_ns.unwrap() > 0);
    }
    // What is in no phase, and what is in one, make the whole.
    let in_phases: i64 = m.phases.iter().filter_map(|p| p.duration_ns).sum();
    let (gaps, overlaps) = (m.gaps_ns.unwrap(), m.overlaps_ns.unwrap());
    assert_eq!(in_phases + gaps - overlaps, m.total_time_ns.unwrap());
}

#[test]
fn boundaries_agree_with_the_logs() {
    let truth = truth();
    let rpc = |method: &str| {
        let all = truth["rpcs"].as_array().unwrap();
        all.iter().find(|r| r["method"] == method).unwrap().clone()
    };
    for file in [SOURCE, SWITCH] {
        let m = migration(file);
        // The log of the web server has the request's first byte and how long it took.
        let login = &truth["http"].as_array().unwrap()[0];
        let (end, took) = (
            edge(&phase(&m, PhaseName::Authentication).end),
            int(&login["took_us"]),
        );
        assert!((end - int(&login["t_ns"]) - took * 1000).abs() < 20_000_000);
        assert!(
            int(&truth["client"]["start_ns"]) < edge(&phase(&m, PhaseName::Authentication).start)
        );
        // The caller has the reply a few milliseconds after it came.
        for (method, name) in [
            ("pre_live_migration", PhaseName::Initialization),
            (
                "post_live_migration_at_destination",
                PhaseName::PostMigration,
            ),
        ] {
            let late = int(&rpc(method)["end_ns"]) - edge(&phase(&m, name).end);
            assert!((0..10_000_000).contains(&late), "{method}: {late}");
        }
        let post = rpc("post_live_migration_at_destination");
        let early = edge(&phase(&m, PhaseName::PostMigration).start) - int(&post["start_ns"]);
        assert!((0..20_000_000).contains(&early), "{early}");
        // Steps.
        let step = |phase_name, name: &str| {
            let p = phase(&m, phase_name);
            p.sub.iter().find(|s| s.name == name).unwrap().clone()
        };
        let pre = step(PhaseName::Initialization, "pre-live-migration");
        let sent = ns(&pre.start.time) - int(&rpc("pre_live_migration")["start_ns"]);
        assert!((0..20_000_000).contains(&sent), "{sent}");
        let row = |status: &str| {
            let rows = truth["database"].as_array().unwrap();
            int(&rows.iter().find(|r| r["status"] == status).unwrap()["t_ns"])
        };
        // The rows were read every 50 ms.
        let queued = step(PhaseName::Initialization, "queued");
        let late = row("preparing") - edge(&queued.end);
        assert!((0..100_000_000).contains(&late), "{late}");
        let settle = step(PhaseName::PostMigration, "settle");
        let late = row("completed") - edge(&settle.end);
        assert!((-60_000_000..100_000_000).contains(&late), "{late}");
        let t = m.transfer.unwrap();
        let job = &truth["libvirt_job"];
        assert!(t.pages.exact);
        assert_eq!(t.pages.normal as i64, int(&job["memory_normal"]));
        assert_eq!(t.pages.zero as i64, int(&job["memory_constant"]));
    }
}

/// Hosts whose traffic is in a capture, and how many of the RPCs are.
#[test]
fn every_rpc_is_found_and_joined() {
    let truth = truth();
    for (file, hosts, all, conductor) in [
        (SOURCE, &["compute1"][..], 15, 19),
        (SWITCH, &["compute1", "compute2"][..], 20, 39),
    ] {
        let m = migration(file);
        let account = account(&m);
        assert_eq!(account.request_id.as_deref(), truth["request_id"].as_str());
        assert_eq!(
            account.migration_uuid.as_deref(),
            truth["migration"]["uuid"].as_str()
        );
        assert_eq!(account.migration_id, truth["migration"]["id"].as_u64());
        assert_eq!(m.guest.uuid.as_deref(), truth["instance"].as_str());
        let seen = |v: &Value| hosts.contains(&v.as_str().unwrap());
        let mut left: Vec<&RpcCall> = account.rpcs.iter().collect();
        let mut found = 0;
        for r in truth["rpcs"].as_array().unwrap() {
            let to = r["to"].as_array().unwrap();
            if !seen(&r["from"]) && !to.iter().any(|t| seen(&t["host"])) {
                continue;
            }
            let at = |m: &Option<Moment>| m.as_ref().map(|m| ns(&m.time));
            let (start, end) = (int(&r["start_ns"]), int(&r["end_ns"]));
            let i = left.iter().position(|c| {
                let when = at(&c.published).or(at(&c.delivered)).unwrap();
                c.method == r["method"].as_str().unwrap()
                    && c.kind == r["kind"].as_str().unwrap()
                    && (start..end.max(start + 100_000_000)).contains(&when)
            });
            let c = left.remove(i.unwrap_or_else(|| panic!("{file}: {r}")));
            found += 1;
            if r["kind"] == "call" {
                assert!(c.reply_published.is_some() || c.reply_delivered.is_some());
                assert!(at(&c.reply_delivered).is_none_or(|t| t <= end));
            }
            assert_eq!(c.failure, None);
        }
        assert_eq!(found, all, "{file}");
        // What is left are the hosts' calls of the conductor, each of them in the log.
        let calls = truth["conductor_calls"].as_array().unwrap();
        for c in &left {
            assert!(c.method.starts_with("object_"), "{}", c.method);
            let when = ns(&c.published.as_ref().unwrap().time);
            let known = calls.iter().any(|l| {
                l["method"].as_str() == Some(&c.method)
                    && (int(&l["start_ns"])..int(&l["end_ns"])).contains(&when)
            });
            assert!(known, "{file}: {} at {when}", c.method);
            assert!(c.reply_delivered.is_some());
        }
        assert!(left.len() >= conductor, "{file}: {}", left.len());
    }
}

#[test]
fn the_switch_shows_the_same_phases_and_more() {
    let (a, b) = (migration(SOURCE), migration(SWITCH));
    for (p, q) in a.phases.iter().zip(&b.phases) {
        assert_eq!(p.name, q.name);
        // Taken on the same machine, a few microseconds later.
        for (x, y) in [(&p.start, &q.start), (&p.end, &q.end)] {
            assert!((edge(x) - edge(y)).abs() < 100_000);
        }
    }
    let steps = |m: &Migration| m.phases.iter().map(|p| p.sub.len()).sum::<usize>();
    assert!(steps(&b) > steps(&a));
    let of = |m: &Migration, method: &str| {
        let rpcs = &account(m).rpcs;
        rpcs.iter().filter(|r| r.method == method).count()
    };
    for method in [
        "live_migration",
        "pre_live_migration",
        "check_can_live_migrate_source",
    ] {
        assert_eq!((of(&a, method), of(&b, method)), (1, 1));
    }
    // Towards the broker and from it: one message.
    let pre = account(&b)
        .rpcs
        .iter()
        .find(|r| r.method == "pre_live_migration")
        .unwrap();
    assert!(pre.published.is_some() && pre.delivered.is_some());
    assert!(pre.reply_published.is_some() && pre.reply_delivered.is_some());
    assert_eq!(pre.repeats, 0);
}

#[test]
fn two_taps_count_once() {
    let both = report_of(&[path(SOURCE), path(SWITCH)]);
    assert_eq!(both.migrations.len(), 1);
    let (one, two) = (migration(SWITCH), &both.migrations[0]);
    let counts = |m: &Migration| (account(m).rpcs.len(), account(m).requests.len());
    assert_eq!(counts(&one), counts(two));
    assert!(
        account(two)
            .rpcs
            .iter()
            .all(|r| r.repeats == 0 || r.kind == "cast")
    );
    assert!(both.capture.health.oddities["seen-at-another-tap"] > 1000);
}
