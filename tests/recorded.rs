//! Every way that a migration can go, recorded (`fixtures/record/kvm`), against what libvirt and
//! QEMU logged and counted of it.
//!
//! With `PHASESCOPE_RECORDINGS` naming a folder of raw recordings (`NAME-capture.pcap`), those are
//! checked by the same rules, and their scrubbed copies must give the same reports.

mod support;

use std::path::PathBuf;

use phasescope::capture::Capture;
use phasescope::capture::write::Writer;
use phasescope::migration::{
    Boundary, Certainty, DowntimeMethod, Driver, Migration, Moment, OutcomeKind, PhaseName, Role,
    Technique,
};
use phasescope::report::Report;
use phasescope::scrub::{format_for, scrub};
use serde_json::Value;
use support::{RECORDED, kvm, nanos, parse_time, report, truth};

use OutcomeKind::{Cancelled, Completed, Failed, Refused, Unfinished};
use PhaseName::{Cleanup, Finish, Preparation, RemoteConnect, Storage, Transfer};

/// A log stands this far from the wire at most: a daemon logs a call before it sends it, and a
/// reply after it has read it.
const WIRE_NS: i64 = 1_000_000;

/// One recording and what its report must say.
struct Way {
    name: &'static str,
    driver: Driver,
    technique: Technique,
    /// Of each migration: the word, and a part of the reason.
    ends: &'static [(OutcomeKind, &'static str)],
    phases: &'static [PhaseName],
    /// libvirt's messages are inside TLS or SSH.
    hidden: bool,
}

const ALL: &[PhaseName] = &[RemoteConnect, Preparation, Transfer, Finish, Cleanup];

/// The plain case; the others say what differs.
const PLAIN: Way = Way {
    name: "",
    driver: Driver::LibvirtP2p,
    technique: Technique::PreCopy,
    ends: &[(Completed, "")],
    phases: ALL,
    hidden: false,
};

impl Way {
    /// Nothing of libvirt can be read.
    fn silent(&self) -> bool {
        self.hidden || self.driver == Driver::None
    }
}

/// The same with libvirt's messages encrypted, and the stream in clear.
const HIDDEN: Way = Way {
    ends: &[(Completed, "the destination says that it loaded the guest")],
    hidden: true,
    ..PLAIN
};

/// QEMU without libvirt.
const BARE: Way = Way {
    driver: Driver::None,
    phases: &[Transfer],
    ..PLAIN
};

/// The stream is encrypted as well.
const ALL_HIDDEN: Way = Way {
    technique: Technique::Unknown,
    ends: &[(Completed, "inferred")],
    ..HIDDEN
};

