//! Connections: a bounded number, each for a bounded time, with requests of a bounded size. Whoever
//! holds connections open keeps other viewers out for seconds, and the run from nothing.

use crate::answer;
use crate::shared::Served;
use crate::{give_way, now_millis};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at once; more are closed at once. A browser opens up to six.
const MOST_CONNECTIONS: usize = 128;
/// A request's head has to be there within so long a time. Idle connections end then, too.
const HEAD: Duration = Duration::from_secs(5);
/// Largest head of a request, in bytes, and most lines of it.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_LINES: usize = 64;
/// A connection takes no more requests after so long a time; browsers open another one.
const LONGEST: Duration = Duration::from_secs(60);
/// Then, what is being sent has so long to be read.
const LAST: Duration = Duration::from_secs(5);
/// Out of file descriptors, for instance: the next try comes after this.
const AFTER_TROUBLE: Duration = Duration::from_millis(500);

/// Time between samples.
const SAMPLE: Duration = Duration::from_secs(1);

/// Starts the thread that serves.
pub(crate) fn start(listener: TcpListener, shared: &Arc<Served>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shared = Arc::clone(shared);
    let name = "dashboard".to_owned();
    std::thread::Builder::new().name(name).spawn(move || {
        give_way();
        runtime.block_on(async {
            tokio::spawn(sample(Arc::clone(&shared)));
            accept(listener, shared).await;
        });
    })?;
    Ok(())
}

/// Takes samples until the process ends.
async fn sample(shared: Arc<Served>) {
    let mut ticks = tokio::time::interval(SAMPLE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let known = shared.stored.known();
        shared.live().take_sample(now_millis(), &known);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Served>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!("the dashboard is not served: {error}");
            return;
        }
    };
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                    tokio::spawn(serve(stream, slot, Arc::clone(&shared)));
                }
            }
            Err(error) => {
                tracing::debug!("the dashboard cannot accept a connection: {error}");
                tokio::time::sleep(AFTER_TROUBLE).await;
            }
        }
    }
}

/// Serves one connection. What goes wrong with it is its client's matter.
async fn serve(stream: TcpStream, slot: OwnedSemaphorePermit, shared: Arc<Served>) {
    let service = service_fn(|request| answer::answer(Arc::clone(&shared), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_LINES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if tokio::time::timeout(LONGEST, connection.as_mut())
        .await
        .is_err()
    {
        connection.as_mut().graceful_shutdown();
        drop(tokio::time::timeout(LAST, connection).await);
    }
    drop(slot);
}
