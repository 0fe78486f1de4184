//! What the relay answers, its stream aside.

use super::cars::{Source, collection_bit};
use super::fault::Fault;
use super::hostile;
use super::lists::{LIST_REPOS, Row, list_answer, page, write_row};
use super::pds::not_implemented;
use super::world::World;
use crate::answer::Answer;
use crate::request::Request;

/// What the relay answers.
pub(super) fn answer(world: &World, request: &Request) -> Answer {
    let answer = match request.path.as_str() {
        "/xrpc/com.atproto.sync.listHosts" => list_hosts(world, request),
        LIST_REPOS => list_repos(world, request),
        "/xrpc/com.atproto.sync.listReposByCollection" => list_by_collection(world, request),
        _ => Ok(not_implemented()),
    };
    answer.unwrap_or_else(|refusal| refusal)
}

fn list_hosts(world: &World, request: &Request) -> Result<Answer, Answer> {
    let (limit, after) = page(world, request, 200, 1000)?;
    let first = after.map_or(0, |after| after + 1);
    let state = world.lock();
    let seq = state.log.head();
    let mut items: Vec<String> = state
        .hosts
        .iter()
        .skip(first)
        .take(limit)
        .map(|host| {
            let (name, count) = (&host.authority, host.members.len());
            format!(
                r#"{{"hostname":"{name}","seq":{seq},"accountCount":{count},"status":"active"}}"#
            )
        })
        .collect();
    let last = first + items.len();
    let cursor = (last < state.hosts.len()).then(|| last - 1);
    if world.switches.is_on(Fault::OddLines) {
        items.extend(hostile::odd_hosts());
    }
    Ok(list_answer("hosts", cursor, &items.join(",")))
}

fn list_repos(world: &World, request: &Request) -> Result<Answer, Answer> {
    let (limit, after) = page(world, request, 500, 1000)?;
    let first = after.map_or(0, |after| after + 1);
    let (rows, all) = {
        let state = world.lock();
        let accounts = state.accounts.iter().enumerate().skip(first).take(limit);
        let rows: Vec<Row> = accounts
            .map(|(number, account)| Row {
                source: Source::of(number, account),
                status: account.standing.status(),
            })
            .collect();
        (rows, state.accounts.len())
    };
    let mut items = String::new();
    for row in &rows {
        if !items.is_empty() {
            items.push(',');
        }
        write_row(world, row, &mut items);
    }
    let last = first + rows.len();
    Ok(list_answer("repos", (last < all).then(|| last - 1), &items))
}

/// The active accounts that have a record of a collection.
fn list_by_collection(world: &World, request: &Request) -> Result<Answer, Answer> {
    let (limit, after) = page(world, request, 500, 2000)?;
    let Some(bit) = request.parameter("collection").and_then(collection_bit) else {
        return Ok(list_answer("repos", None, ""));
    };
    let (mut next, mut items) = (after.map_or(0, |after| after + 1), Vec::new());
    loop {
        let source = {
            let state = world.lock();
            let Some(account) = state.accounts.get(next) else {
                break;
            };
            account
                .standing
                .status()
                .is_none()
                .then(|| Source::of(next, account))
        };
        let has_it =
            |source: &Source| world.cars.facts(source, &world.population).collections & bit != 0;
        if let Some(source) = source.filter(has_it) {
            // One more than asked for says that there is another page.
            if items.len() == limit {
                return Ok(list_answer("repos", Some(next - 1), &items.join(",")));
            }
            items.push(format!(r#"{{"did":"{}"}}"#, source.did));
        }
        next += 1;
    }
    Ok(list_answer("repos", None, &items.join(",")))
}
