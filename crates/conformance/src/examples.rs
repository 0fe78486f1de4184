//! A valid record of each collection with every field that its lexicon knows, to be mutated.

use crate::value::Value;
use serde_json::{Value as Json, json};

const CID: &str = "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua";
const RAW_CID: &str = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const POST: &str = "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a";
const LIST: &str = "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.graph.list/3jzfcijpj2z2a";
const CREATED: &str = "2024-05-06T07:08:09.123Z";

fn strong_ref() -> Json {
    json!({"uri": POST, "cid": CID})
}

fn blob(mime: &str) -> Json {
    json!({"$type": "blob", "ref": {"$link": RAW_CID}, "mimeType": mime, "size": 1234})
}

fn labels() -> Json {
    json!({"$type": "com.atproto.label.defs#selfLabels", "values": [{"val": "nudity"}, {"val": "!no-unauthenticated"}]})
}

fn facets() -> Json {
    json!([
        {"index": {"byteStart": 0, "byteEnd": 5}, "features": [
            {"$type": "app.bsky.richtext.facet#mention", "did": DID},
            {"$type": "app.bsky.richtext.facet#link", "uri": "https://example.com/a?b=c#d"},
            {"$type": "app.bsky.richtext.facet#tag", "tag": "örtlich"}]},
        {"$type": "app.bsky.richtext.facet", "index": {"byteStart": 6, "byteEnd": 9}, "features": []},
    ])
}

fn images() -> Json {
    json!({"$type": "app.bsky.embed.images", "images": [
        {"image": blob("image/png"), "alt": "", "aspectRatio": {"width": 3, "height": 4}},
        {"image": blob("image/jpeg"), "alt": "a dog"}]})
}

fn external() -> Json {
    json!({"$type": "app.bsky.embed.external", "external": {"uri": "https://example.com", "title": "t", "description": "d",
        "thumb": blob("image/webp"), "associatedRefs": [strong_ref()]}})
}

fn video() -> Json {
    json!({"$type": "app.bsky.embed.video", "video": blob("video/mp4"), "alt": "x", "presentation": "gif",
        "captions": [{"lang": "en-GB", "file": blob("text/vtt")}], "aspectRatio": {"width": 16, "height": 9}})
}

fn gallery() -> Json {
    json!({"$type": "app.bsky.embed.gallery", "items": [
        {"$type": "app.bsky.embed.gallery#image", "image": blob("image/png"), "alt": "", "aspectRatio": {"width": 1, "height": 1}}]})
}

fn record() -> Json {
    json!({"$type": "app.bsky.embed.record", "record": strong_ref()})
}

fn post(embed: &Json) -> Json {
    json!({"$type": "app.bsky.feed.post", "text": "Grüße an @alice 👩‍👩‍👧‍👦", "createdAt": CREATED, "facets": facets(),
        "langs": ["de", "en-US"], "tags": ["one", "two"], "labels": labels(), "embed": embed,
        "reply": {"root": strong_ref(), "parent": strong_ref()},
        "entities": [{"index": {"start": 0, "end": 3}, "type": "mention", "value": DID}]})
}

