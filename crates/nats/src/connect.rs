//! The connection to the servers: connecting, requests, and what an answer means.
//!
//! The client reconnects by itself, for as long as it takes. What was asked meanwhile is asked
//! again here ([`Connection::persist`]), with a pause that grows to three seconds.

use crate::error::NatsError;
use crate::settings::Settings;
use async_nats::connection::State;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, ConnectError, ConnectErrorKind, Event, RequestErrorKind, ServerError};
use observe::printable;
use process::Stop;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Time for an answer of the server.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the server is asked for a sign of life. One that owes three is taken for gone: a
/// network that was cut says nothing.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How often it is said that the stream is full.
const SAY_EVERY: Duration = Duration::from_secs(30);
/// After so many tries a process that is told to stop waits no longer.
const TRIES_TO_STOP: u32 = 6;

/// A connection, and the threads that work for it.
pub struct Connection {
    runtime: Runtime,
    link: Link,
}

/// What a task needs of a connection.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    /// Name of the stream.
    pub(crate) stream: String,
    /// The servers, for people.
    pub(crate) shown: String,
    pub(crate) stop: Stop,
    signs: Arc<Signs>,
}

/// What the client noted beside the answers.
#[derive(Default)]
struct Signs {
    /// How often the connection was lost.
    losses: watch::Sender<u64>,
    /// The last thing that the user may not do.
    violation: Mutex<Option<String>>,
    full: Mutex<Full>,
}

/// Since when the stream is full.
#[derive(Default)]
struct Full {
    since: Option<Instant>,
    said: Option<Instant>,
}

impl Signs {
    fn violation(&self) -> MutexGuard<'_, Option<String>> {
        self.violation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self) -> MutexGuard<'_, Full> {
        self.full.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on_event(&self, event: &Event, shown: &str) {
        match event {
            Event::Disconnected => {
                self.losses
                    .send_modify(|losses| *losses = losses.saturating_add(1));
                tracing::warn!("the connection to {shown} is lost; reconnecting");
            }
            Event::Connected if *self.losses.borrow() > 0 => {
                tracing::warn!("connected to {shown} again");
            }
            Event::Connected => {}
            Event::ServerError(ServerError::Other(text)) => {
                let text = printable(text).into_owned();
                tracing::warn!("{shown}: {text}");
                *self.violation() = Some(text);
            }
            other => tracing::warn!("{shown}: {}", printable(&other.to_string())),
        }
    }
}

impl Connection {
    /// Connects, and makes sure that JetStream is there. Waits for a server that is away.
    ///
    /// # Errors
    /// The server refuses it, or it was stopped.
    pub fn open(settings: &Settings, stop: &Stop) -> Result<Self, NatsError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("nats")
            .enable_all()
            .build()
            .map_err(|error| NatsError::Settings(format!("start threads: {error}")))?;
        let (shown, signs) = (settings.shown(), Arc::<Signs>::default());
        let (event_signs, event_shown) = (Arc::clone(&signs), shown.clone());
        let options = settings
            .options()?
            .request_timeout(Some(PATIENCE))
            .ping_interval(PING_EVERY)
            .event_callback(move |event| {
                event_signs.on_event(&event, &event_shown);
                std::future::ready(())
            });
        let addresses = settings.addresses();
        let connected = persist(&shown, stop, async || {
            let addresses: Result<Vec<async_nats::ServerAddr>, _> =
                addresses.iter().map(|address| address.parse()).collect();
            let addresses = addresses.map_err(|error| NatsError::Settings(error.to_string()))?;
            let connected = options.clone().connect(addresses).await;
            connected.map_err(|error| not_connected(&shown, &error))
        });
        let client = runtime.block_on(connected)?;
        let jetstream = {
            let _within = runtime.enter();
            jetstream::new(client.clone())
        };
        let link = Link {
            jetstream,
            client,
            stream: settings.stream.clone(),
            shown,
            stop: stop.clone(),
            signs,
        };
        let connection = Self { runtime, link };
        connection.require_jetstream()?;
        Ok(connection)
    }

    /// What a task needs of it.
    pub(crate) fn link(&self) -> Link {
        self.link.clone()
    }

    /// The servers and the stream, for people.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("stream {} on {}", self.link.stream, self.link.shown)
    }

    /// Waits for something.
    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Starts a task.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(task)
    }

    /// Does something until it works, or waiting does not help, or it was stopped.
    pub(crate) fn persist<T>(
        &self,
        step: impl AsyncFnMut() -> Result<T, NatsError>,
    ) -> Result<T, NatsError> {
        let persisted = persist(&self.link.shown, &self.link.stop, step);
        self.runtime.block_on(persisted)
    }

    /// Waits for a moment.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), NatsError> {
        self.runtime.block_on(self.link.pause(time))
    }

    fn require_jetstream(&self) -> Result<(), NatsError> {
        let link = &self.link;
        self.persist(async || {
            let refused = |what: &str| {
                let what = format!("{}: {what}", link.shown);
                let hint = "start the server with JetStream (nats-server -js, or a block jetstream {} \
                            in its configuration), and enable it for the account";
                Err(NatsError::Refused(what, hint.to_owned()))
            };
            match link.request::<Value>("INFO", &()).await {
                Err(Unanswered::NoResponders) => refused("JetStream is not enabled on the server"),
                Err(why) => Err(link.unanswered(why)),
                Ok(Response::Ok(_)) => Ok(()),
                Ok(Response::Err { error }) => match error.error_code() {
                    ErrorCode::JETSTREAM_NOT_ENABLED => refused("JetStream is not enabled on the server"),
                    ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                        refused("JetStream is not enabled for the account")
                    }
                    _ => Err(link.refused_by(&error, "use JetStream")),
                },
            }
        })
    }
}

