//! The options that every command shares which reads many runs: traces to analyse, or reports
//! that were saved.

use std::cell::OnceCell;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use clap::Args;
use phasescope::analysis;
use phasescope::capture::Capture;
use phasescope::report::Report;
use phasescope::stats::factors::{Levels, Manifest, Pattern, Sources, TOGETHER};
use phasescope::stats::runs::{BUILT_IN, Run};

use super::Failure;
use super::input::damage;
use super::output::complain;
use super::progress::{self, ProgressLine};
use super::sandbox::Reach;

/// Which runs, and what was varied between them.
#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// Traces (every file is a capture of its own) or saved reports (`analyze --format json`).
    /// `A+B` reads captures of the same run as one, in time order.
    #[arg(required = true, value_name = "FILE[+FILE]")]
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

    /// A CSV table of factors: a column `file`, one column for each factor. A column `with` names
    /// captures of the same run, which are read together with `file` (paths from its folder, `+`
    /// between them).
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// Factors in file names: `*` is anything, `{name}` is a factor: '{flavor}-load{load}-*.pcap'.
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<Pattern>,

    /// What was read of them, once.
    #[arg(skip)]
    sources: OnceCell<Sources>,
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
    /// What reading them needs; the manifest is read for it.
    pub(crate) fn reach(&self) -> Result<Reach, Failure> {
        let sources = self.factors.sources()?;
        let files = files_of(&self.files, sources.manifest.as_ref());
        Ok(Reach::default().reads(files))
    }

    /// Reads them all, with their factors: one at least.
    pub(crate) fn load(&self) -> Result<Vec<Run>, Failure> {
        let sources = self.factors.sources()?;
        let mut runs = self
            .work
            .load_with(&self.files, sources.manifest.as_ref())?;
        for stranger in sources.apply(&mut runs) {
            complain(&format!(
                "warning: {stranger}: neither in the manifest nor of the pattern; its factors are empty"
            ));
        }
        if runs.is_empty() {
            return Err(NONE_COMPLETED);
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
    /// The manifest is read once: it may be a pipe.
    fn sources(&self) -> Result<&Sources, Failure> {
        if let Some(known) = self.sources.get() {
            return Ok(known);
        }
        let read = self.read()?;
        Ok(self.sources.get_or_init(|| read))
    }

    fn read(&self) -> Result<Sources, Failure> {
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

/// Every migration failed, or there is none.
pub(crate) const NONE_COMPLETED: Failure =
    Failure::NoMigration("no completed migration in any file");

/// Largest report that is read. Bytes.
const MAX_REPORT: u64 = 1 << 30;

/// Can it be read once only, as standard input or a pipe?
pub(crate) fn is_pipe(path: &Path) -> bool {
    path == Path::new("-") || std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

/// Does the file begin like JSON? A pipe is a capture, for looking takes the bytes out of it.
pub(crate) fn is_report(path: &Path) -> bool {
    if is_pipe(path) {
        return false;
    }
    let mut head = [0; 64];
    let Ok(mut file) = std::fs::File::open(path) else {
        return false;
    };
    let n = file.read(&mut head).unwrap_or(0);
    head[..n].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
}

/// The report, where the files are one that was saved.
pub(crate) fn saved_report(files: &[PathBuf]) -> Result<Option<Report>, Failure> {
    match files.iter().find(|f| is_report(f)) {
        Some(file) if files.len() > 1 => Err(Failure::Usage(format!(
            "{}: a saved report stands alone",
            file.display()
        ))),
        Some(file) => read_report(file).map(Some),
        None => Ok(None),
    }
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

/// The files of one run.
struct Together(Vec<PathBuf>);

impl Together {
    /// As given: one file, or several with [`TOGETHER`] between them; a file whose own name has
    /// that sign is one file. The manifest may add others.
    fn new(given: &Path, manifest: Option<&Manifest>) -> Self {
        let mut files = match given.to_str() {
            Some(s) if s.contains(TOGETHER) && !given.exists() => {
                s.split(TOGETHER).map(PathBuf::from).collect()
            }
            _ => vec![given.to_owned()],
        };
        if let (Some(m), Some(first)) = (manifest, files.first()) {
            let folder = first.parent().unwrap_or(Path::new(""));
            let with = m.with(&first.display().to_string()).iter();
            let with: Vec<PathBuf> = with.map(|f| folder.join(f)).collect();
            files.extend(
                with.into_iter()
                    .filter(|f| !files.contains(f))
                    .collect::<Vec<_>>(),
            );
        }
        Self(files)
    }

    /// The first file stands for all.
    fn name(&self) -> String {
        let first = self.0.first();
        first.map_or_else(String::new, |f| f.display().to_string())
    }
}

/// All files of these runs.
pub(crate) fn files_of(runs: &[PathBuf], manifest: Option<&Manifest>) -> Vec<PathBuf> {
    let all = runs.iter().map(|f| Together::new(f, manifest));
    all.flat_map(|t| t.0).collect()
}

/// What the workers tell of their progress.
struct Progress {
    line: ProgressLine,
    runs: usize,
    done: AtomicUsize,
    read: AtomicU64,
    /// Size of all files, where it is known.
    total: Option<u64>,
}

impl Progress {
    fn new(runs: &[Together], quiet: bool) -> Self {
        let size = |f: &PathBuf| {
            let m = std::fs::metadata(f).ok();
            m.filter(std::fs::Metadata::is_file).map(|m| m.len())
        };
        Self {
            line: ProgressLine::new(quiet),
            runs: runs.len(),
            done: AtomicUsize::new(0),
            read: AtomicU64::new(0),
            total: runs.iter().flat_map(|r| &r.0).map(size).sum(),
        }
    }

    fn draw(&self) {
        self.line.draw(|| {
            let bytes = progress::bytes(self.read.load(Ordering::Relaxed), self.total);
            let done = self.done.load(Ordering::Relaxed);
            format!("{bytes}, {done} of {} runs", self.runs)
        });
    }
}

/// The report of one run, and what was wrong with its files.
type Read1 = Result<(Report, Vec<String>), Failure>;

fn read(files: &Together, progress: &Progress) -> Read1 {
    if let Some(report) = saved_report(&files.0)? {
        return Ok((report, vec![]));
    }
    let mut capture = Capture::open(&files.0)?;
    let mut counted = 0;
    let report = analysis::analyze(&mut capture, |c| {
        let (read, _) = c.progress();
        let more = read.saturating_sub(counted);
        progress.read.fetch_add(more, Ordering::Relaxed);
        counted = read.max(counted);
        progress.draw();
        true
    })?;
    let warnings = capture.files().iter().filter_map(damage).collect();
    Ok((report, warnings))
}

impl Work {
    /// Reads runs side by side; they come in the order of the files.
    pub(crate) fn load(&self, files: &[PathBuf]) -> Result<Vec<Run>, Failure> {
        self.load_with(files, None)
    }

    fn load_with(
        &self,
        files: &[PathBuf],
        manifest: Option<&Manifest>,
    ) -> Result<Vec<Run>, Failure> {
        let all: Vec<Together> = files.iter().map(|f| Together::new(f, manifest)).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.unwrap_or(cores).clamp(1, all.len().max(1));
        let progress = Progress::new(&all, self.quiet);
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Read1>>> = all.iter().map(|_| Mutex::new(None)).collect();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some(files) = all.get(i) else { break };
                        let result = read(files, &progress);
                        if let Ok(mut slot) = results[i].lock() {
                            *slot = Some(result);
                        }
                        progress.done.fetch_add(1, Ordering::Relaxed);
                        progress.draw();
                    }
                });
            }
        });
        progress.line.clear();
        let mut runs = vec![];
        for (files, slot) in all.iter().zip(results) {
            let name = files.name();
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
