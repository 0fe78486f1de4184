//! A report as a file, as a whole or not at all.

use process::Failure;
use std::io::Write;
use std::path::Path;

/// Writes a page to `path`.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, page: &str) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!(
            "the report cannot be written to {}: {error}",
            path.display()
        ))
        .hint("name a file in a writable folder")
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(failed(&"it is a folder"));
    }
    let mut file = tempfile::Builder::new()
        .prefix(".skyfill-report-")
        .tempfile_in(folder)
        .map_err(|error| failed(&error))?;
    file.write_all(page.as_bytes())
        .map_err(|error| failed(&error))?;
    // A temporary file is its owner's alone; a report is for others to read.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file()
            .set_permissions(readable)
            .map_err(|error| failed(&error))?;
    }
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}
