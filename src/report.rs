//! Answers: the report as data, as text, as markdown.

pub mod document;
pub mod events;
pub mod html;
pub mod trace;
pub(crate) mod units;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capture::FileSummary;
use crate::dissect::Traffic;
use crate::migration::{EchoSummary, Migration};
use crate::time::Timestamp;

pub use document::{Format, render, render_with};
pub use units::printable;

/// Version of the report's keys.
pub const SCHEMA: &str = "phasescope.report/1";

/// The JSON Schema of [`SCHEMA`].
pub const JSON_SCHEMA: &str = include_str!("report/schema.json");

/// What `phasescope analyze` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The capture as a whole.
    pub capture: CaptureSummary,
    /// In order of their first evidence.
    pub migrations: Vec<Migration>,
}

/// What was read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaptureSummary {
    /// File names as given.
    pub files: Vec<String>,
    /// Taps by name, in the order of their files.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub taps: Vec<Tap>,
    /// `pcap` or `pcapng`; both where there are both.
    pub format: String,
    /// Frames.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Time of the first frame.
    pub first: Option<String>,
    /// Time of the last frame.
    pub last: Option<String>,
    /// From the first to the last.
    pub duration_ns: Option<i64>,
    /// TCP connections.
    pub connections: u64,
    /// What is wrong with it.
    pub health: Health,
    /// Echo requests and replies, by series.
    pub echoes: Vec<EchoSummary>,
}

/// A file from a tap with a name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tap {
    /// Its name.
    pub name: String,
    /// The file.
    pub file: String,
    /// Frames in it.
    pub packets: u64,
}

/// What the capture lacks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    /// TCP payload that was acknowledged or followed by more, but is not in the capture.
    pub missing_bytes: u64,
    /// Frames that the snap length cut.
    pub cut_packets: u64,
    /// TCP payload that the snap length cut off, of connections that were decoded.
    pub cut_bytes: u64,
    /// TCP payload seen again.
    pub retransmitted_bytes: u64,
    /// Segments that came after later ones.
    pub reordered_packets: u64,
    /// A file ends in the middle of a record.
    pub truncated_file: bool,
    /// Where files are broken.
    pub damage: Vec<String>,
    /// Frames of a live capture that were dropped before they were looked at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dropped_packets: Option<u64>,
    /// Irregularities by name.
    pub oddities: BTreeMap<String, u64>,
}

impl CaptureSummary {
    /// Puts the summary together.
    pub fn new(
        files: &[FileSummary],
        traffic: &Traffic,
        times: Option<(Timestamp, Timestamp)>,
        echoes: Vec<EchoSummary>,
    ) -> Self {
        let mut formats: Vec<&str> = files.iter().map(|f| f.format.name()).collect();
        formats.sort_unstable();
        formats.dedup();
        let mut oddities: BTreeMap<String, u64> = traffic
            .oddities
            .iter()
            .map(|(name, n)| (name.to_owned(), n))
            .collect();
        let back: u64 = files.iter().map(|f| f.steps_back).sum();
        if back > 0 {
            oddities.insert("time-steps-back".to_owned(), back);
        }
        Self {
            files: files.iter().map(|f| f.name.clone()).collect(),
            taps: files
                .iter()
                .filter_map(|f| {
                    Some(Tap {
                        name: f.tap.clone()?,
                        file: f.name.clone(),
                        packets: f.packets,
                    })
                })
                .collect(),
            format: formats.join(", "),
            packets: traffic.packets,
            bytes: traffic.bytes,
            first: times.map(|(first, _)| first.to_string()),
            last: times.map(|(_, last)| last.to_string()),
            duration_ns: times.map(|(first, last)| last.since(first)),
            connections: traffic.connections,
            health: Health {
                missing_bytes: traffic.tcp.missing_bytes,
                cut_packets: traffic.cut_packets,
                cut_bytes: traffic.tcp.cut_bytes,
                retransmitted_bytes: traffic.tcp.retransmitted_bytes,
                reordered_packets: traffic.tcp.reordered_packets,
                truncated_file: files
                    .iter()
                    .any(|f| f.damage.as_ref().is_some_and(|d| d.truncated)),
                damage: files
                    .iter()
                    .filter_map(|f| Some(format!("{}: {}", f.name, f.damage.as_ref()?)))
                    .collect(),
                dropped_packets: None,
                oddities,
            },
            echoes,
        }
    }
}

impl Report {
    /// A report of this version.
    pub fn new(capture: CaptureSummary, migrations: Vec<Migration>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            capture,
            migrations,
        }
    }

    /// As JSON, indented.
    ///
    /// # Errors
    /// None in practice: every key is a string.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|s| s + "\n")
    }
}
