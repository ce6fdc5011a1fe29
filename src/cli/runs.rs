//! The options that every command shares which reads many runs: traces to analyse, or reports
//! that were saved.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use phasescope::analysis;
use phasescope::capture::Capture;
use phasescope::report::Report;
use phasescope::stats::factors::{Levels, Manifest, Pattern, Sources};
use phasescope::stats::runs::{BUILT_IN, Run};

use super::Failure;
use super::output::complain;

/// Which runs, and what was varied between them.
#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Traces (every file is a capture of its own) or saved reports (`analyze --format json`).
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    factors: Factors,

    #[command(flatten)]
    work: Work,
}

/// Where factors come from.
#[derive(Debug, Default, Args)]
pub(crate) struct Factors {
    /// A factor that is the same for all runs of this call.
    #[arg(long = "factor", value_name = "NAME=VALUE")]
    given: Vec<String>,

    /// A CSV table of factors: a column `file`, one column for each factor.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// Factors in file names: `*` is anything, `{name}` is a factor: '{flavor}-load{load}-*.pcap'.
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<Pattern>,
}

/// How to go about it.
#[derive(Debug, Default, Args)]
pub(crate) struct Work {
    /// Count migrations too that did not complete.
    #[arg(long)]
    all: bool,

    /// Files analysed at a time; as many as there are processors, if not given.
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,

    /// Show no progress on standard error.
    #[arg(short, long)]
    quiet: bool,
}

impl Runs {
    /// Reads them all, with their factors.
    pub(crate) fn load(&self) -> Result<Vec<Run>, Failure> {
        let sources = self.factors.sources()?;
        let mut runs = self.work.load(&self.files)?;
        for stranger in sources.apply(&mut runs) {
            complain(&format!(
                "warning: {stranger}: neither in the manifest nor of the pattern; its factors are empty"
            ));
        }
        Ok(runs)
    }

    /// Are these factors known?
    pub(crate) fn check(&self, factors: &[String]) -> Result<(), Failure> {
        let sources = self.factors.sources()?;
        for f in factors {
            if !sources.knows(f) && !BUILT_IN.contains(&f.as_str()) {
                return Err(Failure::Usage(format!(
                    "factor `{f}` is given by nothing: use --factor, --manifest or --pattern, or one of {}",
                    BUILT_IN.join(", ")
                )));
            }
        }
        Ok(())
    }
}

impl Factors {
    fn sources(&self) -> Result<Sources, Failure> {
        let mut given = Levels::new();
        for g in &self.given {
            let (name, value) = g
                .split_once('=')
                .ok_or_else(|| Failure::Usage(format!("--factor {g}: it should be NAME=VALUE")))?;
            given.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        let manifest = match &self.manifest {
            None => None,
            Some(path) => {
                let csv = std::fs::read(path)
                    .map_err(|e| Failure::Other(format!("{}: {e}", path.display())))?;
                let read = Manifest::read(&csv);
                Some(read.map_err(|e| Failure::Other(format!("{}: {e}", path.display())))?)
            }
        };
        Ok(Sources {
            given,
            pattern: self.pattern.clone(),
            manifest,
        })
    }
}

/// Largest report that is read. Bytes.
const MAX_REPORT: u64 = 1 << 30;

/// Does the file begin like JSON?
pub(crate) fn is_report(path: &Path) -> bool {
    if path == Path::new("-") {
        return false;
    }
    let mut head = [0; 64];
    let Ok(mut file) = std::fs::File::open(path) else {
        return false;
    };
    let n = file.read(&mut head).unwrap_or(0);
    head[..n].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
}

/// Reads a saved report.
pub(crate) fn read_report(path: &Path) -> Result<Report, Failure> {
    let name = path.display();
    let other = |e: &dyn std::fmt::Display| Failure::Other(format!("{name}: {e}"));
    let file = std::fs::File::open(path).map_err(|e| other(&e))?;
    let mut text = String::new();
    file.take(MAX_REPORT)
        .read_to_string(&mut text)
        .map_err(|e| other(&e))?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|e| other(&format!("not a report of phasescope: {e}")))?;
    if report.schema != phasescope::report::SCHEMA {
        return Err(other(&format!(
            "schema {}, but this program reads {}",
            report.schema,
            phasescope::report::SCHEMA
        )));
    }
    Ok(report)
}

