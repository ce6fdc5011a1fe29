//! Where frames come from, and the queues they go into.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::batch::{Batch, Pool};
use crate::capture::dpmi::StreamCounts;
use crate::capture::{CaptureError, FileSummary, Frame, Interface};

/// Batches that wait for the analysis, or for the recorder. At most a MiB each.
pub const QUEUE: usize = 192;

/// A source that is asked to end gives what had come by then, for so long at most: what the kernel has
/// captured and not yet handed over is not lost.
pub(super) const DRAIN: Duration = Duration::from_secs(1);

/// Frames that were captured, or should have been, and were not looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// The kernel's buffer was full.
    pub kernel: u64,
    /// The network device or its driver could not keep up.
    pub interface: u64,
    /// The analysis could not keep up.
    pub queue: u64,
    /// Looked at, but not recorded: the disk could not keep up.
    pub recorder: u64,
}

impl Drops {
    /// Frames that the analysis did not see.
    pub fn unseen(&self) -> u64 {
        self.kernel + self.interface + self.queue
    }
}

/// What the threads share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Empty batches.
    pub pool: Pool,
    /// Batches that wait for the analysis.
    pub queued: AtomicUsize,
    stop: AtomicBool,
    hold: AtomicBool,
    died: AtomicBool,
    kernel: AtomicU64,
    interface: AtomicU64,
    queue: AtomicU64,
    recorder: AtomicU64,
    interfaces: Mutex<Vec<Interface>>,
    streams: Mutex<Option<StreamCounts>>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Asks the source to end.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Was it asked to?
    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// A thread has died of a panic.
    pub fn die(&self) {
        self.died.store(true, Relaxed);
    }

    /// Has one?
    pub(crate) fn has_died(&self) -> bool {
        self.died.load(Relaxed)
    }

    /// Holds a replay, or lets it go on.
    pub fn hold(&self, hold: bool) {
        self.hold.store(hold, Relaxed);
    }

    /// Is it held?
    pub fn held(&self) -> bool {
        self.hold.load(Relaxed)
    }

    /// What was dropped so far.
    pub fn drops(&self) -> Drops {
        Drops {
            kernel: self.kernel.load(Relaxed),
            interface: self.interface.load(Relaxed),
            queue: self.queue.load(Relaxed),
            recorder: self.recorder.load(Relaxed),
        }
    }

    /// Drops of a device since it was asked last: the kernel's and its own.
    pub(crate) fn device_drops(&self, kernel: u64, interface: u64) {
        self.kernel.fetch_add(kernel, Relaxed);
        self.interface.fetch_add(interface, Relaxed);
    }

    /// So many frames found a queue full.
    pub(crate) fn queue_dropped(&self, frames: u64) {
        self.queue.fetch_add(frames, Relaxed);
    }

    /// The interfaces met so far, by their numbers.
    pub fn interfaces(&self) -> Vec<Interface> {
        lock(&self.interfaces).clone()
    }

    /// Makes known the interfaces met so far.
    pub(crate) fn set_interfaces(&self, all: Vec<Interface>) {
        *lock(&self.interfaces) = all;
    }

    /// What the measurement streams lost, where there are any.
    pub fn streams(&self) -> Option<StreamCounts> {
        *lock(&self.streams)
    }

    /// See [`Shared::streams`].
    pub(crate) fn set_streams(&self, counts: StreamCounts) {
        *lock(&self.streams) = Some(counts);
    }
}

/// What goes to the analysis.
#[derive(Debug)]
pub enum Message {
    /// Frames.
    Batch(Arc<Batch>),
    /// The source has ended.
    End(Vec<FileSummary>, Option<SourceError>),
}

/// Why a source ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// libpcap or a socket.
    #[error("{name}: {reason}")]
    Device {
        /// Device or address.
        name: String,
        /// What the system says.
        reason: String,
    },
    /// The right to capture is missing.
    #[error(
        "{name}: no right to capture ({reason})\n\
         Give it to this program, once:\n\
         \x20   sudo setcap cap_net_raw,cap_net_admin=eip {program}\n\
         or run it by sudo; it gives the rights of root up as soon as the device is open."
    )]
    Permission {
        /// Device.
        name: String,
        /// What the system says.
        reason: String,
        /// Where this program lies.
        program: String,
    },
}

/// Something that frames come from.
pub trait Source: Send {
    /// For people: device, address or file names.
    fn names(&self) -> Vec<String>;

    /// `live`, `dpmi` or `replay`.
    fn kind(&self) -> &'static str;

    /// May it wait for the analysis? A file may, a device may not.
    fn waits(&self) -> bool {
        false
    }

    /// Wakes [`Source::run`] where it waits for a frame.
    fn waker(&mut self) -> Option<Box<dyn Fn() + Send>> {
        None
    }

    /// Gives frames until there are no more, or until [`Shared::stopped`]. Files say what they
    /// held.
    ///
    /// # Errors
    /// It broke off.
    fn run(&mut self, out: &mut Outlet, shared: &Shared) -> Result<Vec<FileSummary>, SourceError>;
}

/// Collects frames into batches and sends them on.
#[derive(Debug)]
pub struct Outlet {
    batch: Batch,
    shared: Arc<Shared>,
    analysis: SyncSender<Message>,
    recorder: Option<SyncSender<Arc<Batch>>>,
    waits: bool,
    closed: bool,
}

impl Outlet {
    /// Into these queues; waiting where one is full, or not.
    pub fn new(
        shared: Arc<Shared>,
        analysis: SyncSender<Message>,
        recorder: Option<SyncSender<Arc<Batch>>>,
        waits: bool,
    ) -> Self {
        Self {
            batch: Batch::default(),
            shared,
            analysis,
            recorder,
            waits,
            closed: false,
        }
    }

    /// Takes the next frame. [`Outlet::flush_full`] must follow.
    #[inline]
    pub fn frame(&mut self, frame: &Frame<'_>) {
        self.batch.push(frame);
    }

    /// Sends on what there is, if it is enough.
    #[inline]
    pub fn flush_full(&mut self) {
        if self.batch.is_full() {
            self.flush();
        }
    }

    /// Nobody takes them any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Sends on what there is.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut self.batch, self.shared.pool.take());
        let batch = Arc::new(batch);
        let frames = batch.len() as u64;
        if let Some(recorder) = &self.recorder {
            let sent = if self.waits {
                recorder.send(batch.clone()).is_ok()
            } else {
                recorder.try_send(batch.clone()).is_ok()
            };
            if !sent {
                self.shared.recorder.fetch_add(frames, Relaxed);
            }
        }
        self.shared.queued.fetch_add(1, Relaxed);
        let sent = if self.waits {
            let sent = self.analysis.send(Message::Batch(batch));
            sent.map_err(|_| TrySendError::Disconnected(()))
        } else {
            let sent = self.analysis.try_send(Message::Batch(batch));
            sent.map_err(|e| match e {
                TrySendError::Full(_) => TrySendError::Full(()),
                TrySendError::Disconnected(_) => TrySendError::Disconnected(()),
            })
        };
        if let Err(e) = sent {
            self.shared.queued.fetch_sub(1, Relaxed);
            self.shared.queue_dropped(frames);
            self.closed = matches!(e, TrySendError::Disconnected(()));
        }
    }
}
