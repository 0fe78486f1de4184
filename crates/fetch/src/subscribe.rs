//! Opens event streams of relays and PDSes, `com.atproto.sync.subscribeRepos`. [`crate::stream`]
//! follows one for long; a look at its position reads frame by frame.
//!
//! It uses the same HTTP client as all other requests, so that guard, TLS and limits are the same.
//! The WebSocket begins where the upgrade ends (RFC 6455). The content of frames is parsed
//! elsewhere.

use crate::client::{chain, judge};
use crate::error::FetchError;
use crate::guard;
use reqwest::{StatusCode, Upgraded, Url, Version};
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Largest message that is received, in bytes. The specification bounds messages at 5 MB: one that
/// is somewhat larger is received whole, so that its place in the stream can be read. A larger one
/// ends the connection.
pub const MAX_MESSAGE: usize = 16 << 20;

/// An open stream.
pub struct Events {
    pub(crate) stream: WebSocketStream<Upgraded>,
}

impl crate::Client {
    /// Opens the stream of `relay` after `cursor`, or at the present, with a client from
    /// [`crate::Client::for_streams`]. The URL may begin with `ws` or `wss`.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn subscribe(&self, relay: &str, cursor: Option<i64>) -> Result<Events, FetchError> {
        let mut url = Url::parse(relay).map_err(|_| FetchError::BadUrl(guard::shown(relay)))?;
        let scheme = match url.scheme() {
            "ws" => Some("http"),
            "wss" => Some("https"),
            _ => None,
        };
        if scheme.is_some_and(|scheme| url.set_scheme(scheme).is_err()) {
            return Err(FetchError::BadUrl(guard::shown(relay)));
        }
        url.set_path("/xrpc/com.atproto.sync.subscribeRepos");
        url.set_query(None);
        if let Some(cursor) = cursor {
            url.query_pairs_mut()
                .append_pair("cursor", &cursor.to_string());
        }
        let key = generate_key();
        let request = self
            .for_url(&url)?
            .get(url)
            .version(Version::HTTP_11)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &key);
        let response = tokio::time::timeout(self.limits.stall, request.send())
            .await
            .map_err(|_| FetchError::Stalled(self.limits.stall))?
            .map_err(|error| judge(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refusal(response.status(), response).await);
        }
        let accepted = response.headers().get("sec-websocket-accept");
        if accepted.is_none_or(|accepted| {
            accepted.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes()
        }) {
            return Err(FetchError::BrokenBody(
                "it responds, but not as a WebSocket".to_owned(),
            ));
        }
        let upgraded = response
            .upgrade()
            .await
            .map_err(|error| FetchError::BrokenBody(chain(&error)))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        Ok(Events {
            stream: WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await,
        })
    }
}

impl Events {
    /// The next frame; `None` if none arrives within `wait`, or the stream has ended.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn next(&mut self, wait: Duration) -> Result<Option<Vec<u8>>, FetchError> {
        let frame = async {
            loop {
                match std::future::poll_fn(|context| {
                    futures_core::Stream::poll_next(std::pin::Pin::new(&mut self.stream), context)
                })
                .await
                {
                    Some(Ok(Message::Binary(frame))) => return Ok(Some(frame.to_vec())),
                    Some(Ok(Message::Close(_))) | None => return Ok(None),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(FetchError::BrokenBody(error.to_string())),
                }
            }
        };
        tokio::time::timeout(wait, frame).await.unwrap_or(Ok(None))
    }
}
