//! See `rhost_fuzzing::layer`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::layer(data));
