//! `app.bsky.richtext.facet`: mentions, links and tags in a text.

use super::{Definition, Schema, UNLIMITED, required};

/// `$type` of a mention.
pub(crate) const MENTION: &str = "app.bsky.richtext.facet#mention";

static MENTION_FEATURE: Definition = Definition {
    name: MENTION,
    fields: &[required("did", Schema::DID)],
};

static LINK_FEATURE: Definition = Definition {
    name: "app.bsky.richtext.facet#link",
    fields: &[required("uri", Schema::URI)],
};

static TAG_FEATURE: Definition = Definition {
    name: "app.bsky.richtext.facet#tag",
    fields: &[required("tag", Schema::text(640, 64))],
};

static BYTE_SLICE: Definition = Definition {
    name: "app.bsky.richtext.facet#byteSlice",
    fields: &[
        required("byteStart", Schema::Integer(0)),
        required("byteEnd", Schema::Integer(0)),
    ],
};

static FACET: Definition = Definition {
    name: "app.bsky.richtext.facet",
    fields: &[
        required("index", Schema::Object(&BYTE_SLICE)),
        required(
            "features",
            Schema::List(
                &Schema::Union(&[&MENTION_FEATURE, &LINK_FEATURE, &TAG_FEATURE]),
                UNLIMITED,
            ),
        ),
    ],
};

/// The fields `facets` and `descriptionFacets`.
pub(crate) const FACETS: Schema = Schema::List(&Schema::Object(&FACET), UNLIMITED);
