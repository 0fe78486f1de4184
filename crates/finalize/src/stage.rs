//! The stages of finalize, in order.
//!
//! A stage has one statement and up to two scopes: everything, or what changed. The statement names
//! its rows with the placeholders `{from}` and `{in}`; a [`Scope`] fills them in. What was noted
//! beside another indexer ([`Extent::Noted`]) is computed as what changed; but its counts are those
//! of everything, of the subjects that were noted.

use ledger::changes;
use load::Notifications;

/// Which derived rows are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All.
    Everything,
    /// Those that depend on what changed since the last time.
    Changes,
    /// Those that depend on what was noted, in tables of which another indexer derives rows, too.
    /// What finalize keeps for the next time is not there, so posts are found by the AppView's own
    /// indexes, and subjects are counted anew, as that indexer does.
    Noted,
}

impl Extent {
    /// Its stages, in order.
    #[must_use]
    pub fn stages(self) -> Vec<&'static Stage> {
        let stages = STAGES.iter();
        stages.filter(|stage| stage.scope(self).is_some()).collect()
    }
}

/// One stage.
#[derive(Debug)]
pub struct Stage {
    /// Its name, also in the ledger.
    pub name: &'static str,
    /// What it does, for people.
    pub about: &'static str,
    sql: &'static str,
    everything: Option<Scope>,
    changes: Option<Scope>,
}

/// The rows that a stage is about.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) slicing: Slicing,
    /// What stands for `{from}`: where the rows come from.
    from: &'static str,
    /// What stands for `{in}`: the condition for them. In both, `{in COLUMN}` means that the column
    /// is in the slice.
    condition: &'static str,
}

