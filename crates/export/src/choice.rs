//! Which collections are exported: by name, by wildcard, or as a group, whether the AppView knows
//! them or not.

use std::fmt;

/// One of the words of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// A collection.
    Name(String),
    /// All whose names begin so.
    Prefix(String),
}

/// The collections that are chosen; without any word, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    words: Vec<Word>,
}

/// A word that is no collection, wildcard or group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotACollection(String);

impl fmt::Display for NotACollection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<&str> = rows::GROUPS.iter().map(|(name, _)| *name).collect();
        write!(
            f,
            "{:?} is no collection such as app.bsky.feed.post, no wildcard such as com.example.*, and no group ({})",
            self.0,
            groups.join(", ")
        )
    }
}

impl std::error::Error for NotACollection {}

impl Choice {
    /// What these words mean; without any, all collections.
    ///
    /// # Errors
    /// One of them means none.
    pub fn of(words: &[String]) -> Result<Self, NotACollection> {
        let mut choice = Self::default();
        words.iter().try_for_each(|word| choice.add(word))?;
        Ok(choice)
    }

    /// Adds what a word means: a collection by its name, all that a wildcard matches, or a group of
    /// those that the AppView knows ([`rows::GROUPS`]).
    ///
    /// # Errors
    /// It means none.
    pub fn add(&mut self, word: &str) -> Result<(), NotACollection> {
        let refused = || NotACollection(word.to_owned());
        let word = word.trim();
        if let Some((_, group)) = rows::GROUPS.iter().find(|(name, _)| *name == word) {
            let names = group
                .iter()
                .map(|known| Word::Name(known.nsid().to_owned()));
            self.words.extend(names);
            return Ok(());
        }
        self.words.push(match word.strip_suffix('*') {
            // A star stands for whole segments.
            Some("") => Word::Prefix(String::new()),
            Some(prefix) => {
                let domain = prefix.strip_suffix('.').ok_or_else(refused)?;
                // What a name may begin with is what begins a name.
                if !atrepo::syntax::is_nsid(&format!("{domain}.some.name")) {
                    return Err(refused());
                }
                Word::Prefix(prefix.to_owned())
            }
            None if atrepo::syntax::is_nsid(word) => Word::Name(word.to_owned()),
            None => return Err(refused()),
        });
        Ok(())
    }

    /// Whether a collection is chosen.
    #[must_use]
    pub fn has(&self, collection: &str) -> bool {
        self.words.is_empty()
            || self.words.iter().any(|word| match word {
                Word::Name(name) => name == collection,
                Word::Prefix(prefix) => collection.starts_with(prefix.as_str()),
            })
    }

    /// Its words, sorted: two choices with the same words are the same.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self
            .words
            .iter()
            .map(|word| match word {
                Word::Name(name) => name.clone(),
                Word::Prefix(prefix) => format!("{prefix}*"),
            })
            .collect();
        words.sort();
        words.dedup();
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_wildcards_and_groups_of_any_lexicon() {
        let mut choice = Choice::default();
        assert!(choice.has("com.example.thing"));
        for word in ["com.example.*", "likes", "org.other.record"] {
            choice.add(word).unwrap();
        }
        for (collection, is_chosen) in [
            ("com.example.thing", true),
            ("com.example.deep.thing", true),
            ("com.examples.thing", false),
            ("app.bsky.feed.like", true),
            ("app.bsky.feed.post", false),
            ("org.other.record", true),
            ("org.other.records", false),
        ] {
            assert_eq!(choice.has(collection), is_chosen, "{collection}");
        }
        let words = ["app.bsky.feed.like", "com.example.*", "org.other.record"];
        assert_eq!(choice.words(), words);
        for none in ["", "like", "com.example*", "com..*", "../*", "no such.*"] {
            assert!(choice.add(none).is_err(), "{none}");
        }
        choice.add("*").unwrap();
        assert!(choice.has("app.bsky.feed.post"));
    }
}
