//! The failpoint of tests and benchmarks, by the environment.

use crate::failure::Failure;
use crate::signals::stop_this_process;

/// Arms the failpoint of tests and benchmarks; a name or count that is none would make their kills
/// harmless.
///
/// # Errors
/// The variable names none, or this build has none.
pub fn arm_from_environment() -> Result<(), Failure> {
    let Ok(wanted) = std::env::var("SKYFILL_FAILPOINT") else {
        return Ok(());
    };
    if !ledger::failpoint::ARE_BUILT_IN {
        return Err(Failure::usage(
            "SKYFILL_FAILPOINT is set, and this skyfill was built without failpoints",
        )
        .hint("unset it; for tests, build with: cargo build --features failpoints"));
    }
    let unknown = || {
        Failure::usage(format!("SKYFILL_FAILPOINT: {wanted} is not a failpoint")).hint(format!(
            "for tests only: PLACE=COUNT ends the process when the place is passed for the COUNTth time, PLACE=COUNT,stop stops there, PLACE=COUNT,panic makes the thread panic; the places are: {}",
            ledger::failpoint::PLACES.join(", ")
        ))
    };
    let (place, act): (&str, fn()) = match wanted.split_once(',') {
        Some((place, "stop")) => (place, stop_this_process),
        Some((place, "panic")) => (place, || panic!("a failpoint")),
        _ => (&wanted, || std::process::abort()),
    };
    let (name, times) = place.split_once('=').unwrap_or((place, "1"));
    let times = times.parse().map_err(|_| unknown())?;
    if ledger::failpoint::arm(name, times, act) {
        Ok(())
    } else {
        Err(unknown())
    }
}
