//! Converts arguments that several commands share to the options of the engines.

use crate::cli::{
    CallerArgs, DirectoryArgs, FetchArgs, LoadArgs, RunDocuments, RunHandles, SourceArgs, SpoolArgs,
};
use crate::told;
use discover::lists;
use engine::Directory;
use engine::discovery::Source;
use engine::identities::{Documents, HandleMode};
use engine::run::{LoadOptions, Scale, Wanted};
use fetch::{OneServer, OptOut, Spool};
use process::{Database, Failure};
use std::path::Path;
use std::time::Duration;

/// Seconds for which a host that does not answer is retried, unless the arguments say
/// otherwise.
const PATIENCE: u64 = 600;

/// How skyfill calls itself, with the way to reach who runs it.
pub(crate) fn user_agent(caller: &CallerArgs) -> String {
    let name = concat!("skyfill/", env!("CARGO_PKG_VERSION"));
    match &caller.contact {
        Some(contact) => format!("{name} ({contact})"),
        None => name.to_owned(),
    }
}

/// How hosts are asked, by the arguments; one that does not answer is retried for `patience`
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
fn opt_out(args: &FetchArgs) -> Result<OptOut, Failure> {
    let mut all = OptOut::default();
    all.add(&args.skip_host.join("\n"))
        .map_err(|host| Failure::usage(format!("--skip-host: {host} is not a host")))?;
    if let Some(path) = &args.opt_out {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(format!("cannot read {}: {error}", path.display()))
                .hint("--opt-out expects a text file with one host or DID per line")
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
    let spool = Spool::open(&folder, args.spool_size)
        .map_err(|error| Failure::new(error).hint("name a writable folder with --spool-dir"))?;
    if spool.is_in_memory() {
        observe::log!(
            "note: {} is in memory, so that large repos use memory beyond --memory; name a folder on a disk with --spool-dir",
            folder.display()
        );
    }
    Ok(spool)
}

/// The same, with the servers that the operator names: those may lie on private networks. What they
/// list may not.
pub(crate) fn options_naming(
    args: &FetchArgs,
    caller: &CallerArgs,
    source: &Source,
) -> Result<fetch::Options, Failure> {
    let mut named = args.named.clone();
    named.extend(source.named_pds().cloned());
    named.extend(source.relay.clone());
    named.sort_unstable();
    named.dedup();
    told::imply("named", &named);
    Ok(fetch::Options {
        named,
        ..options(args, caller, PATIENCE)?
    })
}

/// Where repos are looked for.
pub(crate) fn source(args: &SourceArgs) -> Result<Source, Failure> {
    let pds = args.pds.iter().map(|url| base_url("--pds", url));
    let relay = args.relay.as_deref().map(|url| base_url("--relay", url));
    Ok(Source {
        relay: relay.transpose()?,
        relay_repos: args.relay_repos,
        pds: pds.collect::<Result<_, _>>()?,
        pds_file: args.pds_file.as_deref().map(urls_of).transpose()?,
        plc_export: args.plc_export,
        collections: args.collection.clone(),
        straggler_grace: Duration::from_secs(args.straggler_grace),
    })
}

/// The servers that a file names, one URL per line.
fn urls_of(path: &Path) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| base_url(&path.display().to_string(), line))
        .collect()
}

/// Where documents and handles are asked for.
pub(crate) fn directory(
    args: &DirectoryArgs,
    caller: &CallerArgs,
    allow_private_hosts: bool,
) -> Directory {
    Directory {
        user_agent: user_agent(caller),
        plc_url: args.plc_url.clone(),
        plc_pace: OneServer::new(f64::from(args.plc_rate)),
        web_server: args.did_web_server.clone(),
        dns_server: args.dns_server,
        well_known_server: args.well_known_server.clone(),
        timeout: Duration::from_secs(args.timeout),
        allow_private_hosts,
    }
}

/// How repos are loaded into the database; reports how large the load is.
pub(crate) fn load(
    args: &LoadArgs,
    source: &Source,
    database: &Database,
) -> Result<LoadOptions, Failure> {
    let wanted = Wanted {
        threads: args.threads.map(usize::from),
        connections: args.max_db_connections.map(usize::from),
        slots: args.fetch.concurrency.map(|slots| slots as usize),
        memory: args.memory,
        server_memory: args.server_memory,
    };
    let scale = Scale::choose(&wanted, database)?;
    observe::log!("{}", scale.line());
    Ok(LoadOptions {
        keep_cars: args.keep_cars.clone(),
        handles: match args.handles {
            RunHandles::Verified => Some(HandleMode::Verified),
            RunHandles::Claimed => Some(HandleMode::Claimed),
            RunHandles::Skip => None,
        },
        documents: match args.documents {
            RunDocuments::Auto => Documents::Auto,
            RunDocuments::Export => Documents::Export,
            RunDocuments::Single => Documents::Single,
        },
        verifies: !args.no_verify,
        certificate: args.certificate.clone(),
        accept_deletions: args.accept_deletions,
        scale,
        fetch: options_naming(&args.fetch, &args.caller, source)?,
        spool: spool(&args.spool)?,
        directory: directory(
            &args.directory,
            &args.caller,
            args.fetch.allow_private_hosts,
        ),
    })
}

/// The URL that an argument names.
pub(crate) fn base_url(argument: &str, text: &str) -> Result<String, Failure> {
    lists::base_url(text)
        .ok_or_else(|| Failure::usage(format!("{argument}: {text} is not the URL of a server")))
}
