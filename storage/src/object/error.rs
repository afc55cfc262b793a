//! What can go wrong with an object, named by what the caller must do.

/// An operation on the object store failed, after its retries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The URL of the store cannot be used: tell the operator.
    #[error("object store {url:?}: {reason}")]
    Url { url: String, reason: String },
    /// No such object.
    #[error("object {key:?} does not exist")]
    NotFound { key: String },
    /// Wait and retry. A write may or may not have taken effect.
    #[error("object {key:?}: {reason}")]
    Transient { key: String, reason: String },
    /// Retrying does not help: permissions, configuration, or a damaged object.
    #[error("object {key:?}: {reason}")]
    Permanent { key: String, reason: String },
}

impl ObjectError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, ObjectError::Transient { .. })
    }

    pub(super) fn from_get(key: &str, error: object_store::Error) -> ObjectError {
        match error {
            object_store::Error::NotFound { .. } => ObjectError::NotFound { key: key.to_owned() },
            other => ObjectError::from_put(key, other),
        }
    }

    pub(super) fn from_put(key: &str, error: object_store::Error) -> ObjectError {
        use object_store::Error;
        let (key, reason) = (key.to_owned(), error.to_string());
        match error {
            Error::Generic { .. } | Error::JoinError { .. } => ObjectError::Transient { key, reason },
            // A missing bucket or directory, a refused permission, a condition that failed.
            _ => ObjectError::Permanent { key, reason },
        }
    }
}
