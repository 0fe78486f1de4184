//! Who is notified of a record, and who is not, and why.
//!
//! A record notifies by itself whom it likes, follows or mentions. A post also notifies whom it
//! quotes, and the authors of up to four posts above it; `finalize/sql/notifications.sql` has the
//! rules, and this is the same for one post.

use super::{Stored, beside, flags, items, json_of, parts_of, post};
use appview::table;
use load::Notifications;
use postgres::{Client, Error};
use rows::{Collection, Record, Rows};
use serde_json::Value;

/// Posts above a reply whose authors are notified.
const ANCESTORS: usize = 4;

/// Somebody who is notified of a record, or might have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The account.
    pub did: String,
    /// The reason: like, reply, and so on.
    pub reason: String,
    /// Why there is no notification, if there is none.
    pub not: Option<String>,
}

/// What the load and finalize left out.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The notifications that were taken.
    pub notifications: Notifications,
    /// Whether derived rows were computed since the record was stored.
    pub is_finalized: bool,
}

/// What a notification would be about.
struct Candidate {
    did: String,
    reason: &'static str,
    /// Why it is not wanted, if that is known from how it was found.
    not: Option<String>,
}

/// Who is notified of the stored record at `uri`, or might have been.
///
/// # Errors
/// The server refused.
pub fn recipients(
    client: &mut Client,
    uri: &str,
    stored: &Stored,
    choice: &Choice,
) -> Result<Vec<Recipient>, Error> {
    let (did, nsid, rkey) = parts_of(uri);
    let (Some(collection), Some(record)) = (Collection::parse(nsid), &stored.record) else {
        return Ok(Vec::new());
    };
    let json: Value = serde_json::from_str(&record.json).unwrap_or(Value::Null);
    let told: Vec<(String, String)> = stored
        .in_table(table::NOTIFICATION.info().name)
        .map(|row| (text(row, "did"), text(row, "reason")))
        .collect();
    let mut found: Vec<Recipient> = told
        .iter()
        .map(|(did, reason)| Recipient {
            did: did.clone(),
            reason: reason.clone(),
            not: None,
        })
        .collect();
    for (recipient, reason, sort_at, subject) in
        own_notifications(did, collection, rkey, uri, record)
    {
        let why = if let Some(winner) = stored.duplicate_of() {
            format!("the record is a duplicate of {winner}, which notified")
        } else if !choice.notifications.takes(&sort_at) {
            left_out(choice)
        } else if is_muted(client, &recipient, &subject)? {
            "the recipient muted the thread".to_owned()
        } else {
            "it is missing; skyfill verify lists what else is".to_owned()
        };
        add(&mut found, &recipient, &reason, why);
    }
    for (own, reason) in own_subjects(did, collection, &json) {
        add(
            &mut found,
            &own,
            reason,
            "the record is about the author's own".to_owned(),
        );
    }
    if collection == Collection::Post {
        let sort_at = stored
            .in_table("post")
            .map(|row| text(row, "sortAt"))
            .next()
            .unwrap_or_default();
        for candidate in candidates(client, uri)? {
            let why = match candidate.not {
                Some(why) => why,
                None if candidate.did == did => "it is the author's own post".to_owned(),
                None => match told.iter().find(|(other, _)| *other == candidate.did) {
                    Some((_, reason)) => format!("the {reason} notified already"),
                    None if !choice.notifications.takes(&sort_at) => left_out(choice),
                    None if !choice.is_finalized => "finalize has not computed it yet".to_owned(),
                    None if is_muted(client, &candidate.did, uri)? => {
                        "the recipient muted the thread".to_owned()
                    }
                    None => "another notification of this post goes first".to_owned(),
                },
            };
            add(&mut found, &candidate.did, candidate.reason, why);
        }
    }
    Ok(found)
}

/// Adds somebody who is not notified, unless the list has them for the same reason.
fn add(found: &mut Vec<Recipient>, did: &str, reason: &str, why: String) {
    let is_known = |known: &Recipient| known.did == did && known.reason == reason;
    if !found.iter().any(is_known) {
        found.push(Recipient {
            did: did.to_owned(),
            reason: reason.to_owned(),
            not: Some(why),
        });
    }
}

fn left_out(choice: &Choice) -> String {
    format!(
        "left out by choice: --notifications {}",
        choice.notifications.text()
    )
}

