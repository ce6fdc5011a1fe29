//! Reading in a thread of its own: while one block is decoded, the next is read and decompressed.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Blocks in flight: some wait, some are filled, one is decoded, and some have been.
const BLOCKS: usize = 4;

/// Used blocks that go back at once: each time, the reading thread may have to be woken.
const RETURNED: usize = 2;

/// Where a block begins in memory, in bytes: a cache line. The kernel's copy into a block that begins
/// 16 bytes behind one takes a third longer.
const LINE: usize = 64;

/// Memory for a block of `room` bytes behind `headroom` bytes.
pub(super) fn memory(headroom: usize, room: usize) -> Vec<u8> {
    vec![0; headroom + room + LINE]
}

/// Where the block begins in such memory: at a cache line, behind `headroom` bytes at least.
pub(super) fn beginning(memory: &[u8], headroom: usize) -> usize {
    let after = memory.get(headroom..).unwrap_or_default();
    headroom + after.as_ptr().align_offset(LINE).min(LINE)
}

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
            let _ = give_back.send(memory(headroom, room));
        }
        thread::Builder::new()
            .name("read-ahead".to_owned())
            .spawn(move || run(input, headroom, room, &empty, &fill))?;
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
    room: usize,
    empty: &Receiver<Vec<u8>>,
    full: &SyncSender<io::Result<(Vec<u8>, usize)>>,
) {
    while let Ok(mut block) = empty.recv() {
        let from = beginning(&block, headroom);
        let got = loop {
            let room = block.get_mut(from..from + room).unwrap_or_default();
            match input.read(room) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let message = match got {
            Ok(0) => return,
            Ok(n) => Ok((block, from + n)),
            Err(e) => Err(e),
        };
        let over = message.is_err();
        if full.send(message).is_err() || over {
            return;
        }
    }
}
