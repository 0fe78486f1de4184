//! Reads the JSON of a page line by line. Unknown fields are skipped and never stored, so that a
//! page uses no more memory than its valid lines, whatever it contains.

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Longest text in a line that is kept, in bytes: a DID has at most 2,048.
const MAX_TEXT: usize = 2048;

/// The known fields of a line, over all kinds of lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) did: Option<String>,
    pub(crate) rev: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) active: Option<bool>,
    pub(crate) hostname: Option<String>,
    pub(crate) accounts: Option<u64>,
}

/// A page.
#[derive(Debug)]
pub(crate) struct RawPage<T> {
    pub(crate) cursor: Option<String>,
    pub(crate) lines: Vec<T>,
    /// Number of lines that are not valid.
    pub(crate) bad: u64,
    /// Whether the page has more lines than the limit.
    pub(crate) is_too_long: bool,
}

/// Reads a page of up to `most` lines; `line` converts a line if it is valid.
pub(crate) fn read<T>(
    body: &[u8],
    most: usize,
    line: impl Fn(Line) -> Option<T>,
) -> Result<RawPage<T>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let page = PageSeed {
        most,
        line,
        of: PhantomData,
    }
    .deserialize(&mut json)?;
    json.end()?;
    Ok(page)
}

struct PageSeed<T, F> {
    most: usize,
    line: F,
    of: PhantomData<T>,
}

impl<'de, T, F: Fn(Line) -> Option<T>> DeserializeSeed<'de> for PageSeed<T, F> {
    type Value = RawPage<T>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<RawPage<T>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, T, F: Fn(Line) -> Option<T>> Visitor<'de> for PageSeed<T, F> {
    type Value = RawPage<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page of a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawPage<T>, A::Error> {
        let (mut cursor, mut page) = (None, None);
        while let Some(key) = map.next_key::<Key>()? {
            match key.0 {
                Some(Name::Cursor) => cursor = map.next_value::<Option<String>>()?,
                Some(Name::List) if page.is_some() => {
                    return Err(de::Error::duplicate_field("repos"));
                }
                Some(Name::List) => page = Some(map.next_value_seed(&self)?),
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        let page = page.ok_or_else(|| de::Error::missing_field("repos"))?;
        Ok(RawPage { cursor, ..page })
    }
}

/// The list itself.
impl<'de, T, F: Fn(Line) -> Option<T>> DeserializeSeed<'de> for &PageSeed<T, F> {
    type Value = RawPage<T>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<RawPage<T>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, T, F: Fn(Line) -> Option<T>> Visitor<'de> for &PageSeed<T, F> {
    type Value = RawPage<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawPage<T>, A::Error> {
        let mut page = RawPage {
            cursor: None,
            lines: Vec::new(),
            bad: 0,
            is_too_long: false,
        };
        let mut count = 0usize;
        while let Some(line) = list.next_element_seed(LineSeed)? {
            count = count.saturating_add(1);
            if count > self.most {
                page.is_too_long = true;
                while list.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
            match line.and_then(&self.line) {
                Some(line) => page.lines.push(line),
                None => page.bad = page.bad.saturating_add(1),
            }
        }
        Ok(page)
    }
}

/// A name in a page or a line, if it is a known one.
struct Key(Option<Name>);

#[derive(Clone, Copy)]
enum Name {
    Cursor,
    List,
    Did,
    Rev,
    Status,
    Active,
    Hostname,
    AccountCount,
}

impl<'de> de::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Key, E> {
                Ok(Key(Some(match name {
                    "cursor" => Name::Cursor,
                    "repos" | "hosts" => Name::List,
                    "did" => Name::Did,
                    "rev" => Name::Rev,
                    "status" => Name::Status,
                    "active" => Name::Active,
                    "hostname" => Name::Hostname,
                    "accountCount" => Name::AccountCount,
                    _ => return Ok(Key(None)),
                })))
            }
        }
        json.deserialize_identifier(KeyVisitor)
    }
}

/// A line, if it is an object.
struct LineSeed;

impl<'de> DeserializeSeed<'de> for LineSeed {
    type Value = Option<Line>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<Line>, D::Error> {
        json.deserialize_any(self)
    }
}

/// The result of a visitor for values of unknown fields.
macro_rules! anything_else {
    ($nothing:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok($nothing)
        }
    };
}

impl<'de> Visitor<'de> for LineSeed {
    type Value = Option<Line>;

    anything_else!(None);

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut line = Line::default();
        while let Some(key) = map.next_key::<Key>()? {
            let Some(name) = key.0 else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value_seed(ScalarSeed)?;
            match (name, value) {
                (Name::Did, Scalar::Text(did)) => line.did = Some(did),
                (Name::Rev, Scalar::Text(rev)) => line.rev = Some(rev),
                (Name::Status, Scalar::Text(status)) => line.status = Some(status),
                (Name::Active, Scalar::Bool(active)) => line.active = Some(active),
                (Name::Hostname, Scalar::Text(hostname)) => line.hostname = Some(hostname),
                (Name::AccountCount, Scalar::Number(accounts)) => line.accounts = Some(accounts),
                _ => {}
            }
        }
        Ok(Some(line))
    }
}

/// A value of a known field.
pub(crate) enum Scalar {
    Text(String),
    Bool(bool),
    Number(u64),
    Other,
}

pub(crate) struct ScalarSeed;

impl<'de> DeserializeSeed<'de> for ScalarSeed {
    type Value = Scalar;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Scalar, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed {
    type Value = Scalar;

    anything_else!(Scalar::Other);

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(if text.len() <= MAX_TEXT {
            Scalar::Text(text.to_owned())
        } else {
            Scalar::Other
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_it_says_and_nothing_else_is_kept() {
        let body = br#"{"extra":[{"a":[1]}],"repos":[
            {"did":"a","rev":7,"active":false,"status":{"did":"b"},"x":{"did":"c"},"accountCount":3},
            [1],"text",null,true,1.5,-1,7,{}],"cursor":null}"#;
        let page = read(body, 20, Some).unwrap();
        let first = Line {
            did: Some("a".to_owned()),
            active: Some(false),
            accounts: Some(3),
            ..Line::default()
        };
        assert_eq!(page.lines, [first, Line::default()]);
        assert_eq!((page.cursor, page.bad, page.is_too_long), (None, 7, false));
        let long = format!(
            "{{\"hosts\":[{{\"did\":\"{}\"}}]}}",
            "a".repeat(MAX_TEXT + 1)
        );
        assert_eq!(
            read(long.as_bytes(), 20, Some).unwrap().lines,
            [Line::default()]
        );
    }

    #[test]
    fn no_more_lines_are_built_than_a_page_has() {
        let body = format!("{{\"repos\":[{}{{}}]}}", "{\"\":0},".repeat(300_000));
        let built = std::cell::Cell::new(0);
        let count = |line| {
            built.set(built.get() + 1);
            Some(line)
        };
        let page = read(body.as_bytes(), 1000, count).unwrap();
        assert!(page.is_too_long);
        assert_eq!((built.get(), page.lines.len()), (1000, 1000));
        for bad in [
            "{\"repos\":[]",
            "{\"repos\":[]} x",
            "{\"repos\":[],\"hosts\":[]}",
            "{}",
        ] {
            assert!(read(bad.as_bytes(), 1000, Some).is_err(), "{bad}");
        }
    }
}
