//! `make bench`: skyfill against the least that the same work can cost, in one run, in turns, on
//! one server.
//!
//! - `client`: repos in memory to rows that go nowhere, on one core, beside SHA-256 alone.
//! - `load`: `skyfill run` against a bare COPY of the same rows into the same tables without
//!   indexes, and the bare index builds.
//! - `changes`: once a database is finalized and proved, what changes cost against everything.
//! - `scale`: the load phase at two sizes.
//! - `large`: single large repos, with their peak memory.
//! - `consumer`: lines through `skyfill consumer`.
//! - `transport`: producers and consumers with sockets and with NATS between them.
//! - `export`: `skyfill export` beside DuckDB's own COPY to Parquet.
//! - `network`: a practice network with every fault, and one whose fullest host sets the time.
//! - `hostile-host`: a hostile host beside good ones, with each fault in turn.
//! - `ledger`: schema skyfill with as many repos as the full network has.
//! - `writes`: bytes that the server writes in each phase of a fresh load.
//! - `follow`: the event stream of a practice network, at once and at the pace of the network.
//! - `soak`: what grows while the stream is followed for hours of its clock.
//! - `costs`: what a record costs in each phase, table and index: the table of `skyfill plan`.
//! - `cache`: pages read where the database is larger than the server's cache.
//! - `paper`: the full network, on a virtual clock, and the phases after that.
//!
//! The report goes to stdout, what happens to stderr.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of the developers, which may end when its output does"
)]

mod bare;
mod cache;
mod changes;
mod client;
mod clock;
mod consumer;
mod costs;
mod cpu;
mod export;
mod follow;
mod hostile;
mod large;
mod ledger;
mod load;
mod network;
mod paper;
mod phases;
mod scene;
mod soak;
mod stream;
mod transport;
mod writes;

use std::path::PathBuf;

const USAGE: &str = "usage: bench client [RECORDS] [ROUNDS]
       bench load SKYFILL [RECORDS] [ROUNDS]
       bench changes SKYFILL [RECORDS] [CHANGED-REPOS]
       bench scale SKYFILL [RECORDS] [RECORDS]
       bench large SKYFILL
       bench consumer SKYFILL [RECORDS] [ROUNDS]
       bench transport SKYFILL [RECORDS]
       bench export SKYFILL [RECORDS] [ROUNDS]
       bench network SKYFILL [REPOS] [HOSTS]
       bench limit SKYFILL [REPOS]
       bench hostile-host SKYFILL [REPOS] [ROUNDS] [FAULT...]
       bench ledger [REPOS] [SKYFILL]
       bench writes SKYFILL [RECORDS]
       bench follow SKYFILL [EVENTS] [COMMITS-OF-1000] [FOLDER-OF-DEVNET]
       bench soak SKYFILL [HOURS]
       bench costs SKYFILL [RECORDS...]
       bench cache SKYFILL [RECORDS]
       bench paper [REPOS] [COSTS-FILE]";

fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    let binary = if matches!(what.as_str(), "client" | "ledger" | "paper") {
        PathBuf::new()
    } else {
        let Some(binary) = args.next() else {
            eprintln!("{USAGE}");
            std::process::exit(2)
        };
        // Benchmarks start it in folders of their own.
        std::path::absolute(binary).expect("a working directory")
    };
    let mut number = |default: usize| {
        args.next()
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let report = match what.as_str() {
        "client" => client::run(number(300_000), number(5)),
        "load" => load::run(&binary, number(1_000_000), number(3)),
        "changes" => changes::run(&binary, number(1_000_000), number(0)),
        "scale" => load::scale(&binary, [number(1_000_000), number(10_000_000)]),
        "large" => large::run(&binary),
        "consumer" => consumer::run(&binary, number(300_000), number(3)),
        "transport" => transport::run(&binary, number(300_000)),
        "export" => export::run(&binary, number(1_000_000), number(3)),
        "network" => network::faults(&binary, number(20_000), number(300)),
        "limit" => network::limit(&binary, number(6000)),
        "hostile-host" => {
            let (repos, rounds) = (number(2000), number(3));
            hostile::run(&binary, repos, rounds, &args.collect::<Vec<String>>())
        }
        "ledger" => {
            let repos = number(1_000_000) as u64;
            let binary = args.next().map(PathBuf::from);
            ledger::run(repos, binary.as_deref())
        }
        "writes" => writes::run(&binary, number(300_000)),
        "follow" => {
            let (events, commits) = (number(50_000), number(990) as u64);
            let devnet = args
                .next()
                .map(|path| std::path::absolute(path).expect("a folder"));
            follow::run(&binary, events, commits, devnet.as_deref())
        }
        "cache" => cache::run(&binary, number(2_000_000)),
        "soak" => soak::run(&binary, number(10)),
        "costs" => {
            let mut sizes: Vec<usize> = Vec::new();
            for text in args {
                sizes.push(text.parse().expect("a number"));
            }
            if sizes.is_empty() {
                sizes.extend([100_000, 300_000, 1_000_000, 2_000_000]);
            }
            costs::run(&binary, &sizes)
        }
        "paper" => {
            let repos = number(45_000_000) as u64;
            let costs = args.next().map_or_else(plan::Costs::committed, |path| {
                let text = std::fs::read_to_string(path).expect("a table of costs");
                plan::Costs::parse(&text).expect("a table of costs")
            });
            paper::run(repos, &costs)
        }
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2)
        }
    };
    print!("{report}");
}
