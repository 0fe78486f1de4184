//! What of the arguments says how hosts are asked: limits, pace, who asks, who does not want to be
//! asked.

use crate::cli::{CallerArgs, DirectoryArgs, FetchArgs, LoadArgs, SourceArgs, SpoolArgs};
use crate::told;
use discover::lists;
use fetch::{OptOut, Spool};
use identity::resolve;
use process::Failure;
use std::time::Duration;

/// How skyfill calls itself, with the way to reach who runs it.
pub(crate) fn user_agent(caller: &CallerArgs) -> String {
    let name = concat!("skyfill/", env!("CARGO_PKG_VERSION"));
    match &caller.contact {
        Some(contact) => format!("{name} ({contact})"),
        None => name.to_owned(),
    }
}

/// How hosts are asked, by the arguments; one that does not answer is tried again for `patience`
/// seconds, unless they say otherwise.
pub(crate) fn options(
    args: &FetchArgs,
    caller: &CallerArgs,
    patience: u64,
) -> Result<fetch::Options, Failure> {
    Ok(fetch::Options {
        user_agent: user_agent(caller),
        concurrency: args.concurrency.map(|slots| slots as usize),
        max_rate: args.max_rate,
        host_rate: args.host_rate,
        patience: Duration::from_secs(args.host_patience.unwrap_or(patience)),
        total: Duration::from_secs(args.processing_timeout),
        stall: Duration::from_secs(args.stall_timeout),
        max_attempts: args.max_attempts,
        max_repo_bytes: args.max_repo_bytes,
        allow_private_hosts: args.allow_private_hosts,
        named: args.named.clone(),
        opt_out: opt_out(args)?,
    })
}

/// The hosts and accounts that the arguments leave out.
pub(crate) fn opt_out(args: &FetchArgs) -> Result<OptOut, Failure> {
    let mut all = OptOut::default();
    all.add(&args.skip_host.join("\n"))
        .map_err(|host| Failure::usage(format!("--skip-host: {host} is no host")))?;
    if let Some(path) = &args.opt_out {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!("read {}: {error}", path.display()))
                .hint("--opt-out takes a text file, with a host or a DID a line")
        })?;
        all.add(&text).map_err(|line| {
            Failure::usage(format!(
                "{}: {line} is neither a host nor a DID",
                path.display()
            ))
        })?;
    }
    Ok(all)
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
