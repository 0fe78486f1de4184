//! Which of three sockets a record goes to, by its collection, as the original scripts did.

/// Collections of the second and the third of three sockets; all others go to the first.
pub const SECOND: &[&str] = &[
    "app.bsky.feed.like",
    "app.bsky.actor.profile",
    "app.bsky.graph.list",
    "app.bsky.graph.block",
    "app.bsky.graph.starterpack",
];
/// See [`SECOND`].
pub const THIRD: &[&str] = &[
    "app.bsky.feed.threadgate",
    "app.bsky.feed.repost",
    "app.bsky.graph.follow",
    "app.bsky.graph.listitem",
    "app.bsky.graph.listblock",
];

/// The socket, from 0, of `sockets` (one or three) that records of `collection` go to.
#[must_use]
pub fn socket_of(collection: &str, sockets: usize) -> usize {
    if sockets < 3 {
        0
    } else if SECOND.contains(&collection) {
        1
    } else if THIRD.contains(&collection) {
        2
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::socket_of;

    #[test]
    fn one_socket_takes_all_and_three_share() {
        assert_eq!(socket_of("app.bsky.feed.like", 1), 0);
        assert_eq!(socket_of("app.bsky.feed.like", 3), 1);
        assert_eq!(socket_of("app.bsky.graph.follow", 3), 2);
        assert_eq!(socket_of("app.bsky.feed.post", 3), 0);
        assert_eq!(socket_of("org.example.other", 3), 0);
    }
}
