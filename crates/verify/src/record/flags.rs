//! Why the flags of a post are set.

use super::{Post, beside, items, json_of, parts_of, post};
use postgres::{Client, Error};
use serde_json::Value;

/// A flag that is set, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The column of `post`.
    pub name: &'static str,
    /// Why it is set.
    pub why: String,
    /// The record that decides it, if one does.
    pub decided_by: Option<String>,
}

/// Collections of gates.
const THREADGATE: &str = "app.bsky.feed.threadgate";
const POSTGATE: &str = "app.bsky.feed.postgate";

/// The flags of a post that are set.
///
/// # Errors
/// The server refused.
pub fn flags(client: &mut Client, uri: &str) -> Result<Vec<Flag>, Error> {
    let row = client.query_opt(
        "SELECT coalesce(\"invalidReplyRoot\", false), coalesce(\"violatesThreadGate\", false), coalesce(\"violatesEmbeddingRules\", false),
           coalesce(\"hasThreadGate\", false), coalesce(\"hasPostGate\", false) FROM post WHERE uri = $1",
        &[&uri],
    )?;
    let (Some(row), Some(post)) = (row, post(client, uri)?) else {
        return Ok(Vec::new());
    };
    let is_set = |at: usize| row.get::<_, bool>(at);
    let mut flags = Vec::new();
    if is_set(0) {
        flags.push(Flag {
            name: "invalidReplyRoot",
            why: why_invalid(client, &post)?,
            decided_by: post.parent.clone(),
        });
    }
    if is_set(1) {
        let root = post.root.clone().unwrap_or_default();
        let gate = beside(&root, THREADGATE);
        flags.push(Flag {
            name: "violatesThreadGate",
            why: why_shut(client, &gate, &root)?,
            decided_by: Some(gate),
        });
    }
    if is_set(2) {
        flags.push(barred(client, uri)?);
    }
    for (at, name, collection) in [
        (3, "hasThreadGate", THREADGATE),
        (4, "hasPostGate", POSTGATE),
    ] {
        if is_set(at) {
            let gate = beside(uri, collection);
            flags.push(Flag {
                name,
                why: "a gate names this post".to_owned(),
                decided_by: Some(gate),
            });
        }
    }
    Ok(flags)
}

/// Why the root of a reply is invalid: its parent is missing, begins another thread, is in another
/// one, or is invalid itself.
fn why_invalid(client: &mut Client, reply: &Post) -> Result<String, Error> {
    let (Some(root), Some(parent)) = (&reply.root, &reply.parent) else {
        return Ok("it is no reply; the flag does not follow from the tables".to_owned());
    };
    let Some(above) = post(client, parent)? else {
        return Ok(match json_of(client, parent)? {
            None => format!("its parent {parent} is not stored"),
            Some(_) => format!("its parent {parent} is no post of this thread"),
        });
    };
    Ok(match (&above.root, parent == root) {
        (Some(_), true) => format!("its root {root} is a reply itself"),
        (None, true) => "the circle of replies that it is in has no beginning".to_owned(),
        (other, false) if other.as_ref() != Some(root) => format!(
            "its parent {parent} is in another thread: {}",
            other.as_deref().unwrap_or("one that it begins")
        ),
        (_, false) if above.is_invalid => {
            format!("its parent {parent} has an invalid root, too")
        }
        (_, false) => "the circle of replies that it is in has no beginning".to_owned(),
    })
}

/// What a thread gate admits, since the author of a reply is none of that.
fn why_shut(client: &mut Client, gate: &str, root: &str) -> Result<String, Error> {
    let rules = match parts_of(root).1 {
        "app.bsky.feed.post" => json_of(client, gate)?,
        // A root that is no post is its own gate.
        _ => json_of(client, root)?,
    };
    let Some(rules) = rules else {
        return Ok(
            "the gate of the thread is not stored any more; finalize is out of date".to_owned(),
        );
    };
    let admitted: Vec<String> = items(&rules, "allow").map(admits).collect();
    Ok(match admitted.as_slice() {
        [] => "the gate admits nobody but the author of the thread".to_owned(),
        all => format!(
            "the gate admits {}, and the author is none of them",
            all.join(", ")
        ),
    })
}

fn admits(rule: &Value) -> String {
    let kind = rule
        .get("$type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match kind.rsplit('#').next().unwrap_or_default() {
        "mentionRule" => "accounts that the root mentions".to_owned(),
        "followerRule" => "followers of the root's author".to_owned(),
        "followingRule" => "accounts that the root's author follows".to_owned(),
        "listRule" => {
            let list = rule.get("list").and_then(Value::as_str).unwrap_or("?");
            format!("members of {list}")
        }
        _ => "by a rule that the official indexer does not know".to_owned(),
    }
}

/// The post gate that forbids an embed of the post.
fn barred(client: &mut Client, uri: &str) -> Result<Flag, Error> {
    let rows = client.query(
        "SELECT \"embedUri\" FROM post_embed_record WHERE \"postUri\" = $1 ORDER BY \"embedUri\"",
        &[&uri],
    )?;
    for row in rows {
        let embedded: String = row.get(0);
        if forbids(client, uri, &embedded)? {
            let gate = beside(&embedded, POSTGATE);
            return Ok(Flag {
                name: "violatesEmbeddingRules",
                why: format!("the gate of {embedded} lets nobody else embed it"),
                decided_by: Some(gate),
            });
        }
    }
    Ok(Flag {
        name: "violatesEmbeddingRules",
        why: "no gate that is stored says so; finalize is out of date".to_owned(),
        decided_by: None,
    })
}

/// Whether the gate of an embedded post forbids the post at `uri` to embed it.
pub(super) fn forbids(client: &mut Client, uri: &str, embedded: &str) -> Result<bool, Error> {
    let (author, collection, _) = parts_of(embedded);
    if author == parts_of(uri).0 || collection != "app.bsky.feed.post" {
        return Ok(false);
    }
    let gate = json_of(client, &beside(embedded, POSTGATE))?;
    let disables = |rule: &Value| {
        rule.get("$type").and_then(Value::as_str) == Some("app.bsky.feed.postgate#disableRule")
    };
    Ok(gate.is_some_and(|gate| items(&gate, "embeddingRules").any(disables)))
}
