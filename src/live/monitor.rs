//! The threads: source, analysis, recorder; and what others may ask of them.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::engine::{Engine, Notice};
use super::lines::{LineFormat, Lines};
use super::metrics::{Board, Tally};
use super::record::Recorder;
use super::source::{Message, Outlet, QUEUE, Shared, Source, SourceError};
use super::view::{Load, View};
use crate::migration::{Migration, OutcomeKind};
use crate::report::trace::otlp;
use crate::report::{CaptureSummary, Report};

/// Where no frame comes, the analysis looks at the clock so often.
const TICK: Duration = Duration::from_millis(50);
/// Lines that wait for a slow reader; past it, events are left out and counted.
const MAX_PENDING: usize = 65_536;
/// Drops are told at most so often.
const TELL_DROPS: Duration = Duration::from_secs(1);

/// What to do besides analysing.
#[derive(Default)]
pub struct Options {
    /// Keep what is seen.
    pub recorder: Option<Recorder>,
    /// Say in lines what happens.
    pub lines: Option<LineFormat>,
    /// Show a view so often.
    pub view_every: Option<Duration>,
    /// Write each finished migration there, as a line of OTLP's JSON.
    pub otlp: Option<Box<dyn Write + Send>>,
}

/// How it ended.
#[derive(Debug)]
pub struct Ending {
    /// All that was found.
    pub report: Report,
    /// Why the source broke off, if it did.
    pub source: Option<SourceError>,
    /// Why not all was recorded, if so.
    pub recorder: Option<io::Error>,
    /// Why not all OTLP lines were written, if so.
    pub otlp: Option<io::Error>,
}

/// What the analysis leaves.
struct Done {
    report: Report,
    source: Option<SourceError>,
    otlp: Option<io::Error>,
}

/// A capture that runs.
pub struct Monitor {
    shared: Arc<Shared>,
    board: Board,
    lines: Option<(Receiver<String>, Arc<AtomicUsize>)>,
    waker: Option<Box<dyn Fn() + Send>>,
    source: JoinHandle<()>,
    analysis: JoinHandle<Done>,
    recorder: Option<JoinHandle<io::Result<()>>>,
}

/// Tells the others when its thread panics.
struct Obituary(Arc<Shared>);

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.die();
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    shared: &Arc<Shared>,
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let obituary = Obituary(shared.clone());
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || {
        let _obituary = obituary;
        f()
    })
}

