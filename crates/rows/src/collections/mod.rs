//! The record types, one file each: the rows that a record leaves in addition to its `record` row
//! (`data-plane/server/indexing/plugins` of the official code).

mod actor_profile;
mod actor_status;
mod feed_generator;
mod feed_like;
mod feed_post;
mod feed_post_embed;
mod feed_postgate;
mod feed_repost;
mod feed_threadgate;
mod germ_declaration;
mod graph_block;
mod graph_follow;
mod graph_list;
mod graph_listblock;
mod graph_listitem;
mod graph_referencelistoptout;
mod graph_starterpack;
mod graph_verification;
mod labeler_service;
mod notification;
mod notification_declaration;

use crate::fields::Object;
use crate::lexicon::{Definition, check_record};
use crate::reject::Reject;
use crate::{Collection, Record, Rows};
use atrepo::cbor::Map;

/// The lexicon of a collection. The official code checks nothing at all of a chat declaration.
fn lexicon(collection: Collection) -> Option<&'static Definition> {
    Some(match collection {
        Collection::Post => &feed_post::LEXICON,
        Collection::Threadgate => &feed_threadgate::LEXICON,
        Collection::Postgate => &feed_postgate::LEXICON,
        Collection::Like => &feed_like::LEXICON,
        Collection::Repost => &feed_repost::LEXICON,
        Collection::Generator => &feed_generator::LEXICON,
        Collection::Follow => &graph_follow::LEXICON,
        Collection::Block => &graph_block::LEXICON,
        Collection::List => &graph_list::LEXICON,
        Collection::ListItem => &graph_listitem::LEXICON,
        Collection::ListBlock => &graph_listblock::LEXICON,
        Collection::StarterPack => &graph_starterpack::LEXICON,
        Collection::Verification => &graph_verification::LEXICON,
        Collection::ReferenceListOptOut => &graph_referencelistoptout::LEXICON,
        Collection::Profile => &actor_profile::LEXICON,
        Collection::Status => &actor_status::LEXICON,
        Collection::Labeler => &labeler_service::LEXICON,
        Collection::NotificationDeclaration => &notification_declaration::LEXICON,
        Collection::GermDeclaration => &germ_declaration::LEXICON,
        Collection::ChatDeclaration => return None,
    })
}

/// Checks a record against the lexicon of its collection.
pub(crate) fn check(collection: Collection, value: Map<'_>) -> Result<(), Reject> {
    lexicon(collection).map_or(Ok(()), |lexicon| check_record(value, lexicon))
}

/// Rows of a record that was checked.
pub(crate) fn index(record: &Record<'_>, rows: &mut Rows<'_>) -> Result<(), Reject> {
    let object = Object::root(record.value);
    match record.collection {
        Collection::Post => feed_post::index(record, &object, rows),
        Collection::Threadgate => feed_threadgate::index(record, &object, rows),
        Collection::Postgate => feed_postgate::index(record, &object, rows),
        Collection::Like => feed_like::index(record, &object, rows),
        Collection::Repost => feed_repost::index(record, &object, rows),
        Collection::Generator => feed_generator::index(record, &object, rows),
        Collection::Follow => graph_follow::index(record, &object, rows),
        Collection::Block => graph_block::index(record, &object, rows),
        Collection::List => graph_list::index(record, &object, rows),
        Collection::ListItem => graph_listitem::index(record, &object, rows),
        Collection::ListBlock => graph_listblock::index(record, &object, rows),
        Collection::StarterPack => graph_starterpack::index(record, &object, rows),
        Collection::Verification => graph_verification::index(record, &object, rows),
        Collection::ReferenceListOptOut => graph_referencelistoptout::index(record, &object, rows),
        Collection::Profile => actor_profile::index(record, &object, rows),
        Collection::Labeler => labeler_service::index(record, &object, rows),
        // These leave their `record` row alone, at any rkey.
        Collection::Status
        | Collection::NotificationDeclaration
        | Collection::ChatDeclaration
        | Collection::GermDeclaration => Ok(()),
    }
}
