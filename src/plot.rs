//! Pictures: budgets, timelines, rounds, downtime, one metric over factors; SVG and PNG.
//!
//! A picture is laid out as a [`scene::Scene`] of a few kinds of shapes, in pixels of a page at
//! 96 dots per inch, and drawn by plotters' backends ([`render`]). The only font is the one that
//! is built in, so a picture is the same on every machine.

use crate::migration::{Host, Migration};

mod axis;
pub mod budget;
pub mod downtime;
pub mod font;
pub mod metric;
pub mod palette;
pub mod render;
pub mod rounds;
pub mod scene;
pub mod throughput;
pub mod timeline;

/// `kvg1, kvsrc to kvdst`: which migration a picture shows.
pub fn subject(m: &Migration) -> String {
    let host = |h: &Host| {
        let name = h.hostname.as_ref().or(h.address.as_ref());
        name.map_or("unknown".to_owned(), Clone::clone)
    };
    format!(
        "{}, {} to {}",
        m.guest.name.as_deref().unwrap_or("unknown guest"),
        host(&m.source),
        host(&m.destination)
    )
}

/// Why a picture cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// There is nothing that it could show.
    #[error("nothing to draw: {0}")]
    Empty(String),
    /// A backend failed.
    #[error("cannot draw: {0}")]
    Backend(String),
    /// The PNG encoder failed.
    #[error("cannot write PNG: {0}")]
    Png(#[from] png::EncodingError),
}
