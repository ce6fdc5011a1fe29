//! The library in a few lines: the phases of every migration in some captures, one line each.
//!
//!     cargo run --example phases -- fixtures/kvm/kvm-idle.pcap.zst

use std::path::PathBuf;

use phasescope::analysis::analyze;
use phasescope::capture::Capture;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let mut capture = Capture::open(&files)?;
    let report = analyze(&mut capture, |_| true)?;
    let mut out = String::new();
    for m in &report.migrations {
        for p in &m.phases {
            let took = p.duration_ns.map_or("unknown".to_owned(), |ns| {
                format!("{:.6} s", ns as f64 / 1e9)
            });
            let name = m.guest.name.as_deref().unwrap_or("?");
            out.push_str(&format!("{} {name} {} {took}\n", m.id, p.name.name()));
        }
    }
    std::io::Write::write_all(&mut std::io::stdout(), out.as_bytes())?;
    Ok(())
}
