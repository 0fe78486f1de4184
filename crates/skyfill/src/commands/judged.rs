//! Reports the verdict of a database at the end of a load.

use engine::certificate;
use ledger::coverage::Coverage;
use process::Ended;
use verify::verdict::{self, Compared, Verdict};

/// Reports the one word for what the database holds. Whoever asked for no comparison with the
/// commits is told that there was none, and that is not a failure.
pub(crate) fn ended(coverage: &Coverage, bad_lines: u64, no_verify: bool) -> Ended {
    let compared = Compared {
        bad_lines,
        ..Compared::before(coverage)
    };
    let judgment = verdict::judge(coverage, &compared);
    certificate::log_judgment(&judgment);
    match judgment.verdict {
        Verdict::Complete => Ended::Well,
        Verdict::Unverified if no_verify => Ended::Well,
        _ => Ended::WithFailures,
    }
}
