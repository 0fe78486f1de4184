//! What a PDS answers (<https://docs.bsky.app/docs/category/http-reference>).

use super::accounts::{Account, Foreign, Standing, State};
use super::cars::{self, Source};
use super::fault::Fault;
use super::world::World;
use super::{hostile, lists};
use crate::answer::Answer;
use crate::repo::build_proof;
use crate::request::Request;
use std::sync::Arc;

/// Zeros that a bomb unpacks to.
const BOMB: u64 = 6 << 30;
const HTML: &str = "<!DOCTYPE html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>";

/// An answer, and the repo that it gives whole: account and time of the rev.
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) gives: Option<(usize, u64)>,
}

/// What host number `host` answers, whose fault is on.
pub(super) fn answer(world: &World, host: usize, fault: Option<Fault>, request: &Request) -> Reply {
    let did = request.parameter("did").unwrap_or_default();
    if let Some(answer) = fault.and_then(|fault| hostile::answer(world, host, fault, request)) {
        return Reply {
            answer,
            gives: None,
        };
    }
    let answer = match request.path.as_str() {
        GET_REPO => return get_repo(world, host, did),
        "/xrpc/com.atproto.sync.getLatestCommit" => latest_commit(world, host, did),
        "/xrpc/com.atproto.sync.getRepoStatus" => repo_status(world, host, did),
        "/xrpc/com.atproto.sync.getRecord" => get_record(world, host, did, request),
        lists::LIST_REPOS => lists::list_repos(world, host, request),
        "/xrpc/com.atproto.server.describeServer" => {
            let authority = world.lock().hosts[host].authority.replace(':', "%3A");
            Answer::json(format!(
                r#"{{"did":"did:web:{authority}","availableUserDomains":[".simnet.test"]}}"#
            ))
        }
        _ => not_implemented(),
    };
    Reply {
        answer,
        gives: None,
    }
}

pub(super) const GET_REPO: &str = "/xrpc/com.atproto.sync.getRepo";

/// What servers say of a method that they do not know.
pub(super) fn not_implemented() -> Answer {
    Answer::refusal(501, "MethodNotImplemented", "Method Not Implemented")
}

fn not_found(did: &str) -> Answer {
    // Whatever was asked for goes into JSON.
    let did: String = did
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || ":.%-_".contains(*c))
        .collect();
    Answer::refusal(
        400,
        "RepoNotFound",
        &format!("Could not find repo for DID: {did}"),
    )
}

fn inactive(standing: Standing) -> Option<Answer> {
    let (name, message) = match standing {
        Standing::Active => return None,
        Standing::Deactivated => ("RepoDeactivated", "Repo has been deactivated"),
        Standing::Suspended => ("RepoSuspended", "Repo has been suspended"),
        Standing::Takendown => ("RepoTakendown", "Repo has been takendown"),
        Standing::Deleted => ("RepoNotFound", "Could not find repo"),
    };
    Some(Answer::refusal(400, name, message))
}

/// What a host knows of an account.
enum Known {
    Own(usize),
    Foreign(usize, Foreign),
}

fn find(world: &World, state: &State, host: usize, did: &str) -> Option<Known> {
    let number = *state.by_did.get(did)?;
    if state.hosts[host].members.contains(&number) {
        return Some(Known::Own(number));
    }
    let foreign = *state.hosts[host].foreign.get(&number)?;
    lists::tells(world, foreign).then_some(Known::Foreign(number, foreign))
}

/// The repo that a host has for a DID, or why it has none.
fn source(world: &World, state: &State, host: usize, did: &str) -> Result<Source, Answer> {
    match find(world, state, host, did) {
        Some(Known::Own(number)) => {
            let account = &state.accounts[number];
            inactive(account.standing).map_or_else(|| Ok(Source::of(number, account)), Err)
        }
        Some(Known::Foreign(number, Foreign::Old)) => {
            Ok(Source::of(number, &state.accounts[number]).once())
        }
        Some(Known::Foreign(number, Foreign::Forged)) => {
            Ok(Source::of(number, &state.accounts[number]).forged())
        }
        Some(Known::Foreign(_, Foreign::Left)) => {
            Err(inactive(Standing::Deactivated).unwrap_or_else(|| not_found(did)))
        }
        Some(Known::Foreign(_, Foreign::Missing | Foreign::Claimed)) | None => Err(not_found(did)),
    }
}

fn get_repo(world: &World, host: usize, did: &str) -> Reply {
    let (source, fault) = {
        let mut state = world.lock();
        let source = match source(world, &state, host, did) {
            Ok(source) => source,
            Err(answer) => {
                return Reply {
                    answer,
                    gives: None,
                };
            }
        };
        let number = source.number;
        let is_own = state.accounts[number].host == host;
        if let (true, Some(to)) = (
            is_own && world.switches.is_on(Fault::MovesDuringRun),
            state.accounts[number].moves_to,
        ) {
            state.relocate(number, to, false);
            let answer = not_found(did);
            return Reply {
                answer,
                gives: None,
            };
        }
        let fault = is_own
            .then(|| next_fault(world, &mut state.accounts[number]))
            .flatten();
        (source, fault)
    };
    match fault {
        Some(fault) => Reply {
            answer: bad_answer(world, &source, fault),
            gives: None,
        },
        None => Reply {
            answer: Answer::Repo(world.cars.car(&source, &world.population)),
            gives: Some((source.number, source.micros)),
        },
    }
}

