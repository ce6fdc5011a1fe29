//! Pictures, pages and traces for other viewers: their numbers are the report's.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use phasescope::migration::Migration;
use phasescope::plot::budget::{self, Bar, Options, Scale};
use phasescope::plot::palette::{Color, PHASES};
use phasescope::plot::scene::{Align, Scene, Shape};
use phasescope::plot::{downtime, render, rounds, throughput, timeline};
use phasescope::report::trace::{otlp, perfetto};
use phasescope::report::{Report, html};
use serde_json::Value;

fn report(name: &str) -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/reports")
        .join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn migrations() -> Vec<Migration> {
    ["kvm-idle.json", "kvm-loaded.json", "kvm-repeat.json"]
        .iter()
        .flat_map(|n| report(n).migrations)
        .collect()
}

fn scenes(m: &Migration) -> Vec<Scene> {
    let bar = Bar::of("kvg1", m).unwrap();
    let budget = |scale, gaps| {
        let title = "Budget".to_owned();
        budget::scene(std::slice::from_ref(&bar), &Options { title, scale, gaps }).unwrap()
    };
    vec![
        budget(Scale::Percent, true),
        budget(Scale::Seconds, false),
        timeline::scene(m, None, "Timeline").unwrap(),
        throughput::scene(m, None, "Throughput").unwrap(),
        rounds::scene(m, "Rounds").unwrap(),
        downtime::scene(m, &[], "Downtime").unwrap(),
    ]
}

#[test]
fn shares_of_a_budget_are_the_reports() {
    for m in migrations() {
        let bar = Bar::of("run", &m).unwrap();
        let title = String::new();
        let options = Options {
            title,
            scale: Scale::Percent,
            gaps: true,
        };
        let scene = budget::scene(&[bar], &options).unwrap();
        let percents: Vec<&str> = scene.words().filter(|w| w.ends_with('%')).collect();
        assert!(percents.len() >= 3);
        for p in percents {
            let found = m
                .phases
                .iter()
                .any(|x| format!("{:.1}%", x.share.unwrap() * 100.0) == *p);
            assert!(found, "{p} is not in the report");
        }
        let total = format!("{:.3} s", m.total_time_ns.unwrap() as f64 / 1e9);
        assert!(scene.words().any(|w| w == total), "{total}");
    }
}

#[test]
fn pages_of_rounds_are_the_reports() {
    for m in migrations() {
        let scene = rounds::scene(&m, "Rounds").unwrap();
        let words: Vec<&str> = scene.words().collect();
        for r in &m.transfer.as_ref().unwrap().rounds {
            let bytes = format!("{:.1}", r.bytes as f64 / 1e6);
            assert!(words.contains(&bytes.as_str()), "{bytes} in {words:?}");
            let pages: String = r.pages.to_string();
            assert!(words.iter().any(|w| w.replace(',', "") == pages), "{pages}");
        }
    }
}

#[test]
fn nothing_is_drawn_outside() {
    for m in migrations() {
        for s in scenes(&m) {
            let (w, h) = (f64::from(s.width), f64::from(s.height));
            let inside =
                |x: f64, y: f64| (-1.0..=w + 1.0).contains(&x) && (-1.0..=h + 1.0).contains(&y);
            for shape in &s.shapes {
                let good = match shape {
                    Shape::Rect { x, y, w, h, .. } => inside(*x, *y) && inside(x + w, y + h),
                    Shape::Line { points, .. } => points.iter().all(|(x, y)| inside(*x, *y)),
                    Shape::Dot { x, y, .. } => inside(*x, *y),
                    Shape::Text(t) => {
                        let w = phasescope::plot::font::width(&t.text, t.size);
                        let (a, b) = match t.align {
                            Align::Start => (0.0, w),
                            Align::Middle => (-w / 2.0, w / 2.0),
                            Align::End => (-w, 0.0),
                        };
                        if t.upright {
                            inside(t.x, t.y - b) && inside(t.x, t.y - a)
                        } else {
                            inside(t.x + a, t.y - 4.0) && inside(t.x + b, t.y + 4.0)
                        }
                    }
                };
                assert!(good, "{shape:?} on {w} × {h}");
            }
        }
    }
}

