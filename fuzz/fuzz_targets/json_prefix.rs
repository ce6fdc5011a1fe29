#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| phasescope_fuzz::cloud::json_prefix(data));
