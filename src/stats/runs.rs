//! Runs: migrations from many files, each with its factors.

use std::collections::BTreeMap;
use std::path::Path;

use crate::migration::{Migration, OutcomeKind};
use crate::report::Report;

/// One migration of a series of experiments.
#[derive(Debug, Clone)]
pub struct Run {
    /// The file it comes from, as given; the first, where several are read as one.
    pub file: String,
    /// How many migrations that file holds.
    pub siblings: usize,
    /// What was varied, and its level.
    pub factors: BTreeMap<String, String>,
    /// The migration.
    pub migration: Migration,
}

impl Run {
    /// All migrations of a report.
    pub fn of_report(file: &str, report: Report) -> Vec<Run> {
        let siblings = report.migrations.len();
        report
            .migrations
            .into_iter()
            .map(|migration| Run {
                file: file.to_owned(),
                siblings,
                factors: BTreeMap::new(),
                migration,
            })
            .collect()
    }

    /// The guest runs on the destination.
    pub fn completed(&self) -> bool {
        self.migration.outcome.result == OutcomeKind::Completed
    }

    /// A short name: the file's, and the migration's number where the file holds several.
    pub fn label(&self) -> String {
        let name = Path::new(&self.file).file_name();
        let name = name.map_or(self.file.clone(), |n| n.to_string_lossy().into_owned());
        let stem = ENDINGS
            .iter()
            .fold(name.as_str(), |n, e| n.strip_suffix(e).unwrap_or(n));
        if self.siblings > 1 {
            format!("{stem} #{}", self.migration.id)
        } else {
            stem.to_owned()
        }
    }

    /// The level of a factor: one that was given, or one that the report itself knows (`file`,
    /// `run`, `guest`, `source`, `destination`, `driver`, `technique`, `outcome`).
    pub fn factor(&self, name: &str) -> Option<String> {
        if let Some(v) = self.factors.get(name) {
            return Some(v.clone());
        }
        let m = &self.migration;
        let host = |h: &crate::migration::Host| h.hostname.clone().or(h.address.clone());
        match name {
            "file" => Some(self.file.clone()),
            "run" => Some(self.label()),
            "guest" => m.guest.name.clone().or(m.guest.uuid.clone()),
            "source" => host(&m.source),
            "destination" => host(&m.destination),
            "driver" => Some(word(m.driver)),
            "technique" => Some(word(m.technique)),
            "outcome" => Some(word(m.outcome.result)),
            _ => None,
        }
    }

    /// The group's name: the levels of its factors.
    pub fn group(&self, factors: &[String]) -> Vec<String> {
        factors
            .iter()
            .map(|f| self.factor(f).unwrap_or_default())
            .collect()
    }
}

/// Endings of file names that labels leave out, the outer ones first.
const ENDINGS: [&str; 6] = [".zst", ".gz", ".pcapng", ".pcap", ".cap", ".json"];

/// Factors that a report knows by itself.
pub const BUILT_IN: [&str; 8] = [
    "file",
    "run",
    "guest",
    "source",
    "destination",
    "driver",
    "technique",
    "outcome",
];

/// A value of one word, as reports write it.
fn word<T: serde::Serialize>(v: T) -> String {
    match serde_json::to_value(v) {
        Ok(serde_json::Value::String(s)) => s,
        _ => String::new(),
    }
}
