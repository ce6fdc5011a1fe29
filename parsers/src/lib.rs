//! Dissectors for the protocols of VM live migration.
//!
//! Everything here takes byte slices and gives messages; nothing knows clocks, packets, files or
//! flows. Bytes that arrive in pieces go through *push decoders* (`libvirt::framing`,
//! `qemu::stream`), which accept slices of any size, even one byte.

mod intake;
mod window;

pub mod amqp;
pub mod http;
pub mod json;
pub mod libvirt;
pub mod nbd;
pub mod openstack;
pub mod oslo;
pub mod qemu;
pub mod ssh;
pub mod tls;
pub mod xdr;

pub use window::Body;
