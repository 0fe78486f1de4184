//! A segment that is uploaded to an object store while CARs are added to it.
//!
//! Parts of [`PART`] bytes go up as soon as they are full, several at once. At the end the upload
//! is completed, and then the index is created: with it the segment is part of the archive, whole
//! and durable. A writer that is killed before leaves an upload that nobody sees; the store removes
//! it by a rule of the bucket's, if it has one (docs/how-to/research.md).

use crate::error::ArchiveError;
use crate::explain::explain;
use crate::objects::Objects;
use crate::{INDEX, SEGMENT};
use bytes::Bytes;
use object_store::MultipartUpload;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Bytes of a part. Stores want 5 MiB at least, some of them all parts but the last equally long;
/// and 10,000 parts at most, so that a segment may have 80 GB.
pub(crate) const PART: usize = 8 << 20;

/// What is sent to the task that uploads.
enum Message {
    /// A full part, with its share of the memory.
    Part(Bytes, OwnedSemaphorePermit),
    /// The last part, which may be empty, and the index.
    End(Bytes, Bytes),
}

/// The uploading side of a segment.
pub(crate) struct Upload {
    messages: UnboundedSender<Message>,
    ended: Receiver<Result<(), ArchiveError>>,
}

impl Upload {
    /// Begins to upload a segment.
    pub(crate) fn start(objects: &Arc<Objects>, name: String) -> Self {
        let (messages, sent) = mpsc::unbounded_channel();
        let task = upload(Arc::clone(objects), name, sent);
        let bucket = objects.bucket().clone();
        let ended =
            objects.start(async move { task.await.map_err(|error| explain(&bucket, &error)) });
        Self { messages, ended }
    }

    /// Hands over a full part; false if the upload has failed.
    pub(crate) fn part(&self, part: Vec<u8>, memory: OwnedSemaphorePermit) -> bool {
        let message = Message::Part(part.into(), memory);
        self.messages.send(message).is_ok()
    }

    /// Hands over the last part and the index.
    pub(crate) fn end(self, last: Vec<u8>, index: Vec<u8>) -> Ending {
        let message = Message::End(last.into(), index.into());
        // If it has failed, its result says why.
        drop(self.messages.send(message));
        Ending(self.ended)
    }

    /// Why it failed.
    pub(crate) fn failure(self) -> ArchiveError {
        drop(self.messages);
        match self.ended.recv() {
            Ok(Err(error)) => error,
            _ => ArchiveError::new("upload", "it broke off"),
        }
    }
}

/// A segment whose upload is being completed.
pub(crate) struct Ending(Receiver<Result<(), ArchiveError>>);

impl Ending {
    /// Returns when the segment is part of the archive.
    pub(crate) fn wait(self) -> Result<(), ArchiveError> {
        let broke_off = || Err(ArchiveError::new("upload", "it broke off"));
        self.0.recv().unwrap_or_else(|_| broke_off())
    }
}

/// Memory for one more part, waited for.
pub(crate) fn memory_of_part(
    objects: &Objects,
    memory: &Arc<Semaphore>,
) -> Option<OwnedSemaphorePermit> {
    let memory = Arc::clone(memory);
    let permit = objects.start(async move { memory.acquire_owned().await.ok() });
    permit.recv().ok().flatten()
}

async fn upload(
    objects: Arc<Objects>,
    name: String,
    mut messages: UnboundedReceiver<Message>,
) -> object_store::Result<()> {
    let mut parts = Parts {
        upload: None,
        under_way: JoinSet::new(),
    };
    let done = run(&objects, &name, &mut messages, &mut parts).await;
    // What nobody will complete need not be kept by the store; if it cannot be told, a rule of the
    // bucket removes it.
    if done.is_err()
        && let Some(mut upload) = parts.upload
    {
        parts.under_way.shutdown().await;
        drop(upload.abort().await);
    }
    done
}

/// An upload in parts.
struct Parts {
    upload: Option<Box<dyn MultipartUpload>>,
    under_way: JoinSet<object_store::Result<()>>,
}

async fn run(
    objects: &Arc<Objects>,
    name: &str,
    messages: &mut UnboundedReceiver<Message>,
    parts: &mut Parts,
) -> object_store::Result<()> {
    let segment = format!("{name}{SEGMENT}");
    loop {
        match messages.recv().await {
            // Its writer has given it up.
            None => {
                return Err(object_store::Error::Generic {
                    store: "archive",
                    source: "the segment was given up".into(),
                });
            }
            Some(Message::Part(part, memory)) => {
                let upload = match &mut parts.upload {
                    Some(upload) => upload,
                    None => parts.upload.insert(objects.uploading(&segment).await?),
                };
                let put = upload.put_part(part.into());
                parts.under_way.spawn(async move {
                    let put = put.await;
                    drop(memory);
                    put
                });
                while let Some(put) = parts.under_way.try_join_next() {
                    put??;
                }
            }
            Some(Message::End(last, index)) => {
                match &mut parts.upload {
                    None => drop(objects.creating(&segment, last).await?),
                    Some(upload) => {
                        if !last.is_empty() {
                            parts.under_way.spawn(upload.put_part(last.into()));
                        }
                        while let Some(put) = parts.under_way.join_next().await {
                            put??;
                        }
                        upload.complete().await?;
                    }
                }
                // From here on it must not be aborted.
                parts.upload = None;
                let index = objects.creating(&format!("{name}{INDEX}"), index);
                return index.await.map(drop);
            }
        }
    }
}
