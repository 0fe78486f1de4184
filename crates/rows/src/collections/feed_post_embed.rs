//! Embeds of a post: images, gallery, link card, record, video, or a record with one of the others.

use crate::aturi::AtUri;
use crate::fields::{Object, StrongRef};
use crate::reject::{Reject, Rule};
use crate::row::Field::{Null, Text};
use crate::{Collection, Record, Rows};
use appview::table;

const IMAGES: &str = "app.bsky.embed.images";
const GALLERY: &str = "app.bsky.embed.gallery";
const GALLERY_IMAGE: &str = "app.bsky.embed.gallery#image";
const EXTERNAL: &str = "app.bsky.embed.external";
const RECORD: &str = "app.bsky.embed.record";
const RECORD_WITH_MEDIA: &str = "app.bsky.embed.recordWithMedia";
const VIDEO: &str = "app.bsky.embed.video";

/// Rows of the embed of the post in `object`, whose normalized `createdAt` is `created_at`.
pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    created_at: &str,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let Some(embed) = object.optional_object("embed")? else {
        return Ok(());
    };
    let mut records: Vec<StrongRef<'_>> = Vec::new();
    if embed.type_name() == RECORD_WITH_MEDIA {
        records.push(embed.object("record")?.strong_ref("record")?);
        let media = embed.object("media")?;
        // A record is not among the media of the lexicon: if it is one, it counts as a second record.
        if media.type_name() == RECORD {
            records.extend(media.strong_ref("record").ok());
        } else {
            index_media(record, &media, rows)?;
        }
    } else if embed.type_name() == RECORD {
        records.push(embed.strong_ref("record")?);
    } else {
        index_media(record, &embed, rows)?;
    }
    index_records(record, &records, created_at, rows)
}

/// A row each, and one `quote` row for the first that names a post.
fn index_records(
    record: &Record<'_>,
    records: &[StrongRef<'_>],
    created_at: &str,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    if let [first, second] = records
        && first.uri == second.uri
    {
        return Err(Reject::new(
            "$.embed.media",
            Rule::Official("the same record is embedded twice"),
        ));
    }
    let mut quoted = false;
    for embedded in records {
        rows.push(
            &table::POST_EMBED_RECORD,
            [record.uri, embedded.uri, embedded.cid].map(Text),
        )?;
        let names_a_post =
            AtUri::parse(embedded.uri).is_some_and(|uri| uri.collection == Collection::Post.nsid());
        if names_a_post && !quoted {
            quoted = true;
            rows.push(
                &table::QUOTE,
                [
                    record.uri,
                    record.cid,
                    embedded.uri,
                    embedded.cid,
                    created_at,
                    record.indexed_at,
                ]
                .map(Text),
            )?;
        }
    }
    Ok(())
}

fn index_media(record: &Record<'_>, media: &Object<'_>, rows: &mut Rows<'_>) -> Result<(), Reject> {
    match media.type_name() {
        IMAGES => {
            let images = media.list("images")?;
            if images.is_empty() {
                return Err(Reject::new(
                    media.path("images"),
                    Rule::Official("the official indexer refuses no images"),
                ));
            }
            for (at, image) in images.enumerate() {
                let image = Object::of(image, media.path(&format!("images[{at}]")))?;
                let (position, cid) = (at.to_string(), image.blob("image")?);
                rows.push(
                    &table::POST_EMBED_IMAGE,
                    [record.uri, &position, &cid, image.text("alt")?].map(Text),
                )?;
            }
        }
        GALLERY => {
            for (at, item) in media.list("items")?.enumerate() {
                let item = Object::of(item, media.path(&format!("items[{at}]")))?;
                if item.type_name() == GALLERY_IMAGE {
                    let (position, cid) = (at.to_string(), item.blob("image")?);
                    rows.push(
                        &table::POST_EMBED_GALLERY_IMAGE,
                        [record.uri, &position, &cid, item.text("alt")?].map(Text),
                    )?;
                }
            }
        }
        EXTERNAL => {
            let external = media.object("external")?;
            let thumb = external.optional_blob("thumb")?;
            rows.push(
                &table::POST_EMBED_EXTERNAL,
                [
                    Text(record.uri),
                    Text(external.text("uri")?),
                    Text(external.text("title")?),
                    Text(external.text("description")?),
                    thumb.as_deref().into(),
                ],
            )?;
        }
        VIDEO => {
            let (cid, alt) = (media.blob("video")?, media.optional_text("alt")?);
            rows.push(
                &table::POST_EMBED_VIDEO,
                [Text(record.uri), Text(&cid), alt.map_or(Null, Text)],
            )?;
        }
        _ => {}
    }
    Ok(())
}
