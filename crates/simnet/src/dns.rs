//! A DNS server on loopback that knows some TXT records and nothing else (RFC 1035).

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The server; it ends with the value.
pub struct Dns {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Dns {
    /// Starts on a free port of loopback. `records` are names in lower case and the texts of their
    /// TXT records; a name whose list is empty gets an error of the server.
    ///
    /// # Panics
    /// The system gives no socket.
    #[must_use]
    pub fn start(records: HashMap<String, Vec<String>>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port for the practice DNS");
        let address = socket
            .local_addr()
            .expect("the address of the practice DNS");
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout for the practice DNS");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut packet = [0u8; 512];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else {
                    continue;
                };
                if let Some(answer) = answer(&packet[..length], &records) {
                    // Whoever asked may be gone.
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        Self { address, stop }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

/// The answer to a query of one question.
fn answer(query: &[u8], records: &HashMap<String, Vec<String>>) -> Option<Vec<u8>> {
    let (name, end) = question_name(query)?;
    // Type and class follow the name.
    let question = query.get(12..end + 4)?;
    let texts = records.get(&name);
    let code = match texts {
        None => NO_SUCH_NAME,
        Some(texts) if texts.is_empty() => SERVER_FAILURE,
        Some(_) => 0,
    };
    let texts = texts.map(Vec::as_slice).unwrap_or_default();
    let mut out = query.get(..2)?.to_vec();
    // An answer, recursion asked for and available; one question, so many answers.
    out.extend([0x81, 0x80 | code, 0, 1]);
    out.extend(u16::try_from(texts.len()).ok()?.to_be_bytes());
    out.extend([0; 4]);
    out.extend(question);
    for text in texts {
        // The name of the question, TXT, IN, a minute.
        out.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60]);
        let parts: Vec<u8> = text
            .as_bytes()
            .chunks(255)
            .flat_map(|part| [&[u8::try_from(part.len()).unwrap_or(0)], part].concat())
            .collect();
        out.extend(u16::try_from(parts.len()).ok()?.to_be_bytes());
        out.extend(parts);
    }
    Some(out)
}

/// The name in the question, in lower case, and where it ends.
fn question_name(query: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
}
