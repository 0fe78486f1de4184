//! The streams of the relay and of PDSes: a WebSocket that tells of events.

use super::accounts::State;
use super::events;
use super::log::{Item, Log, Next};
use super::world::World;
use crate::answer::{self, Answer};
use crate::request::Request;
use futures_util::{SinkExt, StreamExt};
use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Path of the stream.
pub(super) const SUBSCRIBE: &str = "/xrpc/com.atproto.sync.subscribeRepos";

/// Whose stream it is.
#[derive(Clone, Copy)]
pub(super) enum Teller {
    Relay,
    Host(usize),
}

impl Teller {
    fn log(self, state: &State) -> &Log {
        match self {
            Self::Relay => &state.log,
            Self::Host(host) => &state.hosts[host].log,
        }
    }
}

/// Serves a subscriber until one of the two leaves. `read` came after the head of the request.
pub(super) async fn serve(
    mut stream: TcpStream,
    world: &World,
    teller: Option<Teller>,
    request: &Request,
    read: Vec<u8>,
) -> std::io::Result<()> {
    let cursor = request.parameter("cursor").map(str::parse).transpose();
    let refusal = match (&request.websocket, &cursor, teller) {
        (None, ..) => Answer::refusal(426, "InvalidRequest", "a WebSocket is wanted"),
        (_, Err(_), _) => Answer::refusal(400, "InvalidRequest", "the cursor is no number"),
        (.., None) => Answer::refusal(404, "NotFound", "no such host here"),
        (Some(key), Ok(cursor), Some(teller)) => {
            // What happens from now on is told to whoever comes without a cursor: who has read the
            // answer misses nothing.
            let (head, now) = {
                let state = world.lock();
                let log = teller.log(&state);
                (log.watch(), log.head())
            };
            let accept = derive_accept_key(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            let socket =
                WebSocketStream::from_partially_read(stream, read, Role::Server, None).await;
            // A subscriber may go at any time.
            drop(tell(socket, world, teller, head, cursor.unwrap_or(now)).await);
            return Ok(());
        }
    };
    answer::write(&mut stream, &refusal, false, "")
        .await
        .map(|_| ())
}

async fn tell(
    mut socket: WebSocketStream<TcpStream>,
    world: &World,
    teller: Teller,
    mut head: watch::Receiver<u64>,
    mut after: u64,
) -> Result<(), Error> {
    let one_less = |left: usize| left.checked_sub(1);
    let drops = &world.drops;
    let is_dropped = matches!(teller, Teller::Relay)
        && drops
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok();
    if is_dropped {
        return refuse_as_too_slow(socket).await;
    }
    let mut is_first = true;
    loop {
        head.mark_unchanged();
        let next = teller.log(&world.lock()).next(after);
        match next {
            Next::Items(items, last) if !items.is_empty() => {
                for (seq, item) in items {
                    if !send(&mut socket, world, teller, seq, item).await? {
                        return Ok(());
                    }
                }
                socket.flush().await?;
                after = last;
            }
            Next::Items(..) => {
                tokio::select! {
                    changed = head.changed() => if changed.is_err() { break },
                    // Pings are answered on the way.
                    message = socket.next() => match message {
                        Some(Ok(message)) if !message.is_close() => {}
                        _ => break,
                    },
                }
            }
            Next::Gone(before_oldest) if is_first => {
                if world.settings.tells_outdated {
                    let frame = events::info(
                        "OutdatedCursor",
                        "Requested cursor exceeded limit. Possibly missing events",
                    );
                    socket.send(Message::binary(frame)).await?;
                }
                after = before_oldest;
            }
            Next::Gone(_) => {
                return refuse_as_too_slow(socket).await;
            }
            Next::Future => {
                let frame = events::error("FutureCursor", "Cursor in the future.");
                socket.send(Message::binary(frame)).await?;
                break;
            }
        }
        is_first = false;
    }
    socket.close(None).await
}

/// Sends what stands under a number. False if the connection is over.
async fn send(
    socket: &mut WebSocketStream<TcpStream>,
    world: &World,
    teller: Teller,
    seq: u64,
    item: Item,
) -> Result<bool, Error> {
    match item {
        Item::Event(event, micros) => {
            let frame = event.frame(seq, micros);
            socket.feed(Message::binary(frame)).await?;
        }
        Item::Lost => {}
        Item::Raw(bytes) => socket.feed(Message::binary(bytes.to_vec())).await?,
        Item::Text(text) => socket.feed(Message::text(text)).await?,
        Item::Again(count) => {
            let again = teller.log(&world.lock()).before(seq, count);
            for (seq, item) in again {
                if let Item::Event(event, micros) = item {
                    let frame = event.frame(seq, micros);
                    socket.feed(Message::binary(frame)).await?;
                }
            }
        }
        Item::Cut(flag) => {
            if Item::happens(&flag) {
                // What was said before it arrives.
                socket.flush().await?;
                return Ok(false);
            }
        }
        Item::Stall(flag) => {
            if Item::happens(&flag) {
                socket.flush().await?;
                // Pings get no answer either.
                answer::hold(socket.get_mut()).await;
                return Ok(false);
            }
        }
    }
    Ok(true)
}

async fn refuse_as_too_slow(mut socket: WebSocketStream<TcpStream>) -> Result<(), Error> {
    let frame = events::error("ConsumerTooSlow", "Stream consumer too slow");
    socket.send(Message::binary(frame)).await?;
    socket.close(None).await
}
