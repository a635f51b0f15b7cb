//! See `rhost_fuzzing::challenge`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::challenge(data));
