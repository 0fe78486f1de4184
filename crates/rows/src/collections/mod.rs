//! One file per record type: which rows it leaves beside the `record` row
//! (`data-plane/server/indexing/plugins` of the official code).

mod actor_profile;
mod feed_generator;
mod feed_like;
mod feed_post;
mod feed_post_embed;
mod feed_postgate;
mod feed_repost;
mod feed_threadgate;
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

use crate::fields::Object;
use crate::reject::{Reject, Rule};
use crate::{Collection, Record, Rows};

pub(crate) fn index(record: &Record<'_>, rows: &mut Rows<'_>) -> Result<(), Reject> {
    let object = Object::root(record.value);
    // The official code checks nothing at all of a chat declaration.
    if record.collection != Collection::ChatDeclaration && object.type_name() != record.collection.nsid() {
        return Err(Reject::new("$.$type", Rule::Type));
    }
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