/// The examples: collection and record.
pub(crate) fn examples() -> Vec<(&'static str, Value)> {
    let with_media = |media: Json| json!({"$type": "app.bsky.embed.recordWithMedia", "record": {"record": strong_ref()}, "media": media});
    let jsons = [
        post(&images()),
        post(&external()),
        post(&video()),
        post(&gallery()),
        post(&record()),
        post(&with_media(images())),
        post(&with_media(external())),
        post(&with_media(record())),
        json!({"$type": "app.bsky.feed.threadgate", "post": POST, "createdAt": CREATED, "hiddenReplies": [POST], "allow": [
            {"$type": "app.bsky.feed.threadgate#mentionRule"}, {"$type": "app.bsky.feed.threadgate#followerRule"},
            {"$type": "app.bsky.feed.threadgate#followingRule"}, {"$type": "app.bsky.feed.threadgate#listRule", "list": LIST}]}),
        json!({"$type": "app.bsky.feed.postgate", "post": POST, "createdAt": CREATED, "detachedEmbeddingUris": [POST],
            "embeddingRules": [{"$type": "app.bsky.feed.postgate#disableRule"}]}),
        json!({"$type": "app.bsky.feed.like", "subject": strong_ref(), "createdAt": CREATED, "via": strong_ref()}),
        json!({"$type": "app.bsky.feed.repost", "subject": strong_ref(), "createdAt": CREATED, "via": strong_ref()}),
        json!({"$type": "app.bsky.graph.follow", "subject": DID, "createdAt": CREATED, "via": strong_ref()}),
        json!({"$type": "app.bsky.graph.block", "subject": DID, "createdAt": CREATED}),
        json!({"$type": "app.bsky.graph.listblock", "subject": LIST, "createdAt": CREATED}),
        json!({"$type": "app.bsky.graph.listitem", "subject": DID, "list": LIST, "createdAt": CREATED}),
        json!({"$type": "app.bsky.graph.list", "purpose": "app.bsky.graph.defs#modlist", "name": "n", "description": "d",
            "descriptionFacets": facets(), "avatar": blob("image/png"), "labels": labels(), "createdAt": CREATED}),
        json!({"$type": "app.bsky.graph.starterpack", "name": "n", "description": "d", "descriptionFacets": facets(),
            "list": LIST, "feeds": [{"uri": POST}], "createdAt": CREATED}),
        json!({"$type": "app.bsky.graph.verification", "subject": DID, "handle": "alice.example.com", "displayName": "",
            "createdAt": CREATED}),
        json!({"$type": "app.bsky.graph.referencelistoptout", "subject": LIST, "createdAt": CREATED}),
        json!({"$type": "app.bsky.feed.generator", "did": "did:web:feeds.example.com", "displayName": "f", "description": "d",
            "descriptionFacets": facets(), "avatar": blob("image/jpeg"), "acceptsInteractions": true, "labels": labels(),
            "contentMode": "app.bsky.feed.defs#contentModeVideo", "createdAt": CREATED}),
        json!({"$type": "app.bsky.actor.profile", "displayName": "Alice 🦋", "description": "d", "pronouns": "they",
            "website": "https://example.com", "avatar": blob("image/jpeg"), "banner": blob("image/png"), "labels": labels(),
            "joinedViaStarterPack": strong_ref(), "pinnedPost": strong_ref(), "createdAt": CREATED}),
        json!({"$type": "app.bsky.actor.status", "status": "app.bsky.actor.status#live", "embed": external(),
            "durationMinutes": 30, "createdAt": CREATED}),
        json!({"$type": "app.bsky.labeler.service", "createdAt": CREATED, "labels": labels(), "reasonTypes": ["a"],
            "subjectTypes": ["account"], "subjectCollections": ["app.bsky.feed.post"],
            "policies": {"labelValues": ["spam"], "labelValueDefinitions": [{"identifier": "spam", "severity": "inform",
                "blurs": "none", "defaultSetting": "warn", "adultOnly": false,
                "locales": [{"lang": "en", "name": "Spam", "description": "d"}]}]}}),
        json!({"$type": "app.bsky.notification.declaration", "allowSubscriptions": "followers"}),
        json!({"$type": "chat.bsky.actor.declaration", "allowIncoming": "all", "allowGroupInvites": "none"}),
        json!({"$type": "com.germnetwork.declaration", "version": "1.0.0", "currentKey": {"$bytes": "AQIDBA"},
            "keyPackage": {"$bytes": "AQ"}, "continuityProofs": [{"$bytes": "AAAA"}],
            "messageMe": {"messageMeUrl": "https://example.com/m", "showButtonTo": "everyone"}}),
    ];
    jsons
        .iter()
        .map(|json| {
            let name = json["$type"].as_str().unwrap_or_default();
            let collection = rows::Collection::parse(name).map_or("", rows::Collection::nsid);
            (collection, Value::from_json(json))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_collection_has_an_example() {
        let examples = super::examples();
        for collection in rows::Collection::ALL {
            let is_there = examples.iter().any(|(name, _)| *name == collection.nsid());
            assert!(is_there, "{collection:?}");
        }
    }
}
