//! Measures a life of the practice network, without a database: how fast it is made, how fast the
//! relay tells it through a socket, and how fast its events are decoded and proved on one thread.
//!
//!     cargo run --release -p simnet --example stream-rate -- 200000

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use bytes::Bytes;
use discover::events::{Decoded, Event, decode};
use futures_util::StreamExt;
use simnet::{LiveSettings, Network, NetworkSettings};
use std::time::Instant;
use tokio_tungstenite::client_async;

#[allow(clippy::cast_precision_loss, reason = "a rate")]
fn rate(what: &str, count: usize, begin: Instant) {
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{what}: {count} in {seconds:.2} s, {:.0} per second",
        count as f64 / seconds
    );
}

fn main() {
    let events = std::env::args().nth(1).and_then(|count| count.parse().ok());
    let events = events.unwrap_or(100_000);
    let network = Network::start(NetworkSettings {
        repos: 2_000,
        records: 100_000,
        hosts: 10,
        ..NetworkSettings::default()
    });
    let settings = LiveSettings {
        events,
        ..LiveSettings::default()
    };
    let begin = Instant::now();
    let mut live = network.live(&settings);
    rate("made", live.events_left(), begin);
    println!("{:?}", live.counts());

    let frames: Vec<Bytes> = live.frames().into_iter().map(Bytes::from).collect();
    let bytes: usize = frames.iter().map(Bytes::len).sum();
    println!("{} bytes per event", bytes / frames.len().max(1));
    let begin = Instant::now();
    let decoded: Vec<Decoded> = frames
        .iter()
        .filter_map(|frame| decode(frame).ok())
        .collect();
    rate("decoded", decoded.len(), begin);
    let (begin, mut proved) = (Instant::now(), 0);
    for event in &decoded {
        if let Decoded::Event(Event::Commit(commit)) = event {
            proved += usize::from(atrepo::sync::check_commit(&commit.claim()).is_ok());
        }
    }
    rate("commits proved, but for signatures", proved, begin);

    let (from, begin) = (network.head(), Instant::now());
    let last = live.play_all();
    rate("played", usize::try_from(last - from).unwrap_or(0), begin);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("threads");
    runtime.block_on(async {
        let address = network.relay_url().replace("http://", "");
        let url = format!("ws://{address}/xrpc/com.atproto.sync.subscribeRepos?cursor={from}");
        let socket = tokio::net::TcpStream::connect(&address)
            .await
            .expect("a relay");
        let (mut stream, _) = client_async(url, socket).await.expect("a stream");
        let (begin, mut got) = (Instant::now(), 0);
        for _ in from..last {
            if stream.next().await.is_none() {
                break;
            }
            got += 1;
        }
        rate("told and received through a socket", got, begin);
    });
}
