//! What hosts list: pages of `com.atproto.sync.listRepos`.

use super::accounts::{Foreign, Standing};
use super::cars::Source;
use super::change;
use super::fault::Fault;
use super::world::World;
use crate::answer::Answer;
use crate::request::Request;
use std::fmt::Write;
use std::ops::Bound;
use std::sync::atomic::Ordering;

pub(super) const LIST_REPOS: &str = "/xrpc/com.atproto.sync.listRepos";

/// A line of a list of repos.
pub(super) struct Row {
    pub(super) source: Source,
    pub(super) status: Option<&'static str>,
}

/// Appends the JSON of a line.
pub(super) fn write_row(world: &World, row: &Row, out: &mut String) {
    let facts = world.cars.facts(&row.source, &world.population);
    let (did, active) = (&row.source.did, row.status.is_none());
    // A string takes all that is written.
    _ = write!(
        out,
        r#"{{"did":"{did}","head":"{}","rev":"{}","active":{active}"#,
        facts.head, facts.rev
    );
    if let Some(status) = row.status {
        _ = write!(out, r#","status":"{status}""#);
    }
    out.push('}');
}

/// The page that a request asks for: how many at most, and the number after which it begins.
pub(super) fn page(
    world: &World,
    request: &Request,
    usual: usize,
    most: usize,
) -> Result<(usize, Option<usize>), Answer> {
    let bad = |what: &str| {
        Answer::refusal(
            400,
            "InvalidRequest",
            &format!("Error: Params must have a valid {what}"),
        )
    };
    let number = |name: &str| {
        request
            .parameter(name)
            .map(|text| text.parse::<usize>().map_err(|_| bad(name)))
            .transpose()
    };
    let limit = number("limit")?.unwrap_or(usual);
    if !(1..=most).contains(&limit) {
        return Err(bad("limit"));
    }
    Ok((limit.min(world.settings.page), number("cursor")?))
}

/// The answer with a cursor and a list.
pub(super) fn list_answer(name: &str, cursor: Option<usize>, items: &str) -> Answer {
    let cursor = cursor.map_or_else(String::new, |cursor| format!(r#""cursor":"{cursor}","#));
    Answer::json(format!(r#"{{{cursor}"{name}":[{items}]}}"#))
}

pub(super) fn list_repos(world: &World, host: usize, request: &Request) -> Answer {
    let (limit, after) = match page(world, request, 500, 1000) {
        Ok(page) => page,
        Err(answer) => return answer,
    };
    let changes = world.changes_at_lists.load(Ordering::SeqCst);
    if changes > 0 {
        let seed = world.lists.fetch_add(1, Ordering::SeqCst);
        change::change(world, seed, changes);
    }
    let (rows, cursor) = rows(world, host, limit, after);
    let mut items = String::new();
    for row in &rows {
        if !items.is_empty() {
            items.push(',');
        }
        write_row(world, row, &mut items);
    }
    list_answer("repos", cursor, &items)
}

/// A page of a host's list and the cursor of the next one. The order is that of the accounts'
/// numbers.
fn rows(
    world: &World,
    host: usize,
    limit: usize,
    after: Option<usize>,
) -> (Vec<Row>, Option<usize>) {
    let state = world.lock();
    let host = &state.hosts[host];
    let repeats = host.repeats && world.switches.is_on(Fault::LyingList);
    let limit = if repeats {
        limit.min(host.members.len().div_ceil(2))
    } else {
        limit
    };
    let range = (
        after.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    );
    let foreign = host
        .foreign
        .range(range)
        .filter(|(_, foreign)| tells(world, **foreign));
    let foreign = foreign.map(|(number, foreign)| (*number, Some(*foreign)));
    let own = host.members.range(range).map(|number| (*number, None));
    let mut listed: Vec<(usize, Option<Foreign>)> =
        own.take(limit + 1).chain(foreign.take(limit + 1)).collect();
    listed.sort_by_key(|(number, _)| *number);
    let has_more = listed.len() > limit;
    listed.truncate(limit);
    let cursor = if has_more {
        listed.last().map(|(number, _)| *number)
    } else {
        after.filter(|_| repeats)
    };
    let row = |(number, foreign): (usize, Option<Foreign>)| {
        let account = &state.accounts[number];
        let source = Source::of(number, account);
        match foreign {
            None => Row {
                source,
                status: account.standing.status(),
            },
            Some(Foreign::Left) => Row {
                source,
                status: Standing::Deactivated.status(),
            },
            Some(Foreign::Missing) => Row {
                source,
                status: None,
            },
            Some(Foreign::Old) => Row {
                source: source.once(),
                status: None,
            },
            Some(Foreign::Claimed) => Row {
                source: source.ahead(),
                status: None,
            },
            Some(Foreign::Forged) => Row {
                source: source.forged(),
                status: None,
            },
        }
    };
    (listed.into_iter().map(row).collect(), cursor)
}

/// Whether hosts now say such things of accounts that they do not have.
pub(super) fn tells(world: &World, foreign: Foreign) -> bool {
    world.switches.is_on(match foreign {
        Foreign::Left => Fault::Moved,
        Foreign::Missing | Foreign::Old => Fault::LyingList,
        Foreign::Claimed => Fault::FalseClaims,
        Foreign::Forged => Fault::ForgedFuture,
    })
}
