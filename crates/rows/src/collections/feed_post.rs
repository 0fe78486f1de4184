//! `app.bsky.feed.post`: the post, its feed item, its embeds, its place in its author's own thread,
//! and notifications of mentions. Finalize adds flags and the notifications of quotes and replies,
//! which need other rows.

use super::feed_post_embed;
use super::notification::{Notification, notify, sort_at};
use crate::aturi;
use crate::fields::Object;
use crate::lexicon::facet::{FACETS, MENTION};
use crate::lexicon::self_labels::LABELS;
use crate::lexicon::strong_ref::STRONG_REF;
use crate::lexicon::{Definition, Format, Schema, UNLIMITED, optional, required};
use crate::reject::{Reject, Rule};
use crate::row::Field::{Jsonb, Null, Text};
use crate::{Record, Rows};
use appview::table;
use std::collections::HashSet;

static TEXT_SLICE: Definition = Definition {
    name: "app.bsky.feed.post#textSlice",
    fields: &[
        required("start", Schema::Integer(0)),
        required("end", Schema::Integer(0)),
    ],
};

static ENTITY: Definition = Definition {
    name: "app.bsky.feed.post#entity",
    fields: &[
        required("index", Schema::Object(&TEXT_SLICE)),
        required("type", Schema::TEXT),
        required("value", Schema::TEXT),
    ],
};

static REPLY_REF: Definition = Definition {
    name: "app.bsky.feed.post#replyRef",
    fields: &[
        required("root", Schema::Object(&STRONG_REF)),
        required("parent", Schema::Object(&STRONG_REF)),
    ],
};

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.feed.post",
    fields: &[
        required("text", Schema::text(3000, 300)),
        optional(
            "entities",
            Schema::List(&Schema::Object(&ENTITY), UNLIMITED),
        ),
        optional("facets", FACETS),
        optional("reply", Schema::Object(&REPLY_REF)),
        optional("embed", feed_post_embed::EMBED),
        optional("langs", Schema::List(&Schema::format(Format::Language), 3)),
        optional("labels", LABELS),
        optional("tags", Schema::List(&Schema::text(640, 64), 8)),
        required("createdAt", Schema::DATETIME),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let text = object.text("text")?;
    let created_at = object.created_at()?;
    let reply = match object.optional_object("reply") {
        Some(reply) => Some((reply.strong_ref("root")?, reply.strong_ref("parent")?)),
        None => None,
    };
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
        [
            record.uri, record.cid, "post", record.uri, record.did, sort_at,
        ]
        .map(Text),
    )?;
    if let Some((root, parent)) = reply {
        let authority = aturi::authority(root.uri, "$.reply.root.uri")?;
        if !atrepo::syntax::is_did(authority) {
            return Err(Reject::new(
                "$.reply.root.uri",
                Rule::Official("the authority is not a DID"),
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

/// One notification to each account that a facet mentions, but not to the author.
fn notify_mentioned(
    record: &Record<'_>,
    object: &Object<'_>,
    sort_at: &str,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let Some(facets) = object.optional_list("facets") else {
        return Ok(());
    };
    // A post can mention as many accounts as fit into a record.
    let mut told: HashSet<&str> = HashSet::new();
    for facet in facets {
        let facet = object.item("facets", facet)?;
        for feature in facet.list("features")? {
            let feature = facet.item("features", feature)?;
            if feature.type_name() != MENTION {
                continue;
            }
            let did = feature.text("did")?;
            if did != record.did && told.insert(did) {
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
