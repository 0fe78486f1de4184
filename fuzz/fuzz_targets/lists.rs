//! See `fuzz_harness::TARGETS`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_harness::target("lists").run(data);
});
