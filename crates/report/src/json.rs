//! A report as JSON. docs/reference/status.md explains the fields.

use crate::Report;
use crate::rates::points;
use engine::status::{failed, iso};
use serde_json::{Value, json};

impl Report {
    /// All of it as JSON: that of the status, and more.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut all = self.status.json();
        let members = json!({
            "skyfill": env!("CARGO_PKG_VERSION"),
            "history": self.history(),
            "failures": failed::json(&self.failures),
            "content": self.content(),
            "tables": self.tables(),
            "server": self.server(),
        });
        if let (Some(all), Value::Object(members)) = (all.as_object_mut(), members) {
            all.extend(members);
        }
        all
    }

    fn history(&self) -> Value {
        let points = points(&self.samples);
        let point = points.iter().map(|point| {
            let [repos, records, bytes, rows] = point.per_second;
            json!({
                "at": iso(point.at), "seconds": point.seconds, "phase": point.phase, "limit": point.limit,
                "perSecond": { "repos": repos, "records": records, "bytes": bytes, "rows": rows },
            })
        });
        point.collect()
    }

    fn content(&self) -> Value {
        match &self.content {
            Ok(content) => {
                let kinds = content.kinds.iter().map(|kind| {
                    json!({
                        "collection": kind.collection, "month": kind.month, "records": kind.records.round(),
                        "bytes": kind.bytes.round(),
                    })
                });
                json!({ "sampled": content.sampled, "kinds": kinds.collect::<Vec<_>>() })
            }
            Err(why) => json!({ "error": why }),
        }
    }

    fn tables(&self) -> Value {
        match &self.relations {
            Ok(relations) => relations
                .iter()
                .map(|relation| {
                    let indexes = relation.indexes.iter();
                    let indexes = indexes.map(|(name, bytes)| json!({"name": name, "bytes": bytes}));
                    json!({
                        "schema": relation.schema, "table": relation.table, "rows": relation.rows, "bytes": relation.bytes,
                        "indexes": indexes.collect::<Vec<_>>(),
                    })
                })
                .collect(),
            Err(why) => json!({ "error": why }),
        }
    }

    fn server(&self) -> Value {
        match &self.server {
            Ok(server) => json!({
                "version": server.version, "databaseBytes": server.database_bytes,
                "settings": server.settings.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            }),
            Err(why) => json!({ "error": why }),
        }
    }
}
