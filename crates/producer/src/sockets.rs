//! The threads that write to the sockets, one per socket: frames if the consumer accepts them, else
//! lines.

use crate::form::Form;
use crate::parcel::{FramedParcel, Parcel, ToSend};
use crate::tally::Tally;
use handoff::send::{Event, Finished, Opened, Sender};
use handoff::send_frames::FramedSender;
use observe::units::counted;
use process::Stop;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

/// Starts a thread for each socket; returns the ways to them, and the threads.
pub(crate) fn start_senders(
    paths: &[PathBuf],
    form: Form,
    now: i64,
    tally: &Arc<Tally>,
    stop: &Stop,
) -> (Vec<UnboundedSender<ToSend>>, Vec<JoinHandle<Finished>>) {
    let sockets = paths.len();
    let mut senders = Vec::new();
    let mut threads = Vec::new();
    for (socket, path) in paths.iter().enumerate() {
        // Unbounded in number, bounded in bytes: each repo in it holds a share of the buffer.
        let (sender, mut receiver) = mpsc::unbounded_channel::<ToSend>();
        senders.push(sender);
        let (path, tally, stop) = (path.clone(), Arc::clone(tally), stop.clone());
        threads.push(std::thread::spawn(move || {
            let socket = Socket {
                path: &path,
                number: socket,
                of: sockets,
                now,
                form,
                tally: &tally,
                stop: &stop,
            };
            socket.send_all(&mut receiver)
        }));
    }
    (senders, threads)
}

/// One of the sockets, and what is sent to it.
struct Socket<'s> {
    path: &'s Path,
    number: usize,
    of: usize,
    now: i64,
    form: Form,
    tally: &'s Arc<Tally>,
    stop: &'s Stop,
}

impl Socket<'_> {
    /// Sends all that comes, in the form that the consumer takes.
    fn send_all(&self, to_send: &mut UnboundedReceiver<ToSend>) -> Finished {
        let Some(first) = to_send.blocking_recv() else {
            return Finished {
                losses: 0,
                acknowledged: true,
                greeted_late: false,
            };
        };
        let mut listen = |event: Event<'_>| on_event(&event, self.stop);
        match Opened::wait_for(self.path, &mut listen) {
            Ok(opened) if opened.takes_frames() && self.form == Form::Auto => {
                self.send_frames(opened, first, to_send)
            }
            Ok(opened) => self.send_lines(opened, first, to_send),
            Err(_) => {
                let mut next = Some(first);
                while let Some(current) = next {
                    self.not_sent(current);
                    next = to_send.blocking_recv();
                }
                NOT_ACKNOWLEDGED
            }
        }
    }

    fn not_sent(&self, to_send: ToSend) {
        if let ToSend::Repo(checked) = to_send {
            self.tally.not_sent(&checked);
        }
    }

    fn send_frames(
        &self,
        opened: Opened,
        first: ToSend,
        to_send: &mut UnboundedReceiver<ToSend>,
    ) -> Finished {
        let mut sender = FramedSender::new(self.path, opened, |event| on_event(&event, self.stop));
        let mut next = Some(first);
        let mut given_up = false;
        while let Some(current) = next {
            if given_up {
                self.not_sent(current);
            } else {
                let parcel = FramedParcel {
                    to_send: current,
                    socket: self.number,
                    sockets: self.of,
                    now: self.now,
                    tally: Arc::clone(self.tally),
                };
                given_up = sender.send(parcel).is_err();
            }
            next = loop {
                match to_send.try_recv() {
                    Ok(current) => break Some(current),
                    Err(TryRecvError::Disconnected) => break None,
                    // Meanwhile, what is acknowledged makes room for more.
                    Err(TryRecvError::Empty) if given_up => break to_send.blocking_recv(),
                    Err(TryRecvError::Empty) => {
                        given_up = sender.listen().is_err();
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            };
        }
        match sender.finish() {
            // What a consumer lost was sent again, and acknowledged.
            Ok(_) if !given_up => Finished {
                losses: 0,
                acknowledged: true,
                greeted_late: false,
            },
            _ => NOT_ACKNOWLEDGED,
        }
    }

    fn send_lines(
        &self,
        opened: Opened,
        first: ToSend,
        to_send: &mut UnboundedReceiver<ToSend>,
    ) -> Finished {
        let mut sender = Sender::over(self.path, opened, |event| on_event(&event, self.stop));
        let mut next = Some(first);
        let mut given_up = false;
        while let Some(current) = next {
            let parcel = Parcel::new(&current, self.number, self.of, self.now);
            let outcome = if given_up {
                Err(ErrorKind::Interrupted.into())
            } else {
                sender.send(parcel)
            };
            given_up |= matches!(&outcome, Err(error) if error.kind() == ErrorKind::Interrupted);
            if let ToSend::Repo(checked) = current {
                match outcome {
                    Ok(()) => self.tally.written(&checked, self.of),
                    Err(_) => self.tally.not_sent(&checked),
                }
            }
            next = to_send.blocking_recv();
        }
        match sender.finish() {
            Ok(finished) if !given_up => finished,
            Ok(finished) => Finished {
                acknowledged: false,
                ..finished
            },
            Err(_) => NOT_ACKNOWLEDGED,
        }
    }
}

/// The wait for the consumer was given up.
const NOT_ACKNOWLEDGED: Finished = Finished {
    losses: 0,
    acknowledged: false,
    greeted_late: false,
};

/// Logs what happens to a socket, not too often; whether to continue.
fn on_event(event: &Event<'_>, stop: &Stop) -> bool {
    match event {
        Event::Away(path, tries, error) => {
            if tries.is_power_of_two() {
                let path = path.display();
                tracing::warn!(
                    "waiting for the consumer on {path}: {error}; start it with: skyfill consumer {path}"
                );
            }
            // Also when stopping, a consumer that is only slow gets a few seconds.
            !(stop.is_set() && *tries > 6)
        }
        Event::Back(path, parcels) => {
            observe::log!(
                "the consumer on {} is back; sending {} again from the start",
                path.display(),
                counted(*parcels as u64, "repo")
            );
            true
        }
    }
}

/// What all sockets came to.
pub(crate) struct Ends {
    /// How often a consumer went away.
    pub(crate) losses: u32,
    /// Whether every consumer reported that everything is committed.
    pub(crate) acknowledged: bool,
    /// Whether a consumer reported too late that it accepts lines about accounts.
    pub(crate) greeted_late: bool,
    /// The stream that has everything, for people, if it was one.
    pub(crate) stream: Option<String>,
}

impl Ends {
    /// Waits until all that was handed over is written and committed, or given up.
    pub(crate) fn wait_for(threads: Vec<JoinHandle<Finished>>) -> Self {
        // A thread that broke off has lost what it had.
        let broken = Finished {
            losses: 1,
            ..NOT_ACKNOWLEDGED
        };
        let ends: Vec<Finished> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(broken))
            .collect();
        Self {
            losses: ends.iter().map(|end| end.losses).sum(),
            acknowledged: ends.iter().all(|end| end.acknowledged),
            greeted_late: ends.iter().any(|end| end.greeted_late),
            stream: None,
        }
    }
}
