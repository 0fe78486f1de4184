//! `app.bsky.actor.profile`: a row at rkey `self`, else nothing; and a notification to the author
//! of the starter pack that the account joined by, also if that is the account itself.

use super::notification::{Notification, notify};
use crate::aturi;
use crate::fields::Object;
use crate::lexicon::self_labels::LABELS;
use crate::lexicon::strong_ref::STRONG_REF;
use crate::lexicon::{Definition, Schema, optional};
use crate::reject::Reject;
use crate::row::Field::Text;
use crate::{Record, Rows};
use appview::table;

pub(super) static LEXICON: Definition = Definition {
    name: "app.bsky.actor.profile",
    fields: &[
        optional("displayName", Schema::text(640, 64)),
        optional("description", Schema::text(2560, 256)),
        optional("pronouns", Schema::text(200, 20)),
        optional("website", Schema::URI),
        optional("avatar", Schema::AVATAR),
        optional("banner", Schema::AVATAR),
        optional("labels", LABELS),
        optional("joinedViaStarterPack", Schema::Object(&STRONG_REF)),
        optional("pinnedPost", Schema::Object(&STRONG_REF)),
        optional("createdAt", Schema::DATETIME),
    ],
};

pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let display_name = object.optional_text("displayName");
    let description = object.optional_text("description");
    let avatar = object.optional_blob("avatar");
    let banner = object.optional_blob("banner");
    let joined_via = object.optional_strong_ref("joinedViaStarterPack")?;
    let created_at = object.optional_text("createdAt");
    if record.rkey != "self" {
        return Ok(());
    }
    rows.push(
        &table::PROFILE,
        [
            Text(record.uri),
            Text(record.cid),
            Text(record.did),
            display_name.into(),
            description.into(),
            avatar.as_deref().into(),
            banner.as_deref().into(),
            joined_via.map(|pack| pack.uri).into(),
            // Not normalized. The official code takes the clock when it is missing.
            Text(created_at.unwrap_or(record.indexed_at)),
            Text(record.indexed_at),
        ],
    )?;
    let Some(pack) = joined_via else {
        return Ok(());
    };
    let recipient = aturi::authority(pack.uri, "$.joinedViaStarterPack.uri")?;
    let sort_at = record.indexed_at;
    notify(
        record,
        rows,
        &Notification {
            recipient,
            reason: "starterpack-joined",
            subject: Some(pack.uri),
            sort_at,
        },
    )
}
