//! Single large repos over HTTP on loopback: they pass, in how much memory.

use crate::scene::{Scene, run as run_command, skyfill_run};
use atrepo::cbor::Writer;
use atrepo::syntax;
use simnet::{Answer, Server};
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// So many posts of so many bytes of text each.
fn posts(count: u64, text: usize) -> Vec<(String, Vec<u8>)> {
    (0..count)
        .map(|number| {
            let mut w = Writer::new();
            w.map(3)
                .text("text")
                .text(&format!("{number:08}{}", "x".repeat(text)));
            w.text("$type").text("app.bsky.feed.post");
            w.text("createdAt").text("2024-05-01T10:00:00.000Z");
            let tid = syntax::tid(1_650_000_000_000_000 + number * 1_000_000, 1);
            (format!("app.bsky.feed.post/{tid}"), w.into_bytes())
        })
        .collect()
}

/// Likes of so many posts.
fn likes(count: u64) -> Vec<(String, Vec<u8>)> {
    (0..count)
        .map(|number| {
            let tid = syntax::tid(1_650_000_000_000_000 + number * 1_000_000, 1);
            let mut w = Writer::new();
            w.map(3)
                .text("$type")
                .text("app.bsky.feed.like")
                .text("subject")
                .map(2);
            w.text("cid")
                .text("bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua");
            w.text("uri")
                .text(&format!("at://did:plc:subject/app.bsky.feed.post/{tid}"));
            w.text("createdAt").text("2024-05-01T10:00:00.000Z");
            (format!("app.bsky.feed.like/{tid}"), w.into_bytes())
        })
        .collect()
}

/// Runs it; the report.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn run(binary: &Path) -> String {
    let scene = Scene::new();
    let mut out = "| repo | MB of CAR | rows of `record` | skipped | seconds to loaded | client peak MiB (budget 1024) |\n|---|---|---|---|---|---|\n".to_owned();
    for (name, records) in [
        ("300,000 likes", likes(300_000)),
        ("2 GB", {
            // Half of it posts that are too long for the lexicon, and so are skipped; the rest
            // likes.
            let mut all = posts(300_000, 3500);
            all.extend(likes(3_400_000));
            all
        }),
    ] {
        eprintln!("generating {name}");
        let did = "did:plc:large";
        let car = simnet::build_repo(did, "3lzfcijpj2z2a", records);
        let bytes = car.len();
        let server = Server::start(HashMap::from([(
            did.to_owned(),
            Answer::Repo(Arc::new(car)),
        )]));
        let dids = scene.folder().join("dids.jsonl");
        std::fs::write(&dids, format!("[\"{did}\",\"{}\"]\n", server.url())).expect("a DID file");
        scene.fresh("filled");
        let url = scene.url("filled");
        let took = scene.time(|| {
            let mut command = skyfill_run(binary, &url, None);
            command.arg(&dids).args([
                "--allow-private-hosts",
                "--host-rate",
                "10000",
                "--processing-timeout",
                "600",
            ]);
            run_command(command.env("SKYFILL_FAILPOINT", "phase"), true)
        });
        let row = scene
            .connect("filled")
            .query_one(
                "SELECT records, skipped FROM skyfill.repo WHERE state = 'loaded'",
                &[],
            )
            .expect("it is loaded");
        let (stored, skipped): (i64, i64) = (row.get(0), row.get(1));
        let _ = writeln!(
            out,
            "| {name} | {} | {stored} | {skipped} | {:.1} | {:.0} |",
            bytes / 1_000_000,
            took.seconds,
            took.peak_mib
        );
    }
    out
}
