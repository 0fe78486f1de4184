//! The file of refused lines: one JSON object per line, `{"reason":…,"line":…}`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Maximum number of bytes of a line that are kept; a line that was too long is cut here.
const KEPT_BYTES: usize = 1 << 20;

/// Where refused lines go.
pub(crate) struct Rejects {
    path: PathBuf,
    count: AtomicU64,
    file: Mutex<Option<File>>,
    error: Mutex<Option<String>>,
}

impl Rejects {
    /// Lines are added to the file at `path`, which is made when the first one comes.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            count: AtomicU64::new(0),
            file: Mutex::new(None),
            error: Mutex::new(None),
        }
    }

    /// Keeps a line.
    pub(crate) fn add(&self, line: &[u8], reason: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let kept = String::from_utf8_lossy(line.get(..KEPT_BYTES).unwrap_or(line));
        let entry = format!(
            "{}\n",
            serde_json::json!({ "reason": reason, "line": kept })
        );
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match &mut *file {
            Some(file) => file.write_all(entry.as_bytes()),
            None => OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)
                .and_then(|mut opened| {
                    opened.write_all(entry.as_bytes())?;
                    *file = Some(opened);
                    Ok(())
                }),
        };
        if let Err(error) = outcome {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
    }

    /// Lines so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Where they are, for the summary.
    pub(crate) fn whereabouts(&self) -> String {
        let path = self.path.display();
        match &*self.error.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => format!("not all could be written to {path}: {error}"),
            None => format!("written to {path}"),
        }
    }
}
