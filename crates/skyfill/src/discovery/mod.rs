//! Discovery: a pass over hosts, relays and directories, compared with the ledger page by page.
//!
//! [`hosts`] lists each host, [`relay`] is what relays are asked, [`settle`] asks the DID documents
//! of accounts that two hosts claim or none does, [`command`] is `skyfill discover`. Pages are
//! fetched by tasks, each host at its pace, and stored by the calling thread, in the order in which
//! they come, each with the cursor after it.

pub(crate) mod command;
mod hosts;
mod race;
pub(crate) mod relay;
mod settle;

use crate::cli::{CallerArgs, DirectoryArgs, FetchArgs, LoadArgs, OutputArgs, SourceArgs};
use crate::fetch_args::{self, base_url};
use crate::run::{PATIENCE, Setting};
use fetch::hosts::host_of;
use fetch::turns::Turns;
use fetch::{Client as HttpClient, Redirects};
use ledger::listing::{self, Changes, Listed};
use ledger::locks::Lock;
use ledger::runs;
use observe::{Counter, Progress, Waiting};
use postgres::{Client, GenericClient};
use process::Failure;
use process::Stop;
use process::{Database, Patient};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The public relay.
const PUBLIC_RELAY: &str = "https://relay1.us-east.bsky.network";
/// Largest page of a list, in bytes.
const MAX_PAGE: u64 = 2 << 20;
/// Requests at once, unless the arguments say otherwise: each may hold a page.
const AT_ONCE: usize = 128;

/// What a pass works with.
pub(crate) struct Scout<'s> {
    pub(crate) database: &'s Database,
    pub(crate) runtime: &'s Runtime,
    pub(crate) stop: &'s Stop,
    pub(crate) source: &'s SourceArgs,
    pub(crate) fetch: &'s FetchArgs,
    pub(crate) directory: &'s DirectoryArgs,
    pub(crate) caller: &'s CallerArgs,
    pub(crate) output: &'s OutputArgs,
}

/// What a pass found.
#[derive(Debug)]
pub(crate) struct Pass {
    /// Its number.
    pub(crate) id: i64,
    /// The relay's sequence number before it began.
    pub(crate) seq: Option<i64>,
    /// Repos that hosts and relays listed, each time that they did.
    pub(crate) listed: u64,
    pub(crate) changes: Changes,
    /// By host or relay: lines of its list that make no sense.
    pub(crate) bad_lines: BTreeMap<String, u64>,
    /// Hosts that could not be listed to their end, with the reasons.
    pub(crate) failed_hosts: Vec<(String, String)>,
    /// Repos of which it is not settled where they are.
    pub(crate) unsettled: u64,
    /// Repos that their hosts do not list any more.
    pub(crate) unlisted: u64,
}

impl Pass {
    /// Whether nothing is left open.
    pub(crate) fn is_complete(&self) -> bool {
        self.failed_hosts.is_empty() && self.unsettled == 0
    }
}

/// A pass that is under way.
pub(crate) struct Listing<'s> {
    id: i64,
    /// The connection that holds the lock.
    client: Patient<'s>,
    counts: Counts,
    changes: Changes,
    /// By host: lines of its list that make no sense.
    bad_lines: BTreeMap<String, u64>,
    /// Hosts that are not listed to their end yet.
    waiting: Waiting,
}

/// Counts for the progress.
pub(crate) struct Counts {
    listed: Counter,
    hosts: Counter,
    new: Counter,
    opened: Counter,
    contested: Counter,
    settled: Counter,
    failed: Counter,
    bad: Counter,
}

impl Counts {
    fn new() -> Self {
        Self {
            listed: Counter::with_rate("repos listed"),
            hosts: Counter::plain("hosts done"),
            new: Counter::plain("new"),
            opened: Counter::plain("to be loaded again"),
            contested: Counter::plain("claimed by two hosts"),
            settled: Counter::plain("settled by their documents"),
            failed: Counter::plain("hosts failed"),
            bad: Counter::plain("lines that make no sense"),
        }
    }

    fn shown(&self) -> Vec<Counter> {
        let Self {
            listed,
            hosts,
            new,
            opened,
            contested,
            settled,
            failed,
            bad,
        } = self;
        [listed, hosts, new, opened, contested, settled, failed, bad]
            .into_iter()
            .cloned()
            .collect()
    }
}

/// A pass for `run` and `catch-up`; nothing if it was told to stop.
pub(crate) fn pass(
    set: &Setting,
    source: &SourceArgs,
    args: &LoadArgs,
    with_known_hosts: bool,
) -> Result<Option<Pass>, Failure> {
    let scout = Scout {
        database: &set.database,
        runtime: &set.runtime,
        stop: &set.stop,
        source,
        fetch: &args.fetch,
        directory: &args.directory,
        caller: &args.caller,
        output: &args.output,
    };
    let pass = scout.pass(with_known_hosts)?;
    if let Some(pass) = &pass {
        command::tell(pass);
    }
    Ok(pass)
}

