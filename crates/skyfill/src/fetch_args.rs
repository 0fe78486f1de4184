//! What of the arguments says how repos are fetched.

use crate::cli::FetchArgs;
use crate::exit::Failure;
use fetch::{Client, Limits};
use std::time::Duration;

/// How skyfill calls itself.
pub(crate) const USER_AGENT: &str = concat!("skyfill/", env!("CARGO_PKG_VERSION"));

/// A client with the limits of the arguments.
pub(crate) fn client(args: &FetchArgs) -> Result<Client, Failure> {
    let limits = Limits {
        total: Duration::from_secs(args.processing_timeout),
        stall: Duration::from_secs(args.stall_timeout),
        bytes: args.max_repo_bytes,
        allow_private_hosts: args.allow_private_hosts,
        follow_redirects: true,
    };
    Client::new(USER_AGENT, limits).map_err(Failure::new)
}

/// Whether `host` is one of `skipped` or below one of them.
pub(crate) fn is_skipped(host: &str, skipped: &[String]) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    skipped.iter().any(|skip| {
        name.strip_suffix(skip.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::is_skipped;

    #[test]
    fn a_host_is_skipped_with_its_subdomains_and_nothing_else() {
        let skipped = ["blueski.social".to_owned()];
        assert!(is_skipped("blueski.social", &skipped));
        assert!(is_skipped("a.b.blueski.social:443", &skipped));
        assert!(is_skipped("a.blueski.social.", &skipped));
        assert!(!is_skipped("notblueski.social", &skipped));
        assert!(!is_skipped("blueski.social.example", &skipped));
    }
}
