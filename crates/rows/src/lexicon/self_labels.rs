//! `com.atproto.label.defs#selfLabels`: labels that an account puts on its own record.

use super::{Definition, Schema, UNLIMITED, required};

static SELF_LABEL: Definition = Definition {
    name: "com.atproto.label.defs#selfLabel",
    fields: &[required("val", Schema::text(128, UNLIMITED))],
};

static SELF_LABELS: Definition = Definition {
    name: "com.atproto.label.defs#selfLabels",
    fields: &[required(
        "values",
        Schema::List(&Schema::Object(&SELF_LABEL), 10),
    )],
};

/// The field `labels`.
pub(crate) const LABELS: Schema = Schema::Union(&[&SELF_LABELS]);
