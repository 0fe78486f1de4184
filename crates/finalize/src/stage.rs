//! The stages of finalize, in order.

use load::Notifications;
use std::borrow::Cow;

/// One stage.
#[derive(Debug)]
pub struct Stage {
    /// Its name, also in the ledger.
    pub name: &'static str,
    /// What it does, for people.
    pub about: &'static str,
    pub(crate) slicing: Slicing,
    sql: &'static str,
    /// For stages that read gates: the source of the gates.
    source: Option<&'static str>,
}

/// The way in which a stage is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slicing {
    /// By blocks of a table, in disk order.
    Blocks(&'static str),
    /// By the numbers of the invalid replies.
    Numbers,
    /// By ranges of the values of these tables and columns.
    Values(&'static [(&'static str, &'static str)]),
    /// Not at all: the stage is small, or is one pass.
    Whole,
}

const THREAD_GATES: &str = include_str!("../sql/thread-gates.sql");

/// All stages.
pub static STAGES: &[Stage] = &[
    Stage {
        name: "replies",
        about: "replies whose parent is missing or in another thread",
        slicing: Slicing::Blocks("post"),
        sql: include_str!("../sql/replies.sql"),
        source: None,
    },
    Stage {
        name: "cycles",
        about: "replies that form a cycle",
        slicing: Slicing::Whole,
        sql: include_str!("../sql/cycles.sql"),
        source: None,
    },
    Stage {
        name: "spread",
        about: "replies below invalid replies",
        slicing: Slicing::Numbers,
        sql: include_str!("../sql/spread.sql"),
        source: None,
    },
    Stage {
        name: "thread-gates",
        about: "rules of thread gates",
        slicing: Slicing::Blocks("thread_gate"),
        sql: THREAD_GATES,
        source: Some(
            "SELECT skyfill.ruled_by(t.uri) AS root, skyfill.readable(r.json) AS rules
             FROM thread_gate t JOIN record r ON r.uri = t.uri WHERE {in t.ctid}",
        ),
    },
    Stage {
        name: "odd-roots",
        about: "rules of threads whose root is no post",
        slicing: Slicing::Whole,
        sql: THREAD_GATES,
        source: Some(
            "SELECT f.uri AS root, skyfill.readable(r.json) AS rules
             FROM skyfill.finalize_root f JOIN record r ON r.uri = f.uri
             WHERE skyfill.collection_of(f.uri) NOT IN ('app.bsky.feed.like', 'app.bsky.feed.repost')",
        ),
    },
    Stage {
        name: "post-gates",
        about: "posts that may not be embedded",
        slicing: Slicing::Blocks("post_gate"),
        sql: include_str!("../sql/post-gates.sql"),
        source: None,
    },
    Stage {
        name: "embeds",
        about: "posts that embed posts",
        slicing: Slicing::Blocks("post_embed_record"),
        sql: include_str!("../sql/embeds.sql"),
        source: None,
    },
    Stage {
        name: "flags",
        about: "the flags of posts",
        slicing: Slicing::Blocks("post"),
        sql: include_str!("../sql/flags.sql"),
        source: None,
    },
    Stage {
        name: "quote-cids",
        about: "quotes by CID",
        slicing: Slicing::Whole,
        sql: include_str!("../sql/quote-cids.sql"),
        source: None,
    },
    Stage {
        name: "notifications",
        about: "notifications of quotes and replies",
        slicing: Slicing::Blocks("post"),
        sql: include_str!("../sql/notifications.sql"),
        source: None,
    },
    Stage {
        name: "post-counts",
        about: "likes, replies, reposts and quotes of posts",
        slicing: Slicing::Values(&[
            ("like", "subject"),
            ("post", "replyParent"),
            ("repost", "subject"),
        ]),
        sql: include_str!("../sql/post-counts.sql"),
        source: None,
    },
    Stage {
        name: "profile-counts",
        about: "followers, follows and posts of accounts",
        slicing: Slicing::Values(&[
            ("follow", "subjectDid"),
            ("follow", "creator"),
            ("post", "creator"),
        ]),
        sql: include_str!("../sql/profile-counts.sql"),
        source: None,
    },
];

impl Stage {
    /// Its statements for the slice from `lower` up to `upper`. The placeholder `{in COLUMN}` means
    /// that the column is in the slice, `{notified}` that notifications of a post `s` are stored.
    pub(crate) fn statements(
        &self,
        lower: Option<&str>,
        upper: Option<&str>,
        notifications: &Notifications,
    ) -> String {
        let mut sql = Cow::Borrowed(self.sql);
        if sql.contains("{notified}") {
            let condition = match notifications {
                Notifications::All => "true".to_owned(),
                Notifications::None => "false".to_owned(),
                Notifications::Since(since) => format!("s.sort_at >= {}", literal(since)),
            };
            sql = sql.replace("{notified}", &condition).into();
        }
        if let Some(source) = self.source {
            sql = sql.replace("{source}", source).into();
        }
        let mut out = String::with_capacity(sql.len() + 256);
        let mut rest: &str = &sql;
        while let Some((before, after)) = rest.split_once("{in ") {
            let (column, after) = after.split_once('}').unwrap_or((after, ""));
            out.push_str(before);
            out.push_str(&condition(column, lower, upper));
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

fn condition(column: &str, lower: Option<&str>, upper: Option<&str>) -> String {
    let bound = |sign: &str, bound: Option<&str>| {
        bound.map(|bound| format!("{column} {sign} {}", literal(bound)))
    };
    let parts: Vec<String> = [bound(">=", lower), bound("<", upper)]
        .into_iter()
        .flatten()
        .collect();
    if parts.is_empty() {
        "true".to_owned()
    } else {
        parts.join(" AND ")
    }
}

/// A string literal that is right whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_conditions() {
        let stage = &STAGES[3];
        let sql = stage.statements(Some("(0,0)"), Some("(5,0)"), &Notifications::All);
        assert!(
            sql.contains("WHERE t.ctid >= '(0,0)' AND t.ctid < '(5,0)'"),
            "{sql}"
        );
        for stage in STAGES {
            let sql = stage.statements(None, None, &Notifications::None);
            assert!(
                !sql.contains("{in") && !sql.contains("{source") && !sql.contains("{notified"),
                "{sql}"
            );
        }
        assert_eq!(condition("a", None, Some("b'c\\d")), "a < E'b''c\\\\d'");
    }
}
