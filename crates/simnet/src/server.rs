//! A PDS on loopback that answers `getRepo` as it is told: well, or in any of the ways in which
//! hosts go wrong. It also is a PLC directory, the host of did:web documents and of well-known
//! files of handles.
//!
//! What is asked for has a name: the DID for `getRepo`; `latest DID` for `getLatestCommit`, which
//! follows from the repo if nothing else was set; `record DID KEY` for `getRecord`, which follows
//! from the repo, too; `audit DID` for the PLC's log; `plc DID`, `web
//! HOST` and `handle HOST` for documents and handles; `export AFTER` for the PLC's export.

use crate::answer::{self, Answer};
use crate::repo::build_proof;
use crate::request::{self, Request};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};

#[derive(Default)]
struct ServerAnswers {
    answers: Mutex<HashMap<String, Answer>>,
    requests: AtomicU64,
    connections: AtomicU64,
    compressed: AtomicU64,
}

/// The server; it ends with the value.
pub struct Server {
    address: SocketAddr,
    shared: Arc<ServerAnswers>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Starts on a free port of loopback.
    ///
    /// # Panics
    /// The system gives no socket or threads.
    #[must_use]
    pub fn start(answers: HashMap<String, Answer>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads for the practice server");
        let shared = Arc::new(ServerAnswers {
            answers: Mutex::new(answers),
            ..ServerAnswers::default()
        });
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port for the practice server");
        let address = listener
            .local_addr()
            .expect("the address of the practice server");
        let serving = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { drop(serve(stream, &shared).await) });
            }
        });
        Self {
            address,
            shared,
            runtime: Some(runtime),
        }
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what requests for `asked` get.
    pub fn set(&self, asked: &str, answer: Answer) {
        self.shared
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(asked.to_owned(), answer);
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Answers so far that were compressed.
    #[must_use]
    pub fn compressed(&self) -> u64 {
        self.shared.compressed.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Requests of one connection, one after the other.
async fn serve(mut stream: TcpStream, shared: &ServerAnswers) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = request::read(&mut stream, &mut buffer).await? {
        shared.requests.fetch_add(1, Ordering::Relaxed);
        let answer = next_answer(shared, &asked(&request));
        if request.takes_gzip && answer.is_packed() {
            shared.compressed.fetch_add(1, Ordering::Relaxed);
        }
        if !answer::write(&mut stream, &answer, request.takes_gzip, "").await? {
            break;
        }
    }
    Ok(())
}

/// The answer to what is asked; of [`Answer::Then`] only the second part is left for the next time.
fn next_answer(shared: &ServerAnswers, asked: &str) -> Answer {
    let mut answers = shared
        .answers
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    match answers.get(asked).cloned() {
        Some(Answer::Then(first, second)) => {
            answers.insert(asked.to_owned(), *second);
            *first
        }
        Some(answer) => answer,
        None if asked.starts_with("latest ") => {
            match answers.get(asked.trim_start_matches("latest ")) {
                Some(Answer::Repo(car)) => latest_commit(car),
                Some(other) => other.clone(),
                None => Answer::error(400, "RepoNotFound"),
            }
        }
        None if asked.starts_with("record ") => {
            let (did, key) = asked
                .trim_start_matches("record ")
                .split_once(' ')
                .unwrap_or_default();
            match answers.get(did) {
                Some(Answer::Repo(car)) => Answer::Repo(Arc::new(build_proof(car, key))),
                Some(other) => other.clone(),
                None => Answer::error(400, "RepoNotFound"),
            }
        }
        None if asked.contains(' ') => Answer::error(404, "NotFound"),
        None => Answer::error(400, "RepoNotFound"),
    }
}

/// What `getLatestCommit` says of a repo.
fn latest_commit(car: &[u8]) -> Answer {
    let found = atrepo::BlockIndex::build(car)
        .ok()
        .and_then(|(root, blocks)| {
            let commit = atrepo::Commit::parse(blocks.get(&root)?).ok()?;
            Some((root, commit.rev))
        });
    match found {
        Some((root, rev)) => Answer::text(format!("{{\"cid\":\"{root}\",\"rev\":\"{rev}\"}}")),
        None => Answer::error(500, "InternalServerError"),
    }
}

/// The name of what is asked for.
fn asked(request: &Request) -> String {
    let (host, parameter) = (&request.host, |name: &str| {
        request.parameter(name).unwrap_or_default()
    });
    match request.path.as_str() {
        "/.well-known/atproto-did" => format!("handle {host}"),
        "/.well-known/did.json" => format!("web {host}"),
        "/export" => format!("export {}", parameter("after")),
        "/xrpc/com.atproto.sync.getLatestCommit" => format!("latest {}", parameter("did")),
        "/xrpc/com.atproto.sync.getRecord" => {
            format!("record {} {}", parameter("did"), request.record_key())
        }
        path if path.starts_with("/did:") && path.ends_with("/log/audit") => {
            format!(
                "audit {}",
                path.trim_matches('/').trim_end_matches("/log/audit")
            )
        }
        path if path.starts_with("/did:") => format!("plc {}", path.trim_start_matches('/')),
        _ => parameter("did").to_owned(),
    }
}
