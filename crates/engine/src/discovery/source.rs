//! The sources of repos.

use discover::lists;
use fetch::OptOut;
use fetch::hosts::host_of;
use ledger::{hosts, runs};
use process::{Database, Failure};
use std::path::Path;
use std::time::Duration;

/// The public relay.
pub const PUBLIC_RELAY: &str = "https://relay1.us-east.bsky.network";

/// Where repos are looked for; by default in the network of the public relay. All URLs are base
/// URLs of servers, without a path.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The relay that is named.
    pub relay: Option<String>,
    /// Whether it is not this command that names the relay, but an earlier one, by the options that
    /// the ledger stores.
    pub relay_is_stored: bool,
    /// Whether the relay's own list of repos is read, instead of those of its hosts.
    pub relay_repos: bool,
    /// PDSes that are named one by one.
    pub pds: Vec<String>,
    /// PDSes of a file, if there is one.
    pub pds_file: Option<Vec<String>>,
    /// Whether the accounts of the PLC export are added.
    pub plc_export: bool,
    /// Accounts that have records of one of these collections are added, as the relay lists them.
    pub collections: Vec<String>,
    /// Time for which hosts that list their repos far too slowly are waited for.
    pub straggler_grace: Duration,
}

impl Source {
    /// The relay that is asked, or whose sequence numbers count: the one that is named, else a
    /// single PDS, which is its own; else the public one.
    #[must_use]
    pub fn relay(&self) -> &str {
        match (&self.relay, self.pds.as_slice()) {
            (Some(relay), _) => relay,
            (None, [pds]) => pds,
            (None, _) => PUBLIC_RELAY,
        }
    }

    /// The same, or where the last run looked, if this names nothing: what was loaded from one PDS,
    /// or by another relay, is not continued in the public network.
    ///
    /// # Errors
    /// The database cannot be used.
    pub fn or_of_last_run(mut self, database: &Database) -> Result<Self, Failure> {
        if self.relay.is_some() || self.names_repos() {
            return Ok(self);
        }
        let Some(url) = relay_of_last_run(database)?.filter(|url| url != PUBLIC_RELAY) else {
            return Ok(self);
        };
        let (mut client, host) = (database.connect()?, host_of(&url));
        let (known, _) = hosts::known(&mut *client, &database.schema, hosts::Chosen::One(&host))
            .map_err(|error| database.failure(error))?;
        match known.is_empty() {
            true => (self.relay, self.relay_is_stored) = (Some(url), true),
            false => self.pds.push(url),
        }
        Ok(self)
    }

    /// Whether it names repos to look for; a relay alone may also be there for its sequence
    /// numbers.
    #[must_use]
    pub fn names_repos(&self) -> bool {
        self.relay_repos
            || !self.pds.is_empty()
            || self.pds_file.is_some()
            || self.plc_export
            || !self.collections.is_empty()
    }

    /// Whether all repos of the network are looked for: nothing is named, or the public relay.
    #[must_use]
    pub fn is_full_network(&self) -> bool {
        let is_public = self
            .relay
            .as_ref()
            .is_none_or(|relay| relay == PUBLIC_RELAY);
        let only_some =
            !self.pds.is_empty() || self.pds_file.is_some() || !self.collections.is_empty();
        is_public && !only_some
    }

    /// URLs of the PDSes that are named.
    pub fn named_pds(&self) -> impl Iterator<Item = &String> {
        self.pds.iter().chain(self.pds_file.iter().flatten())
    }

    /// Names and URLs of the hosts that are named.
    pub(crate) fn named_hosts(&self) -> Vec<(String, String)> {
        self.named_pds()
            .map(|url| (host_of(url), url.clone()))
            .collect()
    }

    /// What a pass is over: one that was stopped is continued only if it is over the same.
    pub(crate) fn describe(&self, plc_url: &str, with_known_hosts: bool) -> String {
        format!(
            "relay {} repos {} pds {:?} {:?} plc {:?} collections {:?} known {with_known_hosts}",
            self.relay(),
            self.relay_repos,
            self.pds,
            self.pds_file,
            self.plc_export.then_some(plc_url),
            self.collections
        )
    }
}

