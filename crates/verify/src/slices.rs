//! Cuts a pass into slices: ranges of accounts with about as many records each.
//!
//! A slice is a range of DIDs, and the range of URIs of the same accounts: with `at://` before its
//! bounds, rows of accounts that the ledger does not know fall into it as well. In the order of
//! bytes a DID is followed by those that continue it, but the URIs of those may come before its own
//! (`at://did:web:a-b/` before `at://did:web:a/`). So a bound has no character below the slash.

use ledger::verified::{self, Range};
use postgres::{Client, Error};

/// Records and skipped records of a slice, unless one repo has more: a second or two of one core.
const ENTRIES: u64 = 20_000;
/// Most repos of a slice: many are empty.
const REPOS: i64 = 500;
/// A table of records is large from so many rows on.
const LARGE: f32 = 1e6;

/// Slices that are left to do.
pub(crate) struct Slices {
    /// Ranges that nobody has begun, the next one last.
    left: Vec<Range>,
}

impl Slices {
    /// All, but what lies in ranges that are done. These are in the order of their lower bounds.
    pub(crate) fn without<'d>(done: impl Iterator<Item = &'d Range>) -> Self {
        let mut left = Vec::new();
        let mut from = Some(String::new());
        for range in done {
            if let Some(lower) = from.take().filter(|from| *from < range.lower) {
                left.push(Range {
                    lower,
                    upper: Some(range.lower.clone()),
                });
            }
            from = range.upper.clone();
        }
        left.extend(from.map(|lower| Range { lower, upper: None }));
        left.reverse();
        Self { left }
    }

    /// Ends slices at these bounds, which are in order, as well.
    pub(crate) fn divide(&mut self, bounds: &[String]) {
        let mut left = Vec::new();
        for mut range in self.left.drain(..).rev() {
            let after = bounds.partition_point(|bound| *bound <= range.lower);
            for bound in bounds.iter().skip(after) {
                if range.upper.as_ref().is_some_and(|upper| bound >= upper) {
                    break;
                }
                if *bound > range.lower {
                    left.push(Range {
                        lower: std::mem::replace(&mut range.lower, bound.clone()),
                        upper: Some(bound.clone()),
                    });
                }
            }
            left.push(range);
        }
        left.reverse();
        self.left = left;
    }

    /// The next one.
    pub(crate) fn next(
        &mut self,
        client: &mut Client,
        schema: &str,
    ) -> Result<Option<Range>, Error> {
        let Some(whole) = self.left.pop() else {
            return Ok(None);
        };
        let repos = verified::sizes(client, schema, &whole, REPOS)?;
        let is_all = i64::try_from(repos.len()).unwrap_or(0) < REPOS;
        let Some(cut) =
            cut(&repos, is_all).filter(|cut| whole.upper.as_ref().is_none_or(|upper| cut < upper))
        else {
            return Ok(Some(whole));
        };
        self.left.push(Range {
            lower: cut.clone(),
            upper: whole.upper,
        });
        Ok(Some(Range {
            lower: whole.lower,
            upper: Some(cut),
        }))
    }
}

/// Where a slice ends that begins with these repos, of which the last one is the last of all if
/// `is_all`; nothing, if it has room for the rest.
fn cut(repos: &[(String, u64)], is_all: bool) -> Option<String> {
    let mut entries: u64 = 0;
    let mut last = None;
    for (did, of_repo) in repos {
        entries = entries.saturating_add(*of_repo);
        if last.is_some() && entries > ENTRIES {
            return last.map(bound_after);
        }
        last = Some(did.as_str());
    }
    last.filter(|_| !is_all).map(bound_after)
}

