//! See `rhost_fuzzing::reference`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::reference(data));
