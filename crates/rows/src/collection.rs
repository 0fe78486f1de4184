//! The collections that the official indexer knows (`data-plane/server/indexing/index.ts`). Records
//! of any other collection leave no row.

macro_rules! collections {
    ($($(#[$doc:meta])* $name:ident = $nsid:literal,)*) => {
        /// A collection that is indexed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Collection {
            $($(#[$doc])* $name,)*
        }

        impl Collection {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The collection called `nsid`, if it is indexed.
            #[must_use]
            pub fn parse(nsid: &str) -> Option<Self> {
                match nsid {
                    $($nsid => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its name.
            #[must_use]
            pub fn nsid(self) -> &'static str {
                match self {
                    $(Self::$name => $nsid,)*
                }
            }
        }
    };
}

collections! {
    /// A post.
    Post = "app.bsky.feed.post",
    /// Who may reply in a thread.
    Threadgate = "app.bsky.feed.threadgate",
    /// Who may embed a post.
    Postgate = "app.bsky.feed.postgate",
    /// A like.
    Like = "app.bsky.feed.like",
    /// A repost.
    Repost = "app.bsky.feed.repost",
    /// A custom feed.
    Generator = "app.bsky.feed.generator",
    /// A follow.
    Follow = "app.bsky.graph.follow",
    /// A block.
    Block = "app.bsky.graph.block",
    /// A list.
    List = "app.bsky.graph.list",
    /// A member of a list.
    ListItem = "app.bsky.graph.listitem",
    /// A block of all members of a list.
    ListBlock = "app.bsky.graph.listblock",
    /// A starter pack.
    StarterPack = "app.bsky.graph.starterpack",
    /// A verification of another account.
    Verification = "app.bsky.graph.verification",
    /// A wish not to be on a list.
    ReferenceListOptOut = "app.bsky.graph.referencelistoptout",
    /// A profile.
    Profile = "app.bsky.actor.profile",
    /// What an account is doing now.
    Status = "app.bsky.actor.status",
    /// A labeler.
    Labeler = "app.bsky.labeler.service",
    /// Who may subscribe to an account's activity.
    NotificationDeclaration = "app.bsky.notification.declaration",
    /// Who may write chat messages to an account.
    ChatDeclaration = "chat.bsky.actor.declaration",
    /// A Germ declaration.
    GermDeclaration = "com.germnetwork.declaration",
}
