//! Parquet and Arrow, by polars.

use std::io::Cursor;

use polars::prelude::{
    Column as Series, DataFrame, DataType, IpcReader, IpcWriter, ParquetReader, ParquetWriter,
    SerReader, SerWriter,
};

use crate::{Column, Table, TableError};

impl Table {
    /// As a file of Apache Parquet.
    ///
    /// # Errors
    /// polars cannot write it.
    pub fn parquet(&self) -> Result<Vec<u8>, TableError> {
        let mut out = vec![];
        ParquetWriter::new(&mut out).finish(&mut self.frame()?)?;
        Ok(out)
    }

    /// As a file of Apache Arrow (the IPC file format, also called Feather version 2).
    ///
    /// # Errors
    /// polars cannot write it.
    pub fn arrow(&self) -> Result<Vec<u8>, TableError> {
        let mut out = vec![];
        IpcWriter::new(&mut out).finish(&mut self.frame()?)?;
        Ok(out)
    }

    /// Reads a file of Apache Parquet.
    ///
    /// # Errors
    /// It is none, or holds columns of other kinds than [`Column`] has.
    pub fn read_parquet(bytes: Vec<u8>) -> Result<Self, TableError> {
        Self::of(&ParquetReader::new(Cursor::new(bytes)).finish()?)
    }

    /// Reads a file of Apache Arrow.
    ///
    /// # Errors
    /// It is none, or holds columns of other kinds than [`Column`] has.
    pub fn read_arrow(bytes: Vec<u8>) -> Result<Self, TableError> {
        Self::of(&IpcReader::new(Cursor::new(bytes)).finish()?)
    }

    fn frame(&self) -> Result<DataFrame, TableError> {
        let series = |(name, column): &(String, Column)| match column {
            Column::Text(v) => Series::new(name.into(), v),
            Column::Count(v) => Series::new(name.into(), v),
            Column::Number(v) => Series::new(name.into(), v),
        };
        let columns = self.columns.iter().map(series).collect();
        Ok(DataFrame::new(self.height, columns)?)
    }

    fn of(frame: &DataFrame) -> Result<Self, TableError> {
        let mut table = Table::default();
        for c in frame.columns() {
            let column = match c.dtype() {
                DataType::String => {
                    let words = c.str()?.iter().map(|v| v.unwrap_or_default().to_owned());
                    Column::Text(words.collect())
                }
                DataType::UInt64 => {
                    Column::Count(c.u64()?.iter().map(Option::unwrap_or_default).collect())
                }
                DataType::Float64 => Column::Number(c.f64()?.iter().collect()),
                _ => return Err(TableError::NoColumn(c.name().to_string())),
            };
            table.push(c.name(), column)?;
        }
        Ok(table)
    }
}
