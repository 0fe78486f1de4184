//! What of the arguments says how hosts are asked: limits, pace, who asks, who does not want to be
//! asked.

use crate::cli::{CallerArgs, DirectoryArgs, FetchArgs, LoadArgs, SourceArgs, SpoolArgs};
use crate::told;
use discover::lists;
use fetch::guard::Private;
use fetch::schedule::Settings;
use fetch::{Client, Limits, Redirects, Spool};
use identity::resolve;
use process::Failure;
use std::collections::HashSet;
use std::time::Duration;

/// How skyfill calls itself, with the way to reach who runs it.
pub(crate) fn user_agent(caller: &CallerArgs) -> String {
    let name = concat!("skyfill/", env!("CARGO_PKG_VERSION"));
    match &caller.contact {
        Some(contact) => format!("{name} ({contact})"),
        None => name.to_owned(),
    }
}

/// A client with the limits of the arguments.
pub(crate) fn client(
    args: &FetchArgs,
    caller: &CallerArgs,
    redirects: Redirects,
) -> Result<Client, Failure> {
    let limits = Limits {
        total: Duration::from_secs(args.processing_timeout),
        stall: Duration::from_secs(args.stall_timeout),
        bytes: args.max_repo_bytes,
        private: private(args),
        redirects,
    };
    Client::new(&user_agent(caller), limits).map_err(Failure::new)
}

/// The spool of the arguments; says so where it lies in memory.
pub(crate) fn spool(args: &SpoolArgs) -> Result<Spool, Failure> {
    let folder = args.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
    let spool = Spool::open(&folder, args.spool_size).map_err(|error| {
        Failure::new(error).hint("name a folder that can be written to, with --spool-dir")
    })?;
    if spool.is_in_memory() {
        observe::log!(
            "note: {} lies in memory, where large repos take it beside --memory; name a folder on a disk with --spool-dir",
            folder.display()
        );
    }
    Ok(spool)
}

/// Which hosts may lie on private networks: those that arguments name, or all if the operator wants
/// that.
pub(crate) fn private(args: &FetchArgs) -> Private {
    Private::named(args.named.iter().map(String::as_str)).or_all(args.allow_private_hosts)
}

/// The arguments, with the servers that the operator names: those may lie on private networks. What
/// they list may not.
pub(crate) fn naming(args: &FetchArgs, source: &SourceArgs) -> Result<FetchArgs, Failure> {
    let mut named = args.named.clone();
    named.extend(named_hosts(source)?);
    named.extend(source.relay.as_deref().and_then(lists::base_url));
    named.sort_unstable();
    named.dedup();
    told::imply("named", &named);
    Ok(FetchArgs {
        named,
        ..args.clone()
    })
}

/// The same for all that loads.
pub(crate) fn load_naming(args: &LoadArgs, source: &SourceArgs) -> Result<LoadArgs, Failure> {
    Ok(LoadArgs {
        fetch: naming(&args.fetch, source)?,
        ..args.clone()
    })
}

/// URLs of the hosts that arguments name.
pub(crate) fn named_hosts(source: &SourceArgs) -> Result<Vec<String>, Failure> {
    let mut urls = Vec::new();
    for pds in &source.pds {
        urls.push(base_url("--pds", pds)?);
    }
    if let Some(path) = &source.pds_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::new(format!("read {}: {error}", path.display())))?;
        let lines = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim());
        for line in lines.filter(|line| !line.is_empty()) {
            urls.push(base_url(&path.display().to_string(), line)?);
        }
    }
    Ok(urls)
}

/// The URL that an argument names.
pub(crate) fn base_url(argument: &str, text: &str) -> Result<String, Failure> {
    lists::base_url(text)
        .ok_or_else(|| Failure::usage(format!("{argument}: {text} is no URL of a server")))
}

/// Lets the process have as many connections at once as the system allows it.
pub(crate) fn allow_many_connections() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(MANY).min(MANY);
    if current.is_some_and(|current| current < wanted) {
        // What it has is enough for most networks.
        let _unchanged = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum,
            },
        );
    }
}

/// Open files at most.
const MANY: u64 = 65_536;

/// How hosts are paced; `slots` requests at once, and `patience` in seconds, unless the arguments
/// say otherwise.
pub(crate) fn pace(args: &FetchArgs, slots: u32, patience: u64) -> Settings {
    Settings {
        slots: args.concurrency.unwrap_or(slots) as usize,
        max_rate: args.max_rate,
        host_rate: args.host_rate,
        patience: Duration::from_secs(args.host_patience.unwrap_or(patience)),
    }
}

/// Asks for DID documents.
pub(crate) fn documents(
    directory: &DirectoryArgs,
    caller: &CallerArgs,
    allow_private_hosts: bool,
    attempts: u32,
) -> Result<resolve::Resolver, Failure> {
    resolve::Resolver::new(
        &user_agent(caller),
        resolve::Settings {
            plc_url: directory.plc_url.clone(),
            plc_rate: directory.plc_rate,
            web_server: directory.did_web_server.clone(),
            allow_private_hosts,
            timeout: Duration::from_secs(directory.timeout),
            attempts,
        },
    )
    .map_err(Failure::new)
}

/// Who does not want to be asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct OptOut {
    hosts: Vec<String>,
    dids: HashSet<String>,
}

impl OptOut {
    /// Those of the arguments.
    pub(crate) fn of(args: &FetchArgs) -> Result<Self, Failure> {
        let mut all = Self {
            hosts: Vec::new(),
            dids: HashSet::new(),
        };
        all.read(&args.skip_host.join("\n"))
            .map_err(|host| Failure::usage(format!("--skip-host: {host} is no host")))?;
        if let Some(path) = &args.opt_out {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::new(format!("read {}: {error}", path.display()))
                    .hint("--opt-out takes a text file, with a host or a DID a line")
            })?;
            all.read(&text).map_err(|line| {
                Failure::usage(format!(
                    "{}: {line} is neither a host nor a DID",
                    path.display()
                ))
            })?;
        }
        Ok(all)
    }

    /// Reads a list; the line that is none.
    fn read(&mut self, text: &str) -> Result<(), String> {
        for line in text.lines() {
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

    /// Whether `host` is left out, or below a host that is.
    pub(crate) fn has_host(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = name.strip_suffix('.').unwrap_or(name);
        self.hosts.iter().any(|skip| {
            skip == host
                || name
                    .strip_suffix(skip.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// Whether the account is left out, itself or with its host.
    pub(crate) fn has(&self, did: &str, host: &str) -> bool {
        self.dids.contains(did) || self.has_host(host)
    }
}

#[cfg(test)]
mod tests {
    use super::OptOut;

    #[test]
    fn a_host_is_left_out_with_its_subdomains_and_nothing_else() {
        let mut out = OptOut::default();
        out.read("# a list\nblueski.social  # no getRepo\n\ndid:plc:abc\n127.0.0.1:2583\n*.wild.example\n")
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
            out.read("https://pds.example/"),
            Err("https://pds.example/".to_owned())
        );
    }
}
