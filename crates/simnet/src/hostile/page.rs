//! Pages of lists that are small to send and large to hold.

/// A page of `listRepos` of about `bytes` bytes whose lines are objects with an empty key: a reader
/// that turns them into a tree holds some forty times as much.
#[must_use]
pub fn of_empty_keys(bytes: usize) -> String {
    const LINE: &str = r#"{"":0}"#;
    let lines = vec![LINE; bytes / (LINE.len() + 1)];
    format!(r#"{{"cursor":"1","repos":[{}]}}"#, lines.join(","))
}

/// A page of `listRepos` with one line: lists in lists, `depth` of them.
#[must_use]
pub fn of_deep_lists(depth: usize) -> String {
    let (open, close) = ("[".repeat(depth), "]".repeat(depth));
    format!(r#"{{"cursor":"1","repos":[{open}{close}]}}"#)
}
