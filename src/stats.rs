//! Many runs: statistics by group, comparisons, costs, models.
//!
//! A [`runs::Run`] is one migration with its factors; [`metrics::METRICS`] says what is measured
//! on it; [`table`] makes tables of both; [`sample`] sums up; [`compare`] and [`rules`]
//! judge; [`lmdt`] and [`what_if`] reckon with models whose assumptions they state.

pub mod compare;
pub mod cost;
pub mod factors;
pub mod grid;
pub mod interval;
pub mod lmdt;
pub mod metrics;
pub mod published;
pub mod rules;
pub mod runs;
pub mod sample;
pub mod table;
pub mod what_if;

/// Why a table cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// A table cannot be made, read or written.
    #[error("table: {0}")]
    Table(#[from] phasescope_tables::TableError),
    /// A manifest, rule, factor or name is not as it should be.
    #[error("{0}")]
    Words(String),
}
