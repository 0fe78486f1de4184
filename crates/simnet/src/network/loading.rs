//! How skyfill loads from a practice network: the arguments that lead it there, and a DID file.

use super::Network;
use crate::Dns;
use std::io;
use std::path::Path;

/// How fast a practice network may be asked: nobody else does.
const PACE: &str = "--plc-rate 1000 --host-rate 100";
/// How long one that goes wrong is waited for: on this machine an answer takes milliseconds, and
/// what does not come within seconds never comes.
const PATIENCE: &str = " --timeout 2 --stall-timeout 2 --processing-timeout 5 --host-patience 5 \
    --straggler-grace 5 --max-repo-bytes 100000000";

impl Network {
    /// The line that discovers this network and loads it. Without an answer of `dns`, each handle
    /// would wait for that of the system's.
    #[must_use]
    pub fn line_to_load(&self, dns: &Dns, has_faults: bool) -> String {
        format!(
            "skyfill run --discover --relay {} --plc-url {} --well-known-server {} --did-web-server {} --dns-server {} --allow-private-hosts {PACE}{}",
            self.relay_url(),
            self.plc_url(),
            self.well_known_url(),
            self.well_known_url(),
            dns.address(),
            if has_faults { PATIENCE } else { "" },
        )
    }

    /// Writes all accounts as a DID file, which is there as a whole or not at all: scripts wait for
    /// it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_dids(&self, path: &Path) -> io::Result<()> {
        let lines: String = self
            .dids()
            .iter()
            .map(|(did, pds)| format!("[{did:?},{pds:?}]\n"))
            .collect();
        let partial = path.with_extension("partial");
        std::fs::write(&partial, lines)?;
        std::fs::rename(&partial, path)
    }
}
