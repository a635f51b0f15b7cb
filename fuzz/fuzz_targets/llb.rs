//! See `rhost_fuzzing::llb`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::llb(data));
