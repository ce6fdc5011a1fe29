//! `phasescope what-if`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use phasescope::migration::Migration;
use phasescope::stats::grid::Grid;
use phasescope::stats::what_if::{Change, Forecast, forecast};
use serde_json::json;

use super::output::{Output, json};
use super::runs::{NONE_COMPLETED, Work, files_of};
use super::sandbox::Reach;
use super::{EXIT_CODES, Failure, exit};

/// Reckon a budget under other circumstances, by simple assumptions that are printed with it
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct WhatIf {
    /// Saved reports, or traces.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Rate of the link that carries the guest, bits a second: 10G, 25G, 800M.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    bandwidth: Option<f64>,

    /// Round-trip time to the identity service on top of today's: 50ms.
    #[arg(long, value_name = "TIME", value_parser = time)]
    keystone_rtt: Option<i64>,

    /// Round trips of an authentication: 2 (connection, request), 4 with TLS 1.2.
    #[arg(long, value_name = "N", default_value_t = 2)]
    keystone_round_trips: u32,

    /// Round-trip time between the hosts' libvirt daemons on top of today's: 5ms.
    #[arg(long, value_name = "TIME", value_parser = time)]
    libvirt_rtt: Option<i64>,

    /// How to print the budget.
    #[arg(long, value_enum, default_value_t = ForecastFormat::Text)]
    format: ForecastFormat,

    #[command(flatten)]
    work: Work,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ForecastFormat {
    /// For a terminal
    Text,
    /// An object for each migration
    Json,
}

/// Splits `10G` into number and unit.
fn split(s: &str) -> Result<(f64, &str), String> {
    let s = s.trim();
    let end = s
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(s.len());
    let value: f64 = s[..end]
        .parse()
        .map_err(|_| format!("`{s}` does not begin with a number"))?;
    if !value.is_finite() || value > 1e15 {
        return Err(format!("`{s}` is too large"));
    }
    Ok((value, s[end..].trim()))
}

fn rate(s: &str) -> Result<f64, String> {
    let (value, unit) = split(s)?;
    let unit = unit.trim_end_matches("/s").trim_end_matches("bit");
    let factor = match unit {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => return Err(format!("`{s}`: bits a second with k, M, G or T")),
    };
    if value <= 0.0 {
        return Err(format!("`{s}`: a link needs a rate above nought"));
    }
    Ok(value * factor)
}

fn time(s: &str) -> Result<i64, String> {
    let (value, unit) = split(s)?;
    let factor = match unit {
        "s" => 1e9,
        "ms" => 1e6,
        "us" | "µs" => 1e3,
        "ns" => 1.0,
        _ => return Err(format!("`{s}`: a time with s, ms, us or ns")),
    };
    let ns = value * factor;
    if ns > 86_400e9 {
        return Err(format!("`{s}`: more than a day"));
    }
    Ok(ns.round() as i64)
}

impl WhatIf {
    pub(crate) fn reach(&self) -> Reach {
        Reach::default().reads(files_of(&self.files, None))
    }

    pub(crate) fn run(&self) -> Result<u8, Failure> {
        if self.bandwidth.is_none() && self.keystone_rtt.is_none() && self.libvirt_rtt.is_none() {
            let why = "nothing is changed: give --bandwidth, --keystone-rtt or --libvirt-rtt";
            return Err(Failure::Usage(why.to_owned()));
        }
        let change = Change {
            bandwidth: self.bandwidth,
            keystone_rtt_ns: self.keystone_rtt,
            keystone_trips: self.keystone_round_trips,
            libvirt_rtt_ns: self.libvirt_rtt,
        };
        let runs = self.work.load(&self.files)?;
        if runs.is_empty() {
            return Err(NONE_COMPLETED);
        }
        let mut out = Output::open(None)?;
        let mut list = vec![];
        for r in &runs {
            let f = forecast(&r.migration, &change);
            match self.format {
                ForecastFormat::Text => out.put(&text(&r.label(), &r.migration, &f))?,
                ForecastFormat::Json => {
                    list.push(json!({ "run": r.label(), "forecast": f }));
                }
            }
        }
        if self.format == ForecastFormat::Json {
            let value = json!({ "schema": "phasescope.what-if/1", "runs": list });
            out.put(&json(&value)?)?;
        }
        out.finish()?;
        Ok(exit::FOUND)
    }
}

fn text(label: &str, m: &Migration, f: &Forecast) -> String {
    let mut grid = Grid::new(&["phase", ">measured (s)", ">reckoned (s)", ">change (s)"]);
    let seconds = |ns: Option<i64>| match ns {
        Some(n) => format!("{:.6}", n as f64 / 1e9),
        None => "unknown".to_owned(),
    };
    let change = |a: Option<i64>, b: Option<i64>| match (a, b) {
        (Some(a), Some(b)) if a != b => format!("{:+.6}", b.saturating_sub(a) as f64 / 1e9),
        _ => String::new(),
    };
    let mut row = |name: &str, a: Option<i64>, b: Option<i64>| {
        grid.row(vec![name.to_owned(), seconds(a), seconds(b), change(a, b)]);
    };
    for p in &f.phases {
        row(p.name.name(), p.before_ns, p.after_ns);
    }
    row("(gaps)", f.gaps_ns, f.gaps_ns);
    row("total", f.total_before_ns, f.total_after_ns);
    if let Some((a, b)) = f.stopped_round_ns {
        row("last round, guest stopped", Some(a), Some(b));
    }
    let mut out = format!("{label}: migration {}\n\n{}\n", m.id, grid.text());
    if let Some((a, b)) = f.rounds {
        out.push_str(&format!("rounds: {a} measured, {b} reckoned\n"));
    }
    out.push_str("supposed:\n");
    for a in &f.assumptions {
        out.push_str(&format!("- {a}\n"));
    }
    for w in &f.warnings {
        out.push_str(&format!("! {w}\n"));
    }
    out.push('\n');
    out
}
