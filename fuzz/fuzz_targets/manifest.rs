//! See `rhost_fuzzing::manifest`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::manifest(data));
