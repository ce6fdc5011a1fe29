//! Frames from several network devices at once, in time order.
//!
//! Each device has a thread of its own, as one alone has. What they give is merged by time; a
//! device that is silent holds the others up for `HOLD`, which is longer than the kernel keeps
//! frames back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::device::{LiveDevice, Settings};
use super::source::{Outlet, QUEUE, Shared, Source, SourceError};
use crate::capture::{FileSummary, Frame};

/// A frame waits so long for earlier ones of other devices.
const HOLD: Duration = Duration::from_millis(100);
/// How often what waits is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Batches that wait to be merged; past it the earliest frame goes on at once.
const MAX_WAITING: usize = QUEUE;

/// Several devices.
pub struct Devices {
    all: Vec<LiveDevice>,
}

/// What a device's thread tells.
enum Part {
    Batch(usize, Arc<Batch>),
    Failed(SourceError),
}

/// Batches of one device, and how far the first of them has been taken.
#[derive(Default)]
struct Waiting {
    batches: VecDeque<(Arc<Batch>, Instant)>,
    taken: usize,
}

impl Devices {
    /// Opens them all.
    ///
    /// # Errors
    /// As [`LiveDevice::open`]; the first.
    pub fn open(settings: &[Settings]) -> Result<Self, SourceError> {
        let all = settings.iter().map(LiveDevice::open);
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
        })
    }
}

/// Captures on one device until it is stopped.
fn capture(
    device: &mut LiveDevice,
    n: usize,
    parts: &SyncSender<Part>,
    shared: &Shared,
) -> Result<(), SourceError> {
    let link = device.link();
    let batch = std::cell::RefCell::new(shared.pool.take());
    let closed = std::cell::Cell::new(false);
    let send = || {
        let full = batch.replace(shared.pool.take());
        let frames = full.len() as u64;
        match parts.try_send(Part::Batch(n, Arc::new(full))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => shared.queue_dropped(frames),
            Err(TrySendError::Disconnected(_)) => closed.set(true),
        }
    };
    device.each(
        shared,
        |time, wire_len, data| {
            let is_full = {
                let mut batch = batch.borrow_mut();
                batch.push(&Frame {
                    number: 0,
                    time,
                    interface: n as u32,
                    link,
                    wire_len,
                    data,
                });
                batch.is_full()
            };
            if is_full {
                send();
            }
        },
        || {
            if !batch.borrow().is_empty() {
                send();
            }
            !closed.get()
        },
    )
}

/// Puts the frames of several devices in order.
struct Merge {
    waiting: Vec<Waiting>,
    number: u64,
}

impl Merge {
    fn new(devices: usize) -> Self {
        Self {
            waiting: (0..devices).map(|_| Waiting::default()).collect(),
            number: 0,
        }
    }

    fn take(&mut self, device: usize, batch: Arc<Batch>) {
        if let Some(w) = self.waiting.get_mut(device).filter(|_| !batch.is_empty()) {
            w.batches.push_back((batch, Instant::now()));
        }
    }

    /// Gives on the frames that nothing earlier can come for any more; `all` of them at the end.
    fn give(&mut self, all: bool, out: &mut Outlet, shared: &Shared) {
        loop {
            let heads = self.waiting.iter().enumerate().filter_map(|(i, w)| {
                let (batch, came) = w.batches.front()?;
                Some((batch.frame(w.taken)?.time, i, *came))
            });
            let Some((_, i, came)) = heads.min() else {
                return;
            };
            let batches: usize = self.waiting.iter().map(|w| w.batches.len()).sum();
            let silent = self.waiting.iter().any(|w| w.batches.is_empty());
            let early = silent && came.elapsed() < HOLD && batches <= MAX_WAITING;
            if early && !all {
                return;
            }
            let Some(w) = self.waiting.get_mut(i) else {
                return;
            };
            if let Some((batch, _)) = w.batches.front()
                && let Some(frame) = batch.frame(w.taken)
            {
                self.number += 1;
                out.frame(&Frame {
                    number: self.number,
                    ..frame
                });
                out.flush_full();
            }
            w.taken += 1;
            if w.batches.front().is_some_and(|(b, _)| w.taken >= b.len())
                && let Some((batch, _)) = w.batches.pop_front()
            {
                w.taken = 0;
                shared.pool.give(batch);
            }
        }
    }

