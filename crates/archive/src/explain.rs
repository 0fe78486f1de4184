//! What an error of an object store means, and what helps. Whether a request is tried again is
//! decided before, by the crate `object_store`, from status codes.

use crate::error::ArchiveError;
use crate::place::{Bucket, Provider};
use object_store::Error;

/// Bytes of an error that are repeated.
const MOST_TEXT: usize = 600;

/// The error, with what helps.
pub(crate) fn explain(bucket: &Bucket, error: &Error) -> ArchiveError {
    let text = all_of(error);
    let has = |word: &str| text.contains(word);
    let (why, hint) = if has("NoSuchBucket") || has("ContainerNotFound") {
        (
            "the bucket does not exist",
            "create it, or check its name and the endpoint",
        )
    } else if has("PermanentRedirect")
        || has("AuthorizationHeaderMalformed")
        || has("BareRedirect")
        || has("configured region")
    {
        (
            "the bucket is in another region",
            "name its region: --store-option region=REGION, or AWS_REGION",
        )
    } else if has("InvalidAccessKeyId")
        || has("SignatureDoesNotMatch")
        || has("ExpiredToken")
        || has("InvalidToken")
        || has("AuthenticationFailed")
        || matches!(error, Error::Unauthenticated { .. })
    {
        (
            "the credentials are wrong or have expired",
            credentials(bucket.provider),
        )
    } else if matches!(error, Error::PermissionDenied { .. })
        || has("AccessDenied")
        || has("AuthorizationPermissionMismatch")
    {
        (
            "these credentials have no permission for that",
            "reading an archive needs to list the bucket and to get objects; writing one also to put objects; pruning also to delete them",
        )
    } else if has("URL scheme is not allowed") || has("InvalidUri") {
        (
            "its endpoint is an http:// address",
            "give https://, or --store-option allow_http=true",
        )
    } else if has("169.254.169.254") || has("metadata.google.internal") {
        ("there are no credentials", credentials(bucket.provider))
    } else if matches!(error, Error::NotFound { .. }) {
        return ArchiveError::new(bucket, format!("an object is not there: {}", cut(&text)));
    } else if matches!(
        error,
        Error::AlreadyExists { .. } | Error::Precondition { .. }
    ) {
        return ArchiveError::new(
            bucket,
            format!(
                "an object of that name is there already, and is another one: {}",
                cut(&text)
            ),
        );
    } else {
        return ArchiveError::new(bucket, cut(&text))
            .with_hint("check that the endpoint can be reached; what was kept stays kept");
    };
    ArchiveError::new(bucket, format!("{why}: {}", cut(&text))).with_hint(hint)
}

fn credentials(provider: Provider) -> &'static str {
    match provider {
        Provider::S3 => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, with AWS_SESSION_TOKEN if they are temporary"
        }
        Provider::Google => {
            "set GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT to the file of a service account"
        }
        Provider::Azure => {
            "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_SAS_KEY"
        }
    }
}

/// The error and what caused it.
fn all_of(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

/// The beginning of a text that a server may have made, on one line.
fn cut(text: &str) -> String {
    let mut end = MOST_TEXT.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let kept = text.get(..end).unwrap_or_default();
    kept.chars().map(printable).collect()
}