const WAYS: &[Way] = &[
    Way {
        name: "kvm-direct",
        driver: Driver::LibvirtDirect,
        phases: &[Preparation, Transfer, Finish, Cleanup],
        ..PLAIN
    },
    Way {
        name: "kvm-tunnelled",
        driver: Driver::LibvirtTunnelled,
        ..PLAIN
    },
    Way {
        name: "kvm-tls",
        ..ALL_HIDDEN
    },
    Way {
        name: "kvm-tls-tunnelled",
        driver: Driver::LibvirtTunnelled,
        ..ALL_HIDDEN
    },
    Way {
        name: "kvm-ssh-tunnelled",
        driver: Driver::LibvirtTunnelled,
        ..ALL_HIDDEN
    },
    Way {
        name: "kvm-tls-plain",
        ..HIDDEN
    },
    Way {
        name: "kvm-ssh",
        ..HIDDEN
    },
    Way {
        name: "kvm-tls-direct",
        driver: Driver::LibvirtDirect,
        phases: &[Preparation, Transfer, Finish, Cleanup],
        ..HIDDEN
    },
    Way {
        name: "kvm-ssh-direct",
        driver: Driver::LibvirtDirect,
        phases: &[Preparation, Transfer, Finish, Cleanup],
        ..HIDDEN
    },
    Way {
        name: "kvm-ssh-cancelled",
        ends: &[(Cancelled, "the source called it off; the stream ends early")],
        ..HIDDEN
    },
    Way {
        name: "kvm-storage",
        phases: &[
            RemoteConnect,
            Preparation,
            Storage,
            Transfer,
            Finish,
            Cleanup,
        ],
        ..PLAIN
    },
    Way {
        name: "kvm-block",
        ends: &[(Completed, "a guest was announced")],
        phases: &[Transfer, Storage],
        ..BARE
    },
    Way {
        name: "kvm-preempt",
        technique: Technique::Hybrid,
        ..BARE
    },
    Way {
        name: "kvm-cancelled",
        ends: &[(Cancelled, "the source called it off; the stream ends early")],
        ..PLAIN
    },
    Way {
        name: "kvm-qemu-killed",
        ends: &[(Failed, "the destination reset the migration connection")],
        ..PLAIN
    },
    Way {
        name: "kvm-libvirtd-killed",
        ends: &[(Failed, "the called daemon closed libvirt's connection")],
        phases: &[RemoteConnect, Preparation, Transfer],
        ..PLAIN
    },
    Way {
        name: "kvm-refused-file",
        technique: Technique::Unknown,
        ends: &[(Failed, "unable to stat")],
        phases: &[RemoteConnect, Preparation, Cleanup],
        ..PLAIN
    },
    Way {
        name: "kvm-refused-exists",
        technique: Technique::Unknown,
        ends: &[(Refused, "already exists with uuid")],
        phases: &[RemoteConnect, Preparation, Cleanup],
        ..PLAIN
    },
    Way {
        name: "kvm-xbzrle",
        ..PLAIN
    },
    Way {
        name: "kvm-autoconverge",
        ..PLAIN
    },
    Way {
        name: "kvm-compressed",
        ..PLAIN
    },
    Way {
        name: "kvm-postcopy-command",
        technique: Technique::Hybrid,
        ..PLAIN
    },
    Way {
        name: "kvm-multifd-zstd",
        ..PLAIN
    },
    Way {
        name: "kvm-multifd-zlib",
        ..PLAIN
    },
    Way {
        name: "kvm-vlan",
        ..PLAIN
    },
    Way {
        name: "kvm-ipv6",
        ..PLAIN
    },
    Way {
        name: "kvm-offload",
        ..PLAIN
    },
    Way {
        name: "kvm-two-ways",
        ends: &[(Completed, ""), (Completed, "")],
        ..PLAIN
    },
    Way {
        name: "kvm-late",
        ..PLAIN
    },
    Way {
        name: "kvm-offline",
        technique: Technique::Offline,
        phases: &[RemoteConnect, Preparation, Finish, Cleanup],
        ..PLAIN
    },
    // The source's daemon gave up; nothing of that gets past the cut cable, for what was sent
    // before it is still being repeated when the capture ends.
    Way {
        name: "kvm-link-lost",
        ends: &[(Unfinished, "nothing had come from the destination for 6.")],
        phases: &[RemoteConnect, Preparation, Transfer],
        ..PLAIN
    },
    Way {
        name: "kvm-link-restored",
        ..PLAIN
    },
];

/// The capture at the client's port, where the calls are the client's.
fn files(name: &str) -> Vec<PathBuf> {
    match name {
        _ if name.ends_with("direct") => vec![kvm(name), kvm(&format!("{name}-client"))],
        _ => vec![kvm(name)],
    }
}

fn recordings() -> Option<PathBuf> {
    std::env::var_os("PHASESCOPE_RECORDINGS").map(PathBuf::from)
}

/// The raw recording's captures, where they are there.
fn raw(name: &str) -> Option<Vec<PathBuf>> {
    let name = name.trim_start_matches("kvm-");
    let file = |at: &str| Some(recordings()?.join(format!("{name}-{at}.pcap")));
    let source = file("capture").filter(|f| f.exists())?;
    Some(match name.ends_with("direct") {
        true => vec![source, file("client")?],
        false => vec![source],
    })
}

fn each(check: impl Fn(&Way, &Report, &Value)) {
    for way in WAYS {
        let truth = truth(way.name);
        check(way, &report(&files(way.name)), &truth);
        if let Some(raw) = raw(way.name) {
            check(way, &report(&raw), &truth);
        }
    }
}

