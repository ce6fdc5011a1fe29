//! What was varied between runs: from a manifest, from the command line, from file names.

use std::collections::BTreeMap;
use std::path::Path;

use phasescope_tables::Texts;

use super::StatsError;
use super::runs::Run;

/// Levels by factor.
pub type Levels = BTreeMap<String, String>;

/// A table that gives factors to files.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    rows: Vec<Row>,
}

/// A line of it.
#[derive(Debug, Clone)]
struct Row {
    file: String,
    levels: Levels,
    /// Captures that are read together with the file.
    with: Vec<String>,
}

/// Between the names of captures that are read as one.
pub const TOGETHER: char = '+';

impl Manifest {
    /// From CSV with a header: a column `file`, one column for each factor, and if there is a
    /// column `with`, further captures of the same run, a [`TOGETHER`] between them. A value that
    /// begins or ends with spaces loses them.
    ///
    /// # Errors
    /// It is no CSV, or has no column `file`.
    pub fn read(csv: &[u8]) -> Result<Self, StatsError> {
        let table = Texts::read(csv)?;
        let Some(files) = table.heads().iter().position(|n| n == "file") else {
            let why = "the manifest has no column `file` in its first line".to_owned();
            return Err(StatsError::Words(why));
        };
        let row = |cells: &[String]| {
            let mut row = Row {
                file: cells[files].clone(),
                levels: Levels::new(),
                with: vec![],
            };
            for (name, value) in table.heads().iter().zip(cells) {
                match name.as_str() {
                    "file" => {}
                    "with" => {
                        let parts = value.split(TOGETHER).map(str::trim);
                        let parts = parts.filter(|p| !p.is_empty());
                        row.with = parts.map(str::to_owned).collect();
                    }
                    _ if value.is_empty() => {}
                    _ => {
                        row.levels.insert(name.clone(), value.clone());
                    }
                }
            }
            row
        };
        let rows = table.rows().map(|(_, cells)| row(cells)).collect();
        Ok(Self { rows })
    }

    /// The factors of a file: by its path as given, else by its name alone.
    pub fn levels(&self, file: &str) -> Option<&Levels> {
        self.row(file).map(|r| &r.levels)
    }

    /// Captures of the same run as a file; their paths count from the file's folder.
    pub fn with(&self, file: &str) -> &[String] {
        self.row(file).map_or(&[], |r| &r.with)
    }

    fn row(&self, file: &str) -> Option<&Row> {
        let name = |f: &str| {
            let name = Path::new(f).file_name();
            name.map_or(f.to_owned(), |n| n.to_string_lossy().into_owned())
        };
        let exact = self.rows.iter().find(|r| r.file == file);
        exact.or_else(|| self.rows.iter().find(|r| name(&r.file) == name(file)))
    }

    /// Names of all factors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rows
            .iter()
            .flat_map(|r| r.levels.keys().map(String::as_str))
    }
}

/// A pattern over file names: plain text, `*` for anything, `{name}` for a factor.
///
/// It is held against the file's name without its folder, and must cover all of it:
/// `{flavor}-load{load}-*.pcap`. A factor takes as little as it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Any,
    Factor(String),
}

/// Pieces that a pattern may have.
const MAX_PIECES: usize = 32;

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut pieces = vec![];
        let mut rest = s;
        while let Some(first) = rest.chars().next() {
            let (piece, after) = match first {
                '*' => (Piece::Any, &rest[1..]),
                '{' => {
                    let end = rest.find('}').ok_or("a `{` has no `}`")?;
                    let name = &rest[1..end];
                    if name.is_empty() || name.contains(['{', '*', ',']) {
                        return Err(format!("`{name}` is no name for a factor"));
                    }
                    (Piece::Factor(name.to_owned()), &rest[end + 1..])
                }
                _ => {
                    let end = rest.find(['*', '{']).unwrap_or(rest.len());
                    (Piece::Text(rest[..end].to_owned()), &rest[end..])
                }
            };
            pieces.push(piece);
            rest = after;
        }
        if pieces.len() > MAX_PIECES {
            return Err(format!("more than {MAX_PIECES} pieces"));
        }
        if !pieces.iter().any(|p| matches!(p, Piece::Factor(_))) {
            return Err("no factor in it: write {name} where the file name tells one".to_owned());
        }
        Ok(Self(pieces))
    }
}

