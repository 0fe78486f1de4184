//! `app.bsky.feed.threadgate`: a row, if it lies beside its post. What it rules is worked out from the tables.

use crate::aturi::AtUri;
use crate::fields::Object;
use crate::reject::{Reject, Rule};
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table::{self, Table};

pub(super) fn index(record: &Record<'_>, object: &Object<'_>, rows: &mut Rows<'_>) -> Result<(), Reject> {
    gate(&table::THREAD_GATE, record, object, rows)
}

/// The row of a thread gate or post gate: both name a post of the same account and rkey.
pub(super) fn gate(
    table: &'static Table<6>,
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let post = object.at_uri("post")?;
    let created_at = object.created_at()?;
    if AtUri::parse(post).is_none_or(|uri| uri.authority != record.did || uri.rkey != record.rkey) {
        return Err(Reject::new(
            "$.post",
            Rule::Official("the gate has not the account and rkey of its post"),
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
