//! `phasescope phases`

use clap::{Args, ValueEnum};
use phasescope::migration::Driver;
use phasescope::migration::markers::{Edge, MARKERS};
use serde_json::json;

use super::output::{Output, json};
use super::{Failure, exit};

/// Print the table of markers: what begins and ends each phase
///
/// A marker counts if none of a lower rank was seen. `filter` is how to find it in Wireshark (the
/// libvirt fields need libvirt's plugin, Debian package libvirt-wireshark).
#[derive(Debug, Args)]
pub(crate) struct Phases {
    /// How to print it
    #[arg(long, value_enum, default_value_t = TableFormat::Text)]
    format: TableFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableFormat {
    /// Lines
    Text,
    /// An array of objects
    Json,
}

fn driver(d: Driver) -> &'static str {
    match d {
        Driver::LibvirtP2p => "p2p",
        Driver::LibvirtTunnelled => "tunnelled",
        Driver::LibvirtDirect => "direct",
        Driver::Openstack => "openstack",
        Driver::None => "none",
    }
}

fn edge(e: Edge) -> &'static str {
    match e {
        Edge::Start => "start",
        Edge::End => "end",
    }
}

impl Phases {
    pub(crate) fn run(&self) -> Result<u8, Failure> {
        let mut out = Output::open(None)?;
        match self.format {
            TableFormat::Text => {
                for m in MARKERS {
                    let drivers: Vec<&str> = m.drivers.iter().map(|d| driver(*d)).collect();
                    let drivers = if drivers.is_empty() {
                        "any driver".to_owned()
                    } else {
                        drivers.join(", ")
                    };
                    out.put(&format!(
                        "{:<14} {:<5} {}  {:<28} {:<9}  {drivers}\n{:24}filter: {}\n",
                        m.phase.name(),
                        edge(m.edge),
                        m.rank,
                        m.name,
                        m.certainty.name(),
                        "",
                        m.filter,
                    ))?;
                }
            }
            TableFormat::Json => {
                let rows: Vec<_> = MARKERS
                    .iter()
                    .map(|m| {
                        json!({
                            "phase": m.phase.name(),
                            "edge": edge(m.edge),
                            "rank": m.rank,
                            "marker": m.name,
                            "certainty": m.certainty.name(),
                            "drivers": m.drivers.iter().map(|d| driver(*d)).collect::<Vec<_>>(),
                            "filter": m.filter,
                        })
                    })
                    .collect();
                out.put(&json(&rows)?)?;
            }
        }
        out.finish()?;
        Ok(exit::FOUND)
    }
}
