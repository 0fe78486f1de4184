//! `app.bsky.actor.status`: the `record` row alone, at any rkey.

use super::feed_post_embed::EXTERNAL_EMBED;
use crate::lexicon::{Definition, Schema, optional, required};

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.actor.status",
    fields: &[
        required("status", Schema::TEXT),
        optional("embed", Schema::Union(&[&EXTERNAL_EMBED])),
        optional("durationMinutes", Schema::Integer(1)),
        required("createdAt", Schema::DATETIME),
    ],
};
