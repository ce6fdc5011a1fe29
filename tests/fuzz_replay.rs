//! Every seed of the corpora, and bytes made from the seeds, through the bodies of the fuzz
//! targets.
//!
//! `PHASESCOPE_FUZZ_RUNS` is the number of changed inputs for each target, `PHASESCOPE_FUZZ_SEED`
//! chooses them, `PHASESCOPE_FUZZ_TARGET` names one target alone; `make fuzz` makes a long run.
//! `PHASESCOPE_FUZZ_WRITE` writes the derived seeds anew.

mod support;

#[allow(unreachable_pub, reason = "a crate of its own under cargo-fuzz")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

#[path = "fuzz_replay/mutate.rs"]
mod mutate;
#[path = "fuzz_replay/seeds.rs"]
mod seeds;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fuzz::{Body, TARGETS};
use mutate::Dice;

/// Changed inputs for each target in a normal run.
const RUNS: u64 = 300;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpora")
}

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => otherwise,
    }
}

/// The seeds of a target, in the order of their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpora().join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut out: Vec<(String, Vec<u8>)> = files
        .map(|f| {
            let path = f.expect("a file").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            let bytes = std::fs::read(&path).expect("can be read");
            (name.into_owned(), bytes)
        })
        .collect();
    out.sort();
    out
}

/// Runs a body; an input that falls is kept in a file and named.
fn run(target: &str, body: Body, input: &[u8], origin: &str) {
    if let Err(cause) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fallen-{target}"));
        std::fs::write(&file, input).expect("can be written");
        let said = cause.downcast_ref::<String>().cloned();
        let said = said.or_else(|| cause.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        let said = said.unwrap_or_default();
        panic!(
            "{target}, {origin}: {said}\nthe input is in {}",
            file.display()
        );
    }
}

fn chosen() -> impl Iterator<Item = &'static (&'static str, Body)> {
    let only = std::env::var("PHASESCOPE_FUZZ_TARGET").ok();
    let known = |name: &String| TARGETS.iter().any(|(t, _)| t == name);
    assert!(only.as_ref().is_none_or(known), "no such target");
    let wanted = move |name: &str| only.as_deref().is_none_or(|o| o == name);
    TARGETS.iter().filter(move |(name, _)| wanted(name))
}

#[test]
fn seeds_keep_what_is_claimed() {
    for (target, body) in chosen() {
        let seeds = corpus(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        for (name, bytes) in seeds {
            run(target, *body, &bytes, &name);
        }
        run(target, *body, &[], "nothing");
    }
}

#[test]
fn changed_seeds_keep_what_is_claimed() {
    let runs = number("PHASESCOPE_FUZZ_RUNS", RUNS);
    let seed = number("PHASESCOPE_FUZZ_SEED", 1);
    for (target, body) in chosen() {
        let seeds: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, b)| b).collect();
        let mut dice = Dice::new(seed, target);
        for n in 0..runs {
            let input = mutate::change(&seeds, &mut dice);
            run(target, *body, &input, &format!("run {n} of seed {seed}"));
        }
    }
}

/// Every target has its thin file, and nothing else has one.
#[test]
fn targets_and_their_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|f| f.expect("a file").path())
        .map(|p| {
            p.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    files.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(files, names);
    let manifest = std::fs::read_to_string(corpora().with_file_name("Cargo.toml")).expect("reads");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

/// The derived seeds are what the fixtures and builders give.
#[test]
fn derived_seeds_are_current() {
    let write = std::env::var_os("PHASESCOPE_FUZZ_WRITE").is_some();
    for (target, name, bytes) in seeds::all() {
        let file = corpora().join(target).join(name);
        if write {
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("can be made");
            std::fs::write(&file, &bytes).expect("can be written");
        }
        let kept = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(
            inflated(&kept) == inflated(&bytes),
            "{} differs",
            file.display()
        );
    }
}

/// A seed that holds gzip (RFC 1952), without it: which library packs it depends on the build's
/// features, and two of them give other bytes of the same contents.
fn inflated(seed: &[u8]) -> Vec<u8> {
    let Some(at) = seed.windows(3).take(16).position(|w| w == [0x1f, 0x8b, 8]) else {
        return seed.to_vec();
    };
    let mut all = seed[..at].to_vec();
    match flate2::read::GzDecoder::new(&seed[at..]).read_to_end(&mut all) {
        Ok(_) => all,
        Err(_) => seed.to_vec(),
    }
}