/// Each migration with its truth, in the order in which the commands were given.
fn pairs<'a>(way: &Way, r: &'a Report, t: &'a Value) -> Vec<(&'a Migration, &'a Value)> {
    let mut truths: Vec<&Value> = t["migrations"].as_array().expect("some").iter().collect();
    truths.sort_by_key(|t| nanos(t["virsh_start"].as_str().expect("a time")));
    assert_eq!(r.migrations.len(), truths.len(), "{}", way.name);
    r.migrations.iter().zip(truths).collect()
}

fn logged(v: &Value) -> Option<i64> {
    v.as_str().map(nanos)
}

fn at(m: &Moment) -> i64 {
    parse_time(&m.time)
}

/// Did the call reach the wire, and the capture?
fn seen(t: &Value, call: &Value) -> bool {
    let begins = logged(&t["capture_begins"]).expect("a time");
    logged(&call["call_received"]).is_some_and(|at| at > begins)
}

fn named<'a>(t: &'a Value, procedure: &str) -> Option<&'a Value> {
    let calls = t["rpc"].as_array().expect("calls");
    calls.iter().find(|c| c["name"] == procedure)
}

#[test]
fn every_recording_is_checked() {
    // This one is two ways at once, and has a test of its own.
    let own = ["kvm-postcopy-recovered"];
    let checked = WAYS.iter().map(|w| w.name).chain(own);
    for name in RECORDED {
        assert!(checked.clone().any(|n| n == name), "{name}");
    }
    assert_eq!(checked.count(), RECORDED.len());
}

#[test]
fn who_how_and_how_it_ended() {
    each(|way, r, t| {
        let name = way.name;
        for ((m, t), (result, why)) in pairs(way, r, t).into_iter().zip(way.ends) {
            assert_eq!(m.driver, way.driver, "{name}");
            assert_eq!(m.technique, way.technique, "{name}");
            assert_eq!(m.outcome.result, *result, "{name} {:?}", m.outcome.reason);
            let reason = m.outcome.reason.as_deref().unwrap_or_default();
            assert!(reason.contains(why), "{name} {reason}");
            // What virsh said is no other.
            let ok = t["exit_status"] == 0;
            assert_eq!(ok, *result == Completed, "{name}");
            let names: Vec<PhaseName> = m.phases.iter().map(|p| p.name).collect();
            assert_eq!(names, way.phases, "{name}");
            if way.silent() {
                assert!(m.guest.name.is_none() && m.calls.is_empty());
                continue;
            }
            assert_eq!(m.guest.name.as_deref(), t["guest"].as_str(), "{name}");
            assert_eq!(m.source.hostname.as_deref(), t["source"].as_str(), "{name}");
            // Who refuses does not say its name.
            let refused = named(t, "DOMAIN_MIGRATE_PREPARE3_PARAMS");
            if refused.is_none_or(|c| c["status"] == "OK") {
                let to = m.destination.hostname.as_deref();
                assert_eq!(to, t["destination"].as_str(), "{name}");
            }
        }
    });
}

#[test]
fn a_broken_postcopy_goes_on_in_another_migration() {
    let (r, t) = (
        report(&[kvm("kvm-postcopy-recovered")]),
        truth("kvm-postcopy-recovered"),
    );
    let [broken, resumed] = r.migrations.as_slice() else {
        panic!("{:#?}", r.migrations);
    };
    assert_eq!(broken.technique, Technique::Hybrid);
    assert_eq!(broken.outcome.result, Failed);
    let why = broken.outcome.reason.as_deref().expect("why");
    assert!(why.contains("in post-copy phase"), "{why}");
    assert_eq!(resumed.technique, Technique::PostCopy);
    assert_eq!(resumed.outcome.result, Completed);
    assert_eq!(broken.guest.uuid, resumed.guest.uuid);
    assert!(resumed.pause.is_none(), "the guest runs already");
    let p = resumed.transfer.as_ref().and_then(|t| t.postcopy.as_ref());
    let p = p.expect("the rest of it");
    assert!(p.switch.is_none() && p.pages_before == 0 && p.requests > 0);
    for d in &resumed.downtime {
        assert!(d.duration_ns.is_none() && d.reason.is_some(), "{d:?}");
    }
    // QEMU goes on counting: in the end its counters hold what both connections carried.
    let (a, b) = (broken.transfer.as_ref(), resumed.transfer.as_ref());
    let (a, b) = (a.expect("a transfer").pages, b.expect("another").pages);
    let s = &t["migrations"][1]["summary"];
    assert_eq!(s["normal_pages"], a.normal + b.normal);
    assert_eq!(s["zero_pages"], a.zero + b.zero);
    assert!(!a.exact && b.exact);
}

