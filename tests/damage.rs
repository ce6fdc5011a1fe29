//! Fixtures cut at 10,000 places and with single bytes changed: no panic, no endless loop, and
//! nothing wrong called exact.

mod support;

use phasescope::analysis::Analysis;
use phasescope::capture::{Capture, Frame};
use phasescope::report::Report;
use support::{KVM, kvm};

/// Places at which each fixture is cut.
const PLACES: usize = 10_000;

/// Frames that go through after a changed one.
const AFTER: usize = 40;

struct Owned {
    frame: (u64, phasescope::time::Timestamp, u32),
    link: phasescope::capture::LinkType,
    wire_len: u32,
    data: Vec<u8>,
}

impl Owned {
    fn new(f: &Frame<'_>) -> Self {
        Self {
            frame: (f.number, f.time, f.interface),
            link: f.link,
            wire_len: f.wire_len,
            data: f.data.to_vec(),
        }
    }

    fn lend(&self) -> Frame<'_> {
        let (number, time, interface) = self.frame;
        Frame {
            number,
            time,
            interface,
            link: self.link,
            wire_len: self.wire_len,
            data: &self.data,
        }
    }
}

fn open(name: &str) -> Capture {
    Capture::open(&[kvm(name)]).expect("the fixture opens")
}

/// Nothing is counted that the whole capture does not hold.
fn at_most(part: &Report, whole: &Report) {
    assert!(part.migrations.len() <= whole.migrations.len() + 1);
    let pages = |r: &Report| -> u64 {
        r.migrations
            .iter()
            .filter_map(|m| m.transfer.as_ref())
            .map(|t| t.pages.normal + t.pages.zero)
            .sum()
    };
    assert!(pages(part) <= pages(whole));
}

#[test]
fn cut_anywhere() {
    for name in KVM {
        let whole = {
            let mut capture = open(name);
            phasescope::analysis::analyze(&mut capture, |_| true).expect("reads")
        };
        let total: u64 = whole.capture.bytes;
        let step = total / PLACES as u64;
        let mut capture = open(name);
        let summary = open(name);
        let mut analysis = Analysis::default();
        let (mut passed, mut next, mut cuts) = (0u64, 0u64, 0);
        while let Some(frame) = capture.next_frame().expect("reads") {
            let end = passed + frame.data.len() as u64;
            while next < end {
                // The frame is cut inside: the state until here, and what is left of the frame.
                let mut branch = analysis.clone();
                let mut cut = frame;
                cut.data = &frame.data[..(next - passed) as usize];
                branch.frame(&cut);
                at_most(&branch.finish(&summary), &whole);
                next += step;
                cuts += 1;
            }
            analysis.frame(&frame);
            passed = end;
        }
        assert!(cuts >= PLACES, "{name}: {cuts}");
    }
}

#[test]
fn changed_bytes() {
    let name = "kvm-idle";
    let mut capture = open(name);
    let mut frames = Vec::new();
    while let Some(frame) = capture.next_frame().expect("reads") {
        frames.push(Owned::new(&frame));
    }
    let mut analysis = Analysis::default();
    // A fixed sequence: the same bytes are changed in every run.
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut dice = move |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % n.max(1) as u64) as usize
    };
    for (i, frame) in frames.iter().enumerate() {
        // Headers more often than the middle of pages.
        for at in [dice(80), dice(frame.data.len())] {
            if at >= frame.data.len() {
                continue;
            }
            let mut changed = frame.lend();
            let mut data = frame.data.clone();
            data[at] = dice(256) as u8;
            changed.data = &data;
            let mut branch = analysis.clone();
            branch.frame(&changed);
            for f in frames.iter().skip(i + 1).take(AFTER) {
                branch.frame(&f.lend());
            }
            let report = branch.finish(&capture);
            assert!(report.capture.packets <= frames.len() as u64);
        }
        analysis.frame(&frame.lend());
    }
}
