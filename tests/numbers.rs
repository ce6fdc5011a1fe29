//! Every number in a picture or a page is found again in the JSON of the same run, after the
//! rounding that is stated beside it.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Post-copy, several rounds, several migrations, a cloud.
const TRACES: [&str; 5] = [
    "kvm/kvm-loaded",
    "kvm/kvm-postcopy",
    "kvm/kvm-multifd",
    "kvm/kvm-repeat",
    "openstack/os-live-source",
];

fn run(arguments: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_phasescope"))
        .args(arguments)
        .arg("--quiet")
        .output()
        .unwrap();
    assert!(out.status.success(), "{arguments:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

fn trace(name: &str) -> String {
    let file = support::fixture(&format!("{name}.pcap.zst"));
    file.display().to_string()
}

/// A text of a picture, and where it stands.
#[derive(Debug)]
struct Label {
    x: f64,
    y: f64,
    text: String,
}

fn labels(svg: &str) -> Vec<Label> {
    let doc = roxmltree::Document::parse(svg).unwrap();
    let texts = doc.descendants().filter(|n| n.has_tag_name("text"));
    texts
        .map(|n| {
            let at = |k: &str| n.attribute(k).unwrap().parse().unwrap();
            Label {
                x: at("x"),
                y: at("y"),
                text: n.text().unwrap_or_default().trim().to_owned(),
            }
        })
        .collect()
}

fn plain(text: &str) -> Option<f64> {
    text.replace(',', "").parse().ok()
}

/// The numbers of an axis: written one after the other on one line, at places that are
/// proportional to them.
fn is_tick(label: &Label, all: &[Label]) -> bool {
    let Some(value) = plain(&label.text) else {
        return false;
    };
    let along = |place: fn(&Label) -> f64, across: fn(&Label) -> f64| {
        let same = |l: &&Label| (across(l) - across(label)).abs() < 0.6 && plain(&l.text).is_some();
        let at = all.iter().position(|l| std::ptr::eq(l, label)).unwrap();
        let before = all[..at].iter().rev().take_while(same);
        let others: Vec<(f64, f64)> = before
            .chain(all[at + 1..].iter().take_while(same))
            .filter_map(|l| Some((place(l), plain(&l.text)?)))
            .collect();
        let slope = |(p, v): (f64, f64)| (p - place(label)) / (v - value);
        // Places are whole pixels: the farthest gives the best slope.
        let far = |o: &&(f64, f64)| ((o.1 - value).abs() * 1e9) as i64;
        let (Some(farthest), true) = (others.iter().max_by_key(far), others.len() >= 2) else {
            return false;
        };
        let wanted = slope(*farthest);
        let on_line = |o: &(f64, f64)| (o.0 - place(label) - wanted * (o.1 - value)).abs() <= 2.0;
        wanted.is_finite() && others.iter().all(on_line)
    };
    along(|l| l.x, |l| l.y) || along(|l| l.y, |l| l.x)
}

/// Four significant digits and a unit, as all texts have it.
fn duration(ns: i64) -> String {
    let (value, unit) = match ns {
        n if n < 1_000 => return format!("{n} ns"),
        n if n < 1_000_000 => (n as f64 / 1e3, "µs"),
        n if n < 1_000_000_000 => (n as f64 / 1e6, "ms"),
        n => (n as f64 / 1e9, "s"),
    };
    let digits = 3_usize.saturating_sub(value.max(1.0).log10().floor() as usize);
    format!("{value:.digits$} {unit}")
}

fn grouped(n: u64) -> String {
    let mut out = String::new();
    let digits = n.to_string();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn ns(v: &Value) -> Option<i64> {
    v.as_i64()
}

fn list<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    v[key].as_array().map_or(&[], Vec::as_slice)
}

fn rounds(m: &Value) -> &[Value] {
    list(&m["transfer"], "rounds")
}

/// What a picture may say of a migration, by the migration's JSON.
fn allowed(kind: &str, m: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let phases = list(m, "phases");
    let total = ns(&m["total_time_ns"]);
    match kind {
        "percent" | "seconds" => {
            let known: i64 = phases.iter().filter_map(|p| ns(&p["duration_ns"])).sum();
            let gaps = ns(&m["gaps_ns"]);
            for p in phases {
                all.extend(p["share"].as_f64().map(|s| format!("{:.1}%", s * 100.0)));
            }
            let parts = phases.iter().filter_map(|p| ns(&p["duration_ns"]));
            all.extend(parts.chain(gaps).map(|n| format!("{:.3}", n as f64 / 1e9)));
            if let (Some(t), Some(g)) = (total, gaps) {
                all.insert(format!("{:.1}%", g as f64 / t as f64 * 100.0));
            }
            assert!(known > 0);
            all.extend(total.map(|t| format!("{:.3} s", t as f64 / 1e9)));
        }
        "timeline" => {
            all.extend(
                phases
                    .iter()
                    .filter_map(|p| ns(&p["duration_ns"]))
                    .map(duration),
            );
            all.extend(rounds(m).iter().map(|r| r["index"].to_string()));
        }
        "rounds" => {
            for r in rounds(m) {
                all.insert(r["index"].to_string());
                all.insert(grouped(r["pages"].as_u64().unwrap()));
                all.insert(format!("{:.1}", r["bytes"].as_u64().unwrap() as f64 / 1e6));
            }
        }
        "downtime" => {
            for d in list(m, "downtime") {
                let words = ns(&d["duration_ns"]).map(duration);
                all.extend(words.clone());
                all.extend(words.map(|w| format!("{w} (without a place in time)")));
            }
        }
        _ => {}
    }
    if let (Some(a), Some(b)) = (ns(&m["pause"]["min_ns"]), ns(&m["pause"]["max_ns"])) {
        all.insert(format!("{} – {}", duration(a), duration(b)));
    }
    all
}

/// Texts that hold names, whose digits are no numbers of the picture's.
fn is_name(text: &str, m: &Value, title: &str) -> bool {
    let name = m["guest"]["name"].as_str().unwrap_or("-");
    text == title || text.starts_with(name)
}

fn check(kind: &str, svg: &str, m: &Value, title: &str) -> usize {
    let labels = labels(svg);
    let allowed = allowed(kind, m);
    let mut told = 0;
    for l in &labels {
        let digits = l.text.chars().any(|c| c.is_ascii_digit());
        if !digits || is_name(&l.text, m, title) {
            continue;
        }
        if allowed.contains(&l.text) {
            told += 1;
            continue;
        }
        // How the curve was drawn, not what was measured.
        let bins = kind == "throughput" && l.text.starts_with("bins of ");
        assert!(
            bins || is_tick(l, &labels),
            "{kind}: `{}` is neither in the report nor on an axis: {allowed:?}",
            l.text
        );
    }
    told
}

#[test]
fn of_pictures() {
    for name in TRACES {
        let file = trace(name);
        let report: Value =
            serde_json::from_str(&run(&["analyze", &file, "--format", "json"])).unwrap();
        for m in list(&report, "migrations") {
            let id = m["id"].to_string();
            for kind in ["timeline", "rounds", "downtime", "throughput"] {
                let title = "The title 123";
                let svg = run(&["plot", kind, &file, "-m", &id, "--title", title]);
                let told = check(kind, &svg, m, title);
                let least = match kind {
                    "timeline" => list(m, "phases").len(),
                    "rounds" => 2 * rounds(m).len(),
                    "downtime" => 3,
                    _ => 0,
                };
                assert!(told >= least, "{name} {kind}: {told} numbers");
            }
        }
        // Bars stand in the order of the migrations.
        for scale in ["percent", "seconds"] {
            let svg = run(&[
                "budget", &file, "--all", "--scale", scale, "--title", "Title",
            ]);
            let all: Vec<BTreeSet<String>> = list(&report, "migrations")
                .iter()
                .map(|m| allowed(scale, m))
                .collect();
            let labels = labels(&svg);
            let stem = Path::new(name).file_name().unwrap().to_string_lossy();
            let mut told = 0;
            for l in labels.iter().filter(|l| !l.text.starts_with(&*stem)) {
                if !l.text.chars().any(|c| c.is_ascii_digit()) || is_tick(l, &labels) {
                    continue;
                }
                assert!(
                    all.iter().any(|a| a.contains(&l.text)),
                    "{name}: {}",
                    l.text
                );
                told += 1;
            }
            assert!(told >= 3 * all.len(), "{name} {scale}: {told} numbers");
        }
    }
}

#[test]
fn of_metrics() {
    let files: Vec<String> = ["kvm-idle", "kvm-loaded", "kvm-repeat"]
        .iter()
        .map(|n| {
            support::fixture(&format!("reports/{n}.json"))
                .display()
                .to_string()
        })
        .collect();
    let with = |more: &[&str]| {
        let mut all = more.to_vec();
        all.extend(files.iter().map(String::as_str));
        run(&all)
    };
    let svg = with(&["plot", "metric", "transfer", "--by", "run", "--title", "T"]);
    let labels = labels(&svg);
    for l in &labels {
        let name = l.text.starts_with("kvm-");
        let digits = l.text.chars().any(|c| c.is_ascii_digit());
        assert!(name || !digits || is_tick(l, &labels), "{}", l.text);
    }
    // The dots stand where the statistics say, by the axis' own ticks.
    let rows: Value =
        serde_json::from_str(&with(&["stats", "--group", "run", "--format", "json"])).unwrap();
    let upright: Vec<(f64, f64)> = labels
        .iter()
        .filter(|l| is_tick(l, &labels))
        .filter_map(|l| Some((l.y, plain(&l.text)?)))
        .collect();
    let (a, b) = (upright[0], upright[upright.len() - 1]);
    let doc = roxmltree::Document::parse(&svg).unwrap();
    let dots: Vec<f64> = doc
        .descendants()
        .filter(|n| n.has_tag_name("circle"))
        .map(|n| n.attribute("cy").unwrap().parse().unwrap())
        .collect();
    let means: Vec<f64> = list(&rows, "rows")
        .iter()
        .filter(|r| r["metric"] == "transfer")
        .map(|r| r["mean"].as_f64().unwrap())
        .collect();
    assert_eq!(dots.len(), means.len());
    let pixel = (b.1 - a.1).abs() / (b.0 - a.0).abs();
    for (dot, mean) in dots.iter().zip(means) {
        let drawn = a.1 + (dot - a.0) / (b.0 - a.0) * (b.1 - a.1);
        // Texts stand a few pixels below their middle.
        assert!((drawn - mean).abs() < 8.0 * pixel, "{drawn} is not {mean}");
    }
}

/// All numbers and words of a JSON value.
fn gather(v: &Value, numbers: &mut Vec<f64>, words: &mut Vec<String>) {
    match v {
        Value::Number(n) => numbers.push(n.as_f64().unwrap()),
        Value::String(s) => words.push(s.clone()),
        Value::Array(a) => a.iter().for_each(|v| gather(v, numbers, words)),
        Value::Object(o) => o.values().for_each(|v| gather(v, numbers, words)),
        _ => {}
    }
}

/// How a number with this unit can come from one of the report: the factor, and what may be left
/// out (nanoseconds that end in a round unit).
fn factors(unit: &str) -> &'static [f64] {
    match unit {
        "s" => &[1e9, 1.0],
        "ms" => &[1e6, 1.0],
        "µs" => &[1e3],
        "ns" => &[1.0],
        "%" => &[0.01],
        "KiB" | "KiB/s" => &[1024.0],
        "MiB" | "MiB/s" => &[1_048_576.0],
        "GiB" | "GiB/s" => &[1_073_741_824.0],
        // Bare: a count, or seconds with all their digits.
        _ => &[1.0, 1e9],
    }
}

#[test]
fn of_pages() {
    for name in [
        "kvm/kvm-loaded",
        "kvm/kvm-postcopy",
        "openstack/os-live-source",
    ] {
        let file = trace(name);
        let report: Value =
            serde_json::from_str(&run(&["analyze", &file, "--format", "json"])).unwrap();
        let costs: Value = serde_json::from_str(&run(&[
            "stats",
            &file,
            "--all",
            "--observations",
            "--format",
            "json",
        ]))
        .unwrap();
        // Nought, the whole, and the name of a quantile are words rather than numbers.
        let (mut numbers, mut words) = (vec![0.0, 1.0, 0.95], vec![]);
        gather(&report, &mut numbers, &mut words);
        gather(&costs, &mut numbers, &mut words);
        // Stated as differences and shares of what the report holds.
        let observed = |metric: &str| {
            let rows = costs.as_array().unwrap();
            let row = rows.iter().find(|r| r["metric"] == metric);
            row.and_then(|r| r["value"].as_f64())
        };
        let wire = observed("bytes.total").unwrap();
        for r in costs.as_array().unwrap() {
            if r["metric"].as_str().unwrap().starts_with("bytes.") {
                numbers.push(r["value"].as_f64().unwrap() / wire);
            }
        }
        for m in list(&report, "migrations") {
            let total = ns(&m["total_time_ns"]).unwrap_or(1) as f64;
            numbers.extend(ns(&m["gaps_ns"]).map(|g| g as f64 / total));
            let holes = list(m, "gaps").iter();
            numbers.extend(holes.filter_map(|g| Some(ns(&g["duration_ns"])? as f64 / total)));
            for r in rounds(m) {
                let (a, b) = (ns(&r["start_offset_ns"]), ns(&r["end_offset_ns"]));
                numbers.push((b.unwrap() - a.unwrap()) as f64);
            }
        }
        let page = run(&["report", &file]);
        let svgs = page.matches("<svg").count();
        assert!(svgs >= 4, "{svgs}");
        // The pictures are looked at above; here the page's own words.
        let mut text = page.clone();
        while let (Some(a), Some(b)) = (text.find("<svg"), text.find("</svg>")) {
            text.replace_range(a..b + 6, " ");
        }
        let body = text.find("<body").unwrap();
        let mut cells = vec![];
        for piece in text[body..].split('<').skip(1) {
            let (_, words) = piece.split_once('>').unwrap();
            cells.push(words.trim().replace("&amp;", "&").replace("&#39;", "'"));
        }
        let mut told = 0;
        for cell in cells
            .iter()
            .filter(|c| c.chars().any(|c| c.is_ascii_digit()))
        {
            if cell.starts_with("phasescope ") {
                continue;
            }
            let parts: Vec<&str> = cell.split_whitespace().collect();
            for (i, part) in parts.iter().enumerate() {
                let bare = part.trim_matches(|c: char| "(),;:".contains(c));
                if !bare.chars().any(|c| c.is_ascii_digit()) {
                    continue;
                }
                // Names, addresses, times of day, and ranges of frames are words of the report.
                if words.iter().any(|w| w.contains(bare)) {
                    continue;
                }
                for number in bare.split(['-', '–', '…']).filter(|s| !s.is_empty()) {
                    let digits = number.trim_end_matches(|c: char| !c.is_ascii_digit());
                    let Ok(value) = digits.replace(',', "").parse::<f64>() else {
                        panic!("{name}: `{cell}`: `{bare}` is no word of the report");
                    };
                    let unit = match &number[digits.len()..] {
                        "" => parts.get(i + 1).copied().unwrap_or_default(),
                        own => own,
                    };
                    let unit = unit.trim_matches(|c: char| "(),;:".contains(c));
                    let decimals = digits.split_once('.').map_or(0, |(_, d)| d.len());
                    let half = 0.5 * 10f64.powi(-(decimals as i32)) * 1.000_001;
                    let found = numbers.iter().any(|n| {
                        let of = |f: &f64| (n / f - value).abs() <= half;
                        factors(unit).iter().any(of)
                    });
                    assert!(
                        found,
                        "{name}: `{cell}`: {number} {unit} is not in the JSON"
                    );
                    told += 1;
                }
            }
        }
        assert!(told > 100, "{name}: {told}");
    }
}
