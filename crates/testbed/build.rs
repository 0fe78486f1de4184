//! Decides whether tests that need `../shared` are ignored: only if the environment says so.

/// Set to anything but nothing and 0, it says that `../shared` is absent on purpose.
const VARIABLE: &str = "SKYFILL_TESTS_WITHOUT_SHARED";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rustc-check-cfg=cfg(without_shared)");
    let is_meant = std::env::var(VARIABLE).is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    if is_meant {
        println!("cargo::rustc-cfg=without_shared");
    }
}
