//! The strict check of whole records against their lexicons, as the official indexer makes it
//! (`assertValidRecord` in `data-plane/server/indexing/processor.ts`, schemas of `@atproto/lex`).
//!
//! A lexicon is a value of [`Definition`], written next to the rows of its record type in
//! `collections/`. Unknown fields pass; unions are open: an unknown `$type` passes, a known one
//! must validate. The check reads DAG-CBOR in place, goes over each object once, and recurses only
//! as deep as the lexicon does.

pub(crate) mod facet;
mod formats;
mod language;
pub(crate) mod self_labels;
pub(crate) mod strong_ref;

use crate::javascript::{PROTO, is_prototype};
use crate::reject::{Reject, Rule};
use atrepo::cbor::{Item, List, Map, Value};
use atrepo::work;
pub(crate) use formats::Format;
use unicode_segmentation::UnicodeSegmentation;

/// The largest integer that JavaScript holds exactly, `Number.MAX_SAFE_INTEGER`.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The allowed values of a field.
pub(crate) enum Schema {
    /// A string.
    Text(Text),
    /// An integer that JavaScript holds exactly, at least this.
    Integer(u64),
    /// A boolean.
    Boolean,
    /// Bytes.
    Bytes,
    /// A reference to a blob.
    Blob(Blob),
    /// An array with at most this many items.
    List(&'static Self, usize),
    /// An object; its `$type` may be left out.
    Object(&'static Definition),
    /// An object whose `$type` says which of these it is; an unknown `$type` passes.
    Union(&'static [&'static Definition]),
}

/// Rules of a string.
pub(crate) struct Text {
    /// Bytes of UTF-8, at least.
    pub(crate) least_bytes: usize,
    /// Bytes of UTF-8, at most.
    pub(crate) most_bytes: usize,
    /// Grapheme clusters, at most (Unicode 17).
    pub(crate) most_graphemes: usize,
    /// The form.
    pub(crate) format: Option<Format>,
}

/// Rules of a blob.
pub(crate) struct Blob {
    /// MIME types; `image/*` stands for all that begin so.
    pub(crate) accept: &'static [&'static str],
    /// Size in bytes, at most.
    pub(crate) most_bytes: u64,
}

/// The fields of an object.
pub(crate) struct Definition {
    /// Its `$type`.
    pub(crate) name: &'static str,
    /// At most 32 of them.
    pub(crate) fields: &'static [Field],
}

/// A field of an object.
pub(crate) struct Field {
    key: &'static str,
    required: bool,
    schema: Schema,
}

/// Arrays and strings without a limit of their own.
pub(crate) const UNLIMITED: usize = usize::MAX;

impl Text {
    /// Any string.
    pub(crate) const ANY: Self = Self {
        least_bytes: 0,
        most_bytes: UNLIMITED,
        most_graphemes: UNLIMITED,
        format: None,
    };
}

impl Schema {
    /// Any string.
    pub(crate) const TEXT: Self = Self::Text(Text::ANY);
    /// `createdAt` and the like.
    pub(crate) const DATETIME: Self = Self::format(Format::Datetime);
    /// A DID.
    pub(crate) const DID: Self = Self::format(Format::Did);
    /// An AT-URI.
    pub(crate) const AT_URI: Self = Self::format(Format::AtUri);
    /// A URI.
    pub(crate) const URI: Self = Self::format(Format::Uri);
    /// A picture of an account, a list or a feed.
    pub(crate) const AVATAR: Self = Self::Blob(Blob {
        accept: &["image/png", "image/jpeg"],
        most_bytes: 1_000_000,
    });

    /// A string of a form.
    pub(crate) const fn format(format: Format) -> Self {
        Self::Text(Text {
            format: Some(format),
            ..Text::ANY
        })
    }

    /// A string of at most so many bytes and graphemes.
    pub(crate) const fn text(most_bytes: usize, most_graphemes: usize) -> Self {
        Self::Text(Text {
            most_bytes,
            most_graphemes,
            ..Text::ANY
        })
    }
}

/// A field that must be there.
pub(crate) const fn required(key: &'static str, schema: Schema) -> Field {
    Field {
        key,
        required: true,
        schema,
    }
}

