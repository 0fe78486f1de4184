//! `app.bsky.graph.verification`: a row, and a notification.

use super::notification::{Notification, notify, sort_at};
use crate::fields::Object;
use crate::lexicon::{Definition, Format, Schema, required};
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.graph.verification",
    fields: &[
        required("subject", Schema::DID),
        required("handle", Schema::format(Format::Handle)),
        required("displayName", Schema::TEXT),
        required("createdAt", Schema::DATETIME),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let subject = object.text("subject")?;
    let (handle, display_name) = (object.text("handle")?, object.text("displayName")?);
    let created_at = object.created_at()?;
    rows.push(
        &table::VERIFICATION,
        [
            record.uri,
            record.cid,
            record.rkey,
            record.did,
            subject,
            handle,
            display_name,
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
            reason: "verified",
            subject: None,
            sort_at,
        },
    )
}
