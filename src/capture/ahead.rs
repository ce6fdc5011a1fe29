//! Reading in a thread of its own: while one block is decoded, the next is read and decompressed.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Blocks in flight: some wait, some are filled, one is decoded, and some have been.
const BLOCKS: usize = 6;

/// Used blocks that go back at once: each time, the reading thread may have to be woken.
const RETURNED: usize = 3;

/// The reading thread's other end.
pub(super) struct Ahead {
    full: Receiver<io::Result<(Vec<u8>, usize)>>,
    empty: Sender<Vec<u8>>,
    used: Vec<Vec<u8>>,
}

impl Ahead {
    /// Reads blocks of `room` bytes, each behind `headroom` bytes that are left free for what
    /// remains of the block before.
    pub(super) fn new(
        input: Box<dyn Read + Send>,
        headroom: usize,
        room: usize,
    ) -> io::Result<Self> {
        let (give_back, empty) = channel();
        let (fill, full) = sync_channel(BLOCKS);
        for _ in 0..BLOCKS {
            // The receiver is right here.
            let _ = give_back.send(vec![0; headroom + room]);
        }
        thread::Builder::new()
            .name("read-ahead".to_owned())
            .spawn(move || run(input, headroom, &empty, &fill))?;
        Ok(Self {
            full,
            empty: give_back,
            used: Vec::with_capacity(RETURNED),
        })
    }

    /// The next block and the end of what it holds; `None` at the end of the input.
    pub(super) fn next(&mut self) -> io::Result<Option<(Vec<u8>, usize)>> {
        self.full.recv().ok().transpose()
    }

    /// A block that has been used.
    pub(super) fn give_back(&mut self, block: Vec<u8>) {
        self.used.push(block);
        if self.used.len() >= RETURNED {
            for block in self.used.drain(..) {
                // The thread may be at the end of the input.
                let _ = self.empty.send(block);
            }
        }
    }
}

/// Ends with the input, an error, or the reader's interest.
fn run(
    mut input: Box<dyn Read + Send>,
    headroom: usize,
    empty: &Receiver<Vec<u8>>,
    full: &SyncSender<io::Result<(Vec<u8>, usize)>>,
) {
    while let Ok(mut block) = empty.recv() {
        let got = loop {
            let room = block.get_mut(headroom..).unwrap_or_default();
            match input.read(room) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let message = match got {
            Ok(0) => return,
            Ok(n) => Ok((block, headroom + n)),
            Err(e) => Err(e),
        };
        let over = message.is_err();
        if full.send(message).is_err() || over {
            return;
        }
    }
}
