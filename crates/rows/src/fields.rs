//! Reading the fields of a checked record that become columns.
//!
//! The lexicon check went before, so a field that is missing or of another type is an error of ours, not of the record; it
//! still costs no more than the record.

use crate::datetime;
use crate::reject::{Reject, Rule};
use atrepo::cbor::{Item, List, Map, Value};

/// A map in a record, with its path.
#[derive(Clone)]
pub(crate) struct Object<'a> {
    map: Map<'a>,
    path: String,
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
            path: "$".to_owned(),
        }
    }

    /// The map that `item` is; `name` says where it stands.
    pub(crate) fn of(item: Item<'a>, name: String) -> Result<Self, Reject> {
        match item.as_map() {
            Some(map) => Ok(Self { map, path: name }),
            None => Err(Reject::new(name, Rule::NotA("an object"))),
        }
    }

    pub(crate) fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    pub(crate) fn get(&self, key: &str) -> Option<Item<'a>> {
        self.map.get(key)
    }

    fn require<T>(&self, key: &str, found: Option<T>) -> Result<T, Reject> {
        found.ok_or_else(|| Reject::new(self.path(key), Rule::Missing))
    }

    /// `$type`, or nothing.
    pub(crate) fn type_name(&self) -> &'a str {
        self.optional_text("$type").unwrap_or_default()
    }

    pub(crate) fn optional_text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(|item| item.as_text())
    }

    pub(crate) fn text(&self, key: &str) -> Result<&'a str, Reject> {
        self.require(key, self.optional_text(key))
    }

    pub(crate) fn optional_object(&self, key: &str) -> Option<Self> {
        let map = self.get(key)?.as_map()?;
        let path = self.path(key);
        Some(Self { map, path })
    }

    pub(crate) fn object(&self, key: &str) -> Result<Self, Reject> {
        self.require(key, self.optional_object(key))
    }

    pub(crate) fn optional_list(&self, key: &str) -> Option<List<'a>> {
        match self.get(key)?.value() {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub(crate) fn list(&self, key: &str) -> Result<List<'a>, Reject> {
        self.require(key, self.optional_list(key))
    }

    /// A list of strings as a `jsonb` value; NULL when absent or empty.
    pub(crate) fn optional_texts_json(&self, key: &str) -> Result<Option<String>, Reject> {
        let Some(mut list) = self.optional_list(key).filter(|list| !list.is_empty()) else {
            return Ok(None);
        };
        if list.any(|item| item.as_text().is_some_and(|text| text.contains('\0'))) {
            return Err(Reject::new(self.path(key), Rule::Nul));
        }
        self.get(key).map(crate::json::item_to_json).transpose()
    }

    /// `createdAt`, as the official code normalizes it.
    pub(crate) fn created_at(&self) -> Result<String, Reject> {
        self.require("createdAt", datetime::normalize(self.text("createdAt")?))
    }

    pub(crate) fn optional_strong_ref(&self, key: &str) -> Result<Option<StrongRef<'a>>, Reject> {
        let Some(object) = self.optional_object(key) else {
            return Ok(None);
        };
        Ok(Some(StrongRef {
            uri: object.text("uri")?,
            cid: object.text("cid")?,
        }))
    }

    pub(crate) fn strong_ref(&self, key: &str) -> Result<StrongRef<'a>, Reject> {
        self.require(key, self.optional_strong_ref(key)?)
    }

    /// The CID of a blob, as text.
    pub(crate) fn optional_blob(&self, key: &str) -> Option<String> {
        match self.optional_object(key)?.get("ref")?.value() {
            Value::Link(link) => Some(link.to_string()),
            _ => None,
        }
    }

    pub(crate) fn blob(&self, key: &str) -> Result<String, Reject> {
        self.require(key, self.optional_blob(key))
    }

    /// A list, as the JSON text that the official code stores in a `varchar` column.
    pub(crate) fn optional_list_json(&self, key: &str) -> Result<Option<String>, Reject> {
        self.get(key).map(crate::json::item_to_json).transpose()
    }
}
