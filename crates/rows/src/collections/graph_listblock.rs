//! `app.bsky.graph.listblock`: a row.

use crate::fields::Object;
use crate::lexicon::{Definition, Schema, required};
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.graph.listblock",
    fields: &[
        required("subject", Schema::AT_URI),
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
        &table::LIST_BLOCK,
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