#[test]
fn files_are_whole_and_the_same_every_time() {
    let m = &migrations()[1];
    for s in scenes(m) {
        let svg = render::svg(&s).unwrap();
        assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(svg, render::svg(&s).unwrap());
        let png = render::png(&s).unwrap();
        assert_eq!(&png[1..4], b"PNG");
        assert_eq!(png[16..20], (s.width * 2).to_be_bytes());
        assert_eq!(png, render::png(&s).unwrap());
    }
}

#[test]
fn strange_names_do_not_break_pictures() {
    let mut m = migrations().remove(0);
    m.guest.name = Some("<script>&\"ネ\u{0}".repeat(80));
    let bar = Bar::of(m.guest.name.as_deref().unwrap(), &m).unwrap();
    let title = m.guest.name.clone().unwrap();
    let options = Options {
        title,
        scale: Scale::Seconds,
        gaps: true,
    };
    let svg = render::svg(&budget::scene(&[bar], &options).unwrap()).unwrap();
    assert!(!svg.contains("<script>"));
    let mut r = report("kvm-idle.json");
    r.migrations = vec![m];
    r.capture.files = vec!["<b>.pcap".to_owned()];
    let page = html::page(&r, &[]).unwrap();
    assert!(!page.contains("<script") && !page.contains("<b>.pcap"));
}

#[test]
fn extreme_times_do_not_panic() {
    for n in [i64::MIN, -1, 0, 1, i64::MAX] {
        let mut m = migrations().remove(1);
        for p in &mut m.phases {
            p.duration_ns = Some(n);
            if let Some(b) = &mut p.end {
                b.offset_ns = n;
            }
        }
        m.total_time_ns = Some(n);
        m.gaps_ns = None;
        for r in m.transfer.iter_mut().flat_map(|t| &mut t.rounds) {
            r.start_offset_ns = n;
            r.end_offset_ns = n;
            r.zero_pages = u64::MAX;
        }
        let mut r = report("kvm-idle.json");
        let _ = rounds::scene(&m, "").map(|s| render::png(&s));
        let _ = timeline::scene(&m, None, "").map(|s| render::svg(&s));
        let _ = throughput::scene(&m, None, "").map(|s| render::svg(&s));
        let _ = downtime::scene(&m, &[], "").map(|s| render::svg(&s));
        r.migrations = vec![m];
        let _ = html::page(&r, &[]);
        let _ = perfetto::trace(&r);
        let _ = otlp::request(&r);
    }
}

#[test]
fn colours_differ() {
    for (i, (a, x)) in PHASES.iter().enumerate() {
        assert_eq!(Color::of(*a), *x);
        for (b, y) in &PHASES[i + 1..] {
            assert_ne!(x, y, "{a:?} {b:?}");
        }
    }
    for (_, c) in PHASES {
        let (l, t) = (c.luminance(), c.text().luminance());
        let contrast = (l.max(t) + 0.05) / (l.min(t) + 0.05);
        assert!(contrast >= 4.5, "{c:?}: {contrast}");
    }
}

#[test]
fn a_page_needs_nothing_else() {
    let page = html::page(&report("kvm-repeat.json"), &[]).unwrap();
    for foreign in [
        "http://", "https://", "<script", "<link", "src=", "@import", "url(",
    ] {
        let rest = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!rest.contains(foreign), "{foreign}");
    }
    for (open, close) in [
        ("<table", "</table>"),
        ("<section", "</section>"),
        ("<svg", "</svg>"),
    ] {
        assert_eq!(page.matches(open).count(), page.matches(close).count());
    }
    assert_eq!(page.matches("<h3>Evidence</h3>").count(), 3);
}

/// Reports of traces of all kinds: post-copy, several migrations, a cloud's steps.
fn traced() -> Vec<Report> {
    [
        "kvm/kvm-postcopy",
        "kvm/kvm-repeat",
        "openstack/os-live-source",
    ]
    .iter()
    .map(|n| support::report(&[support::fixture(&format!("{n}.pcap.zst"))]))
    .collect()
}

