//! DID documents of accounts that do not exist.

/// The document of `did`, which claims `handle` and whose repo is on `pds`. The key is everybody's: nothing verifies signatures yet.
#[must_use]
pub fn document(did: &str, handle: &str, pds: &str) -> String {
    format!(
        r##"{{"@context":["https://www.w3.org/ns/did/v1"],"id":"{did}","alsoKnownAs":["at://{handle}"],"verificationMethod":[{{"id":"{did}#atproto","type":"Multikey","controller":"{did}","publicKeyMultibase":"zQ3shUMvyB5nKMuXazrBW94EwnLoMRrXMu3vXmHq7utJzfcK8"}}],"service":[{{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"{pds}"}}]}}"##
    )
}
