//! What the server is at, for the progress: how far indexes and vacuums have come, and whether its
//! sessions wait for the disk. A thread with a connection of its own asks every other second.

use load::indexes::{self, ServerWork};
use observe::registry::Part;
use observe::{Progress, registry};
use postgres::Client;
use process::Database;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The server is asked this often.
const EVERY: Duration = Duration::from_secs(2);
/// The end of a phase does not wait longer for a server that does not answer.
const LAST: Duration = Duration::from_secs(1);

/// A thread that watches the server until it is finished or dropped.
pub(crate) struct ServerWatch {
    /// Its end is the sign to stop.
    watched: Option<Sender<()>>,
    ended: Receiver<()>,
}

impl ServerWatch {
    /// Shows what the server is at as parts of `progress`.
    pub(crate) fn start(database: &Database, progress: &Progress) -> Self {
        let (watched, over) = channel();
        let (end, ended) = channel();
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
            // Nobody may be there any more.
            _ = end.send(());
        });
        // Without it, less is shown.
        drop(thread);
        Self {
            watched: Some(watched),
            ended,
        }
    }

    /// Ends it.
    pub(crate) fn finish(self) {}
}

impl Drop for ServerWatch {
    fn drop(&mut self) {
        drop(self.watched.take());
        // It only looks: if it is late, there is nothing to save.
        _ = self.ended.recv_timeout(LAST);
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