/// Trace Event Format, "Complete Events": what Perfetto's trace processor takes without an error.
#[test]
fn slices_of_a_track_do_not_overlap() {
    for r in traced() {
        let trace = perfetto::trace(&r);
        let events = trace["traceEvents"].as_array().unwrap();
        let mut tracks: BTreeMap<u64, (u64, Vec<(i64, i64)>)> = BTreeMap::new();
        let mut slices = vec![];
        for e in events.iter().filter(|e| e["ph"] == "X") {
            let ns = |k: &str| (e[k].as_f64().unwrap() * 1e3).round() as i64;
            let (ts, dur) = (ns("ts"), ns("dur"));
            let pid = e["pid"].as_u64().unwrap();
            let track = tracks.entry(e["tid"].as_u64().unwrap()).or_default();
            assert!(
                track.1.is_empty() || track.0 == pid,
                "a track has one process"
            );
            track.0 = pid;
            assert!(track.1.last().is_none_or(|(_, end)| *end <= ts), "{e}");
            track.1.push((ts, ts + dur));
            slices.push((pid, e["cat"].as_str().unwrap(), e["name"].as_str().unwrap()));
        }
        for m in &r.migrations {
            let id = u64::from(m.id);
            assert!(!tracks.contains_key(&id), "that would be the main thread");
            for p in m.phases.iter().filter(|p| p.duration_ns.is_some()) {
                assert!(slices.contains(&(id, "phase", p.name.name())));
                for s in p.sub.iter().filter(|s| s.end.is_some()) {
                    assert!(slices.contains(&(id, "step", &s.name)));
                }
            }
        }
        for tid in tracks.keys() {
            let named = |e: &&Value| e["name"] == "thread_name" && e["tid"] == *tid;
            assert_eq!(events.iter().filter(named).count(), 1);
        }
    }
}

/// What `ExportTraceServiceRequest` of opentelemetry-proto takes, and what a span's parent is.
#[test]
fn otlp_is_as_its_protocol_says() {
    let hex = |v: &Value, n: usize| {
        let s = v.as_str().unwrap();
        assert_eq!(s.len(), n);
        let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        assert!(s.chars().all(lower) && s.chars().any(|c| c != '0'), "{s}");
        s.to_owned()
    };
    let keys = |v: &Value| -> Vec<String> { v.as_object().unwrap().keys().cloned().collect() };
    for r in traced() {
        let request = otlp::request(&r);
        let lines: Vec<Value> = r
            .migrations
            .iter()
            .flat_map(|m| {
                let line = otlp::line(&r.capture, m);
                assert!(line.ends_with('\n') && !line.trim_end().contains('\n'));
                let line: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(
                    line["resourceSpans"][0]["resource"],
                    request["resourceSpans"][0]["resource"]
                );
                line["resourceSpans"][0]["scopeSpans"][0]["spans"]
                    .as_array()
                    .unwrap()
                    .clone()
            })
            .collect();
        let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
            .as_array()
            .unwrap();
        assert_eq!(&lines, spans);
        let time = |s: &Value, k: &str| s[k].as_str().unwrap().parse::<i64>().unwrap();
        let all: BTreeMap<(String, String), &Value> = spans
            .iter()
            .map(|s| ((hex(&s["traceId"], 32), hex(&s["spanId"], 16)), s))
            .collect();
        assert_eq!(all.len(), spans.len());
        let (mut steps, mut within) = (0, 0);
        for s in spans {
            for key in keys(s) {
                let known = [
                    "traceId",
                    "spanId",
                    "parentSpanId",
                    "name",
                    "kind",
                    "startTimeUnixNano",
                    "endTimeUnixNano",
                    "attributes",
                    "status",
                ];
                assert!(known.contains(&key.as_str()), "{key}");
            }
            // SPAN_KIND_INTERNAL
            assert_eq!(s["kind"], 1);
            let (from, to) = (time(s, "startTimeUnixNano"), time(s, "endTimeUnixNano"));
            assert!(from > 1_700_000_000_000_000_000 && to >= from);
            for a in s["attributes"].as_array().unwrap() {
                assert_eq!(keys(a), ["key", "value"]);
                let value = a["value"].as_object().unwrap();
                let (kind, value) = value.iter().next().unwrap();
                let good = match kind.as_str() {
                    "stringValue" => value.is_string(),
                    "boolValue" => value.is_boolean(),
                    "intValue" => value.as_str().is_some_and(|s| s.parse::<i64>().is_ok()),
                    "doubleValue" => value.is_number(),
                    _ => false,
                };
                assert!(good, "{a}");
            }
            let Some(parent) = s.get("parentSpanId") else {
                continue;
            };
            let parent = all[&(hex(&s["traceId"], 32), hex(parent, 16))];
            assert!(time(parent, "startTimeUnixNano") <= from, "{s}");
            assert!(to <= time(parent, "endTimeUnixNano"), "{s}");
            let is_step = |a: &Value| a["key"] == "kind" && a["value"]["stringValue"] == "step";
            if s["attributes"].as_array().unwrap().iter().any(is_step) {
                steps += 1;
                // Of its phase, where that holds all of it.
                within += usize::from(parent.get("parentSpanId").is_some());
            }
        }
        let phases = r.migrations.iter().flat_map(|m| &m.phases);
        let told: Vec<_> = phases
            .flat_map(|p| p.sub.iter().map(move |s| (p, s)))
            .filter_map(|(p, s)| Some((p, &s.start, s.end.as_ref()?)))
            .collect();
        assert_eq!(steps, told.len());
        let held = told.iter().filter(|(p, from, to)| {
            let from_first = p
                .start
                .as_ref()
                .is_some_and(|b| b.offset_ns <= from.offset_ns);
            from_first && p.end.as_ref().is_some_and(|b| to.offset_ns <= b.offset_ns)
        });
        assert_eq!(within, held.count());
        let roots = spans.iter().filter(|s| s.get("parentSpanId").is_none());
        assert_eq!(roots.count(), r.migrations.len());
    }
}

