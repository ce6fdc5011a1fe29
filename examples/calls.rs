//! The dissectors alone: the slowest libvirt calls in a capture, whether they belong to a
//! migration or not.
//!
//!     cargo run --example calls -- fixtures/kvm/kvm-loaded.pcap.zst

use std::collections::HashMap;
use std::path::PathBuf;

use phasescope::capture::Capture;
use phasescope::dissect::{Dissector, Event, Kind, Sink};
use phasescope::time::Timestamp;
use phasescope_parsers::libvirt::header::MessageType;

/// Pairs calls and replies.
#[derive(Default)]
struct Slowest {
    open: HashMap<(u64, i32, u32), Timestamp>,
    took: Vec<(i64, &'static str)>,
}

impl Sink for Slowest {
    fn event(&mut self, event: Event) {
        let (Some((flow, _)), Kind::Rpc(rpc)) = (event.flow, event.kind) else {
            return;
        };
        let key = (flow, rpc.header.procedure, rpc.header.serial);
        match rpc.header.kind {
            MessageType::Call => {
                self.open.insert(key, event.stamp.time);
            }
            MessageType::Reply => {
                if let Some(begun) = self.open.remove(&key) {
                    let took = event.stamp.time.since(begun);
                    self.took.push((took, rpc.name.unwrap_or("unknown")));
                }
            }
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let mut capture = Capture::open(&files)?;
    let (mut dissector, mut slowest) = (Dissector::default(), Slowest::default());
    while let Some(frame) = capture.next_frame()? {
        dissector.frame(&frame, &mut slowest);
    }
    dissector.finish(&mut slowest);
    slowest
        .took
        .sort_unstable_by_key(|(ns, _)| std::cmp::Reverse(*ns));
    let mut out = String::new();
    for (ns, name) in slowest.took.iter().take(10) {
        out.push_str(&format!("{:>12.6} s  {name}\n", *ns as f64 / 1e9));
    }
    std::io::Write::write_all(&mut std::io::stdout(), out.as_bytes())?;
    Ok(())
}
