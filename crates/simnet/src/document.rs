//! DID documents of accounts that do not exist.

/// The document of `did`, which claims `handle` and whose repo is on `pds`. Its key is that of
/// [`crate::signing_key`].
#[must_use]
pub fn document(did: &str, handle: &str, pds: &str) -> String {
    document_with(did, handle, pds, &crate::signing_key(did))
}

/// The same with another key, in multibase.
pub(crate) fn document_with(did: &str, handle: &str, pds: &str, key: &str) -> String {
    format!(
        r##"{{"@context":["https://www.w3.org/ns/did/v1"],"id":"{did}","alsoKnownAs":["at://{handle}"],"verificationMethod":[{{"id":"{did}#atproto","type":"Multikey","controller":"{did}","publicKeyMultibase":"{key}"}}],"service":[{{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"{pds}"}}]}}"##
    )
}
