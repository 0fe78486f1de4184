//! `app.bsky.feed.like`: a row, and notifications to the author of the subject and to the author of
//! the repost that led to it.

use super::notification::{Notification, notify, sort_at};
use crate::aturi;
use crate::fields::{Object, StrongRef};
use crate::lexicon::strong_ref::STRONG_REF;
use crate::lexicon::{Definition, Field, Schema, optional, required};
use crate::reject::Reject;
use crate::row::Field::{Null, Text};
use crate::{Record, Rows};
use appview::table::{self, Table};

/// The fields of a like or repost.
pub(super) const FIELDS: &[Field] = &[
    required("subject", Schema::Object(&STRONG_REF)),
    required("createdAt", Schema::DATETIME),
    optional("via", Schema::Object(&STRONG_REF)),
];

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.feed.like",
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
    subject_row(&table::LIKE, record, subject, via, &created_at, rows)?;
    let sort_at = sort_at(&created_at, record.indexed_at);
    notify_authors(
        record,
        subject,
        via,
        ["like", "like-via-repost"],
        sort_at,
        rows,
    )
}

/// The row of a like or repost.
pub(super) fn subject_row(
    table: &'static Table<9>,
    record: &Record<'_>,
    subject: StrongRef<'_>,
    via: Option<StrongRef<'_>>,
    created_at: &str,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    rows.push(
        table,
        [
            Text(record.uri),
            Text(record.cid),
            Text(record.did),
            Text(subject.uri),
            Text(subject.cid),
            via.map_or(Null, |via| Text(via.uri)),
            via.map_or(Null, |via| Text(via.cid)),
            Text(created_at),
            Text(record.indexed_at),
        ],
    )
}

/// Notifies the subject's author and the author of `via`. A like or repost of one's own record
/// notifies nobody.
pub(super) fn notify_authors(
    record: &Record<'_>,
    subject: StrongRef<'_>,
    via: Option<StrongRef<'_>>,
    [reason, via_reason]: [&str; 2],
    sort_at: &str,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let recipient = aturi::authority(subject.uri, "$.subject.uri")?;
    if recipient == record.did {
        return Ok(());
    }
    notify(
        record,
        rows,
        &Notification {
            recipient,
            reason,
            subject: Some(subject.uri),
            sort_at,
        },
    )?;
    let Some(via) = via else { return Ok(()) };
    let recipient = aturi::authority(via.uri, "$.via.uri")?;
    if recipient == record.did {
        return Ok(());
    }
    notify(
        record,
        rows,
        &Notification {
            recipient,
            reason: via_reason,
            subject: Some(via.uri),
            sort_at,
        },
    )
}