fn text(row: &Value, name: &str) -> String {
    row.get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// The notifications that follow from a record alone: recipient, reason, time, subject.
fn own_notifications(
    did: &str,
    collection: Collection,
    rkey: &str,
    uri: &str,
    stored: &super::RecordRow,
) -> Vec<(String, String, String, String)> {
    let bytes = rows::from_stored_json(&stored.json).unwrap_or_default();
    let checked = atrepo::cbor::check(&bytes).ok();
    let Some(value) = checked.and_then(|item| item.as_map()) else {
        return Vec::new();
    };
    let record = Record {
        did,
        collection,
        rkey,
        uri,
        cid: &stored.cid,
        indexed_at: &stored.indexed_at,
        value,
    };
    let mut made = Vec::new();
    let mut sink = |info: table::TableInfo, values: &[rows::Field<'_>]| {
        if info.id == table::NOTIFICATION.info().id {
            let text = |at: usize| match values.get(at) {
                Some(rows::Field::Text(text)) => (*text).to_owned(),
                _ => String::new(),
            };
            made.push((text(0), text(4), text(6), text(5)));
        }
    };
    // What is refused leaves no notification.
    match rows::index_stored(&record, &mut Rows::new(&mut sink)) {
        Ok(_) => made,
        Err(_) => Vec::new(),
    }
}

/// What a record is about that is its author's own: nobody is notified of that.
fn own_subjects(did: &str, collection: Collection, json: &Value) -> Vec<(String, &'static str)> {
    let is_own = |subject: Option<&Value>| {
        subject
            .and_then(Value::as_str)
            .is_some_and(|subject| subject == did || parts_of(subject).0 == did)
    };
    let subject = json.get("subject");
    let own = match collection {
        Collection::Like => is_own(subject.and_then(|s| s.get("uri"))).then_some("like"),
        Collection::Repost => is_own(subject.and_then(|s| s.get("uri"))).then_some("repost"),
        Collection::Follow => is_own(subject).then_some("follow"),
        _ => None,
    };
    own.map(|reason| (did.to_owned(), reason))
        .into_iter()
        .collect()
}

/// Whom a post quotes, and the authors of the posts above it.
fn candidates(client: &mut Client, uri: &str) -> Result<Vec<Candidate>, Error> {
    let mut found = Vec::new();
    let rows = client.query(
        "SELECT \"embedUri\" FROM post_embed_record WHERE \"postUri\" = $1 ORDER BY \"embedUri\"",
        &[&uri],
    )?;
    for row in rows {
        let quoted: String = row.get(0);
        let (author, collection, _) = parts_of(&quoted);
        if collection == "app.bsky.feed.post" {
            let barred = flags::forbids(client, uri, &quoted)?;
            found.push(Candidate {
                did: author.to_owned(),
                reason: "quote",
                not: barred.then(|| format!("the gate of {quoted} lets nobody else embed it")),
            });
        }
    }
    let Some(reply) = post(client, uri)? else {
        return Ok(found);
    };
    let shut = client.query_one(
        "SELECT coalesce(\"violatesThreadGate\", false) FROM post WHERE uri = $1",
        &[&uri],
    )?;
    let is_shut: bool = shut.get(0);
    let root = reply.root.clone().unwrap_or_default();
    let gate = json_of(client, &beside(&root, "app.bsky.feed.threadgate"))?;
    let is_hidden = |post: &str| {
        gate.as_ref().is_some_and(|gate| {
            items(gate, "hiddenReplies").any(|hidden| hidden.as_str() == Some(post))
        })
    };
    let (mut next, mut hidden) = (reply.parent, None);
    for _ in 0..ANCESTORS {
        let Some(parent) = next.take() else { break };
        let author = parts_of(&parent).0.to_owned();
        let above = post(client, &parent)?;
        let not = if above.is_none() {
            Some(format!("the post above, {parent}, is not stored"))
        } else if is_shut {
            Some("the gate of the thread does not admit the reply".to_owned())
        } else {
            hidden
                .as_ref()
                .map(|by| format!("the gate of the thread hides {by}, which is between them"))
        };
        found.push(Candidate {
            did: author,
            reason: "reply",
            not,
        });
        if hidden.is_none() && is_hidden(&parent) {
            hidden = Some(parent.clone());
        }
        next = above
            .filter(|above| above.uri != uri)
            .and_then(|above| above.parent);
    }
    Ok(found)
}

/// Whether an account muted the thread of a post.
fn is_muted(client: &mut Client, did: &str, subject: &str) -> Result<bool, Error> {
    let row = client.query_one(
        "SELECT EXISTS (SELECT FROM thread_mute m JOIN post p ON m.\"rootUri\" = coalesce(p.\"replyRoot\", p.uri)
         WHERE m.\"mutedByDid\" = $1 AND p.uri = $2)",
        &[&did, &subject],
    )?;
    Ok(row.get(0))
}
