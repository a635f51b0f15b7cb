//! See `rhost_fuzzing::dockerignore`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::dockerignore(data));
