//! `app.bsky.feed.threadgate`: a row, if it belongs to a post of the same account. Finalize
//! computes what it rules.

use crate::aturi::AtUri;
use crate::fields::Object;
use crate::lexicon::{Definition, Schema, optional, required};
use crate::reject::{Reject, Rule};
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table::{self, Table};

static MENTION_RULE: Definition = Definition {
    name: "app.bsky.feed.threadgate#mentionRule",
    fields: &[],
};

static FOLLOWER_RULE: Definition = Definition {
    name: "app.bsky.feed.threadgate#followerRule",
    fields: &[],
};

static FOLLOWING_RULE: Definition = Definition {
    name: "app.bsky.feed.threadgate#followingRule",
    fields: &[],
};

static LIST_RULE: Definition = Definition {
    name: "app.bsky.feed.threadgate#listRule",
    fields: &[required("list", Schema::AT_URI)],
};

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.feed.threadgate",
    fields: &[
        required("post", Schema::AT_URI),
        optional(
            "allow",
            Schema::List(
                &Schema::Union(&[&MENTION_RULE, &FOLLOWER_RULE, &FOLLOWING_RULE, &LIST_RULE]),
                5,
            ),
        ),
        required("createdAt", Schema::DATETIME),
        optional("hiddenReplies", Schema::List(&Schema::AT_URI, 300)),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    gate(&table::THREAD_GATE, record, object, rows)
}

/// The row of a thread gate or post gate: both name a post of the same account and rkey.
pub(super) fn gate(
    table: &'static Table<6>,
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let post = object.text("post")?;
    let created_at = object.created_at()?;
    if AtUri::parse(post).is_none_or(|uri| uri.authority != record.did || uri.rkey != record.rkey) {
        return Err(Reject::new(
            "$.post",
            Rule::Official("the account or rkey of the gate differs from its post's"),
        ));
    }
    rows.push(
        table,
        [
            record.uri,
            record.cid,
            record.did,
            post,
            &created_at,
            record.indexed_at,
        ]
        .map(Text),
    )
}