/// The relay whose position was noted for the last run; if that was of a single PDS, the PDS.
///
/// # Errors
/// The database cannot be used.
pub(crate) fn relay_of_last_run(database: &Database) -> Result<Option<String>, Failure> {
    let refused = |error| database.failure(error);
    let mut client = database.connect()?;
    let Some(run) = runs::last(&mut *client, &database.schema).map_err(refused)? else {
        return Ok(None);
    };
    let noted = runs::relay(&mut *client, run.id).map_err(refused)?;
    Ok(noted.map(|(relay, _)| relay))
}

/// The URL of a server that an argument names.
///
/// # Errors
/// It is none.
pub fn base_url(argument: &str, text: &str) -> Result<String, Failure> {
    lists::base_url(text)
        .ok_or_else(|| Failure::usage(format!("{argument}: {text} is not the URL of a server")))
}

/// The hosts and accounts that are left out: these hosts, and what a file names.
///
/// # Errors
/// One of them is no host, or the file cannot be read.
pub fn opt_out(hosts: &[String], file: Option<&Path>) -> Result<OptOut, Failure> {
    let mut all = OptOut::default();
    all.add(&hosts.join("\n"))
        .map_err(|host| Failure::usage(format!("--skip-host: {host} is not a host")))?;
    if let Some(path) = file {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!("cannot read {shown}: {error}"))
                .hint("--opt-out expects a text file with one host or DID per line")
        })?;
        let bad = |line| Failure::usage(format!("{shown}: {line} is neither a host nor a DID"));
        all.add(&text).map_err(bad)?;
    }
    Ok(all)
}

/// The servers that a file names, one URL per line; `#` begins a comment.
///
/// # Errors
/// It cannot be read, or a line is no URL.
pub fn urls_of_file(path: &Path) -> Result<Vec<String>, Failure> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read {shown}: {error}")))?;
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| base_url(&shown, line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(relay: Option<&str>, pds: &[&str]) -> Source {
        Source {
            relay: relay.map(str::to_owned),
            relay_is_stored: false,
            relay_repos: false,
            pds: pds.iter().map(|&url| url.to_owned()).collect(),
            pds_file: None,
            plc_export: false,
            collections: Vec::new(),
            straggler_grace: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_file_names_servers_beside_comments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pds.txt");
        std::fs::write(
            &path,
            "# two\nhttps://a.example\n\nhttps://b.example # slow\n",
        )
        .unwrap();
        let urls = urls_of_file(&path).unwrap();
        assert_eq!(urls, ["https://a.example", "https://b.example"]);
        std::fs::write(&path, "nowhere at all\n").unwrap();
        assert_eq!(
            urls_of_file(&path).unwrap_err().kind(),
            process::Kind::Usage
        );
    }

    #[test]
    fn the_relay_is_the_one_that_is_named_or_a_single_pds_or_the_public_one() {
        let (relay, a, b) = (
            "https://relay.example",
            "https://a.example",
            "https://b.example",
        );
        for (named, pds, expected) in [
            (Some(relay), vec![a], relay),
            (None, vec![a], a),
            (None, vec![a, b], PUBLIC_RELAY),
            (None, vec![], PUBLIC_RELAY),
        ] {
            assert_eq!(source(named, &pds).relay(), expected);
        }
        // A relay alone may be there for its sequence numbers; an empty file is no wish for the
        // whole network.
        assert!(!source(Some(relay), &[]).names_repos());
        let mut empty = source(None, &[]);
        empty.pds_file = Some(Vec::new());
        assert!(empty.names_repos());
        // Which is looked for if nothing is named, or the public relay.
        assert!(source(None, &[]).is_full_network());
        assert!(source(Some(PUBLIC_RELAY), &[]).is_full_network());
        assert!(!source(Some(relay), &[]).is_full_network());
        assert!(!source(None, &[a]).is_full_network() && !empty.is_full_network());
    }
}