    fn run(
        mut self,
        parts: &Receiver<Part>,
        out: &mut Outlet,
        shared: &Shared,
        end: &dyn Fn(),
    ) -> Option<SourceError> {
        let mut failed = None;
        loop {
            match parts.recv_timeout(LOOK) {
                Ok(Part::Batch(device, batch)) => self.take(device, batch),
                Ok(Part::Failed(e)) => {
                    failed.get_or_insert(e);
                    end();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.give(false, out, shared);
            out.flush();
            if out.is_closed() {
                end();
            }
        }
        self.give(true, out, shared);
        out.flush();
        failed
    }
}

impl Source for Devices {
    fn names(&self) -> Vec<String> {
        let names = self.all.iter().map(LiveDevice::names);
        names.flatten().collect()
    }

    fn kind(&self) -> &'static str {
        "live"
    }

    fn waker(&mut self) -> Option<Box<dyn Fn() + Send>> {
        let all: Vec<_> = self.all.iter_mut().map(LiveDevice::breaker).collect();
        Some(Box::new(move || all.iter().for_each(|wake| wake())))
    }

    fn run(&mut self, out: &mut Outlet, shared: &Shared) -> Result<Vec<FileSummary>, SourceError> {
        shared.set_interfaces(self.all.iter().map(LiveDevice::interface).collect());
        let wake = self.waker();
        let end = || {
            shared.stop();
            if let Some(wake) = &wake {
                wake();
            }
        };
        let (tx, rx) = sync_channel(QUEUE);
        let merge = Merge::new(self.all.len());
        let failed = thread::scope(|scope| {
            for (n, device) in self.all.iter_mut().enumerate() {
                let tx = tx.clone();
                scope.spawn(move || {
                    if let Err(e) = capture(device, n, &tx, shared) {
                        // Whoever would hear of it may be gone.
                        let _ = tx.send(Part::Failed(e));
                    }
                });
            }
            drop(tx);
            merge.run(&rx, out, shared, &end)
        });
        match failed {
            Some(e) => Err(e),
            None => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::super::source::Message;
    use super::*;
    use crate::capture::LinkType;
    use crate::time::Timestamp;

    fn batch(device: u32, times: &[i64]) -> Arc<Batch> {
        let mut batch = Batch::default();
        for t in times {
            batch.push(&Frame {
                number: 0,
                time: Timestamp::from_nanos(*t),
                interface: device,
                link: LinkType::Ethernet,
                wire_len: 1,
                data: &[0],
            });
        }
        Arc::new(batch)
    }

    #[test]
    fn frames_come_in_time_order() {
        let shared = Arc::new(Shared::default());
        let (tx, rx) = sync_channel(16);
        let mut out = Outlet::new(shared.clone(), tx, None, false);
        let mut merge = Merge::new(3);
        let mut seen = vec![];
        let mut look = |out: &mut Outlet| {
            out.flush();
            while let Ok(Message::Batch(b)) = rx.try_recv() {
                let frames = b.frames();
                seen.extend(frames.map(|f| (f.number, f.interface, f.time.nanos())));
            }
            seen.len()
        };
        merge.take(0, batch(0, &[10, 40, 50]));
        merge.take(1, batch(1, &[20, 30]));
        merge.give(false, &mut out, &shared);
        assert_eq!(
            look(&mut out),
            0,
            "the third device may have an earlier one"
        );
        merge.take(2, batch(2, &[5, 45]));
        merge.give(false, &mut out, &shared);
        // Up to the last of the second device, which may have more before 40.
        assert_eq!(look(&mut out), 4);
        thread::sleep(HOLD);
        merge.give(false, &mut out, &shared);
        assert_eq!(
            look(&mut out),
            7,
            "a silent device does not hold the others up"
        );
        merge.take(1, batch(1, &[60]));
        merge.give(true, &mut out, &shared);
        assert_eq!(look(&mut out), 8);
        assert_eq!(
            seen,
            [
                (1, 2, 5),
                (2, 0, 10),
                (3, 1, 20),
                (4, 1, 30),
                (5, 0, 40),
                (6, 2, 45),
                (7, 0, 50),
                (8, 1, 60)
            ]
        );
    }

    #[test]
    fn no_more_than_so_many_wait() {
        let shared = Arc::new(Shared::default());
        let (tx, rx) = sync_channel(MAX_WAITING);
        let mut out = Outlet::new(shared.clone(), tx, None, false);
        let mut merge = Merge::new(2);
        // They came so late that the silent device is waited for however slow this test is.
        let came = Instant::now() + Duration::from_secs(3600);
        let mut wait = |merge: &mut Merge, times: std::ops::Range<i64>| {
            for t in times {
                merge.waiting[0].batches.push_back((batch(0, &[t]), came));
            }
            merge.give(false, &mut out, &shared);
            out.flush();
            let given = rx.try_iter().map(|m| match m {
                Message::Batch(b) => b.frames().map(|f| f.time.nanos()).collect::<Vec<_>>(),
                _ => panic!("nothing but frames"),
            });
            (
                given.flatten().collect::<Vec<_>>(),
                merge.waiting[0].batches.len(),
            )
        };
        let full = MAX_WAITING as i64;
        assert_eq!(wait(&mut merge, 0..full), (vec![], MAX_WAITING));
        // The earliest go on, and no more of them than must.
        assert_eq!(
            wait(&mut merge, full..full + 3),
            (vec![0, 1, 2], MAX_WAITING)
        );
    }
}
