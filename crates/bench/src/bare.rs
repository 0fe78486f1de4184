//! The bare side: prepared buffers into the tables, nothing else.

use crate::cpu;
use crate::stream::Stream;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Sends all buffers over `connections` connections, one transaction each. CPU seconds and peak
/// memory of this process are not of interest: the buffers were made before.
pub(crate) fn run(url: &str, stream: &Stream, connections: usize) -> (f64, u64) {
    let before = cpu::of_process(std::process::id());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = pg::connect(url).expect("connect");
                client
                    .batch_execute("SET search_path TO bsky, public; BEGIN")
                    .expect("begin");
                while let Some(batch) = stream.batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for (table, rows) in batch.tables() {
                        load::copy_rows(&mut client, &table, rows).expect("copy");
                    }
                }
                client.batch_execute("COMMIT").expect("commit");
            });
        }
    });
    (cpu::of_process(std::process::id()) - before, 0)
}