#[test]
fn an_error_is_told_in_libvirts_own_words() {
    for name in ["kvm-refused-file", "kvm-refused-exists"] {
        let (r, t) = (report(&files(name)), truth(name));
        let said = t["migrations"][0]["output"].as_str().expect("words");
        let said = said.trim_start_matches("error: ");
        let reason = r.migrations[0].outcome.reason.as_deref().expect("why");
        assert!(reason.ends_with(said), "{name} {reason}");
    }
}

#[test]
fn calls_with_their_status_at_the_logs_times() {
    each(|way, r, whole| {
        let name = way.name;
        for (m, t) in pairs(way, r, whole) {
            if way.silent() {
                continue;
            }
            let calls = t["rpc"].as_array().expect("calls");
            let expected: Vec<&Value> = calls.iter().filter(|c| seen(whole, c)).collect();
            assert!(!expected.is_empty());
            assert_eq!(m.calls.len(), expected.len(), "{name}");
            for c in expected {
                let label = format!("{name} {} {}", c["serial"], c["name"]);
                let same = |x: &&phasescope::migration::Call| {
                    let call = x.call.as_ref().map(at);
                    x.serial == c["serial"]
                        && c["name"] == x.procedure.as_str()
                        && call.is_some_and(|at| {
                            let sent = logged(&c["call_sent"]).expect("a time");
                            let received = logged(&c["call_received"]).expect("a time");
                            (sent - WIRE_NS..=received + WIRE_NS).contains(&at)
                        })
                };
                let found = m.calls.iter().find(same);
                let found = found.unwrap_or_else(|| panic!("{label}: {:#?}", m.calls));
                let status = c["status"].as_str().map(str::to_lowercase);
                assert_eq!(found.status, status, "{label}");
                let reply = found.reply.as_ref().map(at).expect("answered");
                let sent = logged(&c["reply_sent"]).expect("a time");
                let received = logged(&c["reply_received"]).expect("a time");
                assert!(
                    (sent - WIRE_NS..=received + WIRE_NS).contains(&reply),
                    "{label} {reply} {sent} {received}"
                );
            }
        }
    });
}

/// A phase's edge: which, and whether it is the start.
type Edge = (PhaseName, bool);

/// The edges that a call or its answer makes.
const EDGES: &[(Edge, &str, bool)] = &[
    ((RemoteConnect, false), "CONNECT_OPEN", false),
    ((Preparation, true), "CONNECT_OPEN", false),
    (
        (Preparation, false),
        "DOMAIN_MIGRATE_PREPARE3_PARAMS",
        false,
    ),
    ((Finish, true), "DOMAIN_MIGRATE_FINISH3_PARAMS", true),
    ((Finish, false), "DOMAIN_MIGRATE_FINISH3_PARAMS", false),
    ((Cleanup, true), "DOMAIN_MIGRATE_FINISH3_PARAMS", false),
];

fn edge(m: &Migration, (phase, start): Edge) -> Option<&Boundary> {
    let p = m.phases.iter().find(|p| p.name == phase)?;
    if start {
        p.start.as_ref()
    } else {
        p.end.as_ref()
    }
}