/// A field that may be left out. Null is not left out.
pub(crate) const fn optional(key: &'static str, schema: Schema) -> Field {
    Field {
        key,
        required: false,
        schema,
    }
}

/// Checks a whole record: its `$type` must be the lexicon's name.
pub(crate) fn check_record(record: Map<'_>, lexicon: &Definition) -> Result<(), Reject> {
    if record.get("$type").and_then(|item| item.as_text()) != Some(lexicon.name) {
        return Err(Reject::new("$.$type", Rule::Type));
    }
    check_object(record, lexicon).map_err(|reject| reject.below("$"))
}

/// Whether `item` is an object of `lexicon`; its `$type` may be left out.
pub(crate) fn matches(item: Item<'_>, lexicon: &Definition) -> bool {
    item.as_map()
        .is_some_and(|map| check_object(map, lexicon).is_ok())
}

/// A rejection of the value itself; callers add the path.
fn reject(rule: Rule) -> Reject {
    Reject::new("", rule)
}

fn check(item: Item<'_>, schema: &Schema) -> Result<(), Reject> {
    match (schema, item.value()) {
        (Schema::Text(rules), Value::Text(text)) => check_text(text, rules).map_err(reject),
        (Schema::Text(_), _) => Err(reject(Rule::NotA("a string"))),
        (Schema::Integer(least), value) => match whole(value) {
            None => Err(reject(Rule::NotA("an integer"))),
            Some(number) if number.is_none_or(|number| number < *least) => {
                Err(reject(Rule::Under(*least)))
            }
            Some(_) => Ok(()),
        },
        (Schema::Boolean, Value::Bool(_)) | (Schema::Bytes, Value::Bytes(_)) => Ok(()),
        (Schema::Boolean, _) => Err(reject(Rule::NotA("a boolean"))),
        (Schema::Bytes, Value::Map(map)) if inherits_bytes(map) => Ok(()),
        (Schema::Bytes, _) => Err(reject(Rule::NotA("bytes"))),
        (Schema::Blob(rules), Value::Map(map)) => check_blob(map, rules),
        (Schema::Blob(_), _) => Err(reject(Rule::NotA("a blob"))),
        (Schema::List(of, most), Value::List(list)) => check_list(list, of, *most),
        (Schema::List(..), _) => Err(reject(Rule::NotA("an array"))),
        (Schema::Object(object), Value::Map(map)) => check_object(map, object),
        (Schema::Union(known), Value::Map(map)) => check_union(map, known),
        (Schema::Object(_) | Schema::Union(_), _) => Err(reject(Rule::NotA("an object"))),
    }
}

/// Whether bytes are the prototype of `map`, directly or indirectly: JavaScript treats it as bytes.
fn inherits_bytes(map: Map<'_>) -> bool {
    let mut at = map.get(PROTO);
    while let Some(item) = at {
        match item.value() {
            Value::Bytes(_) => return true,
            Value::Map(map) => at = map.get(PROTO),
            _ => return false,
        }
    }
    false
}

fn check_text(text: &str, rules: &Text) -> Result<(), Rule> {
    if text.len() < rules.least_bytes {
        return Err(Rule::TooShort(rules.least_bytes));
    }
    if text.len() > rules.most_bytes {
        return Err(Rule::TooLong(rules.most_bytes));
    }
    work::add(text.len());
    // A grapheme has at least one byte, and most texts are far from the limit.
    if text.len() > rules.most_graphemes && text.graphemes(true).nth(rules.most_graphemes).is_some()
    {
        return Err(Rule::TooManyGraphemes(rules.most_graphemes));
    }
    match rules.format {
        Some(format) if !format.fits(text) => Err(Rule::NotA(format.name())),
        _ => Ok(()),
    }
}

