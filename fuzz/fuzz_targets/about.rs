//! See `rhost_fuzzing::about`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::about(data));
