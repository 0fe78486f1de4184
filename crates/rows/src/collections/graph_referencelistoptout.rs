//! `app.bsky.graph.referencelistoptout`: a row if the subject is exactly
//! `at://DID/app.bsky.graph.list/rkey`.

use crate::aturi::AtUri;
use crate::fields::Object;
use crate::lexicon::{Definition, Schema, required};
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Collection, Record, Rows};
use appview::table;
use atrepo::syntax::{is_did, is_rkey};

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.graph.referencelistoptout",
    fields: &[
        required("subject", Schema::AT_URI),
        required("createdAt", Schema::DATETIME),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let subject = object.text("subject")?;
    let created_at = object.created_at()?;
    if !names_a_list(subject) {
        return Ok(());
    }
    rows.push(
        &table::REFERENCE_LIST_OPT_OUT,
        [
            record.uri,
            record.cid,
            record.did,
            subject,
            &created_at,
            record.indexed_at,
        ]
        .map(Text),
    )
}

fn names_a_list(uri: &str) -> bool {
    let list = Collection::List.nsid();
    AtUri::parse(uri).is_some_and(|parts| {
        is_did(parts.authority)
            && parts.collection == list
            && is_rkey(parts.rkey)
            && uri == format!("at://{}/{list}/{}", parts.authority, parts.rkey)
    })
}
