//! Compare-and-swap of one object, safe against answers that lie or get lost.
//!
//! Servers report a conflict for a write that took effect (a retried request collides with itself), or nothing at all.
//! So every conflict and every doubtful answer is settled by reading the object back: its bytes are unique to one
//! proposed change, so finding ours means that we won, finding the expected ones means that nothing happened yet.

use bytes::Bytes;
use object_store::{GetOptions, PutMode, PutOptions, PutPayload, UpdateVersion};

use super::{ObjectError, ObjectStore};

/// An object's bytes together with what a later swap compares with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The object's contents.
    pub bytes: Bytes,
    pub(super) e_tag: Option<String>,
    pub(super) version: Option<String>,
}

/// Why a swap was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// Somebody else changed the object; this is what it holds now. Ours may have been in before that.
    #[error("object {key:?} was changed by another writer")]
    Conflict { key: String, current: Option<Versioned> },
    /// Not known whether it took effect, and it still may. Read the object before the next change.
    #[error("object {key:?}: outcome of a conditional write unknown: {reason}")]
    Doubtful { key: String, reason: String },
    /// Not made, and retrying does not help.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl ObjectStore {
    /// Reads an object that changes; `None` when there is none.
    pub async fn read_versioned(&self, key: &str) -> Result<Option<Versioned>, ObjectError> {
        let path = self.path(key)?;
        let read = self
            .retry
            .run(|| async {
                let found = self.inner.get_opts(&path, GetOptions::default()).await;
                let found = found.map_err(|e| ObjectError::from_get(key, e))?;
                let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
                let bytes = found.bytes().await.map_err(|e| ObjectError::from_get(key, e))?;
                Ok(Versioned { bytes, e_tag, version })
            })
            .await;
        match read {
            Ok(found) => Ok(Some(found)),
            Err(ObjectError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces `expected` (`None`: the object must not exist) by `bytes`, which must differ from everything this
    /// object has ever held.
    pub async fn swap(&self, key: &str, expected: Option<&Versioned>, bytes: Bytes) -> Result<Versioned, SwapError> {
        let path = self.path(key)?;
        assert!(expected.is_none_or(|e| e.bytes != bytes), "swap of {key:?} must change the object");
        let mut reason = String::new();
        for trial in 1..=self.retry.attempts() {
            if trial > 1 {
                self.retry.wait(trial - 1).await;
            }
            let mode = match expected {
                None => PutMode::Create,
                Some(found) => {
                    PutMode::Update(UpdateVersion { e_tag: found.e_tag.clone(), version: found.version.clone() })
                }
            };
            let options = PutOptions { mode, ..Default::default() };
            let error = match self.inner.put_opts(&path, PutPayload::from_bytes(bytes.clone()), options).await {
                Ok(put) if put.e_tag.is_some() => {
                    return Ok(Versioned { bytes, e_tag: put.e_tag, version: put.version });
                }
                Ok(_) => None,
                Err(error) => Some(error),
            };
            reason = error.as_ref().map_or_else(|| "no ETag in the answer".to_owned(), ToString::to_string);
            match self.read_versioned(key).await {
                Ok(Some(current)) if current.bytes == bytes => return Ok(current),
                // Not made, or not yet. A conflict although nothing changed is what some servers answer to a request that
                // they dropped; it may be repeated like any other.
                Ok(current) if current.as_ref() == expected => match error {
                    Some(error) if !may_repeat(&error) => return Err(ObjectError::from_put(key, error).into()),
                    _ => continue,
                },
                Ok(current) => return Err(SwapError::Conflict { key: key.to_owned(), current }),
                Err(unreadable) => reason = format!("{reason}; reading it back: {unreadable}"),
            }
        }
        Err(SwapError::Doubtful { key: key.to_owned(), reason })
    }
}

fn may_repeat(error: &object_store::Error) -> bool {
    use object_store::Error;
    matches!(
        error,
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::Generic { .. } | Error::JoinError { .. }
    )
}
