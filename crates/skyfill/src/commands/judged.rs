//! Reports the verdict of a database at the end of a load, and the next step.

use crate::told;
use engine::certificate;
use engine::next::{self, Next};
use ledger::coverage::Coverage;
use ledger::settings;
use process::{Database, Ended};
use verify::verdict::{self, Compared, Judgment, Verdict};

/// Reports the one word for what the database holds. Whoever asked for no comparison with the
/// commits is told that there was none, and that is not a failure.
pub(crate) fn ended(
    database: &Database,
    coverage: &Coverage,
    bad_lines: u64,
    no_verify: bool,
    has_caught_up: bool,
) -> Ended {
    let compared = Compared {
        bad_lines,
        ..Compared::before(coverage)
    };
    let judgment = verdict::judge(coverage, &compared);
    certificate::log_judgment(&judgment);
    log_next_after(database, coverage, &judgment, has_caught_up);
    match judgment.verdict {
        Verdict::Complete => Ended::Well,
        Verdict::Unverified if no_verify => Ended::Well,
        _ => Ended::WithFailures,
    }
}

/// Reports the next step after a load or a comparison.
pub(crate) fn log_next_after(
    database: &Database,
    coverage: &Coverage,
    judgment: &Judgment,
    has_caught_up: bool,
) {
    // Without the settings, less is known of what is left to do.
    let settings = database.connect().ok().and_then(|mut client| {
        let settings = settings::all(&mut client, &database.schema);
        settings.ok()
    });
    let settings = settings.unwrap_or_default();
    if let Some(next) = next::after_load(coverage, judgment, &settings, has_caught_up) {
        log_next(next);
    }
}

/// Reports the next step.
pub(crate) fn log_next(next: Next) {
    observe::log!("next: {}    # {}", told::line_of(next.command), next.why);
}
