//! `app.bsky.feed.generator`: a row.

use crate::fields::Object;
use crate::lexicon::facet::FACETS;
use crate::lexicon::self_labels::LABELS;
use crate::lexicon::{Definition, Schema, optional, required};
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.feed.generator",
    fields: &[
        required("did", Schema::DID),
        required("displayName", Schema::text(240, 24)),
        optional("description", Schema::text(3000, 300)),
        optional("descriptionFacets", FACETS),
        optional("avatar", Schema::AVATAR),
        optional("acceptsInteractions", Schema::Boolean),
        optional("labels", LABELS),
        optional("contentMode", Schema::TEXT),
        required("createdAt", Schema::DATETIME),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let (did, display_name) = (object.text("did")?, object.text("displayName")?);
    let description = object.optional_text("description");
    let facets = object.optional_list_json("descriptionFacets")?;
    let avatar = object.optional_blob("avatar");
    let created_at = object.created_at()?;
    rows.push(
        &table::FEED_GENERATOR,
        [
            Text(record.uri),
            Text(record.cid),
            Text(record.did),
            Text(did),
            Text(display_name),
            description.into(),
            facets.as_deref().into(),
            avatar.as_deref().into(),
            Text(&created_at),
            Text(record.indexed_at),
        ],
    )
}