/// Notes where the relay is before a run fetches the first repo, for the hand-over.
pub(crate) fn note_seq(
    set: &Setting,
    args: &LoadArgs,
    client: &mut Client,
    run: i64,
    (relay, seq): (&str, Option<i64>),
) -> Result<(), Failure> {
    let refused = |error: postgres::Error| set.database.failure(error);
    if runs::relay(client, run).map_err(refused)?.is_some() {
        return Ok(());
    }
    let relay = base_url("--relay", relay)?;
    if seq.is_some() {
        // A pass of discovery came first: what it listed is older.
        return runs::note_relay(client, run, &relay, seq).map_err(refused);
    }
    let http = list_client(&args.fetch, &args.caller)?;
    match set
        .runtime
        .block_on(relay::current_seq(&http, &relay, &set.stop))
    {
        Ok(seq) => {
            observe::log!("{relay} is at sequence number {seq}");
            runs::note_relay(client, run, &relay, Some(seq)).map_err(refused)
        }
        Err(error) => {
            observe::log!("note: where {relay} is could not be learned: {error}");
            runs::note_relay(client, run, &relay, None).map_err(refused)
        }
    }
}

/// For relays and for the lists of hosts.
pub(crate) fn list_client(fetch: &FetchArgs, caller: &CallerArgs) -> Result<HttpClient, Failure> {
    let options = fetch_args::options(fetch, caller, PATIENCE)?;
    let limits = options.limits(MAX_PAGE, Redirects::Never);
    HttpClient::for_streams(&options.user_agent, limits).map_err(Failure::new)
}

/// The relay that is asked, or whose sequence numbers count: the one that is named, else a single
/// PDS, which is its own; else the public one.
pub(crate) fn relay_of(source: &SourceArgs) -> Result<String, Failure> {
    match (&source.relay, source.pds.as_slice()) {
        (Some(relay), _) => base_url("--relay", relay),
        (None, [pds]) => base_url("--pds", pds),
        (None, _) => Ok(PUBLIC_RELAY.to_owned()),
    }
}