/// Why there is no answer.
pub(crate) enum Unanswered {
    NoResponders,
    Late,
    /// The answer has another form than this client knows.
    Unknown(String),
    Other(String),
}

impl Link {
    /// How often the connection was lost so far.
    pub(crate) fn losses(&self) -> u64 {
        *self.signs.losses.borrow()
    }

    /// Waits for an answer, not longer than the connection is there.
    pub(crate) async fn while_connected<T>(
        &self,
        asked: impl Future<Output = T>,
    ) -> Result<T, Unanswered> {
        let mut losses = self.signs.losses.subscribe();
        if !self.is_connected() {
            return Err(Unanswered::Other("it is not connected".to_owned()));
        }
        tokio::select! {
            answer = asked => Ok(answer),
            _ = losses.changed() => Err(Unanswered::Other("the connection was lost".to_owned())),
        }
    }

    /// Whether the connection is there.
    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits for a moment.
    pub(crate) async fn pause(&self, time: Duration) -> Result<(), NatsError> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.stop.wait() => Err(NatsError::Stopped),
        }
    }

    /// Asks JetStream.
    async fn request<T: DeserializeOwned>(
        &self,
        subject: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Response<T>, Unanswered> {
        let mut payload = serde_json::to_vec(payload).unwrap_or_default();
        // Some requests have to be empty.
        if payload == b"null" {
            payload.clear();
        }
        let subject = format!("$JS.API.{subject}");
        let asked = self.client.request(subject, payload.into());
        let answer = self.while_connected(asked).await?;
        let answer = answer.map_err(|error| unanswered_request(&error))?;
        serde_json::from_slice(&answer.payload)
            .map_err(|error| Unanswered::Unknown(error.to_string()))
    }

    /// Asks JetStream; the answer, or the server's own error.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        subject: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Result<T, jetstream::Error>, NatsError> {
        match self.request(subject, payload).await {
            Ok(Response::Ok(answer)) => Ok(Ok(answer)),
            Ok(Response::Err { error }) => Ok(Err(error)),
            Err(why) => Err(self.unanswered(why)),
        }
    }

    /// What a missing answer means: the server says beside the answers what a user may not do.
    pub(crate) fn unanswered(&self, why: Unanswered) -> NatsError {
        let shown = &self.shown;
        match why {
            Unanswered::NoResponders => {
                NatsError::Away(format!("{shown}: JetStream does not answer for now"))
            }
            Unanswered::Late => match self.signs.violation().take() {
                Some(violation) => NatsError::Refused(
                    format!("{shown}: {violation}"),
                    "grant the user the subjects that docs/how-to/nats.md lists".to_owned(),
                ),
                None => NatsError::Away(format!(
                    "{shown}: no answer within {} s",
                    PATIENCE.as_secs()
                )),
            },
            Unanswered::Unknown(why) => NatsError::Refused(
                format!("{shown}: an answer that skyfill does not understand: {why}"),
                "check that this is a NATS server of version 2.9 or later".to_owned(),
            ),
            Unanswered::Other(why) => NatsError::Away(format!("{shown}: {why}")),
        }
    }

    /// What an error of JetStream's means, when it was asked to do `what`.
    pub(crate) fn refused_by(&self, error: &jetstream::Error, what: &str) -> NatsError {
        let text = format!("{}: cannot {what}: {error}", self.shown);
        // What a cluster answers that has no leader yet.
        if error.code() == 503 {
            return NatsError::Away(text);
        }
        let hint = "the server's log and its JetStream limits say more";
        NatsError::Refused(text, hint.to_owned())
    }

    /// Notes that the stream is full, and says so from time to time.
    pub(crate) fn on_full(&self, why: &str) {
        let mut full = self.signs.full();
        let since = *full.since.get_or_insert_with(Instant::now);
        if full.said.is_some_and(|said| said.elapsed() < SAY_EVERY) {
            return;
        }
        full.said = Some(Instant::now());
        observe::log!(
            "{why}: waiting for space in it, for {} s now; nothing is lost",
            since.elapsed().as_secs()
        );
    }

    /// Notes that the stream takes messages.
    pub(crate) fn on_taken(&self) {
        let mut full = self.signs.full();
        if let (Some(since), Some(_)) = (full.since.take(), full.said.take()) {
            observe::log!(
                "the stream takes messages again after {} s",
                since.elapsed().as_secs()
            );
        }
    }
}

