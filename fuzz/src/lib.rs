//! What is fuzzed: one function from bytes for each target, in one table.
//!
//! libFuzzer calls them through `fuzz_targets/`, the stable compiler through
//! `tests/fuzz_replay.rs`, which includes this file. A body panics where what it claims does not
//! hold; claims go beyond the absence of panics.

pub mod cloud;
pub mod files;
pub mod hypervisor;
pub mod pieces;
pub mod transport;
pub mod whole;
pub mod words;

/// A function that takes any bytes.
pub type Body = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Body)] = &[
    ("libvirt_rpc", hypervisor::libvirt_rpc),
    ("libvirt_xml", hypervisor::libvirt_xml),
    ("qemu_stream", hypervisor::qemu_stream),
    ("qemu_vmdesc", hypervisor::qemu_vmdesc),
    ("return_path", hypervisor::return_path),
    ("multifd", hypervisor::multifd),
    ("block_migration", hypervisor::block_migration),
    ("nbd", hypervisor::nbd),
    ("tls", hypervisor::tls),
    ("ssh", hypervisor::ssh),
    ("amqp", cloud::amqp),
    ("oslo", cloud::oslo),
    ("http", cloud::http),
    ("openstack", cloud::openstack),
    ("json_prefix", cloud::json_prefix),
    ("packet", transport::packet),
    ("reassembly", transport::reassembly),
    ("flows", transport::flows),
    ("capture_file", files::capture_file),
    ("dpmi_stream", files::dpmi_stream),
    ("rules", words::rules),
    ("manifest", words::manifest),
    ("connections", whole::connections),
    ("report", whole::report),
    ("scrub", whole::scrub),
];
