//! See `fuzz_harness::mst`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_harness::mst(data));
