//! A prefix in a bucket of an object store, for callers that wait.
//!
//! The crate `object_store` speaks with the store, signs, and retries with growing pauses: errors
//! of the server, connections that fail or break off, and answers that ask for less. After
//! `retry_timeout` (three minutes) a request has failed for good. Requests run on two threads of
//! their own, so that any thread may wait for them, those of another runtime too.

use crate::error::ArchiveError;
use crate::explain::explain;
use crate::place::{Access, Bucket, Provider};
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{HttpError, HttpErrorKind, SpawnedReqwestConnector};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::{Builder, Runtime};

/// Names that a listing may be ahead of who reads it.
const LISTED_AHEAD: usize = 1000;
/// The pause before a request is made again whose answer was lost.
const AGAIN: Duration = Duration::from_millis(500);
/// The option that bounds how long a request is retried, in seconds.
const RETRY_TIMEOUT: &str = "retry_timeout";

/// A prefix in a bucket.
pub(crate) struct Objects {
    bucket: Bucket,
    store: Arc<dyn ObjectStore>,
    /// How long a request is retried.
    patience: Duration,
    tasks: Tasks,
}

/// The threads of requests. They end without being waited for: a runtime that is dropped by a task
/// of another one must not wait.
struct Tasks(Option<Runtime>);

impl Drop for Tasks {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// An object of a listing.
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) modified: SystemTime,
}

/// How an object was created that must not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    Now,
    /// It was there, and is as it was.
    Before,
}

impl Objects {
    pub(crate) fn open(bucket: &Bucket, access: &Access) -> Result<Arc<Self>, ArchiveError> {
        // Set once per process; when another part of it was first, that one's is the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let refused = |why: String| ArchiveError::new(bucket, why);
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("object-store")
            .enable_all()
            .build()
            .map_err(|error| refused(error.to_string()))?;
        let mut settings = Settings::of(bucket.provider, access).map_err(refused)?;
        let retry = settings.take_retry().map_err(refused)?;
        let patience = retry.retry_timeout;
        let connector = SpawnedReqwestConnector::new(runtime.handle().clone());
        let store = settings
            .store(bucket, retry, connector)
            .map_err(|error| explain(bucket, &error))?;
        Ok(Arc::new(Self {
            bucket: bucket.clone(),
            store,
            patience,
            tasks: Tasks(Some(runtime)),
        }))
    }

    /// Its place, with the name of an object.
    pub(crate) fn shown(&self, name: &str) -> String {
        format!("{}/{name}", self.bucket)
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn path(&self, name: &str) -> Path {
        match self.bucket.prefix.as_str() {
            "" => Path::from(name),
            prefix => Path::from(format!("{prefix}/{name}")),
        }
    }

    /// Starts a task.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> mpsc::Receiver<T> {
        let (answer, answered) = mpsc::channel();
        if let Some(runtime) = &self.tasks.0 {
            runtime.spawn(async move {
                // Nobody may be there any more to hear it.
                drop(answer.send(task.await));
            });
        }
        answered
    }

