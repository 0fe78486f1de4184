//! Hosts that asked to be left alone for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Until when each host is left alone. A host is the authority of its URL.
#[derive(Default)]
pub struct Hosts {
    until: Mutex<HashMap<String, Instant>>,
}

impl Hosts {
    /// Leaves `host` alone for `wait` from now on, or longer if somebody asked for longer.
    pub fn pause(&self, host: &str, wait: Duration) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = Instant::now() + wait;
        let entry = until.entry(host.to_owned()).or_insert(wanted);
        *entry = (*entry).max(wanted);
    }

    /// Waits until `host` may be asked.
    pub async fn wait(&self, host: &str) {
        loop {
            let until = {
                let mut map = self.until.lock().unwrap_or_else(PoisonError::into_inner);
                match map.get(host).copied() {
                    Some(until) if until > Instant::now() => until,
                    Some(_) => {
                        map.remove(host);
                        return;
                    }
                    None => return,
                }
            };
            tokio::time::sleep_until(until).await;
        }
    }
}

/// The name under which the host of a PDS URL is paced.
#[must_use]
pub fn host_of(pds: &str) -> String {
    let host = url::Url::parse(pds).ok().and_then(|url| {
        let host = url.host_str()?.to_owned();
        Some(
            url.port()
                .map_or_else(|| host.clone(), |port| format!("{host}:{port}")),
        )
    });
    host.unwrap_or_else(|| pds.to_owned())
}
