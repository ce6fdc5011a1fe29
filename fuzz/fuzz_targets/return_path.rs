#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| phasescope_fuzz::hypervisor::return_path(data));
