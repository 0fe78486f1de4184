//! `make bench`: skyfill against the least that the same work can cost, in one run, in turns, on
//! one server.
//!
//! - `client`: repos in memory to rows that go nowhere, on one core, beside SHA-256 alone.
//! - `load`: `skyfill run` against a bare COPY of the same rows into the same tables without
//!   indexes, and the bare index builds.
//! - `scale`: the load phase at two sizes.
//! - `large`: single large repos, with their peak memory.
//! - `consumer`: lines through `skyfill consumer`.
//! - `network`: a practice network with every fault, and one whose fullest host sets the time.
//! - `hostile-host`: a hostile host beside good ones, with each fault in turn.
//! - `paper`: the full network, on a virtual clock.
//!
//! The report goes to stdout, what happens to stderr.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of the developers, which may end when its output does"
)]

mod bare;
mod client;
mod consumer;
mod cpu;
mod hostile;
mod large;
mod load;
mod network;
mod paper;
mod scene;
mod stream;

use std::path::PathBuf;

const USAGE: &str = "usage: bench client [RECORDS] [ROUNDS]
       bench load SKYFILL [RECORDS] [ROUNDS]
       bench scale SKYFILL [RECORDS] [RECORDS]
       bench large SKYFILL
       bench consumer SKYFILL [RECORDS] [ROUNDS]
       bench network SKYFILL [REPOS] [HOSTS]
       bench limit SKYFILL [REPOS]
       bench hostile-host SKYFILL [REPOS] [ROUNDS] [FAULT...]
       bench paper [REPOS]";

fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_default();
    let binary = if matches!(what.as_str(), "client" | "paper") {
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
        "scale" => load::scale(&binary, [number(1_000_000), number(10_000_000)]),
        "large" => large::run(&binary),
        "consumer" => consumer::run(&binary, number(300_000), number(3)),
        "network" => network::faults(&binary, number(20_000), number(300)),
        "limit" => network::limit(&binary, number(6000)),
        "hostile-host" => {
            let (repos, rounds) = (number(2000), number(3));
            hostile::run(&binary, repos, rounds, &args.collect::<Vec<String>>())
        }
        "paper" => paper::run(number(45_000_000) as u64),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2)
        }
    };
    print!("{report}");
}
