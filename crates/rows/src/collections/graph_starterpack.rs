//! `app.bsky.graph.starterpack`: a row with its name.

use crate::fields::Object;
use crate::lexicon::facet::FACETS;
use crate::lexicon::{Definition, Schema, Text as TextRules, optional, required};
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

static FEED_ITEM: Definition = Definition {
    name: "app.bsky.graph.starterpack#feedItem",
    fields: &[required("uri", Schema::AT_URI)],
};

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.graph.starterpack",
    fields: &[
        required(
            "name",
            Schema::Text(TextRules {
                least_bytes: 1,
                most_bytes: 500,
                most_graphemes: 50,
                format: None,
            }),
        ),
        optional("description", Schema::text(3000, 300)),
        optional("descriptionFacets", FACETS),
        required("list", Schema::AT_URI),
        optional("feeds", Schema::List(&Schema::Object(&FEED_ITEM), 3)),
        required("createdAt", Schema::DATETIME),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
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
