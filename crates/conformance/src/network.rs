//! A recorded network as files for the official indexer, or served for skyfill.

use conformance::Recorded;
use simnet::{Answer, Server};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Writes `cars/*.car` and `handles.json`: what each account claims, and where each handle leads.
pub(crate) fn write(recorded: &Recorded, out: &Path) -> Result<(), String> {
    let tangle = recorded.tangle();
    let failed = |error: std::io::Error| format!("write to {}: {error}", out.display());
    fs::create_dir_all(out.join("cars")).map_err(failed)?;
    let (mut claims, mut leads) = (BTreeMap::new(), BTreeMap::new());
    for did in tangle.dids() {
        let file = out
            .join("cars")
            .join(format!("{}.car", did.replace(':', "_")));
        fs::write(file, tangle.car(did)).map_err(failed)?;
        let handle = tangle.handle(did);
        let lower = handle.to_lowercase();
        if let Some(led) = tangle.leads_to(&lower) {
            leads.insert(lower, led.to_owned());
        }
        claims.insert(did.to_owned(), handle);
    }
    let handles = serde_json::json!({ "claims": claims, "leads": leads });
    fs::write(out.join("handles.json"), handles.to_string()).map_err(failed)
}

/// Serves it until it is killed.
pub(crate) fn serve(recorded: &Recorded, dids: &Path) -> Result<bool, String> {
    let tangle = recorded.tangle();
    let server = Server::start(HashMap::new());
    let mut lines = String::new();
    for did in tangle.dids() {
        server.set(did, Answer::Repo(Arc::new(tangle.car(did))));
        server.set(
            &format!("plc {did}"),
            Answer::text(tangle.document(did, &server.url())),
        );
        let handle = tangle.handle(did).to_lowercase();
        if let Some(led) = tangle.leads_to(&handle) {
            server.set(&format!("handle {handle}"), Answer::text(led));
        }
        lines += &format!("{}\n", serde_json::json!([did, server.url()]));
    }
    fs::write(dids, lines).map_err(|error| format!("cannot write {}: {error}", dids.display()))?;
    println!("{}", server.url());
    loop {
        std::thread::park();
    }
}
