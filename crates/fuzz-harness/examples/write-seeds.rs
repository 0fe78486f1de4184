//! Writes the seeds where cargo-fuzz looks for them: `write-seeds FUZZ-FOLDER`.

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "fuzz".to_owned());
    let kinds = [
        ("seed", fuzz_harness::seeds()),
        ("attack", fuzz_harness::attacks()),
    ];
    for (kind, (name, inputs)) in kinds
        .into_iter()
        .flat_map(|(kind, all)| all.into_iter().map(move |inputs| (kind, inputs)))
    {
        let target = std::path::Path::new(&folder).join("corpus").join(name);
        std::fs::create_dir_all(&target)?;
        for (at, input) in inputs.iter().enumerate() {
            std::fs::write(target.join(format!("{kind}-{at:03}")), input)?;
        }
    }
    Ok(())
}
