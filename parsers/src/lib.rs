//! Dissectors for the protocols of VM live migration.
//!
//! Everything here takes byte slices and gives messages; nothing knows clocks, packets, files or
//! flows. Bytes that arrive in pieces go through *push decoders* (`libvirt::framing`,
//! `qemu::stream`), which accept slices of any size, even one byte.

pub mod libvirt;
pub mod qemu;
pub mod xdr;
