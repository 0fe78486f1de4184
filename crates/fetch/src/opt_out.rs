//! Hosts and accounts that are left out, at their own request or the operator's.

use std::collections::HashSet;

/// Hosts and accounts that are left out.
#[derive(Clone, Debug, Default)]
pub struct OptOut {
    hosts: Vec<String>,
    dids: HashSet<String>,
}

impl OptOut {
    /// Adds a list with one host or DID per line; `#` begins a comment.
    ///
    /// # Errors
    /// The line that is neither.
    pub fn add(&mut self, list: &str) -> Result<(), String> {
        for line in list.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let line = line.strip_prefix("*.").unwrap_or(line);
            if line.is_empty() {
            } else if atrepo::syntax::is_did(line) {
                self.dids.insert(line.to_owned());
            } else if line
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-[]:".contains(&b))
            {
                self.hosts.push(line.to_ascii_lowercase());
            } else {
                return Err(line.to_owned());
            }
        }
        Ok(())
    }

    /// Whether `host` or a domain above it is left out.
    #[must_use]
    pub fn has_host(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = name.strip_suffix('.').unwrap_or(name);
        self.hosts.iter().any(|skip| {
            skip == host
                || name
                    .strip_suffix(skip.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// Whether the account or its host is left out.
    #[must_use]
    pub fn has(&self, did: &str, host: &str) -> bool {
        self.dids.contains(did) || self.has_host(host)
    }
}

#[cfg(test)]
mod tests {
    use super::OptOut;

    #[test]
    fn a_host_is_left_out_with_its_subdomains_and_nothing_else() {
        let mut out = OptOut::default();
        out.add("# a list\nblueski.social  # no getRepo\n\ndid:plc:abc\n127.0.0.1:2583\n*.wild.example\n")
            .unwrap();
        for host in [
            "blueski.social",
            "a.b.blueski.social:443",
            "a.blueski.social.",
            "127.0.0.1:2583",
            "a.wild.example",
        ] {
            assert!(out.has_host(host), "{host}");
        }
        for host in [
            "notblueski.social",
            "blueski.social.example",
            "127.0.0.1:2584",
        ] {
            assert!(!out.has_host(host), "{host}");
        }
        assert!(out.has("did:plc:abc", "pds.example") && !out.has("did:plc:abcd", "pds.example"));
        assert_eq!(
            out.add("https://pds.example/"),
            Err("https://pds.example/".to_owned())
        );
    }
}
