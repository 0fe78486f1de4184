//! Sizes that people write.

/// Parses a size of this process's memory, in bytes or with KiB, MiB or GiB.
///
/// # Errors
/// What is expected, for people.
pub fn size(text: &str) -> Result<u64, String> {
    size_from(128, text)
}

/// Parses a size of PostgreSQL's memory, in bytes or with KiB, MiB or GiB.
///
/// # Errors
/// What is expected, for people.
pub fn server_size(text: &str) -> Result<u64, String> {
    size_from(1, text)
}

/// Parses a size of a disk, in bytes or with KiB, MiB, GiB or TiB.
///
/// # Errors
/// What is expected, for people.
pub fn disk_size(text: &str) -> Result<u64, String> {
    size_from(1, text)
}

fn size_from(least_mib: u64, text: &str) -> Result<u64, String> {
    const FORM: &str = "expected a number of bytes, or a number with KiB, MiB, GiB or TiB";
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(FORM.to_owned()),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or(FORM)?;
    if bytes < least_mib << 20 {
        return Err(format!("expected at least {least_mib} MiB"));
    }
    Ok(bytes)
}
