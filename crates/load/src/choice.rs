//! The part of the repos that is loaded: all of it, or some collections and some notifications.

use rows::Collection;
use std::str::FromStr;

/// What is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The collections; `None` means all that an AppView indexes.
    pub collections: Option<Vec<Collection>>,
    /// The notifications.
    pub notifications: Notifications,
    /// Posts, gates, likes and reposts whose `indexedAt` is before this time are left out, printed
    /// as `toISOString` prints it; `None` means that none are.
    pub since: Option<String>,
}

/// Which notifications are loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Notifications {
    /// All.
    #[default]
    All,
    /// Those whose `sortAt` is not before this time, printed as `toISOString` prints it.
    Since(String),
    /// None.
    None,
}

impl Choice {
    /// All there is.
    pub const ALL: Self = Self {
        collections: None,
        notifications: Notifications::All,
        since: None,
    };

    /// Whether `collection` is loaded.
    #[must_use]
    pub fn takes(&self, collection: Collection) -> bool {
        self.collections
            .as_ref()
            .is_none_or(|chosen| chosen.contains(&collection))
    }

    /// The time before which records like this one are left out, if it is.
    pub(crate) fn is_before(&self, collection: Collection, indexed_at: &str) -> Option<&str> {
        let since = self.since.as_deref()?;
        (collection.is_event() && indexed_at < since).then_some(since)
    }
}

/// Parses the value of `--since`: a date or an ISO time, printed as `toISOString` prints it.
#[must_use]
pub fn parse_since(text: &str) -> Option<String> {
    let millis = rows::datetime::parse(text)
        .or_else(|| rows::datetime::parse(&format!("{text}T00:00:00Z")))?;
    Some(rows::datetime::print(millis))
}

impl Notifications {
    /// Whether a notification of this `sortAt` is loaded.
    #[must_use]
    pub fn takes(&self, sort_at: &str) -> bool {
        match self {
            Self::All => true,
            Self::Since(since) => sort_at >= since.as_str(),
            Self::None => false,
        }
    }

    /// Parses the value of `--notifications`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "all" => Some(Self::All),
            "none" => Some(Self::None),
            _ => {
                let date = text.strip_prefix("since=")?;
                Some(Self::Since(parse_since(date)?))
            }
        }
    }

    /// The inverse of [`Notifications::parse`].
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::None => "none".to_owned(),
            Self::Since(since) => format!("since={since}"),
        }
    }
}

impl FromStr for Notifications {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected all, none, or since=DATE such as since=2024-05-01";
        Self::parse(text).ok_or_else(|| expected.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_leaves_out_events_and_no_states() {
        let choice = Choice {
            since: parse_since("2025-01-01"),
            ..Choice::ALL
        };
        let (before, after) = ("2024-12-31T23:59:59.999Z", "2025-01-01T00:00:00.000Z");
        let leaves_out = |collection, at| choice.is_before(collection, at).is_some();
        assert!(leaves_out(Collection::Like, before));
        assert!(!leaves_out(Collection::Like, after));
        assert!(!leaves_out(Collection::Follow, before));
        assert_eq!(parse_since("last week"), None);
    }

    #[test]
    fn notifications_are_parsed_and_printed() {
        for (given, printed) in [
            ("all", "all"),
            ("none", "none"),
            ("since=2024-05-01", "since=2024-05-01T00:00:00.000Z"),
            (
                "since=2024-05-01T10:00:00+02:00",
                "since=2024-05-01T08:00:00.000Z",
            ),
        ] {
            assert_eq!(Notifications::parse(given).unwrap().text(), printed);
        }
        assert_eq!(Notifications::parse("since=yesterday"), None);
        assert_eq!(Notifications::parse("some"), None);
        assert!(
            "some"
                .parse::<Notifications>()
                .unwrap_err()
                .contains("since=DATE")
        );
        assert!(
            !Notifications::parse("since=2024-05-01")
                .unwrap()
                .takes("2024-04-30T23:59:59.999Z")
        );
    }
}