impl Monitor {
    /// Begins.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(mut source: Box<dyn Source>, options: Options) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (to_analysis, batches) = sync_channel(QUEUE);
        let (to_recorder, recorder) = match options.recorder {
            Some(recorder) => {
                let (tx, rx): (SyncSender<Arc<Batch>>, _) = sync_channel(QUEUE);
                let for_recorder = shared.clone();
                let thread = spawn("recorder", &shared, move || {
                    recorder.run(&rx, &for_recorder)
                })?;
                (Some(tx), Some(thread))
            }
            None => (None, None),
        };
        let engine = Engine::new(source.names(), source.kind());
        let board = Board {
            view: Arc::new(Mutex::new(Arc::new(engine.view(Load::default())))),
            tally: Arc::default(),
        };
        let (voice, lines) = match options.lines {
            Some(format) => {
                let (tx, rx) = channel();
                let pending = Arc::new(AtomicUsize::new(0));
                let voice = Voice {
                    lines: Lines::new(format),
                    out: tx,
                    pending: pending.clone(),
                    missed: 0,
                };
                voice.say(voice.lines.start(&source.names(), source.kind()));
                (Some(voice), Some((rx, pending)))
            }
            None => (None, None),
        };
        let work = Work {
            engine,
            shared: shared.clone(),
            board: board.clone(),
            voice,
            every: options.view_every,
            ticks: !source.waits(),
            otlp: options.otlp.map(Spans::new),
            status: File::open(STATUS).ok(),
        };
        let waker = source.waker();
        let analysis = spawn("analysis", &shared, move || work.run(&batches))?;
        let end = to_analysis.clone();
        let mut out = Outlet::new(shared.clone(), to_analysis, to_recorder, source.waits());
        let for_source = shared.clone();
        let source = spawn("capture", &shared, move || {
            let done = source.run(&mut out, &for_source);
            out.flush();
            let (files, error) = match done {
                Ok(files) => (files, None),
                Err(e) => (Vec::new(), Some(e)),
            };
            // The analysis may be gone already.
            let _ = end.send(Message::End(files, error));
        })?;
        Ok(Self {
            shared,
            board,
            lines,
            waker,
            source,
            analysis,
            recorder,
        })
    }

    /// The latest view.
    pub fn view(&self) -> Arc<View> {
        let view = self.board.view.lock();
        view.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For the metrics.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// The next line, if one comes in time.
    pub fn line(&self, patience: Duration) -> Option<String> {
        let (lines, pending) = self.lines.as_ref()?;
        let line = lines.recv_timeout(patience).ok()?;
        pending.fetch_sub(1, Relaxed);
        Some(line)
    }

    /// Holds a replay, or lets it go on.
    pub fn hold(&self, hold: bool) {
        self.shared.hold(hold);
    }

    /// A thread has died of a panic, which has told why.
    pub(crate) fn has_died(&self) -> bool {
        self.shared.has_died()
    }

    /// Nothing more will happen.
    pub fn is_over(&self) -> bool {
        self.analysis.is_finished()
    }

    /// Asks the source to end; what it has is analysed still.
    pub fn stop(&self) {
        self.shared.stop();
        if let Some(wake) = &self.waker {
            wake();
        }
    }

    /// Ends, and tells what was found; lines that nobody took go to `rest`.
    ///
    /// # Errors
    /// A thread has died.
    pub fn finish(self, mut rest: impl FnMut(String)) -> Result<Ending, String> {
        while !self.source.is_finished() {
            self.stop();
            std::thread::sleep(Duration::from_millis(5));
        }
        let died = |what: &str| format!("internal error: the {what} thread has died");
        let source = self.source.join();
        let done = self.analysis.join().map_err(|_| died("analysis"))?;
        source.map_err(|_| died("capture"))?;
        let recorder = match self.recorder.map(JoinHandle::join) {
            Some(done) => done.map_err(|_| died("recorder"))?.err(),
            None => None,
        };
        if let Some((lines, _)) = self.lines {
            lines.try_iter().for_each(&mut rest);
        }
        Ok(Ending {
            report: done.report,
            source: done.source,
            recorder,
            otlp: done.otlp,
        })
    }
}

/// Says lines.
struct Voice {
    lines: Lines,
    out: Sender<String>,
    pending: Arc<AtomicUsize>,
    missed: u64,
}

impl Voice {
    fn say(&self, line: String) {
        self.pending.fetch_add(1, Relaxed);
        // Nobody listens: nobody misses it.
        let _ = self.out.send(line);
    }

    fn notice(&mut self, notice: &Notice<'_>) {
        let Some(line) = self.lines.notice(notice) else {
            return;
        };
        let event = matches!(notice, Notice::Event(_));
        if event && self.pending.load(Relaxed) >= MAX_PENDING {
            self.missed += 1;
            return;
        }
        if self.missed > 0 {
            self.say(self.lines.missed(self.missed));
            self.missed = 0;
        }
        self.say(line);
    }
}

/// Writes finished migrations as lines of OTLP's JSON, which a collector's `otlpjsonfile` receiver
/// reads.
struct Spans {
    out: Box<dyn Write + Send>,
    failed: Option<io::Error>,
}

impl Spans {
    fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, failed: None }
    }

    fn migration(&mut self, m: &Migration, capture: &CaptureSummary) {
        if self.failed.is_some() {
            return;
        }
        let line = otlp::line(capture, m);
        let done = self.out.write_all(line.as_bytes());
        self.failed = done.and_then(|()| self.out.flush()).err();
    }
}

/// The analysis thread's.
struct Work {
    engine: Engine,
    shared: Arc<Shared>,
    board: Board,
    voice: Option<Voice>,
    every: Option<Duration>,
    ticks: bool,
    otlp: Option<Spans>,
    /// [`STATUS`], open from the beginning: later it may be out of reach.
    status: Option<File>,
}

