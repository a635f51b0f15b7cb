//! See `rhost_fuzzing::config`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::config(data));