#[test]
fn boundaries_lie_where_the_logs_say() {
    each(|way, r, whole| {
        for (m, t) in pairs(way, r, whole) {
            let mut checked = 0;
            for ((phase, start), procedure, call) in EDGES {
                let procedure = match (way.driver, phase, start) {
                    // A client's preparation begins with BEGIN, which small calls look like.
                    (Driver::LibvirtDirect, Preparation, true) if way.hidden => {
                        "DOMAIN_MIGRATE_PREPARE3_PARAMS"
                    }
                    (Driver::LibvirtDirect, Preparation, true) => "DOMAIN_MIGRATE_BEGIN3_PARAMS",
                    (Driver::LibvirtTunnelled, Preparation, false) => {
                        "DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS"
                    }
                    _ => procedure,
                };
                let Some(c) = named(t, procedure).filter(|c| seen(whole, c)) else {
                    continue;
                };
                let Some(edge) = edge(m, (*phase, *start)) else {
                    continue;
                };
                let direct = way.driver == Driver::LibvirtDirect;
                let begins = *call || (direct && (*phase, *start) == (Preparation, true));
                let (a, b) = match begins {
                    true => ("call_sent", "call_received"),
                    false => ("reply_sent", "reply_received"),
                };
                let (a, b) = (logged(&c[a]).expect("a time"), logged(&c[b]).expect("one"));
                let at = parse_time(&edge.time);
                let slack = WIRE_NS + edge.uncertainty_ns;
                assert!(
                    (a - slack..=b + slack).contains(&at),
                    "{} {phase:?} {start}: {a} {at} {b}",
                    way.name
                );
                checked += 1;
            }
            assert!(checked >= 2 || way.driver == Driver::None, "{}", way.name);
        }
    });
}

#[test]
fn pages_and_bytes_equal_qemus_counters() {
    each(|way, r, t| {
        let name = way.name;
        for (m, t) in pairs(way, r, t) {
            let s = &t["summary"];
            if way.ends[0].0 != Completed || way.technique == Technique::Offline {
                assert!(m.transfer.as_ref().is_none_or(|t| !t.pages.exact), "{name}");
                continue;
            }
            let transfer = m.transfer.as_ref().expect("a transfer");
            let syncs = s["dirty_sync_count"].as_u64().expect("a count");
            assert!(transfer.rounds.len() as u64 <= syncs, "{name}");
            let p = transfer.pages;
            let count = |v: &Value| v.as_u64().expect("a count");
            let (normal, zero) = (count(&s["normal_pages"]), count(&s["zero_pages"]));
            // Only a part is in the capture, or all of it is encrypted.
            let encrypted = way.technique == Technique::Unknown;
            if encrypted || name == "kvm-late" {
                assert!(!p.exact && p.normal <= normal && p.zero <= zero, "{name}");
                assert_eq!(transfer.encrypted, encrypted);
                assert_eq!(transfer.transferred_bytes, None);
                continue;
            }
            assert!(p.exact, "{name}");
            assert_eq!(p.normal, normal, "{name}");
            // QEMU 7.2 counts multifd's pages as if they had gone out in full.
            let bytes = match p.normal_compressed {
                0 => transfer.transferred_bytes,
                _ => transfer.transferred_uncompressed_bytes,
            };
            assert_eq!(bytes, s["bytes_transferred"].as_u64(), "{name}");
            match s["compression"]["pages"].as_u64() {
                // QEMU before 8 forgets to take back the "it was zero" of a compression thread's
                // last page, and counts some pages again: never too few, and few of them.
                Some(compressed) => {
                    let again =
                        |ours: u64, theirs: u64| (ours..ours + ours / 100).contains(&theirs);
                    assert!(again(p.compressed, compressed), "{name}");
                    assert!(again(p.zero, zero), "{name}");
                }
                None => {
                    assert_eq!(p.compressed, 0, "{name}");
                    assert_eq!(p.zero, zero, "{name}");
                }
            }
            // QEMU counts every page that it found in its cache, also those that had not changed
            // and were not sent.
            let cached = s["xbzrle"]["pages"].as_u64().unwrap_or(0);
            assert!(p.xbzrle <= cached, "{name}");
            assert_eq!(p.xbzrle > 0, name == "kvm-xbzrle", "{name}");
            assert_eq!(p.normal_compressed > 0, name.contains("multifd-"), "{name}");
        }
    });
}

