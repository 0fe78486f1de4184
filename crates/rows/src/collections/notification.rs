//! Notifications that need no row but the record's own.

use crate::reject::Reject;
use crate::row::Field::{Null, Text};
use crate::{Record, Rows};
use appview::table;

/// A notification of an account.
pub(crate) struct Notification<'a> {
    /// The account that is notified: a DID, or whatever authority a URI names.
    pub(crate) recipient: &'a str,
    /// `like`, `follow`, ...
    pub(crate) reason: &'a str,
    /// The URI that it is about, if the reason has one.
    pub(crate) subject: Option<&'a str>,
    /// Its place in time.
    pub(crate) sort_at: &'a str,
}

pub(crate) fn notify(
    record: &Record<'_>,
    rows: &mut Rows<'_>,
    n: &Notification<'_>,
) -> Result<(), Reject> {
    let subject = n.subject.map_or(Null, Text);
    rows.push(
        &table::NOTIFICATION,
        [
            Text(n.recipient),
            Text(record.uri),
            Text(record.cid),
            Text(record.did),
            Text(n.reason),
            subject,
            Text(n.sort_at),
        ],
    )
}

/// The generated column `sortAt`: the earlier of the two times, compared as text as PostgreSQL
/// does.
pub(crate) fn sort_at<'a>(created_at: &'a str, indexed_at: &'a str) -> &'a str {
    created_at.min(indexed_at)
}