    /// Runs a task, and waits for it.
    fn wait<T: Send + 'static>(
        &self,
        task: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        match self.start(task).recv() {
            Ok(done) => done.map_err(|error| explain(&self.bucket, &error)),
            Err(_) => Err(ArchiveError::new(&self.bucket, "a request broke off")),
        }
    }

    /// The objects directly below the prefix, in the order of their names.
    pub(crate) fn list(
        &self,
        mut each: impl FnMut(Listed) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let (store, prefix) = (Arc::clone(&self.store), self.bucket.prefix.clone());
        let (found, names) = mpsc::sync_channel(LISTED_AHEAD);
        drop(self.start(async move {
            let prefix = (!prefix.is_empty()).then(|| Path::from(prefix));
            let mut listing = store.list(prefix.as_ref());
            while let Some(object) = listing.next().await {
                let is_over = object.is_err();
                // The reader makes no request of this runtime that this could hold up.
                let sent = tokio::task::block_in_place(|| found.send(object));
                if sent.is_err() || is_over {
                    break;
                }
            }
        }));
        let below = match self.bucket.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        for object in names {
            let object = object.map_err(|error| explain(&self.bucket, &error))?;
            let name = object.location.as_ref().strip_prefix(&below);
            let Some(name) = name.filter(|name| !name.contains('/')) else {
                continue;
            };
            each(Listed {
                name: name.to_owned(),
                size: object.size,
                modified: object.last_modified.into(),
            })?;
        }
        Ok(())
    }

    /// A part of an object.
    pub(crate) fn get(&self, name: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        self.wait(self.getting(name, range))
    }

    /// The same as a task.
    pub(crate) fn getting(
        &self,
        name: &str,
        range: Range<u64>,
    ) -> impl Future<Output = object_store::Result<Bytes>> + Send + use<> + 'static {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        async move { store.get_range(&path, range).await }
    }

    /// A whole object, of at most `most` bytes.
    pub(crate) fn getting_whole(
        &self,
        name: &str,
        most: u64,
    ) -> impl Future<Output = object_store::Result<Bytes>> + Send + use<> + 'static {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        async move {
            let got = store.get(&path).await?;
            if got.meta.size > most {
                return Err(object_store::Error::Generic {
                    store: "archive",
                    source: format!("{path} has {} bytes, {most} at most", got.meta.size).into(),
                });
            }
            got.bytes().await
        }
    }

    /// Runs tasks concurrently, and waits for all.
    pub(crate) fn wait_all<T: Send + 'static>(
        &self,
        tasks: Vec<impl Future<Output = object_store::Result<T>> + Send + 'static>,
    ) -> Vec<Result<T, ArchiveError>> {
        let started: Vec<_> = tasks.into_iter().map(|task| self.start(task)).collect();
        let wait = |started: mpsc::Receiver<object_store::Result<T>>| match started.recv() {
            Ok(done) => done.map_err(|error| explain(&self.bucket, &error)),
            Err(_) => Err(ArchiveError::new(&self.bucket, "a request broke off")),
        };
        started.into_iter().map(wait).collect()
    }

    /// Creates an object; never overwrites one.
    pub(crate) fn creating(
        &self,
        name: &str,
        content: Bytes,
    ) -> impl Future<Output = object_store::Result<Created>> + Send + use<> + 'static {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        let patience = self.patience;
        async move {
            match put_new(&*store, &path, &content, patience).await {
                Ok(_) => Ok(Created::Now),
                Err(error @ object_store::Error::AlreadyExists { .. }) => {
                    // The answer to an attempt may have been lost, and the next one finds its
                    // object.
                    let there = store.get(&path).await?;
                    let is_same =
                        there.meta.size == content.len() as u64 && there.bytes().await? == content;
                    match is_same {
                        true => Ok(Created::Before),
                        false => Err(error),
                    }
                }
                Err(error) => Err(error),
            }
        }
    }

    /// Creates an object, and waits for it.
    pub(crate) fn create(&self, name: &str, content: Bytes) -> Result<Created, ArchiveError> {
        self.wait(self.creating(name, content))
    }

    /// Begins an upload in parts.
    pub(crate) fn uploading(
        &self,
        name: &str,
    ) -> impl Future<Output = object_store::Result<Box<dyn MultipartUpload>>> + Send + use<> + 'static
    {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        async move { store.put_multipart(&path).await }
    }

    /// Removes an object; one that is not there is as good as removed.
    pub(crate) fn delete(&self, name: &str) -> Result<(), ArchiveError> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        self.wait(async move {
            match store.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                done => done,
            }
        })
    }
}

/// Creates an object. The crate does not repeat a conditional request whose answer was lost, since
/// the second one may find what the first one made; here that is found out.
async fn put_new(
    store: &dyn ObjectStore,
    path: &Path,
    content: &Bytes,
    patience: Duration,
) -> object_store::Result<()> {
    let begun = Instant::now();
    loop {
        let payload = PutPayload::from(content.clone());
        let options = PutOptions::from(PutMode::Create);
        match store.put_opts(path, payload, options).await {
            Err(error) if is_interrupted(&error) && begun.elapsed() < patience => {
                tracing::debug!("{path}: {error}; it is tried again");
                tokio::time::sleep(AGAIN).await;
            }
            put => return put.map(drop),
        }
    }
}

