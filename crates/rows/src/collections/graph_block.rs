//! `app.bsky.graph.block`: a row.

use crate::fields::Object;
use crate::lexicon::{Definition, Schema, required};
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.graph.block",
    fields: &[
        required("subject", Schema::DID),
        required("createdAt", Schema::DATETIME),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let subject = object.text("subject")?;
    let created_at = object.created_at()?;
    rows.push(
        &table::ACTOR_BLOCK,
        [
            record.uri,
            record.cid,
            record.did,
            subject,
            &created_at,
            record.indexed_at,
        ]
        .map(Text),
    )
}