#[test]
fn disks_are_copied_as_far_as_the_block_jobs_said() {
    each(|way, r, t| {
        for (m, t) in pairs(way, r, t) {
            let jobs = t["storage"].as_object().expect("jobs");
            if let (Driver::None, Some(s)) = (way.driver, &m.storage) {
                // A chunk of 1 MiB that is written to meanwhile goes again.
                let told = |key: &str| t["summary"]["disk"][key].as_u64().expect("a count");
                assert!(s.exact && s.disks == ["disk0"]);
                assert!(s.written_bytes >= told("total") && told("total") >= told("transferred"));
                let carried = m.transfer.as_ref().expect("a transfer");
                let sent = carried.connections[0].payload_to_server_bytes;
                let memory = carried.transferred_bytes.expect("exact");
                // Heads and devices are what is left: less than another chunk.
                let rest = sent - memory - s.written_bytes;
                assert!(carried.device_bytes < rest && rest < 1 << 20);
                continue;
            }
            let Some(s) = &m.storage else {
                assert!(jobs.is_empty(), "{}", way.name);
                continue;
            };
            let names: Vec<&String> = jobs.keys().collect();
            assert_eq!(names, s.disks.iter().collect::<Vec<_>>());
            let copied: u64 = jobs.values().filter_map(|j| j["offset"].as_u64()).sum();
            assert!(s.exact);
            assert_eq!(s.written_bytes + s.zeroed_bytes, copied);
        }
    });
}

#[test]
fn requests_of_postcopy_are_those_that_were_counted() {
    each(|way, r, t| {
        for (m, t) in pairs(way, r, t) {
            let p = m.transfer.as_ref().and_then(|t| t.postcopy.as_ref());
            assert_eq!(p.is_some(), way.technique == Technique::Hybrid);
            if let Some(p) = p {
                assert_eq!(p.requests, t["summary"]["postcopy_requests"]);
            }
        }
    });
}

#[test]
fn guest_stops_and_resumes_inside_the_stated_intervals() {
    each(|way, r, t| {
        let name = way.name;
        for (m, t) in pairs(way, r, t) {
            let stop = logged(&t["summary"]["vm_stopped_on_source"]);
            let resume = logged(&t["summary"]["vm_running_on_destination"]);
            let Some((stop, resume)) = stop.zip(resume) else {
                assert!(m.pause.is_none(), "{name} {:?}", m.pause);
                continue;
            };
            let p = m.pause.as_ref().expect("a pause");
            let no_later = |a: &Option<Moment>, b: i64| a.as_ref().is_none_or(|a| at(a) <= b);
            let no_earlier = |a: &Option<Moment>, b: i64| a.as_ref().is_none_or(|a| at(a) >= b);
            assert!(no_later(&p.stop_earliest, stop), "{name} {stop} {p:?}");
            assert!(no_earlier(&p.stop_latest, stop), "{name} {stop} {p:?}");
            assert!(
                no_later(&p.resume_earliest, resume),
                "{name} {resume} {p:?}"
            );
            assert!(
                no_earlier(&p.resume_latest, resume),
                "{name} {resume} {p:?}"
            );
            let paused = resume - stop;
            assert!(p.min_ns.is_none_or(|n| n <= paused), "{name}");
            assert!(p.max_ns.is_none_or(|n| n >= paused), "{name}");
        }
    });
}

#[test]
fn lost_echoes_equal_the_captures_unanswered_runs() {
    each(|way, r, whole| {
        let name = way.name;
        // The client's port shows other replies; the truth of it stands apart.
        let key = match way.driver {
            Driver::LibvirtDirect => "ping_in_client_capture",
            _ => "ping_in_capture",
        };
        let pings = whole[key].as_object().expect("pings");
        assert_eq!(r.capture.echoes.len(), pings.len(), "{name}");
        for e in &r.capture.echoes {
            let series = &pings[&format!("{} id {}", e.target, e.id)];
            assert_eq!(e.requests, series["requests"], "{name}");
            assert_eq!(e.unanswered, series["unanswered"], "{name}");
        }
        for (m, t) in pairs(way, r, whole) {
            let stop = logged(&t["summary"]["vm_stopped_on_source"]);
            let resume = logged(&t["summary"]["vm_running_on_destination"]);
            let (Some((stop, resume)), Completed) = (stop.zip(resume), m.outcome.result) else {
                continue;
            };
            let guests = whole["guests"].as_array().expect("guests");
            let guest = guests.iter().find(|g| g["name"] == t["guest"]);
            let ip = guest.and_then(|g| g["ip"].as_str()).expect("an address");
            let of_it = pings.iter().find(|(k, _)| k.starts_with(ip)).expect("one");
            let runs = of_it.1["unanswered_runs"].as_array().expect("runs");
            let expected: Vec<u64> = runs
                .iter()
                .filter(|r| logged(&r["first_request"]).is_some_and(|t| t <= resume))
                .filter(|r| logged(&r["last_request"]).is_some_and(|t| t >= stop))
                .map(|r| r["count"].as_u64().expect("a count"))
                .collect();
            support::lost_echoes_are(m, &expected, name);
        }
    });
}

