//! Reports the verdict of a database at the end of a load, and the next step.

use crate::command_line::command_line;
use engine::certificate;
use engine::next::{self, Next};
use ledger::coverage::Coverage;
use process::Ended;
use verify::verdict::{self, Compared, Judgment, Verdict};

/// Reports the one word for what the database holds. Whoever asked for no comparison with the
/// commits is told that there was none, and that is not a failure.
pub(crate) fn ended(
    coverage: &Coverage,
    bad_lines: u64,
    no_verify: bool,
    has_caught_up: bool,
) -> Ended {
    let judgment = judged(coverage, bad_lines);
    log_next_after(coverage, &judgment, has_caught_up);
    match judgment.verdict {
        Verdict::Complete => Ended::Well,
        Verdict::Unverified if no_verify => Ended::Well,
        _ => Ended::WithFailures,
    }
}

/// Reports the one word for what the database holds.
pub(crate) fn judged(coverage: &Coverage, bad_lines: u64) -> Judgment {
    let compared = Compared {
        bad_lines,
        ..Compared::before(coverage)
    };
    let judgment = verdict::judge(coverage, &compared);
    certificate::log_judgment(&judgment);
    judgment
}

/// Reports the next step after a load or a comparison, and what can be done beside it.
pub(crate) fn log_next_after(coverage: &Coverage, judgment: &Judgment, has_caught_up: bool) {
    for next in next::after_load(coverage, judgment, has_caught_up) {
        log_next(next);
    }
}

/// Reports the next step.
pub(crate) fn log_next(next: Next) {
    observe::log!(
        "next: {}    # {}",
        command_line().of_command(next.command),
        next.why
    );
}
