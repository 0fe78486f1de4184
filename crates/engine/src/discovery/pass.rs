//! A pass: lists everything that a source names, compares it with the ledger, and decides contested
//! accounts.

use crate::discovery::context::{Beside, Counts, Discovery, OpenPass, PAGES_AT_ONCE, list_client};
use crate::discovery::join::Joined;
use crate::discovery::{hosts, plc, relay, settle};
use fetch::Client as HttpClient;
use fetch::hosts::host_of;
use fetch::turns::Turns;
use ledger::listing::{self, Changes};
use ledger::locks::Lock;
use ledger::settings;
use observe::units::counted;
use observe::{Progress, Waiting, registry};
use process::{Failure, Patient};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Hosts that could not be listed, named one by one up to here.
const NAMED_HOSTS: usize = 20;

/// What a pass found.
#[derive(Debug)]
pub struct Pass {
    /// Its number.
    pub id: i64,
    /// The relay's sequence number before it began.
    pub seq: Option<i64>,
    /// Repos that hosts and relays listed, each time that they did.
    pub listed: u64,
    /// What that changed in the ledger.
    pub changes: Changes,
    /// By host or relay: lines of its list that make no sense.
    pub bad_lines: BTreeMap<String, u64>,
    /// Hosts that could not be listed to their end, with the reasons.
    pub failed_hosts: Vec<(String, String)>,
    /// Repos of which it is not settled where they are.
    pub unsettled: u64,
    /// Repos that their hosts do not list any more.
    pub unlisted: u64,
}

impl Pass {
    /// What it found, as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let failed = self
            .failed_hosts
            .iter()
            .map(|(host, why)| json!({"host": host, "error": why}));
        json!({
            "pass": self.id,
            "relaySeq": self.seq,
            "listed": self.listed,
            "new": self.changes.new,
            "opened": self.changes.opened + self.unlisted,
            "contested": self.changes.contested,
            "unsettled": self.unsettled,
            "failedHosts": failed.collect::<Vec<_>>(),
            "badLines": self.bad_lines,
        })
    }

    /// Whether nothing is left open.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed_hosts.is_empty() && self.unsettled == 0
    }
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

impl<'s> Discovery<'s> {
    /// A whole pass, or the rest of one; nothing if it was stopped.
    ///
    /// # Errors
    /// The database or the network cannot be used.
    pub fn pass(self, with_known_hosts: bool) -> Result<Option<Pass>, Failure> {
        self.run(with_known_hosts, None)
    }

    /// The same, over what the source names, with a load beside it.
    pub(crate) fn pass_beside(self, beside: Beside<'s>) -> Result<Option<Pass>, Failure> {
        self.run(false, Some(beside))
    }

    fn run(
        self,
        with_known_hosts: bool,
        beside: Option<Beside<'s>>,
    ) -> Result<Option<Pass>, Failure> {
        let schema = &self.database.schema;
        let over = self
            .source
            .describe(&self.directory.plc_url, with_known_hosts);
        if let Some(beside) = beside {
            match self.join(beside, &over)? {
                Joined::No => {}
                Joined::Ended(id) => return self.joined(id).map(Some),
                Joined::Stopped => return Ok(None),
            }
        }
        let client = self.database.patient_alone(self.stop, Lock::Passes);
        let http = list_client(self.fetch, 1)?;
        let (mut open, seq) = self.begin(client, &http, &over, beside)?;
        registry().enter("discover");
        let progress = Progress::begin("discover", open.counts.shown(), None);
        progress.shows(&open.waiting);
        let is_done =
            self.list_all(&mut open, &http, with_known_hosts)? && settle::settle(&self, &mut open)?;
        progress.finish();
        if !is_done {
            return Ok(None);
        }
        if !with_known_hosts {
            self.note_choice(&mut open)?;
        }
        let OpenPass {
            id,
            mut client,
            counts,
            changes,
            bad_lines,
            ..
        } = open;
        let unlisted = client.run(|client| listing::open_unlisted(client, schema, id))?;
        client.run(|client| listing::end(client, id))?;
        let pass = Pass {
            id,
            seq,
            listed: counts.listed.get(),
            changes,
            bad_lines,
            failed_hosts: client.run(|client| listing::failed_hosts(client, schema, id))?,
            unsettled: client.run(|client| listing::count_unsettled(client, schema))?,
            unlisted,
        };
        log_pass(&pass);
        Ok(Some(pass))
    }

    /// A pass that another process ended, as far as the ledger knows it.
    fn joined(&self, id: i64) -> Result<Pass, Failure> {
        let schema = &self.database.schema;
        let mut client = self.database.patient(self.stop);
        Ok(Pass {
            id,
            seq: client.run(|client| listing::seq(client, id))?,
            listed: 0,
            changes: Changes::default(),
            bad_lines: BTreeMap::new(),
            failed_hosts: client.run(|client| listing::failed_hosts(client, schema, id))?,
            unsettled: client.run(|client| listing::count_unsettled(client, schema))?,
            unlisted: 0,
        })
    }

