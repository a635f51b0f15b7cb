//! See `rhost_fuzzing::shell`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| rhost_fuzzing::shell(data));
