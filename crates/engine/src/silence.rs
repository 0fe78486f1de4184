//! Whether the server answers at all. A proxy, or a network, may take what is sent and forward
//! nothing: then no connection fails, and everything waits. That is reported.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// It is looked this often whether an answer came.
const LOOK: Duration = Duration::from_secs(1);
/// A server that has not answered for so long is reported, and again after three times as long.
const SILENT: Duration = Duration::from_secs(10);

/// Since when somebody waits for an answer of the server.
#[derive(Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Option<Instant>>>);

impl Asked {
    /// Does something with the server, and notes since when.
    pub(crate) fn during<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.note(Some(Instant::now()));
        let answer = ask();
        self.note(None);
        answer
    }

    fn note(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn waits(&self) -> Option<Duration> {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed())
    }
}

/// Reports a server, which `shown` names, that does not answer whoever notes that in `asked`; until
/// what comes back is dropped.
pub(crate) fn report(shown: String, asked: Asked) -> Sender<()> {
    let (until, over) = channel();
    let builder = std::thread::Builder::new().name("server-silence".to_owned());
    // Without the thread, nothing is reported.
    drop(builder.spawn(move || watch(&shown, &asked, &over)));
    until
}

fn watch(shown: &str, asked: &Asked, over: &Receiver<()>) {
    let mut said: Option<Instant> = None;
    while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let Some(silent) = asked.waits() else {
            if said.take().is_some() {
                observe::log!("{shown} answers again");
            }
            continue;
        };
        if silent >= SILENT && said.is_none_or(|said| said.elapsed() >= 3 * SILENT) {
            said = Some(Instant::now());
            observe::log!(
                "{shown} has not answered for {} s, though no connection was lost: the server stands still, or something between does not forward; waiting for it",
                silent.as_secs()
            );
        }
    }
}
