//! What grows while `skyfill follow` follows for a long time: its memory, schema `skyfill`, the
//! tables whose rows change again and again, and how far it is behind.

use crate::cpu::rss_kib;
use crate::follow::{RECORDS, REPOS, cursor, load, network, start, stop};
use crate::scene::Scene;
use ledger::follow;
use postgres::Client;
use simnet::LiveSettings;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Steps of the network in an hour of its clock, which has twenty in a second.
const HOUR: usize = 72_000;
/// Tables whose rows change again and again.
const HOT: &[&str] = &[
    "bsky.post_agg",
    "bsky.profile_agg",
    "bsky.actor_sync",
    "bsky.notification",
    "skyfill.repo",
    "skyfill.stream",
    "skyfill.change",
];

/// Follows so many hours of the stream, as fast as it can.
pub(crate) fn run(binary: &Path, hours: usize) -> String {
    let (scene, network) = (Scene::new(), network());
    load(&scene, binary, &network);
    let mut client = scene.connect("follow");
    let child = start(binary, &network, &scene.url("follow"));
    let mut out = format!(
        "### Following for {hours} hours of the stream's clock, {HOUR} steps an hour, as fast as it can: {REPOS} repos with {} records at first\n\n\
         | hour | events | events per second | lag after 2 s, events | memory now, MiB | schema skyfill, MB | database, MB |",
        REPOS * RECORDS
    );
    for table in HOT {
        let _ = write!(out, " {table}, MB, dead rows |");
    }
    let _ = writeln!(out, "\n|{}", "---|".repeat(7 + HOT.len()));
    let mut before = 0;
    for hour in 1..=hours {
        let mut life = network.live(&LiveSettings {
            seed: 100 + hour as u64,
            events: HOUR,
            commits: 990,
            ..LiveSettings::default()
        });
        let began = Instant::now();
        let head = life.play_all();
        while cursor(&mut client, &network) < i64::try_from(head).expect("a number") {
            assert!(began.elapsed() < Duration::from_secs(600), "it hangs");
            std::thread::sleep(Duration::from_millis(20));
        }
        let seconds = began.elapsed().as_secs_f64();
        // What is computed and fetched beside it comes to its end.
        std::thread::sleep(Duration::from_secs(2));
        let waiting = follow::followed(&mut client, "bsky").expect("how it goes");
        let waiting = waiting.map_or(0, |followed| followed.waiting);
        let memory = rss_kib(child.id()) >> 10;
        row(
            &mut client,
            &mut out,
            (hour, head - before, seconds),
            waiting,
            memory,
        );
        eprintln!("hour {hour}: {seconds:.0} s");
        before = head;
    }
    stop(child);
    out
}

#[allow(clippy::cast_precision_loss)]
fn row(
    client: &mut Client,
    out: &mut String,
    (hour, events, seconds): (usize, u64, f64),
    waiting: u64,
    memory: u64,
) {
    let sizes = client.query_one(
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint / 1000000, pg_database_size(current_database()) / 1000000
         FROM pg_class c WHERE c.relnamespace = 'skyfill'::regnamespace AND c.relkind = 'r'",
        &[],
    );
    let sizes = sizes.expect("sizes");
    let (schema, database): (i64, i64) = (sizes.get(0), sizes.get(1));
    let rate = events as f64 / seconds;
    let _ = write!(
        out,
        "| {hour} | {events} | {rate:.0} | {waiting} | {memory} | {schema} | {database} |"
    );
    for table in HOT {
        let sql = "SELECT (pg_total_relation_size($1::text::regclass) / 100000)::float8 / 10, n_dead_tup FROM pg_stat_all_tables WHERE relid = $1::text::regclass";
        let of_table = client.query_one(sql, &[table]).expect("a size");
        let (size, dead): (f64, i64) = (of_table.get(0), of_table.get(1));
        let _ = write!(out, " {size:.1}, {dead} |");
    }
    out.push('\n');
}
