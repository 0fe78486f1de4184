//! Which records can collide: those whose rows have the same unique key. They have to be stored in their order, one after
//! the other; all others can be stored side by side.

use crate::{Collection, Record};
use atrepo::cbor::Map;

/// What two records of the same account and collection have in common if their rows can collide. A record that is not as
/// its collection wants it has any value: it leaves no row.
#[must_use]
pub fn collision_key<'a>(record: &Record<'a>) -> [&'a str; 2] {
    let text = |map: Map<'a>, key: &str| map.get(key).and_then(|item| item.as_text()).unwrap_or_default();
    let value = record.value;
    match record.collection {
        Collection::Like | Collection::Repost => {
            let subject = value.get("subject").and_then(|item| item.as_map());
            ["", subject.map_or("", |subject| text(subject, "uri"))]
        }
        Collection::Follow
        | Collection::Block
        | Collection::ListBlock
        | Collection::Verification
        | Collection::ReferenceListOptOut => ["", text(value, "subject")],
        Collection::ListItem => [text(value, "list"), text(value, "subject")],
        Collection::Threadgate | Collection::Postgate => ["", text(value, "post")],
        Collection::Post
        | Collection::Generator
        | Collection::List
        | Collection::StarterPack
        | Collection::Profile
        | Collection::Status
        | Collection::Labeler
        | Collection::NotificationDeclaration
        | Collection::ChatDeclaration
        | Collection::GermDeclaration => ["", record.rkey],
    }
}
