//! `app.bsky.notification.declaration`: the `record` row alone, at any rkey.

use crate::lexicon::{Definition, Schema, required};

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.notification.declaration",
    fields: &[required("allowSubscriptions", Schema::TEXT)],
};
