//! What a request gets, and how it is written: on the bare socket, so that it can break HTTP where
//! a library would not.

use crate::hostile::encoding::Encoding;
use flate2::write::GzEncoder;
use flate2::{Compress, Compression, Crc, FlushCompress};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

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
    /// 200 and a body that is packed already, whether the client takes that or not.
    Packed(Encoding, Arc<Vec<u8>>),
    /// 200, a length, less than that, and the end.
    Short(Arc<Vec<u8>>),
    /// Nothing until a gate is open, then another answer.
    Behind(Gate, Box<Answer>),
    /// Nothing for a time, then another answer.
    Late(Duration, Box<Answer>),
    /// The first time the one, then the other.
    Then(Box<Answer>, Box<Answer>),
}

/// What holds answers back while it is closed. It is open at first.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }
}

impl Gate {
    /// Holds back what comes from now on.
    pub fn close(&self) {
        self.0.send_replace(false);
    }

    /// Lets all pass.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        // The sender is there as long as the gate is.
        drop(self.0.subscribe().wait_for(|is_open| *is_open).await);
    }
}

impl Answer {
    /// This answer, once the gate is open.
    #[must_use]
    pub fn behind(self, gate: &Gate) -> Self {
        Self::Behind(gate.clone(), Box::new(self))
    }

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

    /// 200 and JSON.
    pub(crate) fn json(body: String) -> Self {
        Self::Status(200, vec![json_type()], body)
    }

    /// An XRPC error with a message.
    pub(crate) fn refusal(status: u16, name: &str, message: &str) -> Self {
        let body = format!("{{\"error\":\"{name}\",\"message\":\"{message}\"}}");
        Self::Status(status, vec![json_type()], body)
    }

    /// Whether its body goes out compressed to a client that takes gzip.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self, Self::Repo(body) if (LEAST_PACKED..MOST_PACKED).contains(&body.len()))
    }
}

fn json_type() -> (&'static str, String) {
    ("content-type", "application/json".to_owned())
}

const CAR: &str = "content-type: application/vnd.ipld.car\r\n";
/// Smaller bodies are not worth compressing.
const LEAST_PACKED: usize = 1024;
/// Larger ones would be late: nothing is sent before all of a body is compressed.
const MOST_PACKED: usize = 1 << 20;
/// Time between two bytes of a body that drips.
const DRIP: Duration = Duration::from_millis(200);
/// A stalled connection is held for so long, unless the client leaves.
const STALL: Duration = Duration::from_secs(3600);

