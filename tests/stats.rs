//! Statistics, comparisons and models on saved reports and on the study's tables.

mod support;

use std::path::Path;
use std::process::{Command, Output};

use phasescope::migration::Migration;
use phasescope::report::Report;
use phasescope::stats::compare::{Comparison, Verdict};
use phasescope::stats::cost;
use phasescope::stats::interval::Interval;
use phasescope::stats::published::{self, Cell};
use phasescope::stats::runs::Run;
use phasescope::stats::table;
use phasescope::stats::what_if::{Change, forecast};
use serde_json::Value;

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/reports");
    folder.join(name).display().to_string()
}

fn report(name: &str) -> Report {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn one(name: &str) -> Migration {
    report(name).migrations.remove(0)
}

fn phasescope(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_phasescope"))
        .args(arguments)
        .output()
        .unwrap()
}

fn near(a: f64, b: f64, slack: f64) {
    assert!((a - b).abs() <= slack, "{a} is not {b}");
}

fn study() -> Vec<Cell> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/study/study-appendix-a.csv");
    published::read(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_studys_columns() {
    let cells = study();
    assert_eq!(cells.len(), 220);
    let mut strange = vec![];
    for c in &cells {
        let r = c.rebuild(Interval::Normal);
        if !r.half_width_agrees {
            strange.push(format!(
                "{} {} interval {:.4}",
                c.table, c.metric, r.half_width
            ));
        }
        if !r.variation_agrees {
            strange.push(format!(
                "{} {} variation {:.2}",
                c.table, c.metric, r.variation
            ));
        }
    }
    assert_eq!(
        strange,
        [
            "A.1.1 Cleanup variation 7.71",
            "A.2.1 Finish interval 0.0229",
            "A.2.3 Finish interval 0.0250",
        ]
    );
    // The row that was printed without rounding: to six decimals with z, not with t.
    let c = cells
        .iter()
        .find(|c| c.table == "A.4.5" && c.metric == "Downtime (ms)")
        .unwrap();
    near(c.rebuild(Interval::Normal).half_width, 2.265_381, 5e-7);
    near(c.rebuild(Interval::T).half_width, 2.363_93, 5e-6);
}

#[test]
fn the_studys_gaps() {
    let cells = study();
    for flavor in ["m1.small", "m1.medium", "m1.large", "m1.xlarge"] {
        let bars = published::bars(&cells, flavor);
        assert_eq!(bars.len(), 5);
        for b in &bars {
            let gap = b.parts.last().unwrap().1;
            // Coverage of 94.6 to 99.3 %.
            let share = gap / b.total();
            assert!(
                (0.006..0.055).contains(&share),
                "{flavor} {}: {share}",
                b.label
            );
        }
    }
    let small = &published::bars(&cells, "m1.small")[0];
    near(small.total(), 5.8263, 1e-9);
    near(small.parts.last().unwrap().1, 0.2428, 1e-9);
}

#[test]
fn costs_add_up_to_the_wire() {
    for name in ["kvm-idle.json", "kvm-loaded.json", "kvm-repeat.json"] {
        for m in report(name).migrations {
            let sum: u64 = cost::split(&m).unwrap().iter().map(|c| c.bytes).sum();
            assert_eq!(Some(sum), cost::total(&m));
        }
    }
    let m = one("kvm-idle.json");
    assert_eq!(cost::total(&m), Some(102_726_538 + 29_826));
    assert_eq!(cost::of(&m, "first-round"), Some(78_196_642));
    assert_eq!(cost::of(&m, "stop-and-copy"), Some(19_582_851));
    assert_eq!(cost::of(&m, "device-state"), Some(59_094));
    // 97,939,786 of payload less pages (97,779,493) and devices.
    assert_eq!(cost::of(&m, "stream-rest"), Some(101_199));
    assert_eq!(cost::of(&m, "control"), Some(26_048));
}

#[test]
fn costs_behind_a_switch_to_post_copy() {
    let file = support::kvm("kvm-postcopy");
    let m = &support::report(&[file]).migrations[0];
    let t = m.transfer.as_ref().unwrap();
    let sum: u64 = cost::split(m).unwrap().iter().map(|c| c.bytes).sum();
    assert_eq!(Some(sum), cost::total(m));
    // QEMU's own counters of the bytes before the switch, with the guest stopped, and behind it,
    // which hold the ends of sections too: 8 bytes each.
    let truth = support::truth("kvm-postcopy");
    let counted = &truth["migrations"][0]["summary"];
    let other = cost::of(m, "later-rounds").unwrap() + cost::of(m, "other-pages").unwrap();
    assert_eq!(other, 0);
    for (cause, counter, sections) in [
        ("first-round", "precopy_bytes", 17),
        ("stop-and-copy", "downtime_bytes", 0),
        ("post-copy", "postcopy_bytes", 2),
    ] {
        let counted = counted[counter].as_u64().unwrap();
        assert_eq!(cost::of(m, cause), Some(counted - 8 * sections), "{cause}");
    }
    let behind = t
        .rounds
        .iter()
        .filter(|r| cost::pass(t, r) == cost::Pass::PostCopy);
    let pages: u64 = behind.map(|r| r.pages).sum();
    assert_eq!(pages, t.postcopy.as_ref().unwrap().pages_after);
    // A round that the switch cuts belongs to neither side.
    let mut m = m.clone();
    let t = m.transfer.as_mut().unwrap();
    t.rounds[0].end_frame = t.rounds[1].end_frame;
    let cut = t.rounds[0].bytes;
    assert_eq!(cost::of(&m, "other-pages"), Some(cut));
    assert_eq!(cost::of(&m, "first-round"), Some(0));
    let sum: u64 = cost::split(&m).unwrap().iter().map(|c| c.bytes).sum();
    assert_eq!(Some(sum), cost::total(&m));
}

#[test]
fn groups_and_their_numbers() {
    let runs = Run::of_report("kvm-repeat.json", report("kvm-repeat.json"));
    let by = ["guest".to_owned()];
    let long = table::observations(&runs, &by).unwrap();
    let rows = table::summarize(&long, &by, Interval::T).unwrap();
    let transfer = rows.iter().find(|r| r.metric == "transfer").unwrap();
    assert_eq!(transfer.group, ["kvg1"]);
    let s = transfer.summary;
    // 1.004814092, 0.974772214, 0.882525342: mean 0.954037216, squares 0.00257829 + 0.00042994
    // + 0.00511395, halved 0.00406109.
    assert_eq!(s.n, 3);
    near(s.mean, 0.954_037_216, 1e-9);
    near(s.standard_deviation.unwrap(), 0.063_726_7, 1e-6);
    // t(0.975, 2) = 4.302653.
    near(
        s.half_width.unwrap(),
        4.302_653 * 0.063_726_7 / 3f64.sqrt(),
        1e-5,
    );
    near(s.median, 0.974_772_214, 1e-12);
    near(s.q1, (0.882_525_342 + 0.974_772_214) / 2.0, 1e-9);
    let echoes = rows.iter().find(|r| r.metric == "downtime.lost-echoes");
    assert_eq!(echoes.unwrap().summary.n, 2, "one run does not know it");
}

#[test]
fn tables_of_the_program() {
    let (a, b) = (fixture("kvm-idle.json"), fixture("kvm-repeat.json"));
    let out = phasescope(&[
        "stats",
        &a,
        &b,
        "--pattern",
        "kvm-{load}.json",
        "--group",
        "load",
        "--format",
        "json",
    ]);
    assert!(out.status.success());
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(v["schema"], table::SCHEMA);
    let rows = v["rows"].as_array().unwrap();
    let cleanup = rows
        .iter()
        .find(|r| r["metric"] == "cleanup" && r["group"]["load"] == "repeat")
        .unwrap();
    assert_eq!(cleanup["n"], 3);
    near(cleanup["mean"].as_f64().unwrap(), 1.477_014_178_667, 1e-9);
    let csv = phasescope(&["stats", &a, &b, "--group", "run", "--format", "csv"]);
    let text = String::from_utf8(csv.stdout).unwrap();
    assert!(
        text.starts_with("run,metric,unit,n,mean,standard_deviation,"),
        "{text}"
    );
    assert!(
        text.contains("\nkvm-repeat #2,finish,s,1,0.02509589,,,"),
        "{text}"
    );
    assert_eq!(
        text,
        String::from_utf8(
            phasescope(&[
                "stats", &a, &b, "--group", "run", "--format", "csv", "-j", "1"
            ])
            .stdout
        )
        .unwrap()
    );
    let unknown = phasescope(&["stats", &a, "--group", "flavor"]);
    assert_eq!(unknown.status.code(), Some(2));
}

/// Parquet and Arrow hold the cells of the CSV; a build without them says what it lacks.
#[test]
fn parquet_and_arrow_are_the_same_table() {
    let folder = std::env::temp_dir().join(format!("phasescope-tables-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let files = [fixture("kvm-idle.json"), fixture("kvm-repeat.json")];
    for more in [None, Some("--observations")] {
        let write = |format: &str| {
            let path = folder.join(format!("t.{format}"));
            let mut all = vec!["stats", &files[0], &files[1], "--group", "guest,run"];
            all.extend(["--format", format, "-o", path.to_str().unwrap()]);
            all.extend(more);
            (phasescope(&all), path)
        };
        let (out, csv) = write("csv");
        assert!(out.status.success(), "{out:?}");
        let csv = std::fs::read_to_string(csv).unwrap();
        assert!(csv.lines().count() > 50);
        for format in ["parquet", "arrow"] {
            let (out, path) = write(format);
            if cfg!(feature = "tables") {
                assert!(out.status.success(), "{out:?}");
                assert_eq!(again(format, &path), csv, "{format}");
            } else {
                assert_eq!(out.status.code(), Some(2));
                let words = String::from_utf8(out.stderr).unwrap();
                assert!(words.contains("--features tables"), "{words}");
                assert!(!path.exists());
            }
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A stored table as CSV.
#[cfg(feature = "tables")]
fn again(format: &str, path: &Path) -> String {
    use phasescope_tables::Table;
    let bytes = std::fs::read(path).unwrap();
    let table = match format {
        "parquet" => Table::read_parquet(bytes),
        _ => Table::read_arrow(bytes),
    };
    table.unwrap().csv().unwrap()
}

#[cfg(not(feature = "tables"))]
fn again(_: &str, _: &Path) -> String {
    unreachable!("nothing is stored without the feature")
}

#[test]
fn captures_of_one_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openstack");
    let (a, b) = (
        folder.join("os-live-source.pcap.zst"),
        folder.join("os-live-switch.pcap.zst"),
    );
    let observed = |arguments: &[&str]| {
        let out =
            phasescope(&[&["stats", "--observations", "--format", "json"], arguments].concat());
        assert!(out.status.success(), "{out:?}");
        serde_json::from_slice::<Value>(&out.stdout).unwrap()
    };
    let (one, other) = (a.display().to_string(), b.display().to_string());
    let together = observed(&[&format!("{one}+{other}")]);
    // The same as `analyze A B`, and more than A alone knows.
    let folder = std::env::temp_dir().join(format!("phasescope-with-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let saved = folder.join("os-live-source.json").display().to_string();
    let done = phasescope(&["analyze", &one, &other, "--format", "json", "-o", &saved]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(together, observed(&[&saved]));
    assert_ne!(together, observed(&[&one]));
    // By the manifest: the file's own folder, or a whole path.
    let manifest = folder.join("runs.csv");
    let name = "os-live-source.pcap.zst";
    for with in ["os-live-switch.pcap.zst", &other] {
        let csv = format!("file,with,load\n{name},{with},25\n");
        std::fs::write(&manifest, csv).unwrap();
        let m = manifest.display().to_string();
        let told = observed(&[&one, "--manifest", &m, "--group", "load"]);
        let (told, plain) = (told.as_array().unwrap(), together.as_array().unwrap());
        assert_eq!(told.len(), plain.len());
        for (t, p) in told.iter().zip(plain) {
            assert_eq!((&t["metric"], &t["value"]), (&p["metric"], &p["value"]));
            assert_eq!(t["load"], "25");
        }
    }
    let mixed = phasescope(&["stats", &format!("{one}+{saved}")]);
    assert_eq!(mixed.status.code(), Some(2), "{mixed:?}");
    let missing = phasescope(&["stats", &format!("{one}+none.pcap")]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("none.pcap"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn differences() {
    let base = Run::of_report("kvm-repeat.json", report("kvm-repeat.json"));
    let mut candidate = Run::of_report("kvm-idle.json", report("kvm-idle.json"));
    candidate.extend(Run::of_report("kvm-loaded.json", report("kvm-loaded.json")));
    let c = Comparison::of(&base, &candidate, &["transfer>+50%".parse().unwrap()]);
    let d = c
        .differences
        .iter()
        .find(|d| d.metric == "transfer")
        .unwrap();
    // Means 0.954037216 and (1.078341526 + 2.158956735) / 2.
    near(d.change().unwrap(), 1.618_649_130_5 - 0.954_037_216, 1e-9);
    // Deviations 0.0637267 (3) and 0.7641021 (2): variance 0.00135370 + 0.29192601 = 0.29327971,
    // degrees 0.0860129 / (0.00000092 + 0.08522080) = 1.00929; t(0.975, 1.00929) = 12.433.
    near(d.half_width().unwrap(), 12.433 * 0.541_553, 0.02);
    assert_eq!(d.verdict(), Verdict::NoDifference);
    assert!(!c.passes());
    let same = Comparison::of(&base, &base, &["transfer>+0%".parse().unwrap()]);
    assert!(same.passes());
}

#[test]
fn verdicts_are_exit_codes() {
    let (a, b) = (fixture("kvm-idle.json"), fixture("kvm-loaded.json"));
    let code = |rule: &str| {
        phasescope(&["compare", &a, &b, "--fail-on", rule])
            .status
            .code()
    };
    assert_eq!(code("downtime>+20%"), Some(0));
    assert_eq!(code("total-time>+20%"), Some(4));
    assert_eq!(code("total-time>+2s"), Some(0));
    assert_eq!(code("authentication>+20%"), Some(4), "unknown is not kept");
    assert_eq!(code("nonsense>+20%"), Some(2));
    let out = phasescope(&["compare", &a, &b, "--format", "json"]);
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(v["passes"], true);
    let missing = phasescope(&["compare", &a, "no-such-file.json"]);
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn other_circumstances() {
    let m = one("kvm-loaded.json");
    let change = Change {
        bandwidth: Some(10e9),
        ..Change::default()
    };
    let f = forecast(&m, &change);
    // Round 1: 121,266,597 bytes at 10 Gbit/s less 5.15 % of heads (215,880,409 / 205,314,511):
    // 0.102008 s. In it 50,570,377 / 1.255161120 × 0.102008 = 4,109,914 bytes are dirtied, 3.457 ms
    // of sending: less than the measured 20.15 ms, so the guest stops there.
    assert_eq!(f.rounds, Some((6, 2)));
    near(f.stopped_round_ns.unwrap().1 as f64 / 1e6, 3.457, 0.002);
    assert!(f.total_after_ns < f.total_before_ns);
    let slow = Change {
        bandwidth: Some(100e6),
        ..Change::default()
    };
    let f = forecast(&m, &slow);
    assert_eq!(f.total_after_ns, None, "it dirties faster than that: {f:?}");
    assert!(f.warnings.iter().any(|w| w.contains("does not converge")));
}

#[test]
fn a_model_from_runs() {
    let (a, b) = (fixture("kvm-idle.json"), fixture("kvm-loaded.json"));
    let folder = std::env::temp_dir().join(format!("phasescope-model-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = folder.join("runs.csv");
    std::fs::write(&manifest, "file,am\nkvm-idle.json,10\nkvm-loaded.json,90\n").unwrap();
    let manifest = manifest.display().to_string();
    let fit = |more: &[&str]| {
        let mut all = vec!["model", "lmdt", &a, &b, "--manifest", &manifest];
        all.extend(more);
        phasescope(&all)
    };
    assert_eq!(
        fit(&[]).status.code(),
        Some(1),
        "two points, three parameters"
    );
    let out = fit(&["--cmdt", "90", "--predict", "90", "--format", "json"]);
    let v: Value = serde_json::from_slice(&out.stdout).unwrap();
    // ln((215.910239 − 90) / (102.756364 − 90)) / 80.
    let af = (125.910_239_f64 / 12.756_364).ln() / 80.0;
    near(v["af_per_mb"]["value"].as_f64().unwrap(), af, 1e-6);
    near(
        v["predictions"][0]["lmdt_mb"].as_f64().unwrap(),
        215.910_239,
        1e-3,
    );
    std::fs::remove_dir_all(&folder).unwrap();
}
