//! A PDS on loopback that answers `getRepo` as it is told: well, or in any of the ways in which hosts go wrong. It also is a PLC
//! directory, the host of did:web documents and of well-known files of handles. Written on the bare socket, so that it can break HTTP
//! where a library would not.
//!
//! What is asked for has a name: the DID for `getRepo`; `latest DID` for `getLatestCommit`, which follows from the repo if nothing else was set; `audit DID` for the PLC's log; `plc DID`, `web HOST` and `handle HOST` for documents and handles; `export AFTER`
//! for the PLC's export.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a request gets.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 200 and this body, compressed if the client takes it.
    Repo(Arc<Vec<u8>>),
    /// A status with headers and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// A redirect.
    Redirect(String),
    /// The connection is reset before an answer.
    Reset,
    /// 200, a length, part of the body, and then nothing for good.
    Stall(Arc<Vec<u8>>),
    /// 200 and a byte now and then.
    Drip(Arc<Vec<u8>>),
    /// 200 and bytes without end.
    Endless,
    /// 200, gzip of zeros that unpack to this many bytes.
    Bomb(u64),
    /// 200, a length, less than that, and the end.
    Short(Arc<Vec<u8>>),
    /// The first time the one, then the other.
    Then(Box<Answer>, Box<Answer>),
}

impl Answer {
    /// 200 and a text.
    #[must_use]
    pub fn text(body: impl Into<String>) -> Self {
        Self::Status(200, Vec::new(), body.into())
    }

    /// An XRPC error.
    #[must_use]
    pub fn error(status: u16, name: &str) -> Self {
        Self::Status(
            status,
            Vec::new(),
            format!("{{\"error\":\"{name}\",\"message\":\"said so\"}}"),
        )
    }
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    requests: AtomicU64,
    connections: AtomicU64,
    compressed: AtomicU64,
}

/// The server; it ends with the value.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
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
        let shared = Arc::new(Shared {
            answers: Mutex::new(answers),
            ..Shared::default()
        });
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port for the practice server");
        let address = listener.local_addr().expect("the address of the practice server");
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
async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let (head_length, asked, takes_gzip) = loop {
            if let Some(found) = parse_head(&buffer) {
                break found;
            }
            if buffer.len() > 64 << 10 || stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        buffer.drain(..head_length);
        shared.requests.fetch_add(1, Ordering::Relaxed);
        let answer = next_answer(shared, &asked);
        if !respond(&mut stream, shared, answer, takes_gzip).await? {
            return Ok(());
        }
    }
}

/// The answer to what is asked; of [`Answer::Then`] only the second part is left for the next time.
fn next_answer(shared: &Shared, asked: &str) -> Answer {
    let mut answers = shared.answers.lock().unwrap_or_else(PoisonError::into_inner);
    match answers.get(asked).cloned() {
        Some(Answer::Then(first, second)) => {
            answers.insert(asked.to_owned(), *second);
            *first
        }
        Some(answer) => answer,
        None if asked.starts_with("latest ") => match answers.get(asked.trim_start_matches("latest ")) {
            Some(Answer::Repo(car)) => latest_commit(car),
            Some(other) => other.clone(),
            None => Answer::error(400, "RepoNotFound"),
        },
        None if asked.contains(' ') => Answer::error(404, "NotFound"),
        None => Answer::error(400, "RepoNotFound"),
    }
}

/// What `getLatestCommit` says of a repo.
fn latest_commit(car: &[u8]) -> Answer {
    let found = atrepo::BlockIndex::build(car).ok().and_then(|(root, blocks)| {
        let commit = atrepo::Commit::parse(blocks.get(&root)?).ok()?;
        Some((root, commit.rev))
    });
    match found {
        Some((root, rev)) => Answer::text(format!("{{\"cid\":\"{root}\",\"rev\":\"{rev}\"}}")),
        None => Answer::error(500, "InternalServerError"),
    }
}

/// Length of a complete request head, what is asked for, and whether gzip is taken.
fn parse_head(buffer: &[u8]) -> Option<(usize, String, bool)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = request.parse(buffer) else {
        return None;
    };
    let host = request
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("host"))
        .map(|header| String::from_utf8_lossy(header.value).to_ascii_lowercase())
        .unwrap_or_default();
    let (path, query) = request.path?.split_once('?').unwrap_or((request.path?, ""));
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(key, _)| *key == name).map_or("", |(_, value)| value);
        found.replace("%3A", ":").replace("%25", "%")
    };
    let asked = match path {
        "/.well-known/atproto-did" => format!("handle {host}"),
        "/.well-known/did.json" => format!("web {host}"),
        "/export" => format!("export {}", parameter("after")),
        "/xrpc/com.atproto.sync.getLatestCommit" => format!("latest {}", parameter("did")),
        path if path.starts_with("/did:") && path.ends_with("/log/audit") => {
            format!("audit {}", path.trim_matches('/').trim_end_matches("/log/audit"))
        }
        path if path.starts_with("/did:") => format!("plc {}", path.trim_start_matches('/')),
        _ => parameter("did"),
    };
    let takes_gzip = request.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("accept-encoding")
            && String::from_utf8_lossy(header.value).contains("gzip")
    });
    Some((length, asked, takes_gzip))
}

const CAR: &str = "content-type: application/vnd.ipld.car\r\n";

/// Whether the connection goes on.
async fn respond(
    stream: &mut TcpStream,
    shared: &Shared,
    answer: Answer,
    takes_gzip: bool,
) -> std::io::Result<bool> {
    match answer {
        Answer::Repo(body) if takes_gzip && body.len() > 1024 => {
            shared.compressed.fetch_add(1, Ordering::Relaxed);
            write_packed(stream, &body).await?;
            Ok(true)
        }
        Answer::Repo(body) => {
            stream.write_all(head_with_length(body.len()).as_bytes()).await?;
            stream.write_all(&body).await?;
            Ok(true)
        }
        Answer::Status(status, headers, body) => {
            let headers: String = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            let head = format!(
                "HTTP/1.1 {status} Said So\r\n{headers}content-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            Ok(true)
        }
        Answer::Redirect(to) => {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            Ok(true)
        }
        Answer::Reset | Answer::Then(..) => Ok(false),
        Answer::Stall(body) => {
            stream.write_all(head_with_length(body.len()).as_bytes()).await?;
            stream.write_all(&body[..body.len() / 2]).await?;
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Ok(false)
        }
        Answer::Drip(body) => {
            stream.write_all(head_with_length(body.len()).as_bytes()).await?;
            for byte in body.iter() {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(true)
        }
        Answer::Endless => {
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\n{CAR}connection: close\r\n\r\n").as_bytes())
                .await?;
            let chunk = vec![0u8; 64 << 10];
            loop {
                stream.write_all(&chunk).await?;
            }
        }
        Answer::Bomb(bytes) => {
            write_packed(stream, &vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)]).await?;
            Ok(true)
        }
        Answer::Short(body) => {
            stream.write_all(head_with_length(body.len()).as_bytes()).await?;
            stream.write_all(&body[..body.len() * 2 / 3]).await?;
            Ok(false)
        }
    }
}

/// 200 and a body in gzip.
async fn write_packed(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let packed = gzip(body)?;
    let head = format!(
        "HTTP/1.1 200 OK\r\n{CAR}content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        packed.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&packed).await
}

fn head_with_length(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\n{CAR}content-length: {length}\r\n\r\n")
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
