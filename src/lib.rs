//! phasescope: where did the time of this live migration go?
//!
//! Frames come from [`capture`], connections from [`net`], what the protocols said from
//! [`dissect`].

pub mod capture;
pub mod net;
pub mod time;
