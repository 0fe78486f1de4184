//! Where reports go: stderr, or a log file.

use super::event::{self, Said, Shape};
use crate::registry::registry;
use crate::{screen, view};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

enum To {
    Stderr { colors: bool },
    File { file: File, has_failed: AtomicBool },
}

/// One place for reports.
pub(super) struct Sink {
    to: To,
    shape: Shape,
}

impl Sink {
    pub(super) fn stderr(shape: Shape) -> Self {
        let colors = console::colors_enabled_stderr();
        Self {
            to: To::Stderr { colors },
            shape,
        }
    }

    pub(super) fn file(file: File, shape: Shape) -> Self {
        let has_failed = AtomicBool::new(false);
        Self {
            to: To::File { file, has_failed },
            shape,
        }
    }
}

impl<S: Subscriber> Layer<S> for Sink {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let is_stderr = matches!(self.to, To::Stderr { .. });
        if is_stderr && !view::is_for_stderr(event.metadata().target()) {
            return;
        }
        let mut said = Said::of(event);
        if let Some(phase) = registry().phase() {
            said.add("phase", phase);
        }
        // In one piece: lines of several threads and processes may share the terminal or file.
        match &self.to {
            To::Stderr { colors } => {
                screen::print(&said.lines(self.shape, &event::now(), *colors));
            }
            To::File { file, has_failed } => {
                let lines = said.lines(self.shape, &event::now(), false);
                let written = (&*file).write_all(lines.as_bytes());
                if let Err(error) = written
                    && !has_failed.swap(true, Ordering::Relaxed)
                {
                    screen::print(&format!("warning: the log file is incomplete: {error}\n"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn a_report_reaches_the_file_with_its_fields() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sink = Sink::file(file.reopen().unwrap(), Shape::Json);
        let subscriber = tracing_subscriber::registry().with(sink);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(host = "a.example", tries = 2, error = %"timed out", "put {}", "off");
            crate::log!("for {}", "people");
        });
        let text = std::fs::read_to_string(file.path()).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["message"], "put off");
        assert_eq!(lines[0]["level"], "DEBUG");
        assert_eq!(lines[0]["host"], "a.example");
        assert_eq!(lines[0]["tries"], 2);
        assert_eq!(lines[0]["error"], "timed out");
        assert_eq!(lines[1]["message"], "for people");
        assert_eq!(lines[1]["target"], "observe::logging::sink::tests");
    }
}
