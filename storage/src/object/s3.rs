//! Opening a bucket of an S3-compatible store: where it is, and by whose right.

use std::time::Duration;

use object_store::ClientConfigKey;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};

use super::ObjectError;

/// What the URL does not say. What is not set here comes from the `AWS_*` environment variables.
#[derive(Clone, Debug, Default)]
pub struct S3Options {
    /// `http://host:port` or `https://host:port` of a store other than Amazon's.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// By whose right.
    pub credentials: Option<S3Credentials>,
    /// A request, body included, that takes longer is given up, and repeated as after any failure; half a minute if not set.
    pub request_timeout: Option<Duration>,
}

/// Long enough for the largest object on a slow line.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A key and its secret. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// Public half.
    pub access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
}

impl std::fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

impl S3Credentials {
    /// Reads the text of a shared credentials file, as Amazon's tools use it: `[profile]` sections with
    /// `aws_access_key_id`, `aws_secret_access_key` and perhaps `aws_session_token`. The error says what is missing.
    pub fn parse(text: &str, profile: &str) -> Result<S3Credentials, String> {
        let (mut inside, mut seen) = (false, false);
        let (mut key, mut secret, mut session_token) = (None, None, None);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                inside = name.trim() == profile;
                seen |= inside;
                continue;
            }
            // The line itself may hold a secret: it is not shown.
            let (name, value) =
                line.split_once('=').ok_or_else(|| format!("line {} is not of the form name = value", number + 1))?;
            let value = value.trim().to_owned();
            match name.trim() {
                _ if !inside => {}
                "aws_access_key_id" => key = Some(value),
                "aws_secret_access_key" => secret = Some(value),
                "aws_session_token" => session_token = Some(value),
                _ => {}
            }
        }
        if !seen {
            return Err(format!("there is no section [{profile}]"));
        }
        let missing = |name: &str| format!("section [{profile}] has no {name}");
        Ok(S3Credentials {
            access_key_id: key.ok_or_else(|| missing("aws_access_key_id"))?,
            secret_access_key: secret.ok_or_else(|| missing("aws_secret_access_key"))?,
            session_token,
        })
    }
}

/// A client of a bucket.
pub(super) fn open(url: &str, bucket: &str, options: &S3Options) -> Result<AmazonS3, ObjectError> {
    // Our own policy retries; the client's long default would hide an outage for minutes.
    let retry =
        object_store::RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(20), ..Default::default() };
    let timeout = format!("{}ms", options.request_timeout.unwrap_or(REQUEST_TIMEOUT).as_millis());
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), timeout);
    if let Some(endpoint) = &options.endpoint {
        // Asked for by its scheme: inside a trusted network a store need not have TLS.
        let plain = endpoint.starts_with("http://");
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint).with_allow_http(plain);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(credentials) = &options.credentials {
        builder = builder
            .with_access_key_id(&credentials.access_key_id)
            .with_secret_access_key(&credentials.secret_access_key);
        if let Some(token) = &credentials.session_token {
            builder = builder.with_token(token);
        }
    }
    builder.build().map_err(|error| ObjectError::Url { url: url.to_owned(), reason: error.to_string() })
}
