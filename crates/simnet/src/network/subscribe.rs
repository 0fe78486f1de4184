//! The relay's stream: a WebSocket that tells of events.

use super::events::{self, Next};
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

/// Serves a subscriber until one of the two leaves. `read` came after the head of the request.
pub(super) async fn serve(
    mut stream: TcpStream,
    world: &World,
    request: &Request,
    read: Vec<u8>,
) -> std::io::Result<()> {
    let Some(key) = &request.websocket else {
        let refusal = Answer::refusal(426, "InvalidRequest", "a WebSocket is wanted");
        return answer::write(&mut stream, &refusal, false, "")
            .await
            .map(|_| ());
    };
    let Ok(cursor) = request.parameter("cursor").map(str::parse).transpose() else {
        let refusal = Answer::refusal(400, "InvalidRequest", "the cursor is no number");
        return answer::write(&mut stream, &refusal, false, "")
            .await
            .map(|_| ());
    };
    // What happens from now on is told to whoever comes without a cursor: who has read the answer
    // misses nothing.
    let (head, now) = {
        let state = world.lock();
        (state.log.watch(), state.log.head())
    };
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    let socket = WebSocketStream::from_partially_read(stream, read, Role::Server, None).await;
    // A subscriber may go at any time.
    drop(tell(socket, world, head, cursor.unwrap_or(now)).await);
    Ok(())
}

async fn tell(
    mut socket: WebSocketStream<TcpStream>,
    world: &World,
    mut head: watch::Receiver<u64>,
    mut after: u64,
) -> Result<(), Error> {
    let one_less = |left: usize| left.checked_sub(1);
    if world
        .drops
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
        .is_ok()
    {
        return refuse_as_too_slow(socket).await;
    }
    let mut is_first = true;
    loop {
        head.mark_unchanged();
        let next = world.lock().log.next(after);
        match next {
            Next::Frames(frames, last) if !frames.is_empty() => {
                for frame in frames {
                    socket.feed(Message::binary(frame.to_vec())).await?;
                }
                socket.flush().await?;
                after = last;
            }
            Next::Frames(..) => {
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

async fn refuse_as_too_slow(mut socket: WebSocketStream<TcpStream>) -> Result<(), Error> {
    let frame = events::error("ConsumerTooSlow", "Stream consumer too slow");
    socket.send(Message::binary(frame)).await?;
    socket.close(None).await
}
