//! See `fuzz_harness::did_cache`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_harness::did_cache(data));
