//! Writes the seeds where cargo-fuzz looks for them: `write-seeds FUZZ-FOLDER`.

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "fuzz".to_owned());
    for (name, seeds) in fuzz_harness::seeds() {
        let target = std::path::Path::new(&folder).join("corpus").join(name);
        std::fs::create_dir_all(&target)?;
        for (at, seed) in seeds.iter().enumerate() {
            std::fs::write(target.join(format!("seed-{at:03}")), seed)?;
        }
    }
    Ok(())
}
