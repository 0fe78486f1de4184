//! Reading the fields of a record that become columns; a wrong one rejects the record and names its path.

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
        self.get("$type")
            .and_then(|item| item.as_text())
            .unwrap_or_default()
    }

    pub(crate) fn optional_text(&self, key: &str) -> Result<Option<&'a str>, Reject> {
        let Some(item) = self.get(key) else {
            return Ok(None);
        };
        item.as_text()
            .map(Some)
            .ok_or_else(|| Reject::new(self.path(key), Rule::NotA("a string")))
    }

    pub(crate) fn text(&self, key: &str) -> Result<&'a str, Reject> {
        self.require(key, self.optional_text(key)?)
    }

    pub(crate) fn optional_object(&self, key: &str) -> Result<Option<Self>, Reject> {
        self.get(key)
            .map(|item| Self::of(item, self.path(key)))
            .transpose()
    }

    pub(crate) fn object(&self, key: &str) -> Result<Self, Reject> {
        self.require(key, self.optional_object(key)?)
    }

    pub(crate) fn optional_list(&self, key: &str) -> Result<Option<List<'a>>, Reject> {
        match self.get(key).map(|item| item.value()) {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list)),
            Some(_) => Err(Reject::new(self.path(key), Rule::NotA("an array"))),
        }
    }

    pub(crate) fn list(&self, key: &str) -> Result<List<'a>, Reject> {
        self.require(key, self.optional_list(key)?)
    }

    /// A list of strings as a `jsonb` value; NULL when absent or empty.
    pub(crate) fn optional_texts_json(&self, key: &str) -> Result<Option<String>, Reject> {
        let Some(list) = self.optional_list(key)? else {
            return Ok(None);
        };
        for item in list {
            match item.as_text() {
                None => return Err(Reject::new(self.path(key), Rule::NotA("an array of strings"))),
                Some(text) if text.contains('\0') => return Err(Reject::new(self.path(key), Rule::Nul)),
                Some(_) => {}
            }
        }
        match self.get(key) {
            Some(item) if !list.is_empty() => crate::json::item_to_json(item).map(Some),
            _ => Ok(None),
        }
    }

    /// `createdAt`, as the official code normalizes it.
    pub(crate) fn created_at(&self) -> Result<String, Reject> {
        datetime::normalize(self.text("createdAt")?)
            .ok_or_else(|| Reject::new(self.path("createdAt"), Rule::Datetime))
    }

    pub(crate) fn optional_strong_ref(&self, key: &str) -> Result<Option<StrongRef<'a>>, Reject> {
        let Some(object) = self.optional_object(key)? else {
            return Ok(None);
        };
        Ok(Some(StrongRef {
            uri: object.at_uri("uri")?,
            cid: object.text("cid")?,
        }))
    }

    pub(crate) fn strong_ref(&self, key: &str) -> Result<StrongRef<'a>, Reject> {
        self.require(key, self.optional_strong_ref(key)?)
    }

    /// An AT-URI, unchanged.
    pub(crate) fn at_uri(&self, key: &str) -> Result<&'a str, Reject> {
        let uri = self.text(key)?;
        match crate::aturi::AtUri::parse(uri) {
            Some(_) => Ok(uri),
            None => Err(Reject::new(self.path(key), Rule::NotA("an AT-URI"))),
        }
    }

    pub(crate) fn did(&self, key: &str) -> Result<&'a str, Reject> {
        let did = self.text(key)?;
        if atrepo::syntax::is_did(did) {
            Ok(did)
        } else {
            Err(Reject::new(self.path(key), Rule::NotA("a DID")))
        }
    }

    /// The CID of a blob, as text.
    pub(crate) fn optional_blob(&self, key: &str) -> Result<Option<String>, Reject> {
        let Some(blob) = self.optional_object(key)? else {
            return Ok(None);
        };
        match blob.get("ref").map(|item| item.value()) {
            Some(Value::Link(link)) if blob.type_name() == "blob" => Ok(Some(link.to_string())),
            _ => Err(Reject::new(self.path(key), Rule::NotA("a blob"))),
        }
    }

    pub(crate) fn blob(&self, key: &str) -> Result<String, Reject> {
        self.require(key, self.optional_blob(key)?)
    }

    /// A list, as the JSON text that the official code stores in a `varchar` column.
    pub(crate) fn optional_list_json(&self, key: &str) -> Result<Option<String>, Reject> {
        if self.optional_list(key)?.is_none() {
            return Ok(None);
        }
        self.get(key).map(crate::json::item_to_json).transpose()
    }
}
