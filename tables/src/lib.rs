//! Tables of named columns: what statistics read and write.
//!
//! CSV and JSON are always there; Parquet and Arrow come with polars (feature `polars`).

#[cfg(feature = "polars")]
mod frame;
mod text;

pub use text::Texts;

use serde_json::{Map, Value, json};

/// Why a table cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Two columns have one name.
    #[error("two columns are named `{0}`")]
    Twice(String),
    /// A column is shorter or longer than the first.
    #[error("column `{0}` has another length than the others")]
    Length(String),
    /// There is no such column, or not of the kind that is asked for.
    #[error("there is no column `{0}` of this kind")]
    NoColumn(String),
    /// No CSV, or not with as many values in each line.
    #[error("no CSV: {0}")]
    Csv(#[from] csv::Error),
    /// polars cannot write or read it.
    #[cfg(feature = "polars")]
    #[error(transparent)]
    Polars(#[from] polars::error::PolarsError),
}

/// The values of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Words.
    Text(Vec<String>),
    /// Whole numbers.
    Count(Vec<u64>),
    /// Numbers; `None` where one is not known.
    Number(Vec<Option<f64>>),
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Column::Text(v) => v.len(),
            Column::Count(v) => v.len(),
            Column::Number(v) => v.len(),
        }
    }

    /// A cell as CSV has it; nothing where it is not known.
    fn cell(&self, row: usize) -> String {
        match self {
            Column::Text(v) => v[row].clone(),
            Column::Count(v) => v[row].to_string(),
            // With a point, so that readers take the column for numbers of one kind.
            Column::Number(v) => v[row].map_or_else(String::new, |n| format!("{n:?}")),
        }
    }

    fn json(&self, row: usize) -> Value {
        match self {
            Column::Text(v) => json!(v[row]),
            Column::Count(v) => json!(v[row]),
            Column::Number(v) => json!(v[row]),
        }
    }
}

/// Columns of one length, each with a name of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    columns: Vec<(String, Column)>,
    height: usize,
}

impl Table {
    /// Adds a column on the right.
    ///
    /// # Errors
    /// Its name is taken, or its length is not that of the others.
    pub fn push(&mut self, name: &str, column: Column) -> Result<(), TableError> {
        if self.columns.iter().any(|(n, _)| n == name) {
            return Err(TableError::Twice(name.to_owned()));
        }
        if self.columns.is_empty() {
            self.height = column.len();
        } else if self.height != column.len() {
            return Err(TableError::Length(name.to_owned()));
        }
        self.columns.push((name.to_owned(), column));
        Ok(())
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The columns, from left to right.
    pub fn columns(&self) -> &[(String, Column)] {
        &self.columns
    }

    /// A column of words.
    ///
    /// # Errors
    /// There is none of that name, or it holds numbers.
    pub fn text(&self, name: &str) -> Result<&[String], TableError> {
        match self.columns.iter().find(|(n, _)| n == name) {
            Some((_, Column::Text(v))) => Ok(v),
            _ => Err(TableError::NoColumn(name.to_owned())),
        }
    }

    /// A column of numbers.
    ///
    /// # Errors
    /// There is none of that name, or it holds something else.
    pub fn number(&self, name: &str) -> Result<&[Option<f64>], TableError> {
        match self.columns.iter().find(|(n, _)| n == name) {
            Some((_, Column::Number(v))) => Ok(v),
            _ => Err(TableError::NoColumn(name.to_owned())),
        }
    }

    /// As CSV (RFC 4180) with a header.
    ///
    /// # Errors
    /// None that a table of equally long columns gives.
    pub fn csv(&self) -> Result<String, TableError> {
        let mut out = csv::Writer::from_writer(vec![]);
        out.write_record(self.columns.iter().map(|(n, _)| n))?;
        for row in 0..self.height {
            out.write_record(self.columns.iter().map(|(_, c)| c.cell(row)))?;
        }
        let bytes = out
            .into_inner()
            .map_err(|e| csv::Error::from(e.into_error()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The rows as a list of JSON objects.
    pub fn json(&self) -> Value {
        let row = |i: usize| -> Map<String, Value> {
            let cells = self.columns.iter().map(|(n, c)| (n.clone(), c.json(i)));
            cells.collect()
        };
        (0..self.height).map(|i| Value::Object(row(i))).collect()
    }
}
