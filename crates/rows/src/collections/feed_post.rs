//! `app.bsky.feed.post`: the post, its feed item, its embeds, its place in its author's own thread, and
//! notifications of mentions. Flags, quote and reply notifications need other rows and come later.

use super::feed_post_embed;
use super::notification::{Notification, notify, sort_at};
use crate::aturi::AtUri;
use crate::fields::{Object, StrongRef};
use crate::reject::{Reject, Rule};
use crate::row::Field::{Jsonb, Null, Text};
use crate::{Record, Rows};
use appview::table;
use atrepo::cbor::Value;

pub(super) fn index(record: &Record<'_>, object: &Object<'_>, rows: &mut Rows<'_>) -> Result<(), Reject> {
    let text = object.text("text")?;
    let created_at = object.created_at()?;
    let reply = reply(object)?;
    let langs = object.optional_texts_json("langs")?;
    let tags = object.optional_texts_json("tags")?;
    let (root, parent) = (reply.map(|r| r.0), reply.map(|r| r.1));
    rows.push(
        &table::POST,
        [
            Text(record.uri),
            Text(record.cid),
            Text(record.did),
            Text(text),
            root.map(|r| r.uri).into(),
            root.map(|r| r.cid).into(),
            parent.map(|p| p.uri).into(),
            parent.map(|p| p.cid).into(),
            Text(&created_at),
            Text(record.indexed_at),
            langs.as_deref().map_or(Null, Jsonb),
            tags.as_deref().map_or(Null, Jsonb),
        ],
    )?;
    let sort_at = sort_at(&created_at, record.indexed_at);
    rows.push(
        &table::FEED_ITEM,
        [record.uri, record.cid, "post", record.uri, record.did, sort_at].map(Text),
    )?;
    if let Some((root, parent)) = reply {
        let authority = AtUri::parse(root.uri).map_or("", |uri| uri.authority);
        if !atrepo::syntax::is_did(authority) {
            return Err(Reject::new(
                "$.reply.root.uri",
                Rule::Official("the authority is no DID"),
            ));
        }
        if authority == record.did {
            rows.push(
                &table::OP_THREAD_REPLY,
                [root.uri, parent.uri, record.uri].map(Text),
            )?;
        }
    }
    feed_post_embed::index(record, object, &created_at, rows)?;
    notify_mentioned(record, object, sort_at, rows)
}

/// Root and parent.
fn reply<'a>(object: &Object<'a>) -> Result<Option<(StrongRef<'a>, StrongRef<'a>)>, Reject> {
    let Some(reply) = object.optional_object("reply")? else {
        return Ok(None);
    };
    Ok(Some((reply.strong_ref("root")?, reply.strong_ref("parent")?)))
}

/// One notification to each account that a facet mentions, but not to the author.
fn notify_mentioned(
    record: &Record<'_>,
    object: &Object<'_>,
    sort_at: &str,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let Some(facets) = object.optional_list("facets")? else {
        return Ok(());
    };
    let mut told = vec![record.did];
    for (at, facet) in facets.enumerate() {
        let facet = Object::of(facet, object.path(&format!("facets[{at}]")))?;
        if let Some(index) = facet.optional_object("index")? {
            for key in ["byteStart", "byteEnd"] {
                if !matches!(index.get(key).map(|item| item.value()), Some(Value::Unsigned(_))) {
                    return Err(Reject::new(index.path(key), Rule::NotA("a non-negative integer")));
                }
            }
        } else {
            return Err(Reject::new(facet.path("index"), Rule::Missing));
        }
        for (at, feature) in facet.list("features")?.enumerate() {
            let feature = Object::of(feature, facet.path(&format!("features[{at}]")))?;
            if feature.type_name() != "app.bsky.richtext.facet#mention" {
                continue;
            }
            let did = feature.did("did")?;
            if !told.contains(&did) {
                told.push(did);
                notify(
                    record,
                    rows,
                    &Notification {
                        recipient: did,
                        reason: "mention",
                        subject: None,
                        sort_at,
                    },
                )?;
            }
        }
    }
    Ok(())
}
