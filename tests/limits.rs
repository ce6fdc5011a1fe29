//! Traffic made to exhaust: the limits of ARCHITECTURE.md's table are reached, and the report says
//! so where it depends on them.
//!
//! What is held is bounded by counters, or by running the program with little address space.

mod support;

#[path = "limits/beside.rs"]
mod beside;
#[path = "limits/cloud.rs"]
mod cloud;
#[path = "limits/files.rs"]
mod files;
#[path = "limits/messages.rs"]
mod messages;
#[path = "limits/network.rs"]
mod network;
#[path = "limits/scrub.rs"]
mod scrub;
#[path = "limits/signs.rs"]
mod signs;
#[path = "limits/tables.rs"]
mod tables;
#[path = "limits/tls.rs"]
mod tls;

use phasescope::analysis::{Analysis, analyze};
use phasescope::capture::{Frame, LinkType};
use phasescope::report::Report;
use phasescope::time::Timestamp;
use support::trace::{START, Trace};

fn report(t: &Trace) -> Report {
    analyze(&mut t.capture(), |_| true).expect("reads")
}

/// How often an irregularity was counted.
fn oddity(report: &Report, name: &str) -> u64 {
    report
        .capture
        .health
        .oddities
        .get(name)
        .copied()
        .unwrap_or(0)
}

/// An analysis that is fed frames as they are made, so that the trace is never held.
#[derive(Default)]
struct Feed {
    analysis: Analysis,
    number: u64,
    packets: u64,
}

impl Feed {
    /// A frame of raw IP, nanoseconds from [`START`].
    fn frame(&mut self, at: i64, data: &[u8]) {
        self.number += 1;
        self.packets += 1;
        self.analysis.frame(&Frame {
            number: self.number,
            time: Timestamp::from_nanos(START + at),
            interface: 0,
            link: LinkType::Raw,
            wire_len: data.len() as u32,
            data,
        });
    }

    fn report(mut self) -> Report {
        self.analysis.close(&mut |_| {});
        let report = self.analysis.report(&[]);
        assert_eq!(report.capture.packets, self.packets);
        report
    }
}

/// What a TCP segment's header says.
#[derive(Clone, Copy)]
struct Tcp {
    from: ([u8; 4], u16),
    to: ([u8; 4], u16),
    sequence: u32,
    acknowledgment: Option<u32>,
    syn: bool,
}

impl Tcp {
    /// IPv4, TCP and a payload, without checksums: nobody here looks at them.
    fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x45, 0];
        out.extend((40 + payload.len() as u16).to_be_bytes());
        out.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        out.extend(self.from.0);
        out.extend(self.to.0);
        out.extend(self.from.1.to_be_bytes());
        out.extend(self.to.1.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.acknowledgment.unwrap_or(0).to_be_bytes());
        let flags = u8::from(self.syn) << 1 | u8::from(self.acknowledgment.is_some()) << 4;
        out.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        out.extend(payload);
        out
    }
}
