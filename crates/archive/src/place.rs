//! Where an archive lies: a folder, or a prefix in a bucket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where an archive lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A prefix in a bucket.
    Bucket(Bucket),
}

/// A prefix in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub(crate) provider: Provider,
    /// The bucket; the container at Azure.
    pub(crate) name: String,
    pub(crate) prefix: String,
}

/// Whose interface an object store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    S3,
    Google,
    Azure,
}

impl Provider {
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
        }
    }

    /// How the names of the environment variables begin that its own tools read.
    pub(crate) fn variables(self) -> &'static str {
        match self {
            Self::S3 => "AWS_",
            Self::Google => "GOOGLE_",
            Self::Azure => "AZURE_",
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text.is_empty() {
                true => Err("it is empty".to_owned()),
                false => Ok(Self::Folder(PathBuf::from(text))),
            };
        };
        let provider = match scheme {
            "s3" => Provider::S3,
            "gs" => Provider::Google,
            "az" => Provider::Azure,
            _ => {
                return Err(format!(
                    "{scheme}:// is not known; give a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
                ));
            }
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        // Neither a port nor a password has its place here.
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("{scheme}:// needs the name of a bucket"));
        }
        let prefix = prefix.trim_matches('/');
        let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !prefix.is_empty() && !prefix.split('/').all(is_plain) || prefix.contains(['?', '#']) {
            return Err(format!(
                "the prefix {prefix} cannot be the name of a folder"
            ));
        }
        Ok(Self::Bucket(Bucket {
            provider,
            name: name.to_owned(),
            prefix: prefix.to_owned(),
        }))
    }
}

impl Place {
    /// Its folder, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&PathBuf> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Bucket(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.provider.scheme(), self.name)?;
        match self.prefix.is_empty() {
            true => Ok(()),
            false => write!(f, "/{}", self.prefix),
        }
    }
}

impl From<PathBuf> for Place {
    fn from(folder: PathBuf) -> Self {
        Self::Folder(folder)
    }
}

/// How object stores are reached: credentials, regions, endpoints.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Variables of the environment, with their values: those that AWS's, Google's and Azure's own
    /// tools read count.
    pub environment: Vec<(String, String)>,
    /// Names and values that the operator gave, which come first: see [`Access::option`].
    pub options: Vec<(String, String)>,
}

/// Names of options that may stand on a command line, for any provider. What is secret may not:
/// others see it in the list of processes, and skyfill prints and stores its command line.
const OPTIONS: &[&str] = &[
    "allow_http",
    "connect_timeout",
    "endpoint",
    "region",
    "request_payer",
    "retry_timeout",
    "server_side_encryption",
    "skip_signature",
    "sse_kms_key_id",
    "timeout",
    "use_emulator",
    "virtual_hosted_style_request",
];

impl Access {
    /// How the names of the variables begin that count.
    pub const VARIABLES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

    /// Reads `NAME=VALUE`.
    ///
    /// # Errors
    /// It is not known, or belongs into the environment.
    pub fn option(text: &str) -> Result<(String, String), String> {
        let Some((name, value)) = text.split_once('=') else {
            return Err("expected NAME=VALUE".to_owned());
        };
        if OPTIONS.contains(&name) {
            return Ok((name.to_owned(), value.to_owned()));
        }
        // The value is not repeated: it may be a secret.
        Err(format!(
            "{name} is not one of {}; credentials and all else come from the environment",
            OPTIONS.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_as_they_are_written() {
        for text in ["cars", "/a/b", "s3://bucket", "gs://b/a/b", "az://c-1/x"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        let slashes: Place = "s3://bucket/a/".parse().unwrap();
        assert_eq!(slashes.to_string(), "s3://bucket/a");
        for text in [
            "",
            "s3://",
            "s3:///a",
            "http://host/a",
            "s3://key:secret@bucket/a",
            "s3://bucket/a//b",
            "s3://bucket/../b",
            "s3://bucket/a?x=y",
        ] {
            let error = text.parse::<Place>().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn no_secret_stands_on_a_command_line() {
        assert!(Access::option("endpoint=http://127.0.0.1:1").is_ok());
        let error = Access::option("aws_secret_access_key=hidden").unwrap_err();
        assert!(
            error.contains("environment") && !error.contains("hidden"),
            "{error}"
        );
    }
}
