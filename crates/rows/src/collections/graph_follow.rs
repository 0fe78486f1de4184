//! `app.bsky.graph.follow`: a row, and a notification even to oneself.

use super::notification::{Notification, notify, sort_at};
use crate::fields::Object;
use crate::lexicon::strong_ref::STRONG_REF;
use crate::lexicon::{Definition, Schema, optional, required};
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.graph.follow",
    fields: &[
        required("subject", Schema::DID),
        required("createdAt", Schema::DATETIME),
        optional("via", Schema::Object(&STRONG_REF)),
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
        &table::FOLLOW,
        [
            record.uri,
            record.cid,
            record.did,
            subject,
            &created_at,
            record.indexed_at,
        ]
        .map(Text),
    )?;
    let sort_at = sort_at(&created_at, record.indexed_at);
    notify(
        record,
        rows,
        &Notification {
            recipient: subject,
            reason: "follow",
            subject: None,
            sort_at,
        },
    )
}
