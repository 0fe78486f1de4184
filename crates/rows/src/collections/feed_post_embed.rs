//! Embeds of a post: images, gallery, link card, record, video, or a record with one of the others.

use crate::aturi::{self, AtUri};
use crate::fields::{Object, StrongRef};
use crate::lexicon::strong_ref::STRONG_REF;
use crate::lexicon::{self, Blob, Definition, Format, Schema, UNLIMITED, optional, required};
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

/// An image in a post.
const IMAGE: Schema = Schema::Blob(Blob {
    accept: &["image/*"],
    most_bytes: 2_000_000,
});

static ASPECT_RATIO: Definition = Definition {
    name: "app.bsky.embed.defs#aspectRatio",
    fields: &[
        required("width", Schema::Integer(1)),
        required("height", Schema::Integer(1)),
    ],
};

static IMAGE_ITEM: Definition = Definition {
    name: "app.bsky.embed.images#image",
    fields: &[
        required("image", IMAGE),
        required("alt", Schema::TEXT),
        optional("aspectRatio", Schema::Object(&ASPECT_RATIO)),
    ],
};

static IMAGES_EMBED: Definition = Definition {
    name: IMAGES,
    fields: &[required(
        "images",
        Schema::List(&Schema::Object(&IMAGE_ITEM), 4),
    )],
};

static CAPTION: Definition = Definition {
    name: "app.bsky.embed.video#caption",
    fields: &[
        required("lang", Schema::format(Format::Language)),
        required(
            "file",
            Schema::Blob(Blob {
                accept: &["text/vtt"],
                most_bytes: 20_000,
            }),
        ),
    ],
};

static VIDEO_EMBED: Definition = Definition {
    name: VIDEO,
    fields: &[
        required(
            "video",
            Schema::Blob(Blob {
                accept: &["video/mp4"],
                most_bytes: 300_000_000,
            }),
        ),
        optional("captions", Schema::List(&Schema::Object(&CAPTION), 20)),
        optional("alt", Schema::TEXT),
        optional("aspectRatio", Schema::Object(&ASPECT_RATIO)),
        optional("presentation", Schema::TEXT),
    ],
};

static GALLERY_ITEM: Definition = Definition {
    name: GALLERY_IMAGE,
    fields: &[
        required("image", IMAGE),
        required("alt", Schema::TEXT),
        required("aspectRatio", Schema::Object(&ASPECT_RATIO)),
    ],
};

static GALLERY_EMBED: Definition = Definition {
    name: GALLERY,
    fields: &[required(
        "items",
        Schema::List(&Schema::Union(&[&GALLERY_ITEM]), 20),
    )],
};

static EXTERNAL_CARD: Definition = Definition {
    name: "app.bsky.embed.external#external",
    fields: &[
        required("uri", Schema::URI),
        required("title", Schema::TEXT),
        required("description", Schema::TEXT),
        optional(
            "thumb",
            Schema::Blob(Blob {
                accept: &["image/*"],
                most_bytes: 1_000_000,
            }),
        ),
        optional(
            "associatedRefs",
            Schema::List(&Schema::Object(&STRONG_REF), UNLIMITED),
        ),
    ],
};

/// A link card.
pub(super) static EXTERNAL_EMBED: Definition = Definition {
    name: EXTERNAL,
    fields: &[required("external", Schema::Object(&EXTERNAL_CARD))],
};

static RECORD_EMBED: Definition = Definition {
    name: RECORD,
    fields: &[required("record", Schema::Object(&STRONG_REF))],
};

static RECORD_WITH_MEDIA_EMBED: Definition = Definition {
    name: RECORD_WITH_MEDIA,
    fields: &[
        required("record", Schema::Object(&RECORD_EMBED)),
        required(
            "media",
            Schema::Union(&[&IMAGES_EMBED, &VIDEO_EMBED, &GALLERY_EMBED, &EXTERNAL_EMBED]),
        ),
    ],
};

/// The field `embed` of a post.
pub(super) const EMBED: Schema = Schema::Union(&[
    &IMAGES_EMBED,
    &VIDEO_EMBED,
    &GALLERY_EMBED,
    &EXTERNAL_EMBED,
    &RECORD_EMBED,
    &RECORD_WITH_MEDIA_EMBED,
]);

/// Rows of the embed of the post in `object`, whose normalized `createdAt` is `created_at`.
pub(super) fn index(
    record: &Record<'_>,
    object: &Object<'_>,
    created_at: &str,
    rows: &mut Rows<'_>,
) -> Result<(), Reject> {
    let Some(embed) = object.optional_object("embed") else {
        return Ok(());
    };
    let mut records: Vec<StrongRef<'_>> = Vec::new();
    if embed.type_name() == RECORD_WITH_MEDIA {
        records.push(embed.object("record")?.strong_ref("record")?);
        let (media, media_item) = (embed.object("media")?, embed.get("media"));
        // The lexicon does not know a record as media and lets it pass unchecked. The official code
        // treats a valid one as a second record.
        if media.type_name() == RECORD {
            if media_item.is_some_and(|media| lexicon::matches(media, &RECORD_EMBED)) {
                records.push(media.strong_ref("record")?);
            }
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
        aturi::authority(embedded.uri, "$.embed.record.uri")?;
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
                    Rule::Official("the official indexer refuses an empty list of images"),
                ));
            }
            for (at, image) in images.enumerate() {
                let image = media.item("images", image)?;
                let (position, cid) = (at.to_string(), image.blob("image")?);
                rows.push(
                    &table::POST_EMBED_IMAGE,
                    [record.uri, &position, &cid, image.text("alt")?].map(Text),
                )?;
            }
        }
        GALLERY => {
            for (at, item) in media.list("items")?.enumerate() {
                let item = media.item("items", item)?;
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
            let thumb = external.optional_blob("thumb");
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
            let (cid, alt) = (media.blob("video")?, media.optional_text("alt"));
            rows.push(
                &table::POST_EMBED_VIDEO,
                [Text(record.uri), Text(&cid), alt.map_or(Null, Text)],
            )?;
        }
        _ => {}
    }
    Ok(())
}
