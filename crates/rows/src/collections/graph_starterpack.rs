//! `app.bsky.graph.starterpack`: a row with its name.

use crate::fields::Object;
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) fn index(record: &Record<'_>, object: &Object<'_>, rows: &mut Rows<'_>) -> Result<(), Reject> {
    let name = object.text("name")?;
    let created_at = object.created_at()?;
    rows.push(
        &table::STARTER_PACK,
        [
            record.uri,
            record.cid,
            record.did,
            name,
            &created_at,
            record.indexed_at,
        ]
        .map(Text),
    )
}