/// The integer that `value` is to JavaScript, which knows no numbers but floats: `Some(None)` if it
/// is negative, `None` if it is not a safe integer.
fn whole(value: Value<'_>) -> Option<Option<u64>> {
    match value {
        Value::Unsigned(n) if n <= MAX_SAFE_INTEGER => Some(Some(n)),
        Value::Negative(n) if n < MAX_SAFE_INTEGER => Some(None),
        #[expect(clippy::cast_precision_loss, reason = "2^53 - 1 is exact")]
        Value::Float(n) if n.fract() == 0.0 && n.abs() <= MAX_SAFE_INTEGER as f64 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, not negative and below 2^53"
            )]
            let number = (n >= 0.0).then_some(n as u64);
            Some(number)
        }
        _ => None,
    }
}

fn check_list(list: List<'_>, of: &Schema, most: usize) -> Result<(), Reject> {
    if usize::try_from(list.len()).map_or(true, |length| length > most) {
        return Err(reject(Rule::TooMany(most)));
    }
    for (at, item) in list.enumerate() {
        check(item, of).map_err(|reject| reject.below(&format!("[{at}]")))?;
    }
    Ok(())
}

/// Checks the entries once; fields that the lexicon does not know pass.
fn check_object(mut map: Map<'_>, object: &Definition) -> Result<(), Reject> {
    let mut missing = 0u32;
    for (at, field) in object.fields.iter().enumerate() {
        missing |= u32::from(field.required) << at;
    }
    while let Some((key, item)) = map.next_raw() {
        let field = object
            .fields
            .iter()
            .enumerate()
            .find(|(_, f)| f.key.as_bytes() == key);
        if let Some((at, field)) = field {
            missing &= !(1 << at);
            check(item, &field.schema)
                .map_err(|reject| reject.below(&format!(".{}", field.key)))?;
        } else if key == b"$type" {
            if item.as_text() != Some(object.name) {
                return Err(Reject::new(".$type", Rule::NotA(object.name)));
            }
        } else if key == PROTO.as_bytes() && is_prototype(item.value()) {
            return Err(Reject::new(format!(".{PROTO}"), Rule::Proto));
        }
    }
    match object
        .fields
        .iter()
        .enumerate()
        .find(|(at, _)| missing & (1 << at) != 0)
    {
        Some((_, field)) => Err(Reject::new(format!(".{}", field.key), Rule::Missing)),
        None => Ok(()),
    }
}

fn check_union(map: Map<'_>, known: &[&'static Definition]) -> Result<(), Reject> {
    let Some(name) = map.get("$type") else {
        return Err(Reject::new(".$type", Rule::Missing));
    };
    let Some(name) = name.as_text() else {
        return Err(Reject::new(".$type", Rule::NotA("a string")));
    };
    match known.iter().find(|object| object.name == name) {
        Some(object) => check_object(map, object),
        None if map
            .get(PROTO)
            .is_some_and(|item| is_prototype(item.value())) =>
        {
            Err(Reject::new(format!(".{PROTO}"), Rule::Proto))
        }
        None => Ok(()),
    }
}

/// A blob has exactly the fields `$type`, `mimeType`, `ref` and `size`; the old form `{cid,
/// mimeType}` is refused.
fn check_blob(map: Map<'_>, rules: &Blob) -> Result<(), Reject> {
    let not_a_blob = || reject(Rule::NotA("a blob"));
    let (mut named, mut mime, mut size, mut linked) = (false, None, None, false);
    for (key, item) in map {
        match (key, item.value()) {
            ("$type", Value::Text("blob")) => named = true,
            ("mimeType", Value::Text(text)) if text.contains('/') => mime = Some(text),
            ("ref", Value::Link(link)) if link.is_raw() => linked = true,
            ("size", value) => size = whole(value).flatten(),
            (PROTO, value) if !is_prototype(value) => {}
            _ => return Err(not_a_blob()),
        }
    }
    let (true, true, Some(mime), Some(size)) = (named, linked, mime, size) else {
        return Err(not_a_blob());
    };
    let accepted = rules.accept.iter().any(|accepted| {
        accepted
            .strip_suffix('*')
            .map_or(*accepted == mime, |start| mime.starts_with(start))
    });
    if !accepted {
        return Err(Reject::new(".mimeType", Rule::Mime(rules.accept)));
    }
    if size > rules.most_bytes {
        return Err(Reject::new(".size", Rule::Over(rules.most_bytes)));
    }
    Ok(())
}
