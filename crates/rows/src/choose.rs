//! What people call collections: by name, by wildcard, or as a group.

use crate::Collection::{
    self, Block, ChatDeclaration, Follow, Generator, GermDeclaration, Labeler, Like, List,
    ListBlock, ListItem, NotificationDeclaration, Post, Postgate, Profile, ReferenceListOptOut,
    Repost, StarterPack, Status, Threadgate, Verification,
};
use std::str::FromStr;

/// Names for collections that belong together.
pub const GROUPS: &[(&str, &[Collection])] = &[
    ("posts", &[Post, Threadgate, Postgate]),
    ("likes", &[Like]),
    ("reposts", &[Repost]),
    ("feeds", &[Generator]),
    ("follows", &[Follow]),
    ("blocks", &[Block, ListBlock]),
    (
        "lists",
        &[List, ListItem, ListBlock, StarterPack, ReferenceListOptOut],
    ),
    (
        "graph",
        &[
            Follow,
            Block,
            List,
            ListItem,
            ListBlock,
            StarterPack,
            Verification,
            ReferenceListOptOut,
        ],
    ),
    ("profiles", &[Profile, Status]),
    ("labelers", &[Labeler]),
    (
        "declarations",
        &[NotificationDeclaration, ChatDeclaration, GermDeclaration],
    ),
];

/// The indexed collections that `text` means: one by its name, all that a wildcard matches
/// (`app.bsky.graph.*`), or a group ([`GROUPS`]). `None` if it means none.
#[must_use]
pub fn meant_by(text: &str) -> Option<Vec<Collection>> {
    if let Some((_, group)) = GROUPS.iter().find(|(name, _)| *name == text) {
        return Some(group.to_vec());
    }
    let chosen: Vec<Collection> = match text.strip_suffix('*') {
        // A star stands for whole segments: `app.bsky.graph.list*` means nothing.
        Some(prefix) if prefix.is_empty() || prefix.ends_with('.') => Collection::ALL
            .iter()
            .copied()
            .filter(|collection| collection.nsid().starts_with(prefix))
            .collect(),
        Some(_) => Vec::new(),
        None => Collection::parse(text).into_iter().collect(),
    };
    (!chosen.is_empty()).then_some(chosen)
}

/// The indexed collections that a text means, of people who are told what they can write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant(pub Vec<Collection>);

impl FromStr for Meant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        meant_by(text.trim()).map(Self).ok_or_else(|| {
            let known: Vec<&str> = Collection::ALL.iter().map(|known| known.nsid()).collect();
            let groups: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
            format!(
                "expected collections of an AppView ({}), a wildcard such as app.bsky.graph.*, or a group ({})",
                known.join(", "),
                groups.join(", ")
            )
        })
    }
}

impl Collection {
    /// Whether a record of it is an event that belongs to its time, as a post or a like is. Others
    /// describe a state that holds until it is changed: a follow of years ago is a follow today.
    #[must_use]
    pub fn is_event(self) -> bool {
        match self {
            Post | Threadgate | Postgate | Like | Repost => true,
            Generator
            | Follow
            | Block
            | List
            | ListItem
            | ListBlock
            | StarterPack
            | Verification
            | ReferenceListOptOut
            | Profile
            | Status
            | Labeler
            | NotificationDeclaration
            | ChatDeclaration
            | GermDeclaration => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_wildcards_and_groups_mean_collections() {
        assert_eq!(meant_by("app.bsky.feed.like"), Some(vec![Like]));
        assert_eq!(meant_by("posts"), Some(vec![Post, Threadgate, Postgate]));
        let mut graph = meant_by("app.bsky.graph.*").unwrap();
        let mut group = meant_by("graph").unwrap();
        graph.sort_unstable();
        group.sort_unstable();
        assert_eq!(graph, group);
        assert_eq!(meant_by("*").unwrap(), Collection::ALL);
        for none in ["", "post", "app.bsky.graph.list*", "org.example.*", "com*"] {
            assert_eq!(meant_by(none), None, "{none}");
            let refused = none.parse::<Meant>().unwrap_err();
            assert!(refused.contains("app.bsky.feed.post") && refused.contains("graph"));
        }
        assert_eq!(" likes ".parse(), Ok(Meant(vec![Like])));
        // Every collection is in a group, so that all can be chosen by their meaning.
        for collection in Collection::ALL {
            let is_in = |(_, group): &(&str, &[Collection])| group.contains(collection);
            assert!(GROUPS.iter().any(is_in), "{collection:?}");
        }
    }

    #[test]
    fn the_docs_explain_each_group() {
        let page = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/how-to/partial-backfills.md"
        );
        let page = std::fs::read_to_string(page).unwrap();
        for (name, _) in GROUPS {
            let row = format!("\n| `{name}` | ");
            assert!(
                page.contains(&row),
                "{name} is missing in the table of groups"
            );
        }
    }
}
