//! See `fuzz_harness::cbor`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_harness::cbor(data));
