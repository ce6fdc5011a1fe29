//! CSV as people write it by hand.

use crate::TableError;

/// A CSV file with a header, every cell as text, spaces around it taken away.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    heads: Vec<String>,
    /// The line of the file that a row begins in, counted from 1, and its cells.
    rows: Vec<(u64, Vec<String>)>,
}

impl Texts {
    /// Reads it.
    ///
    /// # Errors
    /// No text, or a line with more or fewer cells than the header.
    pub fn read(csv: &[u8]) -> Result<Self, TableError> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(csv);
        let heads = reader.headers()?.iter().map(str::to_owned).collect();
        let mut rows = vec![];
        for record in reader.records() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            rows.push((line, record.iter().map(str::to_owned).collect()));
        }
        Ok(Self { heads, rows })
    }

    /// Names of the columns.
    pub fn heads(&self) -> &[String] {
        &self.heads
    }

    /// Each row with the number of its line.
    pub fn rows(&self) -> impl Iterator<Item = (u64, &[String])> {
        self.rows
            .iter()
            .map(|(line, cells)| (*line, cells.as_slice()))
    }

    /// A column, from top to bottom.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn column(&self, name: &str) -> Result<Vec<&str>, TableError> {
        let at = self.heads.iter().position(|h| h == name);
        let at = at.ok_or_else(|| TableError::NoColumn(name.to_owned()))?;
        Ok(self
            .rows
            .iter()
            .map(|(_, cells)| cells[at].as_str())
            .collect())
    }
}