    /// Begins a pass, or continues with one; and where the relay was before it began.
    fn begin(
        &self,
        mut client: Patient<'s>,
        http: &HttpClient,
        over: &str,
        beside: Option<Beside<'s>>,
    ) -> Result<(OpenPass<'s>, Option<i64>), Failure> {
        let relay = self.source.relay();
        // Before anything is listed: what happens from here on, the relay has.
        let seq = match self
            .runtime
            .block_on(relay::current_seq(http, relay, self.stop))
        {
            Ok(seq) => Some(seq),
            Err(error) => {
                observe::log!("note: the position of {relay} is unknown: {error}");
                None
            }
        };
        let (id, is_new) = client.run(|client| {
            listing::begin(client, &self.database.schema, over, Some((relay, seq)))
        })?;
        let seq = if is_new {
            seq
        } else {
            observe::log!("continuing pass {id} of discovery");
            client.run(|client| listing::seq(client, id))?
        };
        let open = OpenPass {
            id,
            client,
            counts: Counts::new(),
            changes: Changes::default(),
            bad_lines: BTreeMap::new(),
            waiting: Waiting::default(),
            beside,
        };
        if let Some(beside) = beside {
            beside.arrivals.begin(seq);
        }
        Ok((open, seq))
    }

    /// Lists all that the source names. False if it was stopped.
    fn list_all(
        &self,
        open: &mut OpenPass<'_>,
        http: &HttpClient,
        with_known_hosts: bool,
    ) -> Result<bool, Failure> {
        let (schema, source) = (&self.database.schema, self.source);
        let relay = source.relay();
        let mut reads_relay_repos = source.relay_repos;
        let named = source.named_hosts();
        let mut all = named.clone();
        if with_known_hosts {
            all.extend(
                open.client
                    .run(|client| listing::known_hosts(client, schema))?,
            );
        }
        if !source.names_repos() {
            match self
                .runtime
                .block_on(relay::hosts(http, source, self.stop))?
            {
                Some(relay::Hosts::Listed(listed)) => all.extend(listed),
                // A PDS, or an older relay: its own list is what there is.
                Some(relay::Hosts::NotKnown) => {
                    observe::log!("{relay} does not list hosts; its own list of repos is used");
                    if relay::is_pds(self, http, relay) {
                        all.push((host_of(relay), relay.to_owned()));
                    } else {
                        reads_relay_repos = true;
                    }
                }
                None => return Ok(false),
            }
        }
        let best = best_urls(named, all);
        let id = open.id;
        open.client
            .run(|client| listing::add_hosts(client, schema, id, &best))?;
        let turns = match open.beside {
            Some(beside) => beside.turns.clone(),
            None => {
                let _within = self.runtime.enter();
                Turns::start(self.fetch.pace(PAGES_AT_ONCE))
            }
        };
        Ok(hosts::list_hosts(self, &turns, open)?
            && (!reads_relay_repos || relay::list_repos(self, http, None, open)?)
            && self.list_collections(http, open)?
            && (!source.plc_export || plc::list_accounts(self, open)?))
    }

    /// Lists the accounts with records of the collections that the source names. False if it was
    /// stopped.
    fn list_collections(
        &self,
        http: &HttpClient,
        open: &mut OpenPass<'_>,
    ) -> Result<bool, Failure> {
        for collection in &self.source.collections {
            if !relay::list_repos(self, http, Some(collection), open)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Notes that accounts were chosen by their collections; or that none are left out, because the
    /// whole network was listed.
    fn note_choice(&self, open: &mut OpenPass<'_>) -> Result<(), Failure> {
        let (schema, source) = (&self.database.schema, self.source);
        open.client
            .run(|client| match source.collections.as_slice() {
                [] if source.names_repos() && !source.relay_repos && !source.plc_export => Ok(()),
                [] => settings::forget_choices(client, schema),
                collections => settings::note_choice(client, schema, "collection", collections),
            })
    }
}

/// Logs what a pass found.
fn log_pass(pass: &Pass) {
    for (host, why) in pass.failed_hosts.iter().take(NAMED_HOSTS) {
        tracing::warn!("{host} was not listed to the end: {why}");
    }
    if pass.failed_hosts.len() > NAMED_HOSTS {
        observe::log!(
            "... and {} more; all are in skyfill.host",
            pass.failed_hosts.len() - NAMED_HOSTS
        );
    }
    for (host, lines) in pass.bad_lines.iter().take(NAMED_HOSTS) {
        let lines = counted(*lines, "line");
        tracing::warn!("{host}: left out {lines} of its list, not valid");
    }
    observe::log!(
        "{} listed: {} new, {} with a newer rev, {} contested by two hosts; {} no longer listed; {} undecided",
        counted(pass.listed, "repo"),
        pass.changes.new,
        pass.changes.opened,
        pass.changes.contested,
        pass.unlisted,
        pass.unsettled
    );
}
