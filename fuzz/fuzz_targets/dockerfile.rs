//! See `rhost_fuzzing::dockerfile`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::dockerfile(data));