/// Stores a page and, in the same transaction, how far that is. Where a load holds the same rows,
/// or the server goes away, it is done again.
fn store(
    client: &mut Patient<'_>,
    schema: &str,
    id: i64,
    lines: &[Listed],
    after: impl Fn(&mut postgres::Transaction<'_>) -> Result<(), postgres::Error>,
) -> Result<Changes, Failure> {
    client.run(|client| -> Result<Changes, postgres::Error> {
        let mut txn = client.transaction()?;
        let changes = store_page(&mut txn, schema, id, lines)?;
        after(&mut txn)?;
        txn.commit()?;
        Ok(changes)
    })
}

/// Stores what a page says of repos, and the states of accounts that are not active.
fn store_page(
    client: &mut impl GenericClient,
    schema: &str,
    id: i64,
    lines: &[Listed],
) -> Result<Changes, postgres::Error> {
    let changes = listing::page(client, schema, id, lines, &load::revs::newest_believed())?;
    let with_status = lines.iter().filter(|line| line.status.is_some());
    let dids: Vec<&str> = with_status.map(|line| line.did.as_str()).collect();
    if !dids.is_empty() {
        let inactive = listing::inactive(client, schema, &dids)?;
        let states: Vec<(&str, Option<&str>)> = inactive
            .iter()
            .map(|(did, state)| (did.as_str(), Some(state.as_str())))
            .collect();
        load::store_states(client, schema, &states)?;
    }
    Ok(changes)
}

/// One URL for each host: the one that the operator `named`; else the first one with TLS, since
/// nobody else's word takes that away from a host; else the first one. The ledger's come before the
/// relay's.
fn best_urls(named: Vec<(String, String)>, all: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut best: BTreeMap<String, String> = BTreeMap::new();
    for (host, url) in all {
        match best.entry(host) {
            Entry::Vacant(entry) => _ = entry.insert(url),
            Entry::Occupied(mut entry)
                if url.starts_with("https://") && entry.get().starts_with("http://") =>
            {
                entry.insert(url);
            }
            Entry::Occupied(_) => {}
        }
    }
    // Of two that the operator names, the first one.
    for (host, url) in named.into_iter().rev() {
        if let Some(best) = best.get_mut(&host) {
            *best = url;
        }
    }
    best.into_iter().collect()
}

impl<'s> Scout<'s> {
    /// A whole pass, or the rest of one; nothing if it was told to stop.
    pub(crate) fn pass(&self, with_known_hosts: bool) -> Result<Option<Pass>, Failure> {
        let schema = &self.database.schema;
        let relay = relay_of(self.source)?;
        let client = self.database.patient_alone(self.stop, Lock::Passes);
        let http = list_client(self.fetch, self.caller)?;
        let named = self.named_hosts()?;
        let (mut listing, seq) = self.begin(client, &http, &relay, with_known_hosts)?;
        let interval = Duration::from_secs(self.output.logging_interval);
        let progress = Progress::start(listing.counts.shown(), None, interval);
        progress.shows(&listing.waiting);
        let is_done = self.list_all(&mut listing, &http, &relay, named, with_known_hosts)?
            && self.settle(&mut listing)?;
        progress.finish();
        if !is_done {
            return Ok(None);
        }
        let Listing {
            id,
            mut client,
            counts,
            changes,
            bad_lines,
            ..
        } = listing;
        let unlisted = client.run(|client| listing::open_unlisted(client, schema, id))?;
        client.run(|client| listing::end(client, id))?;
        Ok(Some(Pass {
            id,
            seq,
            listed: counts.listed.get(),
            changes,
            bad_lines,
            failed_hosts: client.run(|client| listing::failed_hosts(client, schema, id))?,
            unsettled: client.run(|client| listing::count_unsettled(client, schema))?,
            unlisted,
        }))
    }

    /// Begins a pass, or goes on with one; and where the relay was before it began.
    fn begin(
        &self,
        mut client: Patient<'s>,
        http: &HttpClient,
        relay: &str,
        with_known_hosts: bool,
    ) -> Result<(Listing<'s>, Option<i64>), Failure> {
        // Before anything is listed: what happens from here on, the relay has.
        let seq = match self
            .runtime
            .block_on(relay::current_seq(http, relay, self.stop))
        {
            Ok(seq) => Some(seq),
            Err(error) => {
                observe::log!("note: where {relay} is could not be learned: {error}");
                None
            }
        };
        let over = self.describe(relay, with_known_hosts);
        let (id, is_new) = client.run(|client| {
            listing::begin(client, &self.database.schema, &over, Some((relay, seq)))
        })?;
        let seq = if is_new {
            seq
        } else {
            observe::log!("going on with pass {id} of discovery");
            client.run(|client| listing::seq(client, id))?
        };
        let listing = Listing {
            id,
            client,
            counts: Counts::new(),
            changes: Changes::default(),
            bad_lines: BTreeMap::new(),
            waiting: Waiting::default(),
        };
        Ok((listing, seq))
    }

    /// Lists all that the sources name. False if it was told to stop.
    fn list_all(
        &self,
        listing: &mut Listing<'_>,
        http: &HttpClient,
        relay: &str,
        named: Vec<(String, String)>,
        with_known_hosts: bool,
    ) -> Result<bool, Failure> {
        let schema = &self.database.schema;
        let mut takes_relay_repos = self.source.relay_repos;
        let mut hosts = named.clone();
        if with_known_hosts {
            hosts.extend(
                listing
                    .client
                    .run(|client| listing::known_hosts(client, schema))?,
            );
        }
        if self.asks_relay_for_hosts() {
            match self
                .runtime
                .block_on(relay::hosts(http, relay, self.stop))?
            {
                Some(relay::Hosts::Listed(listed)) => hosts.extend(listed),
                // A PDS, or an older relay: its own list is what there is.
                Some(relay::Hosts::NotKnown) => {
                    observe::log!("{relay} does not list hosts; its own list of repos is taken");
                    if self.is_pds(http, relay) {
                        hosts.push((host_of(relay), relay.to_owned()));
                    } else {
                        takes_relay_repos = true;
                    }
                }
                None => return Ok(false),
            }
        }
        let fetch = fetch_args::options(self.fetch, self.caller, PATIENCE)?;
        let hosts = best_urls(named, hosts);
        let id = listing.id;
        listing
            .client
            .run(|client| listing::add_hosts(client, schema, id, &hosts))?;
        let turns = {
            let _within = self.runtime.enter();
            Turns::start(fetch.pace(AT_ONCE))
        };
        Ok(self.list_hosts(&turns, &fetch.opt_out, listing)?
            && (!takes_relay_repos
                || self.relay_list(http, relay, "com.atproto.sync.listRepos", listing)?)
            && (self.source.collection.is_none()
                || self.relay_list(
                    http,
                    relay,
                    "com.atproto.sync.listReposByCollection",
                    listing,
                )?)
            && (!self.source.plc_export || self.read_export(listing)?))
    }

    fn asks_relay_for_hosts(&self) -> bool {
        let source = self.source;
        let names_others = source.relay_repos
            || source.collection.is_some()
            || source.plc_export
            || !source.pds.is_empty()
            || source.pds_file.is_some();
        !names_others
    }

    /// What a pass is over: one that was stopped is gone on with only if it is over the same.
    fn describe(&self, relay: &str, with_known_hosts: bool) -> String {
        format!(
            "relay {relay} repos {} pds {:?} {:?} plc {:?} collection {:?} known {with_known_hosts}",
            self.source.relay_repos,
            self.source.pds,
            self.source.pds_file,
            self.source.plc_export.then_some(&self.directory.plc_url),
            self.source.collection
        )
    }

    /// Name and URL of the hosts that arguments name.
    fn named_hosts(&self) -> Result<Vec<(String, String)>, Failure> {
        let urls = fetch_args::named_hosts(self.source)?;
        Ok(urls.into_iter().map(|url| (host_of(&url), url)).collect())
    }
}
