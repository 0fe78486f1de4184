//! `app.bsky.graph.list`: a row.

use crate::fields::Object;
use crate::lexicon::facet::FACETS;
use crate::lexicon::self_labels::LABELS;
use crate::lexicon::{Definition, Schema, Text as TextRules, optional, required};
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.graph.list",
    fields: &[
        required("purpose", Schema::TEXT),
        required(
            "name",
            Schema::Text(TextRules {
                least_bytes: 1,
                most_bytes: 64,
                ..TextRules::ANY
            }),
        ),
        optional("description", Schema::text(3000, 300)),
        optional("descriptionFacets", FACETS),
        optional("avatar", Schema::AVATAR),
        optional("labels", LABELS),
        required("createdAt", Schema::DATETIME),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let (name, purpose) = (object.text("name")?, object.text("purpose")?);
    let description = object.optional_text("description");
    let facets = object.optional_list_json("descriptionFacets")?;
    let avatar = object.optional_blob("avatar");
    let created_at = object.created_at()?;
    rows.push(
        &table::LIST,
        [
            Text(record.uri),
            Text(record.cid),
            Text(record.did),
            Text(name),
            Text(purpose),
            description.into(),
            facets.as_deref().into(),
            avatar.as_deref().into(),
            Text(&created_at),
            Text(record.indexed_at),
        ],
    )
}
