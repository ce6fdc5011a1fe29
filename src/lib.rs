//! phasescope: where did the time of this live migration go?
//!
//! Frames come from [`capture`], connections from [`net`], what the protocols said from
//! [`dissect`], migrations from [`migration`], and answers for people and programs from
//! [`report`]. [`analysis`] is the whole way at once; `live` walks it while the traffic flows. Many
//! runs are summed up and compared by [`stats`], and drawn by [`plot`].

// What strangers wrote makes nothing panic. Tests may.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

pub mod analysis;
pub mod capture;
pub mod dissect;
#[cfg(feature = "live")]
pub mod live;
pub mod migration;
pub mod net;
pub mod plot;
pub mod report;
pub mod scrub;
pub mod series;
pub mod stats;
pub mod time;
pub mod whole;