#[test]
fn reported_downtime_is_libvirts() {
    let mut compared = 0;
    each(|way, r, t| {
        for (m, t) in pairs(way, r, t) {
            let d = m
                .downtime
                .iter()
                .find(|d| d.method == DowntimeMethod::Reported);
            let told = d.and_then(|d| d.duration_ns);
            if let Some((told, ms)) = told.zip(t["libvirt_downtime_ms"].as_i64()) {
                assert_eq!(told, ms * 1_000_000, "{}", way.name);
            }
        }
    });
    for way in WAYS {
        compared += usize::from(truth(way.name)["migrations"][0]["libvirt_downtime_ms"].is_i64());
    }
    assert!(compared > 10);
}

#[test]
fn offline_has_no_transfer_and_says_why_nothing_stopped() {
    let r = report(&files("kvm-offline"));
    let m = &r.migrations[0];
    assert!(m.transfer.is_none() && m.pause.is_none());
    for d in &m.downtime {
        assert!(d.duration_ns.is_none() && d.reason.is_some(), "{d:?}");
    }
}

#[test]
fn a_recordings_scrubbed_copy_gives_the_same_report() {
    for way in WAYS {
        let Some(files) = raw(way.name) else { continue };
        let source = &files[..1];
        let copy = std::env::temp_dir().join(format!("{}-{}.pcap", way.name, std::process::id()));
        let mut capture = Capture::open(source).expect("the recording");
        let mut writer = Writer::create(&copy, format_for(&capture)).expect("creates");
        let summary = scrub(
            &mut capture,
            false,
            |c, f| writer.frame(f, c.interfaces()),
            |_| true,
        )
        .expect("scrubs");
        writer.finish().expect("writes");
        let (mut before, mut after) = (report(source), report(std::slice::from_ref(&copy)));
        std::fs::remove_file(&copy).expect("was there");
        for r in [&mut before, &mut after] {
            r.capture.files.clear();
            // What had to go out blank is missing in the copy's health, and only there.
            if summary.hurried > 0 {
                r.capture.health.oddities.clear();
            }
        }
        assert_eq!(before.to_json().ok(), after.to_json().ok(), "{}", way.name);
    }
}

#[test]
fn a_stream_in_an_encrypted_tunnel_lies_between_the_calls() {
    for name in ["kvm-tls-tunnelled", "kvm-ssh-tunnelled"] {
        let (r, t) = (report(&files(name)), truth(name));
        let (m, t) = (&r.migrations[0], &t["migrations"][0]);
        let call = |procedure: &str, key: &str| {
            let c = named(t, procedure).expect("the call");
            logged(&c[key]).expect("a time")
        };
        let (start, end) = (edge(m, (Transfer, true)), edge(m, (Transfer, false)));
        let (start, end) = (start.expect("a start"), end.expect("an end"));
        for b in [start, end] {
            assert_eq!(b.certainty, Certainty::Inferred, "{name}");
        }
        let prepared = call("DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS", "reply_received");
        let active = logged(&t["summary"]["qemu_active"]).expect("a time");
        let begun = parse_time(&start.time);
        assert!(prepared < begun, "{name}");
        assert!((begun - active).abs() <= start.uncertainty_ns, "{name}");
        // The last of the guest was written when it had stopped, and acknowledged before FINISH.
        let stopped = logged(&t["summary"]["vm_stopped_on_source"]).expect("a time");
        let finish = call("DOMAIN_MIGRATE_FINISH3_PARAMS", "call_received");
        assert!((stopped..finish).contains(&parse_time(&end.time)), "{name}");
    }
}

