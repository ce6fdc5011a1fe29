//! Migrations while they happen: frames from a network device, a DPMI stream or a replayed trace,
//! the same analysis as of files, and a screen or lines that never hold the capture up.
//!
//! A source fills batches of frames on its own thread ([`source`]); the analysis takes them from a
//! bounded queue on another ([`monitor`]) and shows a [`view::View`] now and then; a recorder may
//! write them on a third ([`record`]). Where a queue is full, a batch is dropped and counted.

pub mod batch;
pub mod device;
pub mod devices;
pub mod dpmi;
pub mod engine;
pub mod lines;
pub mod metrics;
pub mod monitor;
pub mod privileges;
pub mod record;
pub mod replay;
pub mod source;
pub mod stamps;
pub mod tui;
pub mod view;
