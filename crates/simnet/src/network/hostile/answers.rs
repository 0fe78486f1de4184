//! What hostile hosts answer, and what is served instead of the repos of accounts that mean harm.

use super::super::cars::Source;
use super::super::fault::Fault;
use super::super::lists::{LIST_REPOS, list_answer, page};
use super::super::world::World;
use crate::Population;
use crate::answer::Answer;
use crate::hostile::encoding::Encoding;
use crate::hostile::{self, ESCAPES_IN_JSON as ESCAPES, car, commit};
use crate::request::Request;
use atrepo::{Cid, Codec, syntax};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Zeros in a commit.
const PADDING: usize = 8 << 20;
/// Zeros in zstd.
const ZEROS: u64 = 256 << 20;
/// Copies of a block behind a repo.
const COPIES: usize = 500_000;
/// Bytes of a page of objects with an empty key, and depth of one of lists in lists.
const PAGE_BYTES: usize = 2 << 20;
const PAGE_DEPTH: usize = 100_000;
/// Invented repos of a page.
const INVENTED: usize = 10;
/// Time between two pages of a list without end.
const BETWEEN_PAGES: Duration = Duration::from_secs(1);
/// Pages of a list that goes in a circle.
const CIRCLE: usize = 3;

/// What a host that has this fault answers; nothing if it answers as good hosts do.
pub(in super::super) fn answer(
    world: &World,
    host: usize,
    fault: Fault,
    request: &Request,
) -> Option<Answer> {
    let lists = request.path == LIST_REPOS;
    match fault {
        Fault::EscapesInErrors => Some(refusal_with_escapes()),
        Fault::EvilNames if !lists => Some(Answer::Status(
            429,
            vec![("retry-after", "86400".to_owned())],
            r#"{"error":"RateLimitExceeded","message":"Rate Limit Exceeded"}"#.to_owned(),
        )),
        Fault::EvilNames => Some(list_answer("repos", None, &invented(world, host, 0))),
        Fault::SlowLister if lists => Some(continued(
            world,
            host,
            request,
            |next| next + 1,
            BETWEEN_PAGES,
        )),
        Fault::CircularList if lists => Some(continued(
            world,
            host,
            request,
            |next| (next + 1) % CIRCLE,
            Duration::ZERO,
        )),
        Fault::OddLines if lists => Some(list_answer("repos", None, &odd_lines(world, host))),
        Fault::PageBomb if lists => Some(Answer::json(if host.is_multiple_of(2) {
            hostile::page::of_empty_keys(PAGE_BYTES)
        } else {
            hostile::page::of_deep_lists(PAGE_DEPTH)
        })),
        _ => None,
    }
}

/// A page of invented repos, with a cursor that leads to the page after `page` by `after`.
fn continued(
    world: &World,
    host: usize,
    request: &Request,
    after: impl Fn(usize) -> usize,
    delay: Duration,
) -> Answer {
    let number = match page(world, request, 500, 1000) {
        Ok((_, number)) => number.unwrap_or(0),
        Err(answer) => return answer,
    };
    let page = list_answer("repos", Some(after(number)), &invented(world, host, number));
    Answer::Late(delay, Box::new(page))
}

/// Lines of repos that do not exist, of page `page` of a host.
fn invented(world: &World, host: usize, page: usize) -> String {
    let line = |line: usize| {
        let number = (host as u64) << 32 | (page * INVENTED + line) as u64;
        let did = hostile::invented_did(world.settings.seed, number);
        let head = Cid::of(Codec::DagCbor, did.as_bytes());
        let rev = syntax::tid(Population::END, 1);
        format!(r#"{{"did":"{did}","head":"{head}","rev":"{rev}","active":true}}"#)
    };
    let lines: Vec<String> = (0..INVENTED).map(line).collect();
    lines.join(",")
}

/// Lines that are no repos, and some that are.
fn odd_lines(world: &World, host: usize) -> String {
    let did = hostile::invented_did(world.settings.seed, u64::MAX - host as u64);
    let odd = [
        r#"{"did":"not-a-did","head":"none","rev":"none","active":true}"#.to_owned(),
        r#"{"did":7,"rev":[],"active":"yes"}"#.to_owned(),
        format!(r#"{{"did":"{did}","rev":"not a rev","active":true}}"#),
        format!(r#"{{"did":"did:plc:{ESCAPES}","active":true}}"#),
        "{}".to_owned(),
        "null".to_owned(),
        "17".to_owned(),
    ];
    format!("{},{}", odd.join(","), invented(world, host, 0))
}

/// Lines of a relay's list that are no hosts.
pub(in super::super) fn odd_hosts() -> Vec<String> {
    let host = |name: &str| {
        format!(r#"{{"hostname":"{name}","seq":1,"accountCount":5,"status":"active"}}"#)
    };
    vec![
        host("user:password@127.0.0.1:9"),
        host(&format!("{ESCAPES}.simnet.test")),
        host("../../etc/passwd"),
        host(""),
        r#"{"hostname":7}"#.to_owned(),
        "null".to_owned(),
    ]
}

/// An error that holds escape sequences.
pub(in super::super) fn refusal_with_escapes() -> Answer {
    Answer::refusal(400, &format!("{ESCAPES}Owned"), &format!("{ESCAPES}owned"))
}

/// Instead of a repo: the same with zeros in its commit, in zstd.
pub(in super::super) fn commit_bomb(world: &World, source: &Source) -> Answer {
    let records = source.records(&world.population).into_iter().collect();
    let body = commit::padded_repo(&source.did, &source.rev(), records, PADDING);
    packed(Encoding::Zstd, &body)
}

/// Instead of a repo: zeros in zstd.
pub(in super::super) fn zstd_bomb() -> Answer {
    static ZSTD_ZEROS: LazyLock<Arc<Vec<u8>>> =
        LazyLock::new(|| Arc::new(Encoding::Zstd.zeros(ZEROS)));
    Answer::Packed(Encoding::Zstd, Arc::clone(&ZSTD_ZEROS))
}

/// Instead of a repo: the same with many copies of one block behind it, in gzip.
pub(in super::super) fn duplicate_sections(world: &World, source: &Source) -> Answer {
    let car = world.cars.car(source, &world.population).to_vec();
    let body = car::with_duplicate_sections(car, COPIES);
    packed(Encoding::Gzip, &body)
}

fn packed(encoding: Encoding, body: &[u8]) -> Answer {
    Answer::Packed(encoding, Arc::new(encoding.pack(body)))
}
