//! `app.bsky.labeler.service`: a row at rkey `self`, else nothing.

use crate::fields::Object;
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) fn index(record: &Record<'_>, object: &Object<'_>, rows: &mut Rows<'_>) -> Result<(), Reject> {
    let created_at = object.created_at()?;
    if record.rkey != "self" {
        return Ok(());
    }
    rows.push(
        &table::LABELER,
        [record.uri, record.cid, record.did, &created_at, record.indexed_at].map(Text),
    )
}