#[test]
fn spans_are_the_phases() {
    let r = report("kvm-loaded.json");
    let m = &r.migrations[0];
    let trace = perfetto::trace(&r);
    let events = trace["traceEvents"].as_array().unwrap();
    for p in &m.phases {
        let e = events
            .iter()
            .find(|e| e["cat"] == "phase" && e["name"] == p.name.name())
            .unwrap();
        let dur = e["dur"].as_f64().unwrap() * 1e3;
        assert!((dur - p.duration_ns.unwrap() as f64).abs() < 0.5);
    }
    let otlp = otlp::request(&r);
    let spans = otlp["resourceSpans"][0]["scopeSpans"][0]["spans"]
        .as_array()
        .unwrap();
    let root = &spans[0];
    assert_eq!(root["traceId"].as_str().unwrap().len(), 32);
    let start: i64 = root["startTimeUnixNano"].as_str().unwrap().parse().unwrap();
    let transfer = spans.iter().find(|s| s["name"] == "transfer").unwrap();
    let begin: i64 = transfer["startTimeUnixNano"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let b = m
        .phases
        .iter()
        .find(|p| p.name.name() == "transfer")
        .unwrap();
    let b = b.start.as_ref().unwrap();
    let time = chrono::DateTime::parse_from_rfc3339(&b.time).unwrap();
    assert_eq!(Some(begin), time.timestamp_nanos_opt());
    let mut ids = vec![];
    for s in spans {
        let at = |k: &str| s[k].as_str().unwrap().parse::<i64>().unwrap();
        assert!(
            at("startTimeUnixNano") >= start && at("endTimeUnixNano") >= at("startTimeUnixNano")
        );
        assert_eq!(s["traceId"], root["traceId"]);
        ids.push(s["spanId"].as_str().unwrap());
        if s["name"].as_str().unwrap().starts_with("round ") {
            assert_eq!(s["parentSpanId"], transfer["spanId"]);
        }
    }
    let n = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), n);
}
