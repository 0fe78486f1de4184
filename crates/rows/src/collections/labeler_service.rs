//! `app.bsky.labeler.service`: a row at rkey `self`, else nothing.

use crate::fields::Object;
use crate::lexicon::self_labels::LABELS;
use crate::lexicon::{Definition, Format, Schema, UNLIMITED, optional, required};
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

static LABEL_STRINGS: Definition = Definition {
    name: "com.atproto.label.defs#labelValueDefinitionStrings",
    fields: &[
        required("lang", Schema::format(Format::Language)),
        required("name", Schema::text(640, 64)),
        required("description", Schema::text(100_000, 10_000)),
    ],
};

static LABEL_VALUE: Definition = Definition {
    name: "com.atproto.label.defs#labelValueDefinition",
    fields: &[
        required("identifier", Schema::text(100, 100)),
        required("severity", Schema::TEXT),
        required("blurs", Schema::TEXT),
        optional("defaultSetting", Schema::TEXT),
        optional("adultOnly", Schema::Boolean),
        required(
            "locales",
            Schema::List(&Schema::Object(&LABEL_STRINGS), UNLIMITED),
        ),
    ],
};

static POLICIES: Definition = Definition {
    name: "app.bsky.labeler.defs#labelerPolicies",
    fields: &[
        required("labelValues", Schema::List(&Schema::TEXT, UNLIMITED)),
        optional(
            "labelValueDefinitions",
            Schema::List(&Schema::Object(&LABEL_VALUE), UNLIMITED),
        ),
    ],
};

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.labeler.service",
    fields: &[
        required("policies", Schema::Object(&POLICIES)),
        optional("labels", LABELS),
        required("createdAt", Schema::DATETIME),
        optional("reasonTypes", Schema::List(&Schema::TEXT, UNLIMITED)),
        optional("subjectTypes", Schema::List(&Schema::TEXT, UNLIMITED)),
        optional(
            "subjectCollections",
            Schema::List(&Schema::format(Format::Nsid), UNLIMITED),
        ),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let created_at = object.created_at()?;
    if record.rkey != "self" {
        return Ok(());
    }
    rows.push(
        &table::LABELER,
        [
            record.uri,
            record.cid,
            record.did,
            &created_at,
            record.indexed_at,
        ]
        .map(Text),
    )
}