/// Bounds that cut a table of records, if it is large, into some hundred parts as the server's
/// statistics know them: where another program filled it, the ledger knows few of its accounts.
pub(crate) fn of_large_table(client: &mut Client, schema: &str) -> Result<Vec<String>, Error> {
    let rows = client.query(
        "SELECT unnest(s.histogram_bounds::text::text[]) FROM pg_stats s JOIN pg_class c ON c.relname = s.tablename
           JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schemaname
         WHERE s.schemaname = $1 AND s.tablename = 'record' AND s.attname = 'uri' AND c.reltuples >= $2",
        &[&schema, &LARGE],
    )?;
    let uris = rows.iter().map(|row| row.get::<_, &str>(0));
    let mut bounds: Vec<String> = uris
        .filter_map(|uri| uri.strip_prefix("at://")?.split('/').next())
        .map(bound_after)
        .collect();
    bounds.sort();
    bounds.dedup();
    Ok(bounds)
}

/// A bound after the URIs of an account, and perhaps those of some that come next.
fn bound_after(did: &str) -> String {
    let plain = did.bytes().position(|byte| byte < b'0');
    let kept = plain.and_then(|end| did.get(..end)).unwrap_or(did);
    format!("{kept}0")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn range(lower: &str, upper: Option<&str>) -> Range {
        Range {
            lower: lower.to_owned(),
            upper: upper.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_done_is_left_out() {
        let left = |done: &[Range]| {
            let mut left = Slices::without(done.iter()).left;
            left.reverse();
            left
        };
        assert_eq!(left(&[]), [range("", None)]);
        assert_eq!(left(&[range("", None)]), []);
        let done = [
            range("", Some("b")),
            range("b", Some("c")),
            range("e", Some("f")),
        ];
        assert_eq!(left(&done), [range("c", Some("e")), range("f", None)]);
        let done = [range("c", Some("e")), range("x", None)];
        assert_eq!(left(&done), [range("", Some("c")), range("e", Some("x"))]);
        let mut slices = Slices::without(done.iter());
        slices.divide(&["a", "b", "c", "d", "e", "w", "x", "y"].map(str::to_owned));
        let cut = [("", "a"), ("a", "b"), ("b", "c"), ("e", "w"), ("w", "x")];
        let cut = cut.map(|(lower, upper)| range(lower, Some(upper)));
        slices.left.reverse();
        assert_eq!(slices.left, cut);
    }

    #[test]
    fn a_slice_ends_before_it_is_too_large_and_between_the_uris_of_two_accounts() {
        let repos = |sizes: &[(&str, u64)]| -> Vec<(String, u64)> {
            sizes
                .iter()
                .map(|(did, size)| ((*did).to_owned(), *size))
                .collect()
        };
        assert_eq!(cut(&[], true), None);
        assert_eq!(cut(&repos(&[("a", 5), ("b", 5)]), true), None);
        let two = repos(&[("a", 5), ("b", 5)]);
        assert_eq!(cut(&two, false).as_deref(), Some("b0"));
        let large = repos(&[("a", 5), ("b", ENTRIES), ("c", 1)]);
        assert_eq!(cut(&large, true).as_deref(), Some("a0"));
        let huge = repos(&[("b", 9 * ENTRIES), ("c", 1)]);
        assert_eq!(cut(&huge, true).as_deref(), Some("b0"));
        assert_eq!(cut(&huge[..1], true), None);
        // Every account lies on one side of a bound, with its DID and with its URIs.
        let dids = [
            "did:plc:aa",
            "did:plc:aa2",
            "did:web:a",
            "did:web:a%3A1",
            "did:web:a-b",
            "did:web:a-b.c",
            "did:web:a.b",
            "did:web:a.b-c",
            "did:web:a0",
            "did:web:ab",
            "did:web:ab.c",
            "did:web:b",
        ];
        for last in dids {
            let bound = bound_after(last);
            assert!(last < bound.as_str());
            let uris = format!("at://{bound}");
            for did in dids {
                let uri = format!("at://{did}/app.bsky.feed.like/1");
                assert_eq!(did < bound.as_str(), uri < uris, "{did} and {bound}");
            }
        }
    }
}