impl Pattern {
    /// The factors that a file's name gives; `None` where it does not fit.
    pub fn levels(&self, file: &str) -> Option<Levels> {
        let name = Path::new(file).file_name()?.to_string_lossy();
        // Places already found hopeless, so that no name takes more than pieces × length steps.
        let mut hopeless = vec![vec![false; name.len() + 1]; self.0.len() + 1];
        let mut found = vec![];
        if !fit(&self.0, &name, 0, 0, &mut found, &mut hopeless) {
            return None;
        }
        Some(found.into_iter().collect())
    }

    /// Names of its factors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|p| match p {
            Piece::Factor(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

fn fit(
    pieces: &[Piece],
    name: &str,
    piece: usize,
    at: usize,
    found: &mut Vec<(String, String)>,
    hopeless: &mut [Vec<bool>],
) -> bool {
    let rest = &name[at..];
    let Some(p) = pieces.get(piece) else {
        return rest.is_empty();
    };
    if hopeless[piece][at] {
        return false;
    }
    let fits = match p {
        Piece::Text(t) => {
            rest.starts_with(t.as_str())
                && fit(pieces, name, piece + 1, at + t.len(), found, hopeless)
        }
        Piece::Any | Piece::Factor(_) => {
            let least = usize::from(*p != Piece::Any);
            let ends = rest.char_indices().map(|(i, _)| i).chain([rest.len()]);
            let mut done = false;
            for end in ends.skip(least) {
                let depth = found.len();
                if let Piece::Factor(f) = p {
                    found.push((f.clone(), rest[..end].to_owned()));
                }
                if fit(pieces, name, piece + 1, at + end, found, hopeless) {
                    done = true;
                    break;
                }
                found.truncate(depth);
            }
            done
        }
    };
    if !fits {
        hopeless[piece][at] = true;
    }
    fits
}

/// Where factors come from; later ones win over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The same for every file.
    pub given: Levels,
    /// From file names.
    pub pattern: Option<Pattern>,
    /// From a table.
    pub manifest: Option<Manifest>,
}

impl Sources {
    /// Gives runs their factors. Returns the files that the pattern or the manifest does not
    /// know, each once.
    pub fn apply(&self, runs: &mut [Run]) -> Vec<String> {
        let mut strangers = vec![];
        for run in runs {
            run.factors.extend(self.given.clone());
            let mut known = true;
            if let Some(p) = &self.pattern {
                match p.levels(&run.file) {
                    Some(l) => run.factors.extend(l),
                    None => known = false,
                }
            }
            if let Some(m) = &self.manifest {
                match m.levels(&run.file) {
                    Some(l) => run.factors.extend(l.clone()),
                    None => known = false,
                }
            }
            if !known && !strangers.contains(&run.file) {
                strangers.push(run.file.clone());
            }
        }
        strangers
    }

    /// Whether anything gives this factor.
    pub fn knows(&self, factor: &str) -> bool {
        self.given.contains_key(factor)
            || self
                .pattern
                .as_ref()
                .is_some_and(|p| p.names().any(|n| n == factor))
            || self
                .manifest
                .as_ref()
                .is_some_and(|m| m.names().any(|n| n == factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let p: Pattern = "{flavor}-load{load}-*.pcap*".parse().unwrap();
        let l = p.levels("runs/m1.small-load25-7.pcap.zst").unwrap();
        assert_eq!(l["flavor"], "m1.small");
        assert_eq!(l["load"], "25");
        assert!(p.levels("other.pcap").is_none());
        assert!("plain".parse::<Pattern>().is_err());
        assert!("{a".parse::<Pattern>().is_err());
        let p: Pattern = "{a}*{b}*{c}*é".parse().unwrap();
        assert!(p.levels(&"a".repeat(255)).is_none());
    }

    #[test]
    fn manifests() {
        let m = Manifest::read(b"file,load,flavor\na.pcap,0,small\nx/b.json, 25 ,\n").unwrap();
        assert_eq!(m.levels("runs/a.pcap").unwrap()["load"], "0");
        let b = m.levels("x/b.json").unwrap();
        assert_eq!(b["load"], "25");
        assert!(!b.contains_key("flavor"));
        assert!(m.levels("c.json").is_none());
        assert!(Manifest::read(b"name,load\na,1\n").is_err());
        let m = Manifest::read(b"file,with,load\na.pcap, b.pcap + c.pcap,0\nd.pcap,,1\n").unwrap();
        assert_eq!(m.with("runs/a.pcap"), ["b.pcap", "c.pcap"]);
        assert!(m.with("d.pcap").is_empty() && m.with("e.pcap").is_empty());
        assert!(m.names().all(|n| n == "load"));
    }
}
