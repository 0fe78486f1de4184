//! What helps against each reason for which repos fail.

/// The step that helps, by the short name of the error: the command or option first, then why.
pub const KNOWN: &[(&str, &str)] = &[
    (
        "rate limited",
        "skyfill run later, or --host-rate R with a lower rate: the host asked for fewer requests",
    ),
    (
        "server error",
        "skyfill run later: the host has a fault of its own",
    ),
    (
        "refused",
        "the host refuses these repos; ask its operator, then skyfill run --retry-failed",
    ),
    (
        "bad PDS URL",
        "nothing to set: the DID documents name no usable host; the accounts have to mend them",
    ),
    (
        "blocked address",
        "--allow-private-hosts, if these hosts are yours: they are on a private network",
    ),
    (
        "no connection",
        "skyfill run later: the host is away, or its name does not resolve",
    ),
    (
        "stalled",
        "--stall-timeout S with more seconds: the host pauses while it sends",
    ),
    (
        "timed out",
        "--processing-timeout S with more seconds: these repos are large or the host is slow",
    ),
    (
        "too large",
        "--max-repo-bytes BYTES, and --memory with it: these repos exceed the limit",
    ),
    (
        "bad redirect",
        "nothing to set: the host redirects to nowhere; ask its operator",
    ),
    (
        "broken body",
        "skyfill run later: what the host sent broke off",
    ),
    (
        "bad repo",
        "nothing to set: what the host sent is no valid repo; ask its operator, then skyfill run --retry-failed",
    ),
    (
        "host away",
        "skyfill run later, or --host-patience S with more seconds: the host did not answer in time",
    ),
    (
        "host too slow",
        "skyfill run later, or --host-patience S with more seconds: the host did not answer in time",
    ),
    (
        "host put off",
        "skyfill run later: most of what the host lists is not there or fails",
    ),
    (
        "no DID document",
        "skyfill run --retry-failed, once the PLC directory or the did:web host answers (--plc-url)",
    ),
    (
        "no space",
        "make room in the folder of --spool-dir, then skyfill run --retry-failed",
    ),
    (
        "host forgot",
        "--accept-deletions, if these accounts are gone for good: the host lost many at once",
    ),
    (
        "stopped",
        "skyfill run: the command was stopped before they came",
    ),
    (
        "older",
        "nothing to set: the host serves an older rev than the one that is stored; that one stays",
    ),
    (
        "rev in the future",
        "set this machine's clock if it is slow; otherwise nothing: the host dates commits in the future",
    ),
    (
        "forged",
        "nothing to set: no key of the account signed what the host serves",
    ),
    (
        "in doubt",
        "skyfill run later: the directory could not confirm the account's key",
    ),
];

/// The step that helps, for people.
#[must_use]
pub fn against(code: &str) -> &'static str {
    let known = KNOWN.iter().find(|(known, _)| *known == code);
    known.map_or("skyfill run --retry-failed", |(_, helps)| helps)
}

#[cfg(test)]
mod tests {
    use super::against;
    use fetch::FetchError;
    use std::time::Duration;

    #[test]
    fn every_reason_of_a_request_has_its_own_help() {
        let text = String::new;
        let second = Duration::from_secs(1);
        let errors = [
            FetchError::RateLimited(None),
            FetchError::Server(500, None),
            FetchError::Refused(400, text()),
            FetchError::BadUrl(text()),
            FetchError::Blocked(text()),
            FetchError::Connect(text()),
            FetchError::Stalled(second),
            FetchError::TooSlow(second),
            FetchError::TooLarge(1),
            FetchError::Redirect(text()),
            FetchError::BrokenBody(text()),
            FetchError::BadRepo(text(), false),
            FetchError::HostAway(second),
            FetchError::NoDocument(text()),
            FetchError::Stopped,
            FetchError::Spool(text()),
        ];
        for error in errors {
            let code = error.reason();
            assert_ne!(against(code), against("unknown"), "{code}");
        }
    }
}
