//! `com.atproto.repo.strongRef`: a record and its version.

use super::{Definition, Format, Schema, required};

pub(crate) static STRONG_REF: Definition = Definition {
    name: "com.atproto.repo.strongRef",
    fields: &[
        required("uri", Schema::AT_URI),
        required("cid", Schema::format(Format::Cid)),
    ],
};
