//! What a database has that the official schema, as this version knows it, has not, and what of it
//! stands in the way.
//!
//! AppViews are updated, and forks have migrations of their own. skyfill names the columns of all
//! its statements, so what it does not know keeps its defaults. It refuses only what it cannot do
//! right: a column that it writes is gone or has another type, a column that it does not know takes
//! neither its default nor NULL, a unique key is gone, or a new one could refuse rows.
//!
//! What is known stands in `catalog.tsv`: the catalog of a database that [`crate::migrate`] made,
//! as [`catalog`] reads it.

use crate::migrations::MIGRATIONS;
use crate::table;
use postgres::{Client, Error};
use std::collections::{BTreeMap, BTreeSet};

/// Lines of [`catalog`] over the official schema.
static KNOWN: &str = include_str!("catalog.tsv");

/// Tables that skyfill writes or reads beside those that repos fill.
const BESIDE: &[&str] = &[
    "actor",
    "actor_sync",
    "post_agg",
    "profile_agg",
    "thread_mute",
];

/// Of these, what skyfill only reads: nothing there can refuse or follow its rows.
const READ: &[&str] = &["thread_mute"];

/// Columns that skyfill writes or reads beside those in [`table::ALL`] and generated ones.
const USED: &[&str] = &[
    "actor.did",
    "actor.handle",
    "actor.indexedAt",
    "actor.upstreamStatus",
    "actor_sync.did",
    "actor_sync.commitCid",
    "actor_sync.repoRev",
    "notification.id",
    "post.invalidReplyRoot",
    "post.violatesThreadGate",
    "post.violatesEmbeddingRules",
    "post.hasThreadGate",
    "post.hasPostGate",
    "post_agg.uri",
    "post_agg.likeCount",
    "post_agg.replyCount",
    "post_agg.repostCount",
    "post_agg.quoteCount",
    "post_agg.bookmarkCount",
    "profile_agg.did",
    "profile_agg.followersCount",
    "profile_agg.followsCount",
    "profile_agg.postsCount",
    "thread_mute.mutedByDid",
    "thread_mute.rootUri",
];

/// How a schema differs from the official one that this version knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Migrations that this version does not know.
    pub unknown: Vec<String>,
    /// Official migrations that are missing.
    pub missing: Vec<&'static str>,
    /// Columns, tables and indexes that this version does not know; they are left at their
    /// defaults.
    pub more: Vec<String>,
    /// What acts on rows that skyfill writes: triggers, checks, references.
    pub acting: Vec<String>,
    /// What skyfill cannot do right, each with its table and column.
    pub problems: Vec<String>,
}

impl Drift {
    /// Whether the schema is the official one, apart from what skyfill itself dropped.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `skyfill migrate` mends it.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.missing.is_empty() && self.unknown.is_empty()
    }

    /// What is more, in a few words: at most five names of each kind.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let few = |names: &[String]| {
            let rest = names.len().saturating_sub(5);
            let shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
            let rest = if rest == 0 {
                String::new()
            } else {
                format!(" and {rest} more")
            };
            format!("{}{rest}", shown.join(", "))
        };
        let mut parts = Vec::new();
        if !self.unknown.is_empty() {
            parts.push(format!("migrations {}", few(&self.unknown)));
        }
        if !self.more.is_empty() {
            parts.push(few(&self.more));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Tables whose columns matter.
fn tables() -> Vec<&'static str> {
    let mut tables: Vec<&str> = table::ALL.iter().map(|info| info.name).collect();
    tables.extend(BESIDE);
    tables
}

/// The catalog of `schema`, as lines of words with tabs between: `table`, `column`, `key`, `index`,
/// and of what the official schema has none: `unique`, `check`, `refers`, `referred`, `trigger`,
/// `policy`. Sorted.
///
/// # Errors
/// The server refused.
pub fn catalog(client: &mut Client, schema: &str) -> Result<Vec<String>, Error> {
    let rows = client.query(CATALOG, &[&schema, &tables()])?;
    let mut lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    lines.sort();
    Ok(lines)
}

