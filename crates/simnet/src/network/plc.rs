//! What the PLC directory answers (<https://web.plc.directory/api/redoc>), and the server of
//! well-known files.

use super::accounts::{Operation, Standing, State, handle, of_handle};
use super::fault::Fault;
use super::world::World;
use crate::answer::Answer;
use crate::document::document_with;
use crate::hostile::ESCAPES_IN_JSON;
use crate::keys::signing_key_of;
use crate::request::Request;
use atrepo::{Cid, Codec};
use rows::datetime;

/// Operations of a page of the export, unless asked for otherwise, and at most.
const PAGE: usize = 1000;

/// What the PLC directory answers.
pub(super) fn answer(world: &World, request: &Request) -> Answer {
    let path = request.path.trim_matches('/');
    if path == "export" {
        return export(world, request);
    }
    let (did, is_log) = match path.strip_suffix("/log/audit") {
        Some(did) => (did, true),
        None => (path, false),
    };
    let state = world.lock();
    let number = state
        .by_did
        .get(did)
        .filter(|_| did.starts_with("did:plc:"));
    let Some(&number) = number else {
        return Answer::Status(
            404,
            Vec::new(),
            r#"{"message":"DID not registered"}"#.to_owned(),
        );
    };
    if is_log {
        let own = state
            .operations
            .iter()
            .filter(|operation| operation.account == number);
        let lines: Vec<Line> = own
            .map(|operation| Line::of(world, &state, operation))
            .collect();
        drop(state);
        let lines: Vec<String> = lines.iter().map(Line::json).collect();
        return Answer::json(format!("[{}]", lines.join(",")));
    }
    if state.accounts[number].is_tombstone {
        return Answer::Status(
            410,
            Vec::new(),
            r#"{"message":"DID not available"}"#.to_owned(),
        );
    }
    let line = Line::now(world, &state, number);
    drop(state);
    Answer::json(line.document())
}

fn export(world: &World, request: &Request) -> Answer {
    let after = request.parameter("after").unwrap_or_default();
    let count = request
        .parameter("count")
        .and_then(|count| count.parse().ok())
        .unwrap_or(PAGE);
    let lines: Vec<Line> = {
        let state = world.lock();
        // All times are written with the same number of digits, so their order is that of their
        // texts.
        let is_before = |operation: &Operation| datetime::print(operation.millis).as_str() <= after;
        let first = state.operations.partition_point(is_before);
        let page = state.operations[first..].iter().take(count.min(PAGE));
        page.map(|operation| Line::of(world, &state, operation))
            .collect()
    };
    let lines: Vec<String> = lines.iter().map(Line::json).collect();
    Answer::Status(
        200,
        vec![("content-type", "application/jsonlines".to_owned())],
        lines.join("\n"),
    )
}

/// All that is written of an operation, as JSON has it. Keys are made from it when nobody waits for
/// the network's lock.
struct Line {
    did: String,
    handle: String,
    pds: String,
    operation: Operation,
}

impl Line {
    fn of(world: &World, state: &State, operation: &Operation) -> Self {
        let account = &state.accounts[operation.account];
        let has = |fault: Fault| account.fault == Some(fault) && world.switches.is_on(fault);
        let (mut handle, mut pds) = (
            handle(operation.account, operation.renames),
            world.host_url(state, operation.host),
        );
        if has(Fault::EscapesInHandles) {
            handle.insert_str(0, ESCAPES_IN_JSON);
        }
        if has(Fault::UserInEndpoint) {
            pds = pds.replace("://", "://user:password@");
        }
        Self {
            did: account.did.clone(),
            handle,
            pds,
            operation: *operation,
        }
    }

    /// As an operation would say how the account is now.
    fn now(world: &World, state: &State, number: usize) -> Self {
        let account = &state.accounts[number];
        let operation = Operation {
            millis: 0,
            account: number,
            host: account.host,
            key: account.key,
            renames: account.renames,
            is_tombstone: account.is_tombstone,
        };
        Self::of(world, state, &operation)
    }

    fn document(&self) -> String {
        let key = signing_key_of(&self.did, self.operation.key);
        document_with(&self.did, &self.handle, &self.pds, &key)
    }

    /// As the export and the log have it. The directory's own fields are made up where nobody can
    /// check them.
    fn json(&self) -> String {
        let Self {
            did,
            handle,
            pds,
            operation,
        } = self;
        let body = if operation.is_tombstone {
            r#"{"type":"plc_tombstone","prev":"none","sig":"none"}"#.to_owned()
        } else {
            let key = signing_key_of(did, operation.key);
            format!(
                r#"{{"type":"plc_operation","sig":"none","prev":null,"services":{{"atproto_pds":{{"type":"AtprotoPersonalDataServer","endpoint":"{pds}"}}}},"alsoKnownAs":["at://{handle}"],"rotationKeys":["did:key:{key}"],"verificationMethods":{{"atproto":"did:key:{key}"}}}}"#
            )
        };
        let (cid, at) = (
            Cid::of(Codec::DagCbor, body.as_bytes()),
            datetime::print(operation.millis),
        );
        format!(
            r#"{{"did":"{did}","operation":{body},"cid":"{cid}","nullified":false,"createdAt":"{at}"}}"#
        )
    }
}

/// What the server of well-known files answers to a request for a host; nothing if it stays silent.
pub(super) fn well_known(world: &World, request: &Request) -> Option<Answer> {
    let host = request.host.split(':').next().unwrap_or_default();
    let not_found = || Answer::Status(404, Vec::new(), "Not Found".to_owned());
    let state = world.lock();
    // A handle that was changed leads nowhere, but the name of a did:web stays.
    let number_of = |end: &str| {
        let (number, renames) = of_handle(host.strip_suffix(end)?)?;
        let account = state.accounts.get(number)?;
        (renames == account.renames || end == ".web.test").then_some(number)
    };
    let is_there = |number: &usize| {
        let account = state.accounts.get(*number);
        account.is_some_and(|account| account.standing != Standing::Deleted)
    };
    let asked = number_of(".simnet.test").or_else(|| number_of(".web.test"));
    let asked = asked.and_then(|number| state.accounts.get(number));
    let is_silent = asked.is_some_and(|account| account.fault == Some(Fault::SilentHandle));
    if is_silent && world.switches.is_on(Fault::SilentHandle) {
        return None;
    }
    Some(match request.path.as_str() {
        "/.well-known/atproto-did" => {
            let Some(number) = number_of(".simnet.test").filter(is_there) else {
                return Some(not_found());
            };
            let leads_elsewhere = state.accounts[number].fault == Some(Fault::HandleElsewhere)
                && world.switches.is_on(Fault::HandleElsewhere);
            let leads_to = if leads_elsewhere {
                (number + 1) % state.accounts.len()
            } else {
                number
            };
            let did = state.accounts[leads_to].did.clone();
            Answer::Status(200, vec![("content-type", "text/plain".to_owned())], did)
        }
        "/.well-known/did.json" => {
            let number = number_of(".web.test").filter(is_there);
            match number.filter(|number| state.accounts[*number].did.starts_with("did:web:")) {
                Some(number) => Answer::json(Line::now(world, &state, number).document()),
                None => not_found(),
            }
        }
        _ => not_found(),
    })
}
