//! The object store that the command line names, opened and found fit for use.

use std::path::PathBuf;

use clap::Args;
use storage::object::{ObjectStore, S3Credentials, S3Options};

use crate::shell;

/// Where the object store is.
#[derive(Args)]
pub struct StoreArguments {
    /// The object store: file:///directory or s3://bucket/prefix. What is not said of S3 here comes from the AWS_*
    /// environment variables.
    #[arg(long, env = "ALLUVIUM_STORE")]
    store: String,

    #[command(flatten)]
    s3: S3Arguments,
}

/// How a store on S3 is reached.
#[derive(Args)]
pub struct S3Arguments {
    /// Endpoint of an S3 store other than Amazon's: https://host:port, or http://host:port within a trusted network.
    #[arg(long, env = "ALLUVIUM_STORE_ENDPOINT")]
    store_endpoint: Option<String>,

    /// Region of the bucket.
    #[arg(long, env = "ALLUVIUM_STORE_REGION")]
    store_region: Option<String>,

    /// File with the credentials for S3, in the format of Amazon's shared credentials files; its section is named by
    /// AWS_PROFILE, or default.
    #[arg(long, env = "ALLUVIUM_STORE_CREDENTIALS")]
    store_credentials: Option<PathBuf>,
}

impl StoreArguments {
    /// Opens the store. One on S3 is refused unless it honours conditional PUT.
    pub async fn open(&self) -> Result<ObjectStore, String> {
        let store = self.s3.open(&self.store)?;
        if let Some(key) = probe_key(&self.store) {
            store
                .probe(&key)
                .await
                .map_err(|error| format!("the object store {} cannot be used: {error}", self.store))?;
        }
        Ok(store)
    }
}

/// Below which conditional PUT is to be tried out, for a store where that must be done.
pub fn probe_key(url: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a key that nobody else uses")]
    url.starts_with("s3://").then(|| format!("probe/{:032x}", rand::random::<u128>()))
}

impl S3Arguments {
    /// Opens a store without asking it anything.
    pub fn open(&self, url: &str) -> Result<ObjectStore, String> {
        let options = S3Options {
            endpoint: self.store_endpoint.clone(),
            region: self.store_region.clone(),
            credentials: self.credentials()?,
            request_timeout: None,
        };
        ObjectStore::open_with(url, &options, shell::retry_policy())
            .map_err(|error| format!("cannot open the object store: {error}"))
    }

    fn credentials(&self) -> Result<Option<S3Credentials>, String> {
        let Some(path) = &self.store_credentials else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the credentials in {}: {error}", path.display()))?;
        let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
        S3Credentials::parse(&text, &profile).map(Some).map_err(|reason| format!("{}: {reason}", path.display()))
    }
}
