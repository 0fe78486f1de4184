//! Reads the fields of a checked record that become columns.
//!
//! The lexicon check ran before. So a field that is missing or has another type is an error in
//! skyfill, not in the record; it still costs no more than the record.

use crate::datetime;
use crate::reject::{Reject, Rule};
use atrepo::cbor::{Item, List, Map, Value};
use std::borrow::Cow;

/// A map in a record, with its path.
#[derive(Clone)]
pub(crate) struct Object<'a> {
    map: Map<'a>,
    path: Path,
}

/// The position of an object in its record: the keys that lead there. No known record type is
/// deeper than this.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    keys: [&'static str; 6],
    depth: usize,
}

impl Path {
    const ROOT: Self = Self {
        keys: [""; 6],
        depth: 0,
    };

    fn join(mut self, key: &'static str) -> Self {
        if let Some(free) = self.keys.get_mut(self.depth) {
            *free = key;
        }
        self.depth = self.depth.saturating_add(1);
        self
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("$")?;
        self.keys
            .iter()
            .take(self.depth)
            .try_for_each(|key| write!(f, ".{key}"))
    }
}

/// A reference to a record, `com.atproto.repo.strongRef`.
#[derive(Clone, Copy)]
pub(crate) struct StrongRef<'a> {
    pub(crate) uri: &'a str,
    pub(crate) cid: &'a str,
}

impl<'a> Object<'a> {
    /// The record itself.
    pub(crate) fn root(map: Map<'a>) -> Self {
        Self {
            map,
            path: Path::ROOT,
        }
    }

    /// The map that `item` is, an item of the list `key` of this object.
    pub(crate) fn item<'i>(&self, key: &'static str, item: Item<'i>) -> Result<Object<'i>, Reject> {
        let path = self.path.join(key);
        match item.as_map() {
            Some(map) => Ok(Object { map, path }),
            None => Err(Reject::new(path.to_string(), Rule::NotA("an object"))),
        }
    }

    pub(crate) fn path(&self, key: &'static str) -> String {
        self.path.join(key).to_string()
    }

    pub(crate) fn get(&self, key: &'static str) -> Option<Item<'a>> {
        self.map.get(key)
    }

    fn require<T>(&self, key: &'static str, found: Option<T>) -> Result<T, Reject> {
        found.ok_or_else(|| Reject::new(self.path(key), Rule::Missing))
    }

    /// `$type`, or nothing.
    pub(crate) fn type_name(&self) -> &'a str {
        self.optional_text("$type").unwrap_or_default()
    }

    pub(crate) fn optional_text(&self, key: &'static str) -> Option<&'a str> {
        self.get(key).and_then(|item| item.as_text())
    }

    pub(crate) fn text(&self, key: &'static str) -> Result<&'a str, Reject> {
        self.require(key, self.optional_text(key))
    }

    pub(crate) fn optional_object(&self, key: &'static str) -> Option<Self> {
        let map = self.get(key)?.as_map()?;
        let path = self.path.join(key);
        Some(Self { map, path })
    }

    pub(crate) fn object(&self, key: &'static str) -> Result<Self, Reject> {
        self.require(key, self.optional_object(key))
    }

    pub(crate) fn optional_list(&self, key: &'static str) -> Option<List<'a>> {
        match self.get(key)?.value() {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub(crate) fn list(&self, key: &'static str) -> Result<List<'a>, Reject> {
        self.require(key, self.optional_list(key))
    }

    /// A list of strings as a `jsonb` value; NULL when absent or empty.
    pub(crate) fn optional_texts_json(&self, key: &'static str) -> Result<Option<String>, Reject> {
        let Some(mut list) = self.optional_list(key).filter(|list| !list.is_empty()) else {
            return Ok(None);
        };
        if list.any(|item| item.as_text().is_some_and(|text| text.contains('\0'))) {
            return Err(Reject::new(self.path(key), Rule::Nul));
        }
        self.get(key).map(crate::json::item_to_json).transpose()
    }

    /// `createdAt`, as the official code normalizes it.
    pub(crate) fn created_at(&self) -> Result<Cow<'a, str>, Reject> {
        self.require("createdAt", datetime::normalize(self.text("createdAt")?))
    }

    pub(crate) fn optional_strong_ref(
        &self,
        key: &'static str,
    ) -> Result<Option<StrongRef<'a>>, Reject> {
        let Some(object) = self.optional_object(key) else {
            return Ok(None);
        };
        Ok(Some(StrongRef {
            uri: object.text("uri")?,
            cid: object.text("cid")?,
        }))
    }

    pub(crate) fn strong_ref(&self, key: &'static str) -> Result<StrongRef<'a>, Reject> {
        self.require(key, self.optional_strong_ref(key)?)
    }

    /// The CID of a blob, as text.
    pub(crate) fn optional_blob(&self, key: &'static str) -> Option<String> {
        match self.optional_object(key)?.get("ref")?.value() {
            Value::Link(link) => Some(link.to_string()),
            _ => None,
        }
    }

    pub(crate) fn blob(&self, key: &'static str) -> Result<String, Reject> {
        self.require(key, self.optional_blob(key))
    }

    /// A list, as the JSON text that the official code stores in a `varchar` column.
    pub(crate) fn optional_list_json(&self, key: &'static str) -> Result<Option<String>, Reject> {
        self.get(key).map(crate::json::item_to_json).transpose()
    }
}
