//! See `rhost_fuzzing::lock`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::lock(data));
