//! What the server is at, for the progress: how far indexes and vacuums have come, and whether its
//! sessions wait for the disk. A thread with a connection of its own asks every other second.

use load::indexes::{self, ServerWork};
use observe::registry::Part;
use observe::{Progress, registry};
use postgres::Client;
use process::Database;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The server is asked this often.
const EVERY: Duration = Duration::from_secs(2);

/// A thread that watches the server until it is finished or dropped.
pub(crate) struct ServerWatch {
    /// Its end is the sign to stop.
    watched: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ServerWatch {
    /// Shows what the server is at as parts of `progress`.
    pub(crate) fn start(database: &Database, progress: &Progress) -> Self {
        let (watched, over) = channel();
        let (url, progress) = (database.url.clone(), progress.parts_of());
        let name = "server-watch".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let mut client: Option<Client> = None;
            while over.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                if client.is_none() {
                    client = pg::connect(&url).ok();
                }
                match client.as_mut().map(look) {
                    Some(Ok(parts)) => progress.set(parts),
                    // Next time on a new connection. What is at work waits for the server itself.
                    Some(Err(_)) | None => client = None,
                }
            }
        });
        Self {
            watched: Some(watched),
            // Without it, less is shown.
            thread: thread.ok(),
        }
    }

    /// Ends it.
    pub(crate) fn finish(self) {}
}

impl Drop for ServerWatch {
    fn drop(&mut self) {
        drop(self.watched.take());
        if let Some(thread) = self.thread.take() {
            // It only looks; if it panicked, there is nothing to save.
            drop(thread.join());
        }
    }
}

fn look(client: &mut Client) -> Result<Vec<Part>, postgres::Error> {
    let (sessions, on_disk) = indexes::sessions_at_work(client)?;
    registry().saw_sessions(sessions, on_disk);
    let part = |work: ServerWork| Part {
        label: work.what,
        doing: work.phase,
        share: work.share,
    };
    Ok(indexes::under_way(client)?.into_iter().map(part).collect())
}
