//! `app.bsky.feed.postgate`: a row, if it belongs to a post of the same account. Finalize computes
//! what it rules.

use super::feed_threadgate::gate;
use crate::fields::Object;
use crate::lexicon::{Definition, Schema, optional, required};
use crate::reject::Reject;
use crate::{Record, Rows};
use appview::table;

static DISABLE_RULE: Definition = Definition {
    name: "app.bsky.feed.postgate#disableRule",
    fields: &[],
};

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.feed.postgate",
    fields: &[
        required("createdAt", Schema::DATETIME),
        required("post", Schema::AT_URI),
        optional("detachedEmbeddingUris", Schema::List(&Schema::AT_URI, 50)),
        optional(
            "embeddingRules",
            Schema::List(&Schema::Union(&[&DISABLE_RULE]), 5),
        ),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    gate(&table::POST_GATE, record, object, rows)
}
