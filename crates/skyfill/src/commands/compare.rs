//! `skyfill compare`.

use arguments::CompareArgs;
use engine::compare;
use process::{Ended, Failure};

pub(crate) fn run(args: &CompareArgs) -> Result<Ended, Failure> {
    let differences = compare::compare(&args.first, &args.second)?;
    if args.json {
        observe::data!("{}", differences.json());
    } else {
        for line in differences.lines() {
            observe::data!("{line}");
        }
    }
    if differences.is_none() {
        observe::log!("the certificates agree");
        return Ok(Ended::Well);
    }
    if differences.repos.is_none() {
        observe::log!(
            "repos are not named: there is no list beside each certificate; skyfill verify --certificate FILE --certificate-repos writes one"
        );
    }
    Ok(Ended::WithFailures)
}
