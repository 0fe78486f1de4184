//! `app.bsky.graph.listitem`: a row, if the list is in the same repo.

use crate::aturi::AtUri;
use crate::fields::Object;
use crate::lexicon::{Definition, Schema, required};
use crate::reject::{Reject, Rule};
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.graph.listitem",
    fields: &[
        required("subject", Schema::DID),
        required("list", Schema::AT_URI),
        required("createdAt", Schema::DATETIME),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let subject = object.text("subject")?;
    let list = object.text("list")?;
    let created_at = object.created_at()?;
    if AtUri::parse(list).is_none_or(|uri| uri.authority != record.did) {
        return Err(Reject::new(
            "$.list",
            Rule::Official("the list belongs to another account"),
        ));
    }
    rows.push(
        &table::LIST_ITEM,
        [
            record.uri,
            record.cid,
            record.did,
            subject,
            list,
            &created_at,
            record.indexed_at,
        ]
        .map(Text),
    )
}