const CATALOG: &str = "WITH ours AS (
      SELECT c.oid, c.relname::text AS name, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname::text = ANY ($2))
    SELECT concat_ws(E'\\t', 'table', c.relname, c.relkind) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT concat_ws(E'\\t', 'column', t.name, a.attname, format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN 'not null' ELSE 'null' END,
        CASE WHEN a.attgenerated <> '' THEN 'generated' WHEN a.attidentity = 'a' THEN 'always'
          WHEN a.attidentity <> '' OR a.atthasdef THEN 'default' ELSE '-' END)
      FROM ours t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT CASE WHEN x.indisunique AND x.indpred IS NULL AND x.indexprs IS NULL AND x.indimmediate
        THEN concat_ws(E'\\t', 'key', t.name, (SELECT string_agg(a.attname::text, ',' ORDER BY a.attname COLLATE \"C\")
          FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = ANY (x.indkey[0 : x.indnkeyatts - 1])), i.relname)
        WHEN x.indisunique OR x.indisexclusion THEN concat_ws(E'\\t', 'unique', t.name, i.relname)
        ELSE concat_ws(E'\\t', 'index', t.name, i.relname) END
      FROM ours t JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid
    UNION ALL
    SELECT concat_ws(E'\\t', CASE c.contype WHEN 'c' THEN 'check' ELSE 'refers' END, t.name, c.conname)
      FROM ours t JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype IN ('c', 'f')
    UNION ALL
    SELECT concat_ws(E'\\t', 'referred', t.name, c.conname, c.conrelid::regclass)
      FROM ours t JOIN pg_constraint c ON c.confrelid = t.oid AND c.contype = 'f'
    UNION ALL
    SELECT concat_ws(E'\\t', 'trigger', t.name, g.tgname)
      FROM ours t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'
    UNION ALL
    SELECT concat_ws(E'\\t', 'policy', t.name) FROM ours t WHERE row_security_active(t.oid)";

/// Compares `schema` with what is known; nothing, if it has no migrations. Unique keys of the
/// tables in `dropped` are not missed: skyfill dropped them, and knows how to put them back.
///
/// # Errors
/// The server refused.
pub fn examine(
    client: &mut Client,
    schema: &str,
    dropped: &BTreeSet<String>,
) -> Result<Option<Drift>, Error> {
    let there = client.query_one(
        "SELECT to_regclass($1) IS NOT NULL",
        &[&format!("\"{schema}\".kysely_migration")],
    )?;
    if !there.get::<_, bool>(0) {
        return Ok(None);
    }
    let names = client.query(
        &format!(r#"SELECT name FROM "{schema}".kysely_migration ORDER BY name"#),
        &[],
    )?;
    let present: Vec<String> = names.iter().map(|row| row.get(0)).collect();
    let lines = catalog(client, schema)?;
    let mut drift = compare(
        &lines.iter().map(String::as_str).collect::<Vec<_>>(),
        dropped,
    );
    drift.missing = MIGRATIONS
        .iter()
        .map(|step| step.name)
        .filter(|name| !present.iter().any(|present| present == name))
        .collect();
    drift.unknown = present
        .into_iter()
        .filter(|name| !MIGRATIONS.iter().any(|step| step.name == name))
        .collect();
    Ok(Some(drift))
}

/// A column of the catalog.
#[derive(Clone, Copy)]
struct Column<'c> {
    kind: &'c str,
    nullable: bool,
    filled: &'c str,
}

/// The lines of a catalog by what they are about.
#[derive(Default)]
struct Catalog<'c> {
    tables: BTreeMap<&'c str, &'c str>,
    columns: BTreeMap<String, Column<'c>>,
    /// Unique keys: table, columns and name of the index.
    keys: Vec<(&'c str, &'c str, &'c str)>,
    others: Vec<Vec<&'c str>>,
}

impl<'c> Catalog<'c> {
    fn of(lines: &[&'c str]) -> Self {
        let mut this = Self::default();
        for line in lines {
            let words: Vec<&str> = line.split('\t').collect();
            match words.as_slice() {
                ["table", name, kind] => _ = this.tables.insert(name, kind),
                ["column", table, name, kind, null, filled] => {
                    let column = Column {
                        kind,
                        nullable: *null == "null",
                        filled,
                    };
                    this.columns.insert(format!("{table}.{name}"), column);
                }
                ["key", table, columns, name] => this.keys.push((table, columns, name)),
                _ => this.others.push(words),
            }
        }
        this
    }
}

fn compare(lines: &[&str], dropped: &BTreeSet<String>) -> Drift {
    let known_lines: Vec<&str> = KNOWN.lines().collect();
    let (known, found) = (Catalog::of(&known_lines), Catalog::of(lines));
    let mut drift = Drift::default();
    for name in tables() {
        match found.tables.get(name) {
            None => drift.problems.push(format!("table {name} is missing")),
            Some(&"r") => {}
            Some(_) => drift
                .problems
                .push(format!("{name} is a view, or a table in partitions")),
        }
    }
    for name in found.tables.keys() {
        if !known.tables.contains_key(name) {
            drift.more.push(format!("table {name}"));
        }
    }
    compare_columns(&known, &found, &mut drift);
    compare_keys(&known, &found, dropped, &mut drift);
    let known: BTreeSet<&[&str]> = known.others.iter().map(Vec::as_slice).collect();
    for words in &found.others {
        let is_read = words.get(1).is_some_and(|table| READ.contains(table));
        if known.contains(words.as_slice()) || is_read {
            continue;
        }
        match words.as_slice() {
            ["index", table, name] => drift.more.push(format!("index {name} of {table}")),
            ["unique", table, name] => drift.problems.push(format!(
                "index {name} of {table} could refuse rows: it is unique, and not official"
            )),
            ["check", table, name] => drift.acting.push(format!(
                "check {name} of {table} may refuse rows; a load would then end with its name"
            )),
            ["refers", table, name] => drift.problems.push(format!(
                "constraint {name} of {table} refuses rows before those that they refer to"
            )),
            ["referred", table, name, from] => drift.acting.push(format!(
                "constraint {name} of {from} refers to {table}: it may refuse or follow deletions"
            )),
            ["trigger", table, name] => drift.acting.push(format!(
                "trigger {name} of {table} fires for rows that skyfill writes"
            )),
            ["policy", table] => drift.problems.push(format!(
                "table {table} has row-level security that applies to this role"
            )),
            _ => {}
        }
    }
    drift
}

fn compare_columns(known: &Catalog<'_>, found: &Catalog<'_>, drift: &mut Drift) {
    let written: BTreeSet<String> = table::ALL
        .iter()
        .flat_map(|info| {
            info.columns
                .iter()
                .map(|c| format!("{}.{}", info.name, c.name))
        })
        .collect();
    for (name, official) in &known.columns {
        let table = name.split('.').next().unwrap_or_default();
        if found.tables.get(table) != Some(&"r") {
            continue;
        }
        let is_used = written.contains(name)
            || USED.contains(&name.as_str())
            || official.filled == "generated";
        match found.columns.get(name) {
            None if is_used => drift.problems.push(format!("column {name} is missing")),
            Some(column) if is_used => {
                drift.problems.extend(unlike(name, *official, *column));
            }
            None | Some(_) => {}
        }
    }
    for (name, column) in &found.columns {
        let is_known = known.columns.contains_key(name);
        let is_read = READ.contains(&name.split('.').next().unwrap_or_default());
        let is_filled = column.filled != "-" || column.nullable || is_read;
        if written.contains(name) || is_known && is_filled {
            continue;
        }
        if is_filled {
            drift.more.push(format!("column {name}"));
        } else if !USED.contains(&name.as_str()) {
            drift.problems.push(format!(
                "column {name} ({}) is NOT NULL without a default, and skyfill does not know what to write to it",
                column.kind
            ));
        }
    }
}

/// How a column that skyfill uses differs so that it could not be used.
fn unlike(name: &str, official: Column<'_>, column: Column<'_>) -> Option<String> {
    let is_text = |kind: &str| ["text", "character varying"].contains(&kind);
    if official.kind != column.kind && !(is_text(official.kind) && is_text(column.kind)) {
        return Some(format!(
            "column {name} is of type {}; skyfill knows it as {}",
            column.kind, official.kind
        ));
    }
    if official.filled == "generated" && column.filled != "generated" {
        return Some(format!(
            "column {name} is not generated; skyfill does not write it"
        ));
    }
    if official.filled != "generated" && ["generated", "always"].contains(&column.filled) {
        return Some(format!("column {name} is generated; skyfill writes it"));
    }
    if official.nullable && !column.nullable {
        return Some(format!(
            "column {name} is NOT NULL; skyfill writes NULL to it"
        ));
    }
    if official.filled == "default" && column.filled == "-" && !column.nullable {
        return Some(format!("column {name} has no default any more"));
    }
    None
}

fn compare_keys(
    known: &Catalog<'_>,
    found: &Catalog<'_>,
    dropped: &BTreeSet<String>,
    drift: &mut Drift,
) {
    let columns = |key: &str| -> BTreeSet<String> { key.split(',').map(str::to_owned).collect() };
    for (table, key, _) in &known.keys {
        let is_there = |(other, its, _): &&(&str, &str, &str)| other == table && its == key;
        if found.tables.get(table) == Some(&"r")
            && !dropped.contains(*table)
            && !found.keys.iter().any(|found| is_there(&found))
        {
            drift
                .problems
                .push(format!("table {table} lacks its unique key ({key})"));
        }
    }
    for (table, key, name) in &found.keys {
        if known.keys.contains(&(table, key, name)) || READ.contains(table) {
            continue;
        }
        // What holds a known key besides other columns refuses no row that the key would not.
        let own = columns(key);
        let is_wider = known
            .keys
            .iter()
            .any(|(other, its, _)| other == table && columns(its).is_subset(&own));
        if is_wider {
            drift.more.push(format!("index {name} of {table}"));
        } else {
            drift.problems.push(format!(
                "index {name} of {table} ({key}) could refuse rows: it is unique, and not official"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The drift of the official catalog with lines replaced.
    fn changed(from: &str, to: &str) -> Drift {
        assert!(KNOWN.contains(from), "{from}");
        let text = KNOWN.replacen(from, to, 1);
        compare(&text.lines().collect::<Vec<_>>(), &BTreeSet::new())
    }

    #[test]
    fn the_official_schema_has_none() {
        assert!(changed("table\tactor\tr", "table\tactor\tr").is_none());
    }

    #[test]
    fn what_cannot_be_done_right_is_named_with_both_types() {
        for (from, to, said) in [
            (
                "post\ttext\tcharacter varying",
                "post\ttext\tinteger",
                "column post.text is of type integer; skyfill knows it as character varying",
            ),
            (
                "post\ttext\tcharacter varying",
                "post\ttext\tcharacter varying(300)",
                "post.text is of type character varying(300)",
            ),
            (
                "column\tpost\ttext\t",
                "column\tpost\tbody\t",
                "column post.text is missing",
            ),
            (
                "post\treplyRoot\tcharacter varying\tnull",
                "post\treplyRoot\tcharacter varying\tnot null",
                "column post.replyRoot is NOT NULL",
            ),
            (
                "post\tsortAt\tcharacter varying\tnot null\tgenerated",
                "post\tsortAt\tcharacter varying\tnull\t-",
                "post.sortAt is not generated",
            ),
            (
                "key\tlike\tcreator,subject\t",
                "key\tlike\tcreator,subject,uri\t",
                "table like lacks its unique key (creator,subject)",
            ),
            (
                "table\tquote\tr",
                "table\tquote\tp",
                "quote is a view, or a table in partitions",
            ),
            ("table\tquote\tr\n", "", "table quote is missing"),
            (
                "table\tactor\tr",
                "table\tactor\tr\ncolumn\tactor\tplan\tinteger\tnot null\t-",
                "column actor.plan (integer) is NOT NULL without a default",
            ),
            (
                "table\tactor\tr",
                "table\tactor\tr\nkey\tpost\tcid\tx",
                "index x of post (cid) could refuse rows",
            ),
            (
                "table\tactor\tr",
                "table\tactor\tr\nunique\tpost\tx",
                "index x of post could refuse rows",
            ),
            (
                "table\tactor\tr",
                "table\tactor\tr\npolicy\tpost",
                "row-level security",
            ),
        ] {
            let drift = changed(from, to);
            assert!(
                drift.problems.iter().any(|problem| problem.contains(said)),
                "{said}: {drift:?}"
            );
        }
    }

    #[test]
    fn what_keeps_its_default_is_only_said() {
        for (to, said) in [
            ("column\tpost\tscore\tinteger\tnull\t-", "column post.score"),
            (
                "column\tpost\tscore\tinteger\tnot null\tdefault",
                "column post.score",
            ),
            (
                "column\tpost\tscore\tinteger\tnot null\tgenerated",
                "column post.score",
            ),
            (
                "column\tpost\tscore\tbigint\tnot null\talways",
                "column post.score",
            ),
            ("table\tthing\tr", "table thing"),
            ("index\tpost\tx", "index x of post"),
            ("key\tpost\tcid,uri\tx", "index x of post"),
        ] {
            let drift = changed("table\tactor\tr", &format!("table\tactor\tr\n{to}"));
            assert_eq!(drift.more, [said], "{drift:?}");
            assert!(drift.problems.is_empty(), "{drift:?}");
        }
        assert!(changed("post\ttext\tcharacter varying", "post\ttext\ttext").is_none());
        let drift = changed("table\tactor\tr", "table\tactor\tr\ntrigger\tpost\tx");
        assert!(drift.problems.is_empty() && drift.acting[0].contains("trigger x of post"));
    }

    #[test]
    fn keys_that_skyfill_dropped_are_not_missed() {
        let text = KNOWN.replacen("key\tlike\tcreator,subject\t", "index\tlike\t", 1);
        let lines: Vec<&str> = text.lines().collect();
        let dropped = BTreeSet::from(["like".to_owned()]);
        assert!(compare(&lines, &dropped).problems.is_empty());
        assert!(!compare(&lines, &BTreeSet::new()).problems.is_empty());
    }
}