/// The way in which a stage is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slicing {
    /// By blocks of a table, in disk order.
    Blocks(&'static str),
    /// By the numbers of the invalid replies.
    Numbers,
    /// By the numbers of the posts that are computed again.
    Posts,
    /// By ranges of the values of these tables and columns.
    Values(&'static [(&'static str, &'static str)]),
    /// Not at all: the stage is small, or is one pass.
    Whole,
}

const FLAGS: &str = "flags";
const QUOTE_CIDS: &str = "quote-cids";
const POST_COUNTS: &str = "post-counts";
const PROFILE_COUNTS: &str = "profile-counts";
const POST_DIFFERENCES: &str = "post-differences";
const PROFILE_DIFFERENCES: &str = "profile-differences";

/// The subjects of what was noted: `{in COLUMN}` means that the column is one of them.
static NOTED_POSTS: Scope = whole(
    "SELECT key FROM skyfill.finalize_change WHERE kind IN ('like', 'repost', 'reply', 'quote')
     UNION SELECT key FROM skyfill.finalize_difference",
);
static NOTED_PROFILES: Scope = whole(
    "SELECT DISTINCT key FROM skyfill.finalize_change WHERE kind IN ('follower', 'following', 'posts')",
);

const GONE: &str = include_str!("../sql/gone.sql");

/// The same for posts that loads noted, before everything is computed anew.
pub(crate) fn gone(schema: &str) -> String {
    let noted = format!("({}) scope", changes::noted_records(schema));
    GONE.replace("{from}", &noted).replace("{in}", "true")
}

const THREAD_GATES: &str = include_str!("../sql/thread-gates.sql");

/// All posts.
const ALL_POSTS: Option<Scope> = Some(Scope {
    slicing: Slicing::Blocks("post"),
    from: "post p",
    condition: "{in p.ctid}",
});

/// The posts that are computed again.
const CHANGED_POSTS: Option<Scope> = Some(Scope {
    slicing: Slicing::Posts,
    from: "skyfill.finalize_post scope
      CROSS JOIN LATERAL (SELECT p.* FROM post p WHERE p.uri = scope.uri OFFSET 0) p",
    condition: "{in scope.number}",
});

/// A stage that is not cut and knows its rows itself.
const WHOLE: Option<Scope> = Some(whole(""));

const fn whole(from: &'static str) -> Scope {
    Scope {
        slicing: Slicing::Whole,
        from,
        condition: "true",
    }
}

/// All stages of both extents.
static STAGES: &[Stage] = &[
    Stage {
        name: "scope",
        about: "posts that what changed may change",
        sql: include_str!("../sql/scope.sql"),
        everything: None,
        changes: WHOLE,
    },
    Stage {
        name: "replies",
        about: "replies whose parent is missing or in another thread",
        sql: include_str!("../sql/replies.sql"),
        everything: ALL_POSTS,
        changes: CHANGED_POSTS,
    },
    Stage {
        name: "cycles",
        about: "replies that form a cycle",
        sql: include_str!("../sql/cycles.sql"),
        everything: WHOLE,
        changes: WHOLE,
    },
    Stage {
        name: "spread",
        about: "replies below invalid replies",
        sql: include_str!("../sql/spread.sql"),
        everything: Some(Scope {
            slicing: Slicing::Numbers,
            from: "skyfill.finalize_bad b
              CROSS JOIN LATERAL (SELECT p.uri FROM post p WHERE p.\"replyParent\" = b.uri OFFSET 0) p",
            condition: "{in b.number}",
        }),
        // A parent that is not computed again has its flag.
        changes: Some(Scope {
            slicing: Slicing::Whole,
            from: "skyfill.finalize_post scope
              CROSS JOIN LATERAL (SELECT p.uri, p.\"replyParent\" AS parent FROM post p WHERE p.uri = scope.uri OFFSET 0) p",
            condition: "CASE WHEN EXISTS (SELECT FROM skyfill.finalize_post s WHERE s.uri = p.parent)
              THEN EXISTS (SELECT FROM skyfill.finalize_bad b WHERE b.uri = p.parent)
              ELSE EXISTS (SELECT FROM post q WHERE q.uri = p.parent AND q.\"invalidReplyRoot\") END",
        }),
    },
    Stage {
        name: "thread-gates",
        about: "rules of thread gates",
        sql: THREAD_GATES,
        everything: Some(Scope {
            slicing: Slicing::Blocks("thread_gate"),
            from: "SELECT skyfill.ruled_by(t.uri) AS root, t.uri FROM thread_gate t WHERE {in t.ctid}",
            condition: "",
        }),
        changes: Some(whole(
            "SELECT r.root, t.uri FROM (
               SELECT DISTINCT p.root, skyfill.gate_of(p.root, 'app.bsky.feed.threadgate') AS gate FROM skyfill.finalize_post scope
                 CROSS JOIN LATERAL (
                   SELECT p.\"replyRoot\" AS root FROM post p WHERE p.uri = scope.uri AND p.\"replyRoot\" IS NOT NULL OFFSET 0) p) r
               CROSS JOIN LATERAL (SELECT t.uri FROM thread_gate t WHERE t.uri = r.gate OFFSET 0) t
             WHERE skyfill.ruled_by(t.uri) = r.root",
        )),
    },
    Stage {
        name: "odd-roots",
        about: "rules of threads whose root is no post",
        sql: THREAD_GATES,
        everything: Some(whole(ODD_ROOTS)),
        changes: Some(whole(ODD_ROOTS)),
    },
    Stage {
        name: "post-gates",
        about: "posts that may not be embedded",
        sql: include_str!("../sql/post-gates.sql"),
        everything: Some(Scope {
            slicing: Slicing::Blocks("post_gate"),
            from: "post_gate t",
            condition: "{in t.ctid}",
        }),
        changes: Some(whole(
            "(SELECT DISTINCT skyfill.gate_of(e.embedded, 'app.bsky.feed.postgate') AS gate FROM skyfill.finalize_post scope
                CROSS JOIN LATERAL (
                  SELECT e.\"embedUri\" AS embedded FROM post_embed_record e WHERE e.\"postUri\" = scope.uri OFFSET 0) e) g
              CROSS JOIN LATERAL (SELECT t.uri FROM post_gate t WHERE t.uri = g.gate OFFSET 0) t",
        )),
    },
    Stage {
        name: "embeds",
        about: "posts that embed posts",
        sql: include_str!("../sql/embeds.sql"),
        everything: Some(Scope {
            slicing: Slicing::Blocks("post_embed_record"),
            from: "post_embed_record e",
            condition: "{in e.ctid}",
        }),
        changes: Some(Scope {
            slicing: Slicing::Posts,
            from: "skyfill.finalize_post scope
              CROSS JOIN LATERAL (SELECT e.* FROM post_embed_record e WHERE e.\"postUri\" = scope.uri OFFSET 0) e",
            condition: "{in scope.number}",
        }),
    },
    Stage {
        name: FLAGS,
        about: "the flags of posts",
        sql: include_str!("../sql/flags.sql"),
        everything: ALL_POSTS,
        changes: CHANGED_POSTS,
    },
    Stage {
        name: QUOTE_CIDS,
        about: "quotes by CID",
        sql: include_str!("../sql/quote-cids.sql"),
        everything: Some(whole(
            "(SELECT \"subjectCid\" AS cid, subject, 1 AS quotes FROM quote) q",
        )),
        changes: Some(whole(
            "(SELECT other AS cid, key AS subject, difference AS quotes FROM skyfill.finalize_change WHERE kind = 'quote') q",
        )),
    },
    Stage {
        name: "notifications",
        about: "notifications of quotes and replies",
        sql: include_str!("../sql/notifications.sql"),
        everything: ALL_POSTS,
        changes: CHANGED_POSTS,
    },
    Stage {
        name: "gone",
        about: "notifications of posts that were deleted meanwhile",
        sql: GONE,
        everything: None,
        changes: Some(Scope {
            slicing: Slicing::Posts,
            from: "skyfill.finalize_post scope",
            condition: "{in scope.number}",
        }),
    },
    Stage {
        name: POST_COUNTS,
        about: "likes, replies, reposts and quotes of posts",
        sql: include_str!("../sql/post-counts.sql"),
        everything: Some(Scope {
            slicing: Slicing::Values(&[
                ("like", "subject"),
                ("post", "replyParent"),
                ("repost", "subject"),
            ]),
            from: "SELECT subject, key FROM skyfill.derived_quoted WHERE {in subject}
              UNION ALL SELECT subject, key FROM skyfill.derived_second WHERE {in subject}",
            condition: "",
        }),
        changes: None,
    },
    Stage {
        name: PROFILE_COUNTS,
        about: "followers, follows and posts of accounts",
        sql: include_str!("../sql/profile-counts.sql"),
        everything: Some(Scope {
            slicing: Slicing::Values(&[
                ("follow", "subjectDid"),
                ("follow", "creator"),
                ("post", "creator"),
            ]),
            from: "",
            condition: "",
        }),
        changes: None,
    },
    Stage {
        name: POST_DIFFERENCES,
        about: "likes, replies, reposts and quotes that came or went",
        sql: include_str!("../sql/post-differences.sql"),
        everything: None,
        changes: Some(whole(
            "SELECT q.subject, q.key FROM (SELECT DISTINCT uri FROM skyfill.finalize_requote) r
               CROSS JOIN LATERAL (
                 SELECT q.subject, q.key FROM skyfill.derived_quoted q WHERE q.subject = r.uri
                 UNION ALL SELECT d.subject, d.key FROM skyfill.derived_second d WHERE d.subject = r.uri OFFSET 0) q",
        )),
    },
    Stage {
        name: PROFILE_DIFFERENCES,
        about: "follows and posts that came or went",
        sql: include_str!("../sql/profile-differences.sql"),
        everything: None,
        changes: WHOLE,
    },
];

const ODD_ROOTS: &str = "SELECT f.uri AS root, f.uri FROM skyfill.finalize_root f
     WHERE skyfill.collection_of(f.uri) NOT IN ('app.bsky.feed.like', 'app.bsky.feed.repost')";

/// Replies that a gate does not admit, where not all are known apart.
const NOTED_SHUT: &str =
    "(SELECT \"replyParent\" AS parent FROM post WHERE \"violatesThreadGate\") shut";

/// The end of a walk down a thread: everywhere, or within the posts that are computed again.
const REACHED: &str = "EXISTS (SELECT FROM skyfill.finalize_post s WHERE s.uri = p.uri)";

impl Stage {
    pub(crate) fn scope(&self, extent: Extent) -> Option<&Scope> {
        match extent {
            Extent::Everything => self.everything.as_ref(),
            Extent::Changes => self.changes.as_ref(),
            Extent::Noted => match self.name {
                POST_COUNTS => Some(&NOTED_POSTS),
                PROFILE_COUNTS => Some(&NOTED_PROFILES),
                QUOTE_CIDS | POST_DIFFERENCES | PROFILE_DIFFERENCES => None,
                _ => self.changes.as_ref(),
            },
        }
    }

    /// Whether it updates rows that loads write ([`ledger::changes::noting_updates`]).
    pub(crate) fn updates_rows_of_loads(&self) -> bool {
        self.name == FLAGS
    }

    /// How it is cut.
    pub(crate) fn slicing(&self, extent: Extent) -> Slicing {
        self.scope(extent)
            .map_or(Slicing::Whole, |scope| scope.slicing)
    }

    /// Its statements for the slice from `lower` up to `upper`. The placeholder `{notified}` means
    /// that notifications of a post `s` are stored, and `{reached}` that a walk down goes on at
    /// `p`.
    #[must_use]
    pub fn statements(
        &self,
        extent: Extent,
        (lower, upper): (Option<&str>, Option<&str>),
        notifications: &Notifications,
    ) -> String {
        let (from, within) = self
            .scope(extent)
            .map_or(("", ""), |scope| (scope.from, scope.condition));
        let reached = match extent {
            Extent::Everything => "true",
            Extent::Changes | Extent::Noted => REACHED,
        };
        let (embed, shut) = match extent {
            Extent::Everything | Extent::Changes => {
                (include_str!("../sql/embed.sql"), "skyfill.finalize_shut")
            }
            Extent::Noted => (include_str!("../sql/embed-noted.sql"), NOTED_SHUT),
        };
        let notified = match notifications {
            Notifications::All => "true".to_owned(),
            Notifications::None => "false".to_owned(),
            Notifications::Since(since) => format!("s.sort_at >= {}", literal(since)),
        };
        let sql = self
            .sql
            .replace("{embed}", embed)
            .replace("{shut}", shut)
            .replace("{from}", from)
            .replace("{in}", within)
            .replace("{reached}", reached)
            .replace("{notified}", &notified);
        match (extent, self.name) {
            (Extent::Noted, POST_COUNTS) => noted("post_agg", "uri", from, &sql),
            (Extent::Noted, PROFILE_COUNTS) => noted("profile_agg", "did", from, &sql),
            _ => filled_in(&sql, |column| condition(column, lower, upper)),
        }
    }
}

/// Statements with conditions for each `{in COLUMN}`.
fn filled_in(sql: &str, condition: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(sql.len() + 256);
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once("{in ") {
        let (column, after) = after.split_once('}').unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(&condition(column));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A statement that counts the subjects that `keys` lists. Their rows are locked before the
/// statement's snapshot is taken: what another program counts is stored before, and is of less, or
/// after, and is of all.
fn noted(table: &str, key: &str, keys: &str, sql: &str) -> String {
    let sql = filled_in(sql, |column| {
        format!("{column} = ANY (ARRAY(SELECT key FROM pg_temp.counted_key))")
    });
    format!(
        "CREATE TEMPORARY TABLE counted_key ON COMMIT DROP AS {keys};
         SELECT FROM {table} WHERE {key} = ANY (ARRAY(SELECT key FROM pg_temp.counted_key)) ORDER BY {key} FOR UPDATE;
         {sql}"
    )
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
        let slice = (Some("(0,0)"), Some("(5,0)"));
        let gates = STAGES
            .iter()
            .find(|stage| stage.name == "thread-gates")
            .unwrap();
        let sql = gates.statements(Extent::Everything, slice, &Notifications::All);
        assert!(
            sql.contains("WHERE t.ctid >= '(0,0)' AND t.ctid < '(5,0)'"),
            "{sql}"
        );
        for extent in [Extent::Everything, Extent::Changes, Extent::Noted] {
            for stage in extent.stages() {
                let sql = stage.statements(extent, (None, None), &Notifications::None);
                for placeholder in ["{in", "{from", "{embed", "{shut", "{reached", "{notified"] {
                    assert!(!sql.contains(placeholder), "{sql}");
                }
            }
        }
        assert_eq!(condition("a", None, Some("b'c\\d")), "a < E'b''c\\\\d'");
    }
}
