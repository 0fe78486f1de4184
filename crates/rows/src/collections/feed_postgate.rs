//! `app.bsky.feed.postgate`: a row, if it lies beside its post. What it rules is worked out from the tables.

use super::feed_threadgate::gate;
use crate::fields::Object;
use crate::reject::Reject;
use crate::{Record, Rows};
use appview::table;

pub(super) fn index(record: &Record<'_>, object: &Object<'_>, rows: &mut Rows<'_>) -> Result<(), Reject> {
    gate(&table::POST_GATE, record, object, rows)
}
