//! Reads a batch in one snapshot: what is to be published, the revs, and the records as they are.
//!
//! A message's id has the publication, the notes that it is for, and the record. So the same notes
//! give the same ids after a crash, and a later change never has the id of an earlier one. Where
//! messages stay only until they are read, it has the number of the batch, too: what the stream
//! dropped because nobody read it would else be taken for a repetition.

use crate::batch::{Batch, Done, Message, Refused, Source, Writer};
use crate::message::{About, Stored, content};
use atrepo::syntax;
use export::Choice;
use fetch::Spool;
use ledger::publication::{self, Note, Operation};
use ledger::stored;
use pg::DbError;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use postgres::{Client, IsolationLevel, Transaction};
use process::Failure;
use std::collections::{BTreeMap, HashMap};

/// Records of a batch, about, unless they are large. Only a single repo may have more.
pub(crate) const RECORDS: u64 = 20_000;
/// Repos of a batch of the first round.
const REPOS: i64 = 400;

/// Prepares a session for reading.
pub(crate) fn begin(client: &mut Client, schema: &str) -> Result<(), DbError> {
    client.batch_execute(&format!(
        "{};
         SET jit = off;
         SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off",
        pg::search_path(schema)
    ))?;
    Ok(())
}

/// Reads batches.
pub(crate) struct Reader<'r> {
    pub(crate) schema: &'r str,
    /// The publication.
    pub(crate) name: &'r str,
    /// Records of the batch, about.
    pub(crate) records: u64,
    pub(crate) choice: &'r Choice,
    pub(crate) spool: &'r Spool,
    /// Largest content of a message.
    pub(crate) largest: usize,
    /// Whether a batch that is read again has other ids.
    pub(crate) has_new_ids: bool,
}

/// What is to be published of a repo.
#[derive(Default)]
struct Repo {
    rev: Option<String>,
    /// The highest number of a note, and how many there are; nothing in the first round.
    notes: Option<(i64, u32)>,
    is_whole: bool,
    /// The notes that stand for all of its records.
    whole_notes: Vec<i64>,
    /// Its records that are to be published, by URI, and whether they were not there before.
    keys: HashMap<String, bool>,
}

/// What the next batch is.
pub(crate) enum Next {
    /// There is nothing to publish.
    Nothing,
    Batch(Batch),
    /// It would be too large.
    TooLarge {
        /// The repo, if it is one alone of which all records are to be published.
        repo: Option<(String, Done)>,
        /// Why, for the case that it has one record.
        failure: Failure,
    },
}

/// The outer error is the database's, after which the batch may be read again.
type Read<T> = Result<Result<T, Refused>, DbError>;

impl Reader<'_> {
    /// Reads the next batch.
    pub(crate) fn read(
        &self,
        client: &mut Client,
        source: &Source,
    ) -> Result<Result<Next, Failure>, DbError> {
        let is_of_notes = matches!(source, Source::Notes { .. });
        if is_of_notes && publication::count(client, self.schema, 1)? == 0 {
            return Ok(Ok(Next::Nothing));
        }
        let Some(number) = publication::next_batch(client, self.schema, self.name)? else {
            return Ok(Err(Failure::new(
                "the publication has ended, or was begun again elsewhere",
            )
            .hint("begin again with an empty stream and --restart")));
        };
        let mut txn = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()?;
        let (mut repos, done) = match source {
            Source::Notes { round_at } => self.noted(&mut txn, round_at.as_deref())?,
            Source::Round { after } => self.round(&mut txn, after)?,
        };
        let mut writing = Writing {
            reader: self,
            batch: number,
            out: Writer::new(self.spool),
        };
        let is_one = repos.len() == 1;
        let whole = repos.iter().find(|(_, repo)| is_one && repo.is_whole);
        // Other notes of the repo stay: what went is noted by them alone.
        let whole = whole.map(|(did, repo)| (did.clone(), repo.whole_notes.clone()));
        let written = writing.write(&mut txn, &mut repos)?;
        // After an error, rows that were not read are dropped.
        txn.commit()?;
        let Writing { out, .. } = writing;
        let messages = out.end();
        Ok(match written {
            Ok(()) => Ok(Next::Batch(Batch { messages, done })),
            Err(Refused::TooLarge(failure)) => Ok(Next::TooLarge {
                repo: whole.map(|(did, notes)| match done {
                    Done::Notes(_) => (did, Done::Notes(notes)),
                    Done::Round(to) => (did, Done::Round(to)),
                }),
                failure,
            }),
            Err(Refused::Failed(failure)) => Err(failure),
        })
    }

    /// What the oldest notes are for.
    fn noted(
        &self,
        txn: &mut Transaction<'_>,
        round_at: Option<&str>,
    ) -> Result<(BTreeMap<String, Repo>, Done), DbError> {
        let most = i64::try_from(self.records).unwrap_or(i64::MAX);
        let mut records = 0u64;
        let has_turn =
            |note: &Note| note.key.is_none() && round_at.is_some_and(|at| note.did.as_str() > at);
        let cost = |note: &Note| match note.key {
            None if !has_turn(note) => note.records + 1,
            _ => 1,
        };
        let notes = publication::notes(txn, self.schema, most)?;
        let fits = notes.into_iter().enumerate().take_while(|(at, note)| {
            records += cost(note);
            *at == 0 || records <= self.records
        });
        let mut repos: BTreeMap<String, Repo> = BTreeMap::new();
        let mut numbers = Vec::new();
        for (_, note) in fits {
            numbers.push(note.number);
            if has_turn(&note) {
                continue;
            }
            let uri = note.key.map(|key| format!("at://{}/{key}", note.did));
            let repo = repos.entry(note.did).or_default();
            let (highest, count) = repo.notes.unwrap_or((0, 0));
            repo.notes = Some((highest.max(note.number), count + 1));
            repo.rev = note.rev;
            match uri {
                // The first note says whether it was there.
                Some(uri) => {
                    repo.keys.entry(uri).or_insert(note.is_create);
                }
                None => {
                    repo.is_whole = true;
                    repo.whole_notes.push(note.number);
                }
            }
        }
        Ok((repos, Done::Notes(numbers)))
    }

    /// The next repos of the first round.
    fn round(
        &self,
        txn: &mut Transaction<'_>,
        after: &str,
    ) -> Result<(BTreeMap<String, Repo>, Done), DbError> {
        let mut records = 0u64;
        let page = stored::page(txn, self.schema, (after, None), REPOS)?;
        let fits = page.into_iter().enumerate().take_while(|(at, repo)| {
            records += repo.records;
            *at == 0 || records <= self.records
        });
        let repos: BTreeMap<String, Repo> = fits
            .map(|(_, stored)| {
                let repo = Repo {
                    rev: Some(stored.rev),
                    is_whole: true,
                    ..Repo::default()
                };
                (stored.did, repo)
            })
            .collect();
        let last = repos.keys().next_back().cloned();
        Ok((repos, Done::Round(last)))
    }
}

