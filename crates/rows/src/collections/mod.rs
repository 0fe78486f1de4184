//! The record types, one file each: the rows that a record leaves in addition to its `record` row
//! (`data-plane/server/indexing/plugins` of the official code).
//!
//! A new record type, one that the official code knows, takes:
//! 1. the version of `@atproto/bsky` that has it. `git grep` for the old version finds the places:
//!    the `package.json` of `conformance` and of `packaging/appview`, docs and comments;
//! 2. the official migration that makes its table: a file in `crates/appview/migrations` and a line
//!    in `src/migrations.rs`; its statements, as `pg_dump` writes them, in
//!    `conformance/schema.sql`; then `UPDATE_CATALOG=1 cargo test -p skyfill --test suite
//!    the_known_catalog` writes `crates/appview/src/catalog.tsv` anew;
//! 3. the table's columns in `crates/appview/src/table.rs`, with the next id. If it names its
//!    account in `creator`, but no index begins with that, `indexed_owner` in
//!    `crates/load/src/owned.rs` says so, which a test demands;
//! 4. its name in `../collection.rs`; the compiler then names each `match` that lacks it, among
//!    them `is_event` in `../choose.rs`: whether `--since` leaves out old records of it. If it
//!    does, `git grep "gates, likes and reposts"` finds the places that list such types: the
//!    help of `--since` (then `make reference`), the words of the verdict, a how-to, comments;
//! 5. a file here with its lexicon and its rows, of which `graph_block.rs` is a short example,
//!    `feed_like.rs` one about a record. If it notifies, `own_subjects` in
//!    `crates/verify/src/record/notified.rs` needs it, too;
//! 6. its group in `../choose.rs`, which a test demands, and in the table of groups in
//!    `docs/how-to/partial-backfills.md`; a test demands the row of a new group;
//! 7. an example with every field in `crates/conformance/src/examples.rs`, which a test demands:
//!    the official code judges mutations of it (`make conformance`);
//! 8. records of it in generated networks (`crates/simnet/src/tangle.rs`: `account_record` if it is
//!    about an account, `list_record` about a list, `one_of` about a record), so that merges,
//!    repairs, the event stream and `verify` are tested with it. Every network of a seed is another
//!    one then: `INSTA_UPDATE=always cargo test -p skyfill --test suite outputs` writes the
//!    snapshots anew, `scripts/conformance.sh --record` the official tables; run the whole suite
//!    once. `Population` (`simnet/src/records.rs`) imitates sizes and needs nothing;
//! 9. a line in `CHANGELOG.md`.
//!
//! Nothing else lists record types: loading, verify, finalize's notes, exports and `doctor` follow
//! from the tables of step 3 and the `match`es of step 4. `skyfill plan` counts no disk for a table
//! that is absent from `crates/plan/costs.tsv`; of the original's sockets, `../route.rs` sends a
//! new type to the first; the golden tables in `crates/testbed/material` stay as they are.

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
use appview::table::{self, TableInfo};
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

/// The AppView's table with one row for each record of a collection, if it has one.
#[must_use]
pub fn own_table(collection: Collection) -> Option<TableInfo> {
    match collection {
        Collection::Post => Some(table::POST.info()),
        Collection::Threadgate => Some(table::THREAD_GATE.info()),
        Collection::Postgate => Some(table::POST_GATE.info()),
        Collection::Like => Some(table::LIKE.info()),
        Collection::Repost => Some(table::REPOST.info()),
        Collection::Generator => Some(table::FEED_GENERATOR.info()),
        Collection::Follow => Some(table::FOLLOW.info()),
        Collection::Block => Some(table::ACTOR_BLOCK.info()),
        Collection::List => Some(table::LIST.info()),
        Collection::ListItem => Some(table::LIST_ITEM.info()),
        Collection::ListBlock => Some(table::LIST_BLOCK.info()),
        Collection::StarterPack => Some(table::STARTER_PACK.info()),
        Collection::Verification => Some(table::VERIFICATION.info()),
        Collection::ReferenceListOptOut => Some(table::REFERENCE_LIST_OPT_OUT.info()),
        Collection::Profile => Some(table::PROFILE.info()),
        Collection::Labeler => Some(table::LABELER.info()),
        Collection::Status
        | Collection::NotificationDeclaration
        | Collection::ChatDeclaration
        | Collection::GermDeclaration => None,
    }
}

/// The tables, beside `record`, where rows of a collection's records are looked for.
#[must_use]
pub fn tables_of(collection: Collection) -> Vec<TableInfo> {
    let common = [
        table::NOTIFICATION.info(),
        table::FEED_ITEM.info(),
        table::DUPLICATE_RECORD.info(),
    ];
    let of_posts = [
        table::POST_EMBED_IMAGE.info(),
        table::POST_EMBED_GALLERY_IMAGE.info(),
        table::POST_EMBED_EXTERNAL.info(),
        table::POST_EMBED_RECORD.info(),
        table::POST_EMBED_VIDEO.info(),
        table::QUOTE.info(),
        table::OP_THREAD_REPLY.info(),
    ];
    let is_post = collection == Collection::Post;
    let own = own_table(collection).into_iter();
    own.chain(common)
        .chain(of_posts.into_iter().filter(|_| is_post))
        .collect()
}