/// Whether the answer to a request was lost on the way.
fn is_interrupted(error: &object_store::Error) -> bool {
    let mut cause = Some(error as &(dyn std::error::Error + 'static));
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return matches!(
                http.kind(),
                HttpErrorKind::Timeout | HttpErrorKind::Interrupted
            );
        }
        cause = error.source();
    }
    false
}

/// Names and values of a provider's settings, lower-case, the last of a name counts.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn of(provider: Provider, access: &Access) -> Result<Self, String> {
        let mut all = Vec::new();
        for (name, value) in &access.environment {
            if name.starts_with(provider.variables()) && !value.is_empty() {
                all.push((name.to_ascii_lowercase(), value.clone()));
            }
        }
        for (name, value) in &access.options {
            let is_google = provider == Provider::Google && name == "endpoint";
            let name = if is_google { "base_url" } else { name };
            all.push((name.to_owned(), value.clone()));
        }
        let settings = Self(all);
        settings.require_tls()?;
        Ok(settings)
    }

    /// Google's builder lets any endpoint be reached without TLS.
    fn require_tls(&self) -> Result<(), String> {
        let is_allowed = self.0.iter().any(|(name, value)| {
            name.trim_start_matches("aws_")
                .trim_start_matches("google_")
                .trim_start_matches("azure_")
                == "allow_http"
                && matches!(value.as_str(), "1" | "true" | "TRUE" | "yes" | "on")
        });
        let plain = self
            .0
            .iter()
            .find(|(_, value)| value.to_ascii_lowercase().starts_with("http://"));
        // Credentials of containers come from addresses of the machine itself.
        match plain.filter(|(name, _)| {
            !is_allowed
                && (name.contains("endpoint") || name.contains("base_url"))
                && !name.contains("metadata")
        }) {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "{name} is an http:// address; give https://, or allow that anybody on the way can read along: --store-option allow_http=true"
            )),
        }
    }

    fn take_retry(&mut self) -> Result<RetryConfig, String> {
        let mut retry = RetryConfig::default();
        if let Some((_, seconds)) = self.0.iter().find(|(name, _)| name == RETRY_TIMEOUT) {
            let seconds: u64 = seconds
                .parse()
                .map_err(|_| format!("{RETRY_TIMEOUT} is a number of seconds"))?;
            retry.retry_timeout = Duration::from_secs(seconds);
        }
        // The time bounds them.
        retry.max_retries = 1000;
        self.0.retain(|(name, _)| name != RETRY_TIMEOUT);
        Ok(retry)
    }

    fn store(
        self,
        bucket: &Bucket,
        retry: RetryConfig,
        connector: SpawnedReqwestConnector,
    ) -> object_store::Result<Arc<dyn ObjectStore>> {
        // What a provider's own tools read besides has no meaning here.
        Ok(match bucket.provider {
            Provider::S3 => {
                let mut builder = AmazonS3Builder::new()
                    .with_retry(retry)
                    .with_http_connector(connector);
                for (name, value) in self.0 {
                    if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.with_bucket_name(&bucket.name).build()?)
            }
            Provider::Google => {
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_retry(retry)
                    .with_http_connector(connector);
                for (name, value) in self.0 {
                    if let Ok(key) = name.parse::<GoogleConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.with_bucket_name(&bucket.name).build()?)
            }
            Provider::Azure => {
                let mut builder = MicrosoftAzureBuilder::new()
                    .with_retry(retry)
                    .with_http_connector(connector);
                for (name, value) in self.0 {
                    if let Ok(key) = name.parse::<AzureConfigKey>() {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.with_container_name(&bucket.name).build()?)
            }
        })
    }
}
