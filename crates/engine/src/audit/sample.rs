//! Draws accounts from a list of the network, each with the same chance.
//!
//! The list is read once, in any length, and the sample alone is kept (reservoir sampling: Vitter,
//! 1985). Accounts of the database could not show which are missing from it, so the list comes from
//! elsewhere: a DID file, or what a relay or PDSes list. A DID file of 45 million lines (3 GB) is
//! read in about a minute; a relay lists as many on 45,000 pages.

use crate::discovery::list_client;
use crate::discovery::relay::{get, page_url};
use discover::walk::{Allowance, Step, Walk};
use discover::{did_file, lists};
use process::{DidFile, Failure, Stop};
use std::time::Instant;
use tokio::runtime::Runtime;

/// What accounts are drawn from.
pub enum Population {
    /// The lines of a DID file.
    DidFile(DidFile),
    /// The active accounts that a relay lists, or that PDSes do.
    Lists(Vec<String>),
}

impl Population {
    /// What it is, for people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::DidFile(file) => format!("the lines of {}", file.shown),
            Self::Lists(urls) => format!("the active accounts that {} list", urls.join(", ")),
        }
    }
}

/// What was drawn.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The accounts, in an order that says nothing.
    pub(crate) dids: Vec<String>,
    /// How many there are.
    pub(crate) population: u64,
    /// Lines that name no account.
    pub(crate) bad_lines: u64,
}

/// Random numbers from a seed (splitmix64): the same seed draws the same accounts from a list.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, each with the same chance.
    fn below(&mut self, bound: u64) -> u64 {
        let bound = bound.max(1);
        // Numbers beyond the last multiple of the bound would favor the small ones.
        let fair = u64::MAX - u64::MAX % bound;
        loop {
            let number = self.next();
            if number < fair {
                return number % bound;
            }
        }
    }
}

/// A sample of what has come so far.
struct Reservoir {
    random: Random,
    size: usize,
    seen: u64,
    kept: Vec<String>,
}

impl Reservoir {
    fn new(size: usize, seed: u64) -> Self {
        Self {
            random: Random(seed),
            size,
            seen: 0,
            kept: Vec::new(),
        }
    }

    fn add(&mut self, did: String) {
        self.seen += 1;
        if self.kept.len() < self.size {
            self.kept.push(did);
            return;
        }
        let at = usize::try_from(self.random.below(self.seen)).unwrap_or(usize::MAX);
        if let Some(place) = self.kept.get_mut(at) {
            *place = did;
        }
    }
}

/// Draws up to `size` accounts; nothing if it was stopped.
pub(crate) fn draw(
    population: Population,
    size: usize,
    seed: u64,
    fetch: &fetch::Options,
    runtime: &Runtime,
    stop: &Stop,
) -> Result<Option<Sample>, Failure> {
    let mut reservoir = Reservoir::new(size, seed);
    let mut bad_lines = 0;
    match population {
        Population::DidFile(DidFile { shown, reader }) => {
            for line in did_file::read(reader, 0, 0) {
                let line =
                    line.map_err(|error| Failure::new(format!("cannot read {shown}: {error}")))?;
                match line {
                    Ok(line) => reservoir.add(line.did),
                    Err(_) => bad_lines += 1,
                }
                if stop.is_set() {
                    return Ok(None);
                }
            }
        }
        Population::Lists(urls) => {
            for url in urls {
                match list(&url, &mut reservoir, fetch, runtime, stop)? {
                    Some(bad) => bad_lines += bad,
                    None => return Ok(None),
                }
            }
        }
    }
    Ok(Some(Sample {
        dids: reservoir.kept,
        population: reservoir.seen,
        bad_lines,
    }))
}

/// Reads the list of a relay or PDS to its end; how many of its lines are invalid, or nothing if it
/// was stopped. A list that cannot be read to its end is no population.
fn list(
    url: &str,
    reservoir: &mut Reservoir,
    fetch: &fetch::Options,
    runtime: &Runtime,
    stop: &Stop,
) -> Result<Option<u64>, Failure> {
    let http = list_client(fetch, 1)?;
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(format!("{url} was not listed to the end: {why}"))
            .hint("name another list with --relay, --pds or --did-file")
    };
    let (mut cursor, mut bad) = (None::<String>, 0);
    let mut walk = Walk::new(Allowance::RELAY, None);
    let started = Instant::now();
    loop {
        let page = page_url(url, "com.atproto.sync.listRepos", cursor.as_deref(), &[]);
        let body = match runtime.block_on(get(&http, &page, stop)) {
            Ok(body) => body,
            Err(fetch::FetchError::Stopped) => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let page = lists::repos(&body).map_err(|why| failed(&why))?;
        bad += page.bad;
        let names = page.lines.iter().map(|line| line.did.as_str());
        let step = walk.page(names, page.cursor.clone(), started.elapsed());
        for line in page.lines {
            if line.status.is_none() {
                reservoir.add(line.did);
            }
        }
        match step {
            Step::Next(next) => cursor = Some(next),
            Step::End => return Ok(Some(bad)),
            Step::InPart(why) | Step::Broken(why) => return Err(failed(&why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64) -> Vec<String> {
        let mut reservoir = Reservoir::new(5, seed);
        (0..50).for_each(|n| reservoir.add(n.to_string()));
        assert_eq!((reservoir.seen, reservoir.kept.len()), (50, 5));
        reservoir.kept
    }

    #[test]
    fn each_account_has_the_same_chance_and_a_seed_draws_the_same() {
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let mut times = [0u32; 50];
        for seed in 0..4000 {
            for did in drawn(seed) {
                times[did.parse::<usize>().unwrap()] += 1;
            }
        }
        // 400 on average, with a standard deviation of 19.
        assert!(times.iter().all(|n| (310..490).contains(n)), "{times:?}");
    }

    #[test]
    fn a_short_list_is_drawn_completely() {
        let mut reservoir = Reservoir::new(5, 1);
        for did in ["a", "b"] {
            reservoir.add(did.to_owned());
        }
        assert_eq!(reservoir.kept, ["a", "b"]);
    }
}
