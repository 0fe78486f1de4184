//! Streams of a practice network, as they come through a socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use fetch::guard::Private;
use fetch::stream::{Frames, StreamError, StreamLimits};
use fetch::{Client, FetchError, Limits, Redirects};
use simnet::{LiveSettings, Network, NetworkSettings, StreamFault};
use std::time::Duration;

fn client(private: Private) -> Client {
    let limits = Limits {
        total: Duration::from_secs(60),
        stall: Duration::from_secs(20),
        bytes: 1 << 20,
        private,
        redirects: Redirects::Never,
    };
    Client::for_streams("skyfill-test", limits).unwrap()
}

fn network() -> Network {
    Network::start(NetworkSettings {
        seed: 3,
        repos: 12,
        records: 300,
        hosts: 2,
        ..NetworkSettings::default()
    })
}

/// A busy machine answers late.
const LIMITS: StreamLimits = StreamLimits {
    ping: Duration::from_millis(200),
    idle: Duration::from_secs(2),
    quiet: None,
    buffer_bytes: 1 << 20,
};

async fn follow(network: &Network, cursor: Option<i64>, limits: StreamLimits) -> Frames {
    let relay = network.relay_url();
    client(Private::default().or_all(true))
        .follow(&relay, cursor, limits)
        .await
        .unwrap()
}

/// Frames up to the end of the stream, or up to `count` of them; how many, and the end.
async fn all(frames: &mut Frames, count: usize) -> (usize, Option<StreamError>) {
    for got in 0..count {
        match frames.next().await {
            Ok(frame) => assert!(!frame.is_empty()),
            Err(end) => return (got, Some(end)),
        }
    }
    (count, None)
}

#[tokio::test]
async fn a_life_comes_whole_and_a_quiet_host_stays() {
    let network = network();
    let before = network.head();
    let mut frames = follow(&network, Some(0), LIMITS).await;
    let settings = LiveSettings {
        events: 300,
        ..LiveSettings::default()
    };
    let last = network.live(&settings).play_all();
    assert!(last >= before + 300);
    let (got, end) = all(&mut frames, usize::try_from(last).unwrap()).await;
    assert_eq!((got as u64, end), (last, None));
    // Longer than a silent other side is borne: this one answers pings.
    let nothing = tokio::time::timeout(LIMITS.idle * 3 / 2, frames.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    network.change(7, 1);
    assert!(frames.next().await.is_ok());
}

#[tokio::test]
async fn silence_ends_a_stream_that_should_have_events() {
    let network = network();
    let quiet = Some(Duration::from_millis(300));
    let mut frames = follow(&network, None, StreamLimits { quiet, ..LIMITS }).await;
    let end = frames.next().await;
    assert_eq!(end, Err(StreamError::Quiet(Duration::from_millis(300))));
    // It stays ended.
    assert_eq!(frames.next().await, end);
}

fn life(network: &Network, faults: &[StreamFault]) -> simnet::Live {
    network.live(&LiveSettings {
        events: 60,
        faults: faults.to_vec(),
        fault_every: 10,
        ..LiveSettings::default()
    })
}

#[tokio::test]
async fn a_stream_that_stalls_or_breaks_says_so_and_goes_on_after_its_cursor() {
    for (fault, ended) in [
        (StreamFault::Stall, "no sign of life"),
        (StreamFault::Drop, "connection broke"),
    ] {
        let network = network();
        let mut live = life(&network, &[fault]);
        let (cursor, last) = (network.head(), live.play_all());
        let mut got = usize::try_from(cursor).unwrap();
        let mut ends = 0;
        while got < usize::try_from(last).unwrap() {
            let at = Some(i64::try_from(got).unwrap());
            let mut frames = follow(&network, at, LIMITS).await;
            // Each break takes a number, which nothing comes under.
            let left = usize::try_from(last).unwrap() - got;
            let (more, end) = all(&mut frames, left).await;
            got += more;
            if let Some(end) = end {
                assert_eq!(end.reason(), ended);
                ends += 1;
                got += 1;
            }
        }
        assert_eq!(Some(&ends), live.counts().get(fault.word()), "{fault:?}");
    }
}

#[tokio::test]
async fn messages_that_are_too_large_end_the_stream_and_text_is_skipped() {
    let network = network();
    let mut live = life(&network, &[StreamFault::GiantFrame]);
    live.play_all();
    let mut frames = follow(&network, Some(0), LIMITS).await;
    let (_, end) = all(&mut frames, 1000).await;
    assert!(
        matches!(end, Some(StreamError::TooLarge { bytes }) if bytes > 20 << 20),
        "{end:?}"
    );
    let mut live = life(&network, &[StreamFault::OversizedFrame]);
    let from = i64::try_from(network.head()).unwrap();
    live.play_all();
    let mut frames = follow(&network, Some(from), LIMITS).await;
    let mut largest = 0;
    for _ in 0..60 {
        largest = largest.max(frames.next().await.unwrap().len());
    }
    assert!(largest > 6 << 20, "{largest}");
    let from = network.head();
    let mut live = network.live(&LiveSettings {
        faults: vec![StreamFault::GarbageFrame],
        events: 200,
        fault_every: 3,
        ..LiveSettings::default()
    });
    let count = live.frames().len();
    let texts = live.play_all() - from - count as u64;
    let cursor = Some(i64::try_from(from).unwrap());
    let mut frames = follow(&network, cursor, LIMITS).await;
    for _ in 0..count {
        // Empty frames are frames.
        frames.next().await.unwrap();
    }
    assert!(texts > 0 && frames.skipped() == texts, "{texts}");
}

#[tokio::test]
async fn who_reads_slowly_is_waited_for() {
    let network = network();
    let settings = LiveSettings {
        events: 4000,
        commits: 1000,
        ..LiveSettings::default()
    };
    network.live(&settings).play_all();
    let limits = StreamLimits {
        buffer_bytes: 100_000,
        ..LIMITS
    };
    let mut frames = follow(&network, Some(0), limits).await;
    assert!(frames.next().await.is_ok());
    // The buffer fills up, and no further.
    while frames.buffered_bytes() < 60_000 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(LIMITS.idle * 3 / 2).await;
    assert!(frames.buffered_bytes() <= 100_000);
    let (got, end) = all(&mut frames, 3999).await;
    assert_eq!((got, end), (3999, None));
}

#[tokio::test]
async fn private_relays_are_refused_unless_the_operator_named_them() {
    let network = network();
    let relay = network.relay_url();
    let refused = client(Private::default())
        .follow(&relay, None, LIMITS)
        .await;
    assert!(matches!(
        refused.err(),
        Some(StreamError::Open(FetchError::Blocked(_)))
    ));
    let named = Private::named([relay.as_str()]);
    let with_scheme = relay.replace("http://", "ws://");
    assert!(
        client(named)
            .follow(&with_scheme, None, LIMITS)
            .await
            .is_ok()
    );
    let future = client(Private::default().or_all(true))
        .follow(&relay, Some(1 << 40), LIMITS)
        .await;
    let frame = future.unwrap().next().await.unwrap();
    assert!(String::from_utf8_lossy(&frame).contains("FutureCursor"));
}