/// Makes the messages of a batch.
struct Writing<'w> {
    reader: &'w Reader<'w>,
    batch: i64,
    out: Writer<'w>,
}

impl Writing<'_> {
    fn write(&mut self, txn: &mut Transaction<'_>, repos: &mut BTreeMap<String, Repo>) -> Read<()> {
        let whole: Vec<String> = repos
            .iter()
            .filter(|(_, repo)| repo.is_whole)
            .map(|(did, _)| did.clone())
            .collect();
        let single: Vec<String> = repos
            .values()
            .filter(|repo| !repo.is_whole)
            .flat_map(|repo| repo.keys.keys().cloned())
            .collect();
        for (condition, names) in [("did = ANY($1)", &whole), ("uri = ANY($1)", &single)] {
            if names.is_empty() {
                continue;
            }
            if let Err(refused) = self.write_stored(txn, (condition, names), repos)? {
                return Ok(Err(refused));
            }
        }
        // What is left is not there.
        for (did, repo) in repos.iter() {
            for uri in repo.keys.keys() {
                let Some((_, collection)) = parts_of(uri) else {
                    continue;
                };
                let about = self.about(Operation::Delete, (did, repo), (collection, uri));
                if let Err(refused) = self.add(&about, repo, None) {
                    return Ok(Err(refused));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Makes the messages for records that are there, and takes them off the lists.
    fn write_stored(
        &mut self,
        txn: &mut Transaction<'_>,
        (condition, names): (&str, &Vec<String>),
        repos: &mut BTreeMap<String, Repo>,
    ) -> Read<()> {
        let sql = format!("SELECT uri, cid, json, \"indexedAt\" FROM record WHERE {condition}");
        let parameters = [names].map(|names| names as &(dyn ToSql + Sync));
        let mut rows = txn.query_raw(&sql, parameters)?;
        while let Some(row) = rows.next()? {
            let uri: &str = row.try_get(0)?;
            // Another program may have stored what is no record of the account.
            let Some((did, collection)) = parts_of(uri) else {
                continue;
            };
            let Some(repo) = repos.get_mut(did) else {
                continue;
            };
            let is_create = repo.keys.remove(uri).unwrap_or(true) || repo.is_whole;
            let operation = match is_create {
                true => Operation::Create,
                false => Operation::Update,
            };
            let stored = Stored {
                cid: row.try_get(1)?,
                json: row.try_get(2)?,
                indexed_at: row.try_get(3)?,
            };
            let about = self.about(operation, (did, repo), (collection, uri));
            if let Err(refused) = self.add(&about, repo, Some(&stored)) {
                return Ok(Err(refused));
            }
        }
        Ok(Ok(()))
    }

    fn about<'a>(
        &self,
        operation: Operation,
        (did, repo): (&'a str, &'a Repo),
        (collection, uri): (&'a str, &'a str),
    ) -> About<'a> {
        About {
            operation,
            did,
            rev: repo.rev.as_deref(),
            batch: self.batch,
            collection,
            uri,
        }
    }

    fn add(
        &mut self,
        about: &About<'_>,
        repo: &Repo,
        stored: Option<&Stored<'_>>,
    ) -> Result<(), Refused> {
        if !self.reader.choice.has(about.collection) {
            return Ok(());
        }
        let (name, uri) = (self.reader.name, about.uri);
        let mut id = match repo.notes {
            Some((highest, count)) => format!("{name}:{highest}.{count}:{uri}"),
            None => format!("{name}:first:{uri}"),
        };
        if self.reader.has_new_ids {
            id = format!("{id}:{}", self.batch);
        }
        self.out.add(&Message {
            collection: about.collection,
            id: &id,
            content: &content(about, stored, self.reader.largest),
        })
    }
}

/// Account and collection of a record's URI.
fn parts_of(uri: &str) -> Option<(&str, &str)> {
    let (did, key) = uri.strip_prefix("at://")?.split_once('/')?;
    let (collection, _) = syntax::split_key(key.as_bytes())?;
    Some((did, collection))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_taken_apart_or_refused() {
        let of = parts_of("at://did:plc:a/app.bsky.feed.post/3k");
        assert_eq!(of, Some(("did:plc:a", "app.bsky.feed.post")));
        for bad in [
            "",
            "at://did:plc:a",
            "at://did:plc:a/post/3k",
            "http://a/b/c",
        ] {
            assert_eq!(parts_of(bad), None, "{bad}");
        }
    }
}