/// Does something until it works, or waiting does not help, or it was stopped.
pub(crate) async fn persist<T>(
    shown: &str,
    stop: &Stop,
    mut step: impl AsyncFnMut() -> Result<T, NatsError>,
) -> Result<T, NatsError> {
    let mut tries = 0u32;
    loop {
        let error = match step().await {
            Err(error) if error.may_pass() => error,
            done => return done,
        };
        tries = tries.saturating_add(1);
        if tries.is_power_of_two() && matches!(error, NatsError::Away(_)) {
            tracing::warn!("waiting for {shown}: {error}");
        }
        pause_after(tries, stop).await?;
    }
}

/// How long to wait after so many tries that failed.
pub(crate) fn backoff(tries: u32) -> Duration {
    Duration::from_millis(50u64.checked_shl(tries.min(6)).unwrap_or(3200))
}

/// Waits after so many tries that failed, longer each time. A process that is told to stop gives a
/// server that is only slow a few more tries.
pub(crate) async fn pause_after(tries: u32, stop: &Stop) -> Result<(), NatsError> {
    if stop.is_set() && tries > TRIES_TO_STOP {
        return Err(NatsError::Stopped);
    }
    tokio::select! {
        () = tokio::time::sleep(backoff(tries)) => Ok(()),
        () = stop.wait_until_urgent() => Err(NatsError::Stopped),
    }
}

/// Why there is no connection.
fn not_connected(shown: &str, error: &ConnectError) -> NatsError {
    let refused = |why: &str, hint: &str| {
        NatsError::Refused(format!("cannot connect to {shown}: {why}"), hint.to_owned())
    };
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => refused(
            "the server does not accept these credentials",
            "check the user and password in the URL, or the files of --nats-creds, \
             --nats-password-file or --nats-token-file",
        ),
        ConnectErrorKind::ServerParse => refused(&error.to_string(), "check --transport"),
        kind => {
            let tls = of_tls(error)
                .or_else(|| (kind == ConnectErrorKind::Tls).then(|| error.to_string()));
            match tls {
                Some(why) => refused(
                    &format!("TLS: {why}"),
                    "name the file of the authority that signed the server's certificate with --nats-ca, \
                     and the host as the certificate names it",
                ),
                None => NatsError::Away(format!("cannot connect to {shown}: {error}")),
            }
        }
    }
}

/// The error of TLS behind an error, for people.
fn of_tls(error: &ConnectError) -> Option<String> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.to_string());
        }
        next = match error.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// What an answer to a request beside JetStream's own means.
pub(crate) fn unanswered_request(error: &async_nats::RequestError) -> Unanswered {
    match error.kind() {
        RequestErrorKind::NoResponders => Unanswered::NoResponders,
        RequestErrorKind::TimedOut => Unanswered::Late,
        _ => Unanswered::Other(error.to_string()),
    }
}