impl Work {
    fn run(mut self, batches: &Receiver<Message>) -> Done {
        // The last frame's time by its own clock, and when it came by ours.
        let mut latest = (self.engine.now(), Instant::now());
        let mut shown = Instant::now();
        let mut told = Instant::now();
        let (files, error) = loop {
            match batches.recv_timeout(TICK) {
                Ok(Message::Batch(batch)) => {
                    self.shared.queued.fetch_sub(1, Relaxed);
                    self.batch(&batch);
                    self.tell_spans(false);
                    self.shared.pool.give(batch);
                    latest = (self.engine.now(), Instant::now());
                }
                Ok(Message::End(files, error)) => break (files, error),
                Err(RecvTimeoutError::Timeout) if self.ticks => {
                    let now = latest.0.plus(latest.1.elapsed());
                    self.engine(|engine, see| engine.tick(now, see));
                    self.tell_spans(false);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break (Vec::new(), None),
            }
            if self.every.is_some_and(|e| shown.elapsed() >= e) {
                shown = Instant::now();
                self.show(None);
            }
            if told.elapsed() >= TELL_DROPS {
                told = Instant::now();
                self.tell_drops();
            }
        };
        if let Some(v) = &mut self.voice {
            v.lines.ending();
        }
        self.engine(|engine, see| engine.close(see));
        self.tell_spans(true);
        self.tell_drops();
        let report = self.engine.report(&files, &self.load());
        if let Some(v) = &self.voice {
            v.say(v.lines.end(&report.capture, report.migrations.len()));
        }
        self.show(Some(error.as_ref().map(SourceError::to_string)));
        Done {
            report,
            source: error,
            otlp: self.otlp.and_then(|o| o.failed),
        }
    }

    /// Migrations that have been over since the last time go out as spans; at the end (`last`) not
    /// those that are open still.
    fn tell_spans(&mut self, last: bool) {
        let Some(otlp) = &mut self.otlp else { return };
        let fresh = self.engine.fresh();
        let fresh = fresh.iter().map(|s| &s.migration);
        let over: Vec<_> = fresh
            .filter(|m| !last || m.outcome.result != OutcomeKind::Unfinished)
            .collect();
        if !over.is_empty() {
            let capture = self.engine.summary();
            over.into_iter().for_each(|m| otlp.migration(m, &capture));
        }
    }

    fn batch(&mut self, batch: &Batch) {
        self.engine(|engine, see| {
            for frame in batch.frames() {
                engine.frame(&frame, see);
            }
        });
    }

    /// Works on the engine; notices are counted and said.
    fn engine(&mut self, work: impl FnOnce(&mut Engine, &mut dyn FnMut(Notice<'_>))) {
        let (tally, voice) = (&self.board.tally, &mut self.voice);
        work(&mut self.engine, &mut |notice| {
            if let Notice::Migration(m) = notice {
                let tally: &Mutex<Tally> = tally;
                tally
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .count(m);
            }
            if let Some(v) = voice {
                v.notice(&notice);
            }
        });
    }

    fn load(&self) -> Load {
        Load {
            drops: self.shared.drops(),
            queued: self.shared.queued.load(Relaxed),
            memory_bytes: self.status.as_ref().map_or(0, memory),
            streams: self.shared.streams(),
        }
    }

    fn tell_drops(&mut self) {
        let drops = self.shared.drops();
        if let Some(v) = &mut self.voice
            && let Some(line) = v.lines.drops(drops)
        {
            v.say(line);
        }
    }

    fn show(&self, ended: Option<Option<String>>) {
        let mut view = self.engine.view(self.load());
        view.ended = ended;
        let mut board = self
            .board
            .view
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *board = Arc::new(view);
    }
}

/// What Linux tells of this process (proc_pid_status(5)).
pub const STATUS: &str = "/proc/self/status";

/// Resident memory of this process, bytes; 0 where the system does not tell.
fn memory(mut status: &File) -> u64 {
    let mut text = String::new();
    let read = status
        .rewind()
        .and_then(|()| status.read_to_string(&mut text));
    if read.is_err() {
        return 0;
    }
    text.lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|v| v.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib << 10)
}
