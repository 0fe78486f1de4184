//! Service files: settings under a name (manual, "The Connection Service File").

use std::path::{Path, PathBuf};

/// The settings of service `name`: of the user's file, or else of the system's.
pub(super) fn read(
    name: &str,
    of_user: Option<&PathBuf>,
    of_system: &[PathBuf],
) -> Result<Vec<(String, String)>, String> {
    let mut looked_in = Vec::new();
    for path in of_user.into_iter().chain(of_system) {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                if let Some(found) = section(&text, name, path)? {
                    return Ok(found);
                }
                looked_in.push(path.display().to_string());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                looked_in.push(format!("{} (absent)", path.display()));
            }
            Err(error) => return Err(format!("service file {}: {error}", path.display())),
        }
    }
    Err(format!(
        "service {name:?} is in none of its files: {}",
        looked_in.join(", ")
    ))
}

/// The settings below `[name]`, if the file has it.
fn section(text: &str, name: &str, path: &Path) -> Result<Option<Vec<(String, String)>>, String> {
    let mut found: Option<Vec<(String, String)>> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            if header.split_once(']').is_some_and(|(this, _)| this == name) {
                found = Some(Vec::new());
            }
            continue;
        }
        let Some(found) = &mut found else { continue };
        let refused = |why: &str| format!("service file {}, line {number}: {why}", path.display());
        match line.split_once('=') {
            Some(("service", _)) => return Err(refused("a service cannot name another one")),
            Some((key, value)) if super::keywords::of(key).is_some() => {
                found.push((key.to_owned(), value.to_owned()));
            }
            _ => return Err(refused("it is not a setting of a connection")),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# comment\n[other]\nhost=o\n\n[mine]\n  host=h\nport=7\noptions=-c a=b\n[later]\nhost=l\n";

    #[test]
    fn a_service_is_its_own_section() {
        let found = section(FILE, "mine", Path::new("f")).unwrap().unwrap();
        let hosts: Vec<&str> = found.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(hosts, ["h", "7", "-c a=b"]);
        assert_eq!(section(FILE, "min", Path::new("f")), Ok(None));
    }

    #[test]
    fn the_users_file_comes_first_and_errors_name_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let (user, system) = (dir.path().join("user"), dir.path().join("system"));
        std::fs::write(&user, "[a]\nhost=u\n").unwrap();
        std::fs::write(&system, "[a]\nhost=s\n[b]\nhost=t\n[c]\nnonsense\n").unwrap();
        let look = |name| read(name, Some(&user), std::slice::from_ref(&system));
        assert_eq!(look("a").unwrap(), [("host".to_owned(), "u".to_owned())]);
        assert_eq!(look("b").unwrap(), [("host".to_owned(), "t".to_owned())]);
        assert!(look("c").unwrap_err().contains("system, line 6"));
        let absent = look("d").unwrap_err();
        assert!(
            absent.contains("user") && absent.contains("system"),
            "{absent}"
        );
    }
}