/// A fault of an answer, and how often it still comes.
type Due = (Fault, u32);

/// The fault that the next answer for a repo has.
fn next_fault(world: &World, account: &mut Account) -> Option<Due> {
    let fault = account.fault.filter(|fault| world.switches.is_on(*fault))?;
    if Fault::LASTING.contains(&fault) || Fault::OF_HOSTILE_REPOS.contains(&fault) {
        return Some((fault, 0));
    }
    let left = account.bad_answers.checked_sub(1)?;
    account.bad_answers = left;
    Some((fault, left))
}

fn bad_answer(world: &World, source: &Source, (fault, left): Due) -> Answer {
    let population = &world.population;
    let car = || world.cars.car(source, population);
    match fault {
        Fault::CutAtBlock => Answer::Repo(Arc::new(cars::cut_car(source, population))),
        Fault::ForgedBlock => Answer::Repo(Arc::new(cars::forged_car(source, population))),
        Fault::Html => Answer::Status(
            200,
            vec![("content-type", "text/html".to_owned())],
            HTML.to_owned(),
        ),
        Fault::RedirectLoop => Answer::Redirect(format!("{GET_REPO}?did={}", source.did)),
        Fault::Bomb => Answer::Bomb(BOMB),
        Fault::Endless => Answer::Endless,
        Fault::ServerError if left > 0 => {
            Answer::refusal(500, "InternalServerError", "Internal Server Error")
        }
        Fault::ServerError => Answer::refusal(503, "ServiceUnavailable", "Service Unavailable"),
        Fault::Reset => Answer::Reset,
        Fault::Stall => Answer::Stall(car()),
        Fault::WrongLength => Answer::Short(car()),
        Fault::CommitBomb => hostile::commit_bomb(world, source),
        Fault::ZstdBomb => hostile::zstd_bomb(),
        Fault::DuplicateSections => hostile::duplicate_sections(world, source),
        Fault::EscapesInErrors => hostile::refusal_with_escapes(),
        // These are not of single answers: `next_fault` returns none of them.
        Fault::DeadHost
        | Fault::TlsFailure
        | Fault::StallingHost
        | Fault::DrippingHost
        | Fault::EndlessHost
        | Fault::Limits429
        | Fault::Silent429
        | Fault::SharedAddress
        | Fault::LyingList
        | Fault::InactivePage
        | Fault::Moved
        | Fault::MovesDuringRun
        | Fault::RotatedKey
        | Fault::HandleElsewhere
        | Fault::IndexKeys
        | Fault::LanguageTags
        | Fault::Mentions
        | Fault::DeepLists
        | Fault::ControlCharacters
        | Fault::LargeRecords
        | Fault::LongKeys
        | Fault::EscapesInHandles
        | Fault::UserInEndpoint
        | Fault::SilentHandle
        | Fault::SlowLister
        | Fault::FalseClaims
        | Fault::ForgedFuture
        | Fault::EvilNames
        | Fault::CircularList
        | Fault::OddLines
        | Fault::PageBomb => unreachable!("{} is not of single answers", fault.word()),
    }
}

fn latest_commit(world: &World, host: usize, did: &str) -> Answer {
    let source = source(world, &world.lock(), host, did);
    match source {
        Ok(source) => {
            let facts = world.cars.facts(&source, &world.population);
            Answer::json(format!(
                r#"{{"cid":"{}","rev":"{}"}}"#,
                facts.head, facts.rev
            ))
        }
        Err(answer) => answer,
    }
}

fn get_record(world: &World, host: usize, did: &str, request: &Request) -> Answer {
    let source = source(world, &world.lock(), host, did);
    match source {
        Ok(source) => {
            let car = world.cars.car(&source, &world.population);
            Answer::Repo(Arc::new(build_proof(&car, &request.record_key())))
        }
        Err(answer) => answer,
    }
}

fn repo_status(world: &World, host: usize, did: &str) -> Answer {
    let state = world.lock();
    let (number, status) = match find(world, &state, host, did) {
        Some(Known::Own(number)) => (number, state.accounts[number].standing.status()),
        Some(Known::Foreign(number, Foreign::Left)) => (number, Standing::Deactivated.status()),
        Some(Known::Foreign(number, Foreign::Old | Foreign::Forged)) => (number, None),
        Some(Known::Foreign(_, Foreign::Missing | Foreign::Claimed)) | None => {
            return not_found(did);
        }
    };
    let did = &state.accounts[number].did;
    Answer::json(match status {
        Some(status) => format!(r#"{{"did":"{did}","active":false,"status":"{status}"}}"#),
        None => {
            let source = source(world, &state, host, did);
            let rev = source.map(|source| source.rev()).unwrap_or_default();
            format!(r#"{{"did":"{did}","active":true,"rev":"{rev}"}}"#)
        }
    })
}