#[test]
fn disks_inside_the_stream_have_a_phase_inside_the_transfer() {
    let (r, t) = (report(&files("kvm-block")), truth("kvm-block"));
    let m = &r.migrations[0];
    let at = |phase, start| {
        let b = edge(m, (phase, start)).expect("an edge");
        assert!(phase == Transfer || b.certainty == Certainty::Decoded);
        b.offset_ns
    };
    let (from, to) = (at(Storage, true), at(Storage, false));
    assert!(at(Transfer, true) < from && to < at(Transfer, false));
    assert_eq!(m.overlaps_ns, Some(to - from));
    assert_eq!(m.total_time_ns, m.phases[0].duration_ns);
    // Their last chunks go when the guest stands still.
    let stop = logged(&t["migrations"][0]["summary"]["vm_stopped_on_source"]).expect("a time");
    let end = edge(m, (Storage, false)).expect("an end");
    assert!(parse_time(&end.time) > stop);
    assert!(m.notes.iter().any(|n| n.contains("disks were copied")));
}

#[test]
fn urgent_pages_come_on_a_channel_of_their_own() {
    let r = report(&files("kvm-preempt"));
    let transfer = r.migrations[0].transfer.as_ref().expect("a transfer");
    let roles: Vec<Role> = transfer.connections.iter().map(|c| c.role).collect();
    assert_eq!(roles, [Role::Main, Role::PostcopyPreempt]);
    let p = transfer.postcopy.as_ref().expect("a switch");
    assert_eq!(
        p.pages_before + p.pages_after,
        transfer.pages.normal + transfer.pages.zero
    );
    // A page may be on its way when it is asked for.
    assert!(p.answered <= p.requests && p.answered * 10 >= p.requests * 8);
    let [least, median, high, most] = p.latency_ns.expect("latencies");
    assert!(0 < least && least <= median && median <= high && high <= most);
}

#[test]
fn each_channel_tells_its_pages() {
    for name in ["kvm-multifd-zstd", "kvm-multifd-zlib"] {
        let r = report(&files(name));
        let transfer = r.migrations[0].transfer.as_ref().expect("a transfer");
        let channels = transfer
            .connections
            .iter()
            .filter(|c| c.role == Role::Multifd);
        let (pages, syncs): (Vec<u64>, Vec<u64>) = channels
            .map(|c| (c.pages.expect("a count"), c.syncs.expect("a count")))
            .unzip();
        assert_eq!(pages.len(), 3);
        // Zero pages are on the main stream, until QEMU 9.0.
        assert_eq!(
            pages.iter().sum::<u64>(),
            transfer.pages.normal + transfer.sent_twice
        );
        assert!(
            syncs[0] > 1 && syncs.iter().all(|n| *n == syncs[0]),
            "{syncs:?}"
        );
    }
}

#[test]
fn a_client_that_drives_is_no_source() {
    // At its own port there is no memory; that it drives another host as well tells.
    let (r, t) = (
        report(&[kvm("kvm-tls-direct-client")]),
        truth("kvm-tls-direct"),
    );
    let [m] = r.migrations.as_slice() else {
        panic!("{:#?}", r.migrations);
    };
    assert_eq!(m.driver, Driver::LibvirtDirect);
    let source = t["migrations"][0]["source"].as_str().expect("a name");
    let addresses = t["hosts"][source].as_array().expect("addresses");
    assert_eq!(m.source.address.as_deref(), addresses[0].as_str());
    assert!(m.phases.iter().all(|p| p.name != RemoteConnect));
}

#[test]
fn ssh_tells_its_software() {
    let r = report(&files("kvm-ssh"));
    let transfer = r.migrations[0].transfer.as_ref().expect("a transfer");
    let mut connections = transfer.connections.iter();
    let ssh = connections.find_map(|c| c.ssh.as_ref()).expect("libvirt's");
    for software in [&ssh.client, &ssh.server] {
        assert_eq!(software.as_deref(), Some("OpenSSH_9.2p1"));
    }
}

#[test]
fn tls_tells_its_version() {
    let r = support::report(&[kvm("kvm-tls")]);
    let transfer = r.migrations[0].transfer.as_ref().expect("a transfer");
    for c in &transfer.connections {
        let tls = c.tls.as_ref().expect("both connections are encrypted");
        assert_eq!(tls.version.as_deref(), Some("TLS 1.3"), "{}", c.server);
    }
    assert_eq!(transfer.connections.len(), 2);
}
