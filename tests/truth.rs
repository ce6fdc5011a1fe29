//! Reports against what the hypervisor itself logged and counted.
//!
//! The fixtures are scrubbed and thinned copies of real captures. With `PHASESCOPE_TRACES` naming a
//! folder of unthinned captures (`NAME-capture.pcap` or `NAME/capture.pcap.zst`), those are
//! checked by the same rules.

mod support;

use std::path::PathBuf;

use phasescope::migration::{DowntimeMethod, Migration, OutcomeKind, PhaseName};
use phasescope::report::Report;
use serde_json::Value;
use support::{KVM, kvm, nanos, parse_time, report, truth};

/// A log stands this far from the wire at most: a daemon logs a call before it sends it, and a
/// reply after it has read it.
const WIRE_NS: i64 = 1_000_000;

fn captures(name: &str) -> Vec<PathBuf> {
    let mut files = vec![kvm(name)];
    if let Some(folder) = std::env::var_os("PHASESCOPE_TRACES") {
        let folder = PathBuf::from(folder);
        files.extend(
            [
                folder.join(format!("{name}-capture.pcap")),
                folder.join(name).join("capture.pcap.zst"),
            ]
            .into_iter()
            .find(|p| p.exists()),
        );
    }
    files
}

fn each(check: impl Fn(&str, &Report, &Value)) {
    for name in KVM {
        let truth = truth(name);
        for file in captures(name) {
            check(name, &report(&[file]), &truth);
        }
    }
}

fn pairs<'a>(r: &'a Report, t: &'a Value) -> Vec<(&'a Migration, &'a Value)> {
    let truths = t["migrations"].as_array().expect("migrations");
    assert_eq!(r.migrations.len(), truths.len(), "as many migrations");
    r.migrations.iter().zip(truths).collect()
}

#[test]
fn pages_and_bytes_equal_qemus_counters() {
    each(|name, r, t| {
        for (m, t) in pairs(r, t) {
            let transfer = m.transfer.as_ref().expect("a transfer");
            let s = &t["summary"];
            assert!(transfer.pages.exact, "{name}");
            assert_eq!(transfer.pages.normal, s["normal_pages"], "{name}");
            assert_eq!(transfer.pages.zero, s["zero_pages"], "{name}");
            assert_eq!(
                transfer.transferred_bytes,
                s["bytes_transferred"].as_u64(),
                "{name}"
            );
            // Rounds are a lower bound; what they hold is everything.
            assert!(transfer.rounds.len() as u64 <= s["dirty_sync_count"].as_u64().expect("syncs"));
            let pages: u64 = transfer.rounds.iter().map(|r| r.pages).sum();
            assert_eq!(pages, transfer.pages.normal + transfer.pages.zero, "{name}");
        }
    });
}

#[test]
fn identity_and_outcome() {
    each(|name, r, t| {
        for (m, t) in pairs(r, t) {
            assert_eq!(m.guest.name.as_deref(), t["guest"].as_str(), "{name}");
            assert_eq!(m.source.hostname.as_deref(), t["issued_on"].as_str());
            assert_eq!(m.destination.hostname.as_deref(), t["destination"].as_str());
            assert_eq!(m.outcome.result, OutcomeKind::Completed);
            assert!(m.guest.uuid.is_some());
        }
    });
}

/// Streams whose payload the truth counts too low: it leaves out segments that came late. The
/// sequence number of the stream's FIN in the raw capture, less one, is exact.
const BY_FIN: &[(&str, u64)] = &[("kvm-idle", 97_939_770)];

#[test]
fn payload_equals_the_captures_own_count() {
    for name in KVM {
        let t = truth(name);
        let r = report(&[kvm(name)]);
        let connections = r
            .migrations
            .iter()
            .flat_map(|m| &m.transfer.as_ref().expect("a transfer").connections);
        let mut found = 0;
        for c in connections {
            let ends = |s: &Value| {
                let text = s.to_string();
                let port = |e: &str| e.rsplit_once(':').expect("a port").1.to_owned();
                text.contains(&port(&c.client)) && text.contains(&port(&c.server))
            };
            let streams = t["tcp_streams"].as_array().expect("streams");
            let s = streams.iter().find(|s| ends(s)).expect("the connection");
            let exact = BY_FIN
                .iter()
                .find(|(n, _)| *n == name && c.role == phasescope::migration::Role::Main)
                .map(|(_, bytes)| *bytes);
            let expected = exact.or(s["bytes_to_server"].as_u64());
            assert_eq!(
                Some(c.payload_to_server_bytes),
                expected,
                "{name} {}",
                c.client
            );
            found += 1;
        }
        assert!(
            found >= 2 * r.migrations.len(),
            "stream and daemons' connection"
        );
    }
}

#[test]
fn every_call_and_reply_with_its_status() {
    each(|name, r, t| {
        for (m, t) in pairs(r, t) {
            let rpc = t["rpc"].as_array().expect("calls");
            assert_eq!(m.calls.len(), rpc.len(), "{name}");
            for c in rpc {
                let found = m
                    .calls
                    .iter()
                    .find(|x| x.serial == c["serial"])
                    .expect("the call");
                let called = c["name"].as_str().expect("a name").to_uppercase();
                assert_eq!(found.procedure, called, "{name}");
                let status = c["status"].as_str().expect("status").to_lowercase();
                assert_eq!(found.status.as_deref(), Some(status.as_str()), "{name}");
            }
        }
    });
}