/// What the workers tell of their progress.
struct Progress {
    show: bool,
    files: usize,
    done: AtomicUsize,
    bytes: AtomicU64,
    drawn: Mutex<Instant>,
    begun: Instant,
}

impl Progress {
    /// Draws, at most ten times a second, and not in the first half.
    fn draw(&self) {
        if !self.show || self.begun.elapsed() < Duration::from_millis(500) {
            return;
        }
        let Ok(mut drawn) = self.drawn.try_lock() else {
            return;
        };
        if drawn.elapsed() < Duration::from_millis(100) {
            return;
        }
        *drawn = Instant::now();
        let _ = write!(
            io::stderr(),
            "\r{} of {} files, {} MiB ",
            self.done.load(Ordering::Relaxed),
            self.files,
            self.bytes.load(Ordering::Relaxed) >> 20
        );
    }
}

/// The report of one file, and what was wrong with the file.
type Read1 = Result<(Report, Vec<String>), Failure>;

fn read(path: &Path, progress: &Progress) -> Read1 {
    if is_report(path) {
        return Ok((read_report(path)?, vec![]));
    }
    let mut capture = Capture::open(&[path.to_owned()])?;
    let mut counted = 0;
    let report = analysis::analyze(&mut capture, |c| {
        let (read, _) = c.progress();
        progress
            .bytes
            .fetch_add(read.saturating_sub(counted), Ordering::Relaxed);
        counted = read.max(counted);
        progress.draw();
        true
    })?;
    let mut warnings = vec![];
    for f in capture.files() {
        if let Some(d) = &f.damage {
            warnings.push(format!(
                "warning: {}: {d}; the {} packets before it are used",
                f.name, f.packets
            ));
        }
    }
    Ok((report, warnings))
}

impl Work {
    /// Reads files side by side; the runs come in the order of the files.
    pub(crate) fn load(&self, files: &[PathBuf]) -> Result<Vec<Run>, Failure> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.unwrap_or(cores).clamp(1, files.len().max(1));
        let progress = Progress {
            show: !self.quiet && io::stderr().is_terminal(),
            files: files.len(),
            done: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            drawn: Mutex::new(Instant::now()),
            begun: Instant::now(),
        };
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Read1>>> = files.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some(path) = files.get(i) else { break };
                        let result = read(path, &progress);
                        if let Ok(mut slot) = results[i].lock() {
                            *slot = Some(result);
                        }
                        progress.done.fetch_add(1, Ordering::Relaxed);
                        progress.draw();
                    }
                });
            }
        });
        if progress.show && progress.begun.elapsed() > Duration::from_millis(500) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        let mut runs = vec![];
        for (path, slot) in files.iter().zip(results) {
            let name = path.display().to_string();
            let result = slot.into_inner().ok().flatten();
            let (report, warnings) = result.unwrap_or_else(|| {
                Err(Failure::Other(format!("{name}: the analysis broke off")))
            })?;
            for w in warnings {
                complain(&w);
            }
            if report.migrations.is_empty() {
                complain(&format!("warning: {name}: no migration in it"));
            }
            runs.extend(Run::of_report(&name, report));
        }
        if !self.all {
            let before = runs.len();
            runs.retain(Run::completed);
            if runs.len() < before {
                complain(&format!(
                    "{} of {before} migrations left out: they did not complete (--all counts them)",
                    before - runs.len()
                ));
            }
        }
        Ok(runs)
    }
}
