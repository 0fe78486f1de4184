//! Converts arguments that several commands share to the options of the engines.

use crate::command_line::command_line;
use archive::OpenOptions;
use arguments::{
    CallerArgs, CarsArgs, DirectoryArgs, FetchArgs, HostsArgs, LoadArgs, RunDocuments, RunHandles,
    SourceArgs, SpoolArgs, WorkerArgs,
};
use engine::Directory;
use engine::discovery::{Source, base_url, opt_out, urls_of_file};
use engine::identities::{Documents, HandleMode};
use engine::run::{LoadOptions, Scale, Wanted, WorkerOptions};
use fetch::{OneServer, OptOut, Spool};
use process::{Database, Failure};
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
        opt_out: left_out(args)?,
    })
}

/// The spool of the arguments; says so where it lies in memory.
pub(crate) fn spool(args: &SpoolArgs) -> Result<Spool, Failure> {
    let spool = open_spool(args)?;
    if spool.is_in_memory() {
        observe::log!(
            "note: {} is in memory, so that large repos use memory beyond --memory; name a folder on a disk with --spool-dir",
            spool.folder().display()
        );
    }
    Ok(spool)
}

fn open_spool(args: &SpoolArgs) -> Result<Spool, Failure> {
    let folder = args.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
    Spool::open(&folder, args.spool_size)
        .map_err(|error| Failure::new(error).hint("name a writable folder with --spool-dir"))
}

/// The hosts and accounts that the arguments leave out.
pub(crate) fn left_out(args: &FetchArgs) -> Result<OptOut, Failure> {
    opt_out(&args.skip_host, args.opt_out.as_deref())
}

/// Checks what the line itself names, before a private database is made for it.
pub(crate) fn require_usable(args: &LoadArgs) -> Result<(), Failure> {
    left_out(&args.fill.hosts.fetch)?;
    open_spool(&args.fill.hosts.spool)?;
    args.certificate
        .as_deref()
        .map_or(Ok(()), engine::certificate::require_place)
}

/// How hosts are asked, with the servers that the operator names: those may lie on private
/// networks. What they list may not.
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
    command_line().imply("named", &named);
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
        relay_is_stored: false,
        relay_repos: args.relay_repos,
        pds: pds.collect::<Result<_, _>>()?,
        pds_file: args.pds_file.as_deref().map(urls_of_file).transpose()?,
        plc_export: args.plc_export,
        collections: args.collection.clone(),
        straggler_grace: Duration::from_secs(args.straggler_grace),
    })
}

/// Whether it is an earlier command that names the relay, and not this one. `given` is what its own
/// line says, `args` has the stored options as well.
pub(crate) fn is_relay_stored(given: &SourceArgs, args: &SourceArgs) -> bool {
    given.relay != args.relay
}

/// Where documents and handles are asked for.
pub(crate) fn directory(
    args: &DirectoryArgs,
    caller: &CallerArgs,
    allow_private_hosts: bool,
) -> Directory {
    Directory {
        user_agent: user_agent(caller),
        plc_url: args.servers.plc_url.clone(),
        plc_pace: OneServer::new(f64::from(args.plc_rate)),
        web_server: args.did_web_server.clone(),
        dns_server: args.servers.dns_server,
        well_known_server: args.well_known_server.clone(),
        timeout: Duration::from_secs(args.timeout),
        allow_private_hosts,
    }
}

/// How archives are read.
pub(crate) fn of_cars(args: &CarsArgs) -> Result<OpenOptions, Failure> {
    Ok(OpenOptions {
        access: args.store.access()?,
        spool: spool(&args.spool)?,
        memory: args.memory,
    })
}

/// How hosts are asked; one that does not answer is retried for `patience` seconds, unless the
/// arguments say otherwise.
pub(crate) fn of_hosts(args: &HostsArgs, patience: u64) -> Result<fetch::Options, Failure> {
    options(&args.fetch, &args.caller, patience)
}

/// Where documents and handles are asked for.
pub(crate) fn directory_of(args: &HostsArgs) -> Directory {
    let allow_private_hosts = args.fetch.allow_private_hosts;
    directory(&args.directory, &args.caller, allow_private_hosts)
}

/// How repos are loaded into the database; reports how large the load is.
pub(crate) fn load(
    args: &LoadArgs,
    source: &Source,
    database: &Database,
) -> Result<LoadOptions, Failure> {
    let hosts = &args.fill.hosts;
    let scale = Scale::choose(&wanted(args), database)?;
    observe::log!("{}", scale.line());
    Ok(LoadOptions {
        keep_cars: args.keep_cars.clone(),
        access: args.store.access()?,
        handles: match args.handles {
            RunHandles::Auto => Some(HandleMode::Auto),
            RunHandles::Verified => Some(HandleMode::Verified),
            RunHandles::Claimed => Some(HandleMode::Claimed),
            RunHandles::Skip => None,
        },
        documents: documents(args.documents),
        verifies: !args.no_verify,
        certificate: args.certificate.clone(),
        accept_deletions: args.fill.accept_deletions,
        scale,
        fetch: options_naming(&hosts.fetch, &hosts.caller, source)?,
        spool: spool(&hosts.spool)?,
        directory: directory_of(hosts),
        worker: worker(&args.worker),
        transport: None,
        follows: false,
    })
}

/// The sizes that a load is asked to have.
pub(crate) fn wanted(args: &LoadArgs) -> Wanted {
    let slots = args.fill.hosts.fetch.concurrency;
    Wanted {
        threads: args.threads.map(usize::from),
        connections: args.max_db_connections.map(usize::from),
        slots: slots.map(|slots| slots as usize),
        memory: args.fill.memory,
        server_memory: args.server.server_memory,
    }
}

/// How the documents of many accounts are read.
pub(crate) fn documents(mode: RunDocuments) -> Documents {
    match mode {
        RunDocuments::Auto => Documents::Auto,
        RunDocuments::Export => Documents::Export,
        RunDocuments::Single => Documents::Single,
    }
}

/// What the process is as a worker.
fn worker(args: &WorkerArgs) -> WorkerOptions {
    WorkerOptions {
        name: args.worker.clone().unwrap_or_else(process::host_name),
        lease: Duration::from_secs(args.lease.into()),
    }
}