/// Where the logs say that a boundary lies: between two times.
fn logged(t: &Value, name: &str, call: bool) -> Option<(i64, i64)> {
    let rpc = t["rpc"].as_array()?;
    let c = rpc
        .iter()
        .find(|c| c["name"].as_str().is_some_and(|n| n.to_uppercase() == name))?;
    let (a, b) = match call {
        true => ("call_sent", "call_received"),
        false => ("reply_sent", "reply_received"),
    };
    Some((nanos(c[a].as_str()?), nanos(c[b].as_str()?)))
}

#[test]
fn boundaries_are_the_markers_frames_at_the_wires_times() {
    each(|name, r, t| {
        for (m, t) in pairs(r, t) {
            let names: Vec<PhaseName> = m.phases.iter().map(|p| p.name).collect();
            use PhaseName as P;
            assert_eq!(
                names,
                [
                    P::RemoteConnect,
                    P::Preparation,
                    P::Transfer,
                    P::Finish,
                    P::Cleanup
                ],
                "{name}"
            );
            let expected = [
                (P::RemoteConnect, false, "CONNECT_OPEN", false),
                (P::Preparation, true, "CONNECT_OPEN", false),
                (
                    P::Preparation,
                    false,
                    "DOMAIN_MIGRATE_PREPARE3_PARAMS",
                    false,
                ),
                (P::Finish, true, "DOMAIN_MIGRATE_FINISH3_PARAMS", true),
                (P::Finish, false, "DOMAIN_MIGRATE_FINISH3_PARAMS", false),
                (P::Cleanup, true, "DOMAIN_MIGRATE_FINISH3_PARAMS", false),
            ];
            for (phase, start, procedure, call) in expected {
                let p = m
                    .phases
                    .iter()
                    .find(|p| p.name == phase)
                    .expect("the phase");
                let edge = if start { &p.start } else { &p.end };
                let edge = edge.as_ref().expect("bounded");
                let (from, to) = logged(t, procedure, call).expect("in the log");
                let at = parse_time(&edge.time);
                assert!(
                    at >= from - WIRE_NS && at <= to + WIRE_NS,
                    "{name} {phase:?} {start} {at} {from} {to}"
                );
                // The same frame as the call's own.
                let c = m
                    .calls
                    .iter()
                    .find(|c| c.procedure == procedure)
                    .expect("the call");
                let moment = if call { &c.call } else { &c.reply };
                assert_eq!(edge.frame, moment.as_ref().expect("seen").frame);
            }
        }
    });
}

#[test]
fn guest_stops_and_resumes_inside_the_stated_intervals() {
    each(|name, r, t| {
        for (m, t) in pairs(r, t) {
            let p = m.pause.as_ref().expect("a pause");
            let s = &t["summary"];
            let stop = nanos(s["vm_stopped_on_source"].as_str().expect("a time"));
            let resume = nanos(s["vm_running_on_destination"].as_str().expect("a time"));
            let at = |m: &Option<phasescope::migration::Moment>| {
                parse_time(&m.as_ref().expect("known").time)
            };
            assert!(
                at(&p.stop_earliest) <= stop && stop <= at(&p.stop_latest),
                "{name} stop"
            );
            assert!(
                at(&p.resume_earliest) <= resume && resume <= at(&p.resume_latest),
                "{name} resume"
            );
            let paused = resume - stop;
            assert!(p.min_ns.expect("known") <= paused && paused <= p.max_ns.expect("known"));
        }
    });
}

#[test]
fn lost_echoes_equal_the_captures_unanswered_runs() {
    each(|name, r, t| {
        let pings = t["ping_in_capture"].as_object().expect("pings");
        let series = pings.values().next().expect("a series");
        let e = r.capture.echoes.first().expect("echoes");
        assert_eq!(r.capture.echoes.len(), 1, "{name}");
        assert_eq!(e.requests, series["requests"], "{name}");
        assert_eq!(e.unanswered, series["unanswered"], "{name}");
        let runs = series["unanswered_runs"].as_array().expect("runs");
        for (m, t) in pairs(r, t) {
            let s = &t["summary"];
            let stop = nanos(s["vm_stopped_on_source"].as_str().expect("a time"));
            let resume = nanos(s["vm_running_on_destination"].as_str().expect("a time"));
            let expected: Vec<u64> = runs
                .iter()
                .filter(|r| {
                    let at = |k: &str| nanos(r[k].as_str().expect("a time"));
                    at("first_request") <= resume && at("last_request") >= stop
                })
                .map(|r| r["count"].as_u64().expect("a count"))
                .collect();
            support::lost_echoes_are(m, &expected, name);
        }
    });
}

#[test]
fn reported_downtime_is_libvirts() {
    each(|name, r, t| {
        for (m, t) in pairs(r, t) {
            let d = m
                .downtime
                .iter()
                .find(|d| d.method == DowntimeMethod::Reported)
                .and_then(|d| d.duration_ns)
                .expect("in the cookie");
            // What `virsh domjobinfo --completed` said afterwards.
            if let Some(ms) = t["libvirt_downtime_ms"].as_i64() {
                assert_eq!(d, ms * 1_000_000, "{name}");
            }
        }
    });
}

#[test]
fn postcopy_requests_are_those_that_the_destination_counted() {
    let (name, r) = ("kvm-postcopy", report(&[kvm("kvm-postcopy")]));
    let t = truth(name);
    for (m, t) in pairs(&r, &t) {
        let p = m.transfer.as_ref().and_then(|t| t.postcopy.as_ref());
        let p = p.expect("it switched");
        assert_eq!(p.requests, t["summary"]["postcopy_requests"]);
        assert!(p.answered <= p.requests && p.answered > 0);
        let all = m.transfer.as_ref().expect("one").pages;
        assert_eq!(p.pages_before + p.pages_after, all.normal + all.zero);
    }
}
