//! `app.bsky.feed.repost`: a row, a feed item even when it is a duplicate, and notifications as for
//! a like.

use super::feed_like::{FIELDS, notify_authors, subject_row};
use super::notification::sort_at;
use crate::fields::Object;
use crate::lexicon::Definition;
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.feed.repost",
    fields: FIELDS,
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let subject = object.strong_ref("subject")?;
    let via = object.optional_strong_ref("via")?;
    let created_at = object.created_at()?;
    subject_row(&table::REPOST, record, subject, via, &created_at, rows)?;
    let sort_at = sort_at(&created_at, record.indexed_at);
    rows.push(
        &table::FEED_ITEM,
        [
            record.uri,
            record.cid,
            "repost",
            subject.uri,
            record.did,
            sort_at,
        ]
        .map(Text),
    )?;
    notify_authors(
        record,
        subject,
        via,
        ["repost", "repost-via-repost"],
        sort_at,
        rows,
    )
}
