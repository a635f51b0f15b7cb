//! See `rhost_fuzzing::cache`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::cache(data));