/// Writes an answer. `headers` are lines that stand in its head beside its own. Tells whether the
/// connection goes on.
pub(crate) async fn write(
    stream: &mut TcpStream,
    answer: &Answer,
    takes_gzip: bool,
    headers: &str,
) -> std::io::Result<bool> {
    match answer {
        Answer::Repo(body) if takes_gzip && answer.is_packed() => {
            let packed = tokio::task::block_in_place(|| gzip(body))?;
            let encoding = format!("content-encoding: gzip\r\n{headers}");
            let head = car_head(packed.len() as u64, &encoding);
            write_both(stream, &head, &packed).await?;
            Ok(true)
        }
        Answer::Repo(body) => {
            write_both(stream, &car_head(body.len() as u64, headers), body).await?;
            Ok(true)
        }
        Answer::Status(status, own, body) => {
            let head = status_head(*status, own, body.len(), headers);
            write_both(stream, &head, body.as_bytes()).await?;
            Ok(true)
        }
        Answer::Redirect(to) => {
            let head = format!(
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\n{headers}content-length: 0\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            Ok(true)
        }
        Answer::Reset => {
            stream.set_zero_linger()?;
            Ok(false)
        }
        Answer::Behind(gate, then) => {
            gate.passed().await;
            Box::pin(write(stream, then, takes_gzip, headers)).await
        }
        Answer::Late(time, then) => {
            tokio::time::sleep(*time).await;
            Box::pin(write(stream, then, takes_gzip, headers)).await
        }
        Answer::Then(..) => Ok(false),
        Answer::Stall(body) => {
            let head = car_head(body.len() as u64, headers);
            write_both(stream, &head, &body[..body.len() / 2]).await?;
            hold(stream).await;
            Ok(false)
        }
        Answer::Drip(body) => {
            drip(stream, &car_head(body.len() as u64, headers), body).await?;
            Ok(true)
        }
        Answer::Endless => write_without_end(stream, headers).await,
        Answer::Bomb(bytes) => {
            let bomb = Bomb::new(*bytes)?;
            let encoding = format!("content-encoding: gzip\r\n{headers}");
            write_both(stream, &car_head(bomb.length(), &encoding), &bomb.start).await?;
            for _ in 0..bomb.times {
                stream.write_all(&bomb.piece).await?;
            }
            stream.write_all(&bomb.end).await?;
            Ok(true)
        }
        Answer::Packed(encoding, body) => {
            let encoding = format!("content-encoding: {}\r\n{headers}", encoding.name());
            write_both(stream, &car_head(body.len() as u64, &encoding), body).await?;
            Ok(true)
        }
        Answer::Short(body) => {
            let head = car_head(body.len() as u64, headers);
            write_both(stream, &head, &body[..body.len() * 2 / 3]).await?;
            Ok(false)
        }
    }
}

/// Writes until the client leaves.
async fn write_without_end(stream: &mut TcpStream, headers: &str) -> std::io::Result<bool> {
    let head = format!("HTTP/1.1 200 OK\r\n{CAR}{headers}connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let chunk = vec![0u8; 64 << 10];
    loop {
        stream.write_all(&chunk).await?;
    }
}

/// Writes an answer, its body a byte now and then.
pub(crate) async fn write_slowly(
    stream: &mut TcpStream,
    answer: &Answer,
    headers: &str,
) -> std::io::Result<bool> {
    match answer {
        Answer::Repo(body) => drip(stream, &car_head(body.len() as u64, headers), body).await?,
        Answer::Status(status, own, body) => {
            drip(
                stream,
                &status_head(*status, own, body.len(), headers),
                body.as_bytes(),
            )
            .await?;
        }
        other => return write(stream, other, false, headers).await,
    }
    Ok(true)
}

/// Holds the connection without a word, until the client leaves it.
pub(crate) async fn hold(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    let leaves = async { while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {} };
    // Either way it is over.
    drop(tokio::time::timeout(STALL, leaves).await);
}

async fn write_both(stream: &mut TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}

async fn drip(stream: &mut TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    for byte in body {
        stream.write_all(&[*byte]).await?;
        tokio::time::sleep(DRIP).await;
    }
    Ok(())
}

fn car_head(length: u64, headers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{CAR}{headers}content-length: {length}\r\n\r\n")
}

fn status_head(
    status: u16,
    own: &[(&'static str, String)],
    length: usize,
    headers: &str,
) -> String {
    let own: String = own
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("HTTP/1.1 {status} Said So\r\n{own}{headers}content-length: {length}\r\n\r\n")
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// Zeros in gzip, of any number: the same compressed piece again and again.
struct Bomb {
    start: Vec<u8>,
    piece: Vec<u8>,
    times: u64,
    end: Vec<u8>,
}

impl Bomb {
    /// Zeros in a piece.
    const PIECE: usize = 1 << 20;

    fn new(bytes: u64) -> std::io::Result<Self> {
        let (times, rest) = (bytes / Self::PIECE as u64, bytes % Self::PIECE as u64);
        let zeros = vec![0u8; Self::PIECE];
        let rest = &zeros[..usize::try_from(rest).unwrap_or(0)];
        let deflate = |zeros: &[u8], flush| -> std::io::Result<Vec<u8>> {
            let mut out = Vec::with_capacity(64 << 10);
            Compress::new(Compression::fast(), false).compress_vec(zeros, &mut out, flush)?;
            Ok(out)
        };
        let (mut piece_sum, mut sum) = (Crc::new(), Crc::new());
        piece_sum.update(&zeros);
        (0..times).for_each(|_| sum.combine(&piece_sum));
        sum.update(rest);
        let mut end = deflate(rest, FlushCompress::Finish)?;
        end.extend(sum.sum().to_le_bytes());
        end.extend(sum.amount().to_le_bytes());
        Ok(Self {
            start: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff],
            // A full flush: the piece looks back at nothing before it and ends at a byte.
            piece: deflate(&zeros, FlushCompress::Full)?,
            times,
            end,
        })
    }

    fn length(&self) -> u64 {
        (self.start.len() + self.end.len()) as u64 + self.times * self.piece.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::Bomb;
    use std::io::Read;

    #[test]
    fn a_bomb_unpacks_to_its_zeros() {
        for bytes in [0u64, 5, 1 << 20, (3 << 20) + 77] {
            let bomb = Bomb::new(bytes).unwrap();
            let mut all = bomb.start.clone();
            (0..bomb.times).for_each(|_| all.extend(&bomb.piece));
            all.extend(&bomb.end);
            assert_eq!(all.len() as u64, bomb.length());
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&all[..])
                .read_to_end(&mut unpacked)
                .unwrap();
            assert!(unpacked.len() as u64 == bytes && unpacked.iter().all(|byte| *byte == 0));
        }
    }
}
