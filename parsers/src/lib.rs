//! Dissectors for the protocols of VM live migration.
//!
//! Everything here takes byte slices and gives messages; nothing knows clocks, packets, files or
//! flows. Bytes that arrive in pieces go through *push decoders* (`libvirt::framing`,
//! `qemu::stream`), which accept slices of any size, even one byte.

// What strangers wrote makes nothing panic. Tests may.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

#[allow(
    clippy::indexing_slicing,
    reason = "cut at lengths of the slice itself"
)]
mod intake;
mod window;

pub mod amqp;
pub mod http;
pub mod json;
pub mod libvirt;
pub mod nbd;
pub mod openstack;
pub mod oslo;
#[allow(
    clippy::indexing_slicing,
    reason = "bytes of a window that is known to hold them; fuzzed in pieces of any size"
)]
pub mod qemu;
pub mod ssh;
pub mod tls;
pub mod xdr;

pub use window::Body;

/// In place of bytes that are on no allow list.
pub const BLANK: u8 = b'x';
