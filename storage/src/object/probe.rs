//! Finding out whether a store honours conditions on a PUT, before anything rests on it.
//!
//! Who owns a shard is decided by conditional PUT alone. A store that ignores the conditions, or looks at them a moment
//! before it writes, lets two servers both believe that they own a shard, and each would delete the other's layers.

use bytes::Bytes;
use futures::future::join_all;
use object_store::{PutMode, PutOptions, PutPayload, UpdateVersion};

use super::{ObjectError, ObjectStore, SwapError, Versioned};

/// Rounds in which racers create the same object.
const RACES: usize = 3;
/// Racers of a round.
const RACERS: usize = 8;

/// Why a store is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// Never use it: shards on it could have two owners.
    #[error("conditional PUT is not honoured: {0}")]
    Dishonest(String),
    /// Nothing was found out. Retry, or tell the operator.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl ObjectStore {
    /// Tries conditional PUTs on objects below `key`, which nobody else uses, and removes them again.
    pub async fn probe(&self, key: &str) -> Result<(), ProbeError> {
        let outcome = self.probe_below(key).await;
        for name in (0..RACES).map(|round| format!("{key}/race-{round}")).chain([format!("{key}/one")]) {
            // What stays behind costs a few bytes.
            let _ = self.delete(&name).await;
        }
        outcome
    }

    async fn probe_below(&self, key: &str) -> Result<(), ProbeError> {
        let one = format!("{key}/one");
        let first = self.must_swap(&one, None, "first").await?;
        self.must_refuse(&one, PutMode::Create, "an object that exists was created once more").await?;
        let second = self.must_swap(&one, Some(&first), "second").await?;
        let stale = UpdateVersion { e_tag: first.e_tag.clone(), version: first.version.clone() };
        self.must_refuse(&one, PutMode::Update(stale), "an object was replaced by who expected an older one").await?;
        match self.read_versioned(&one).await? {
            Some(found) if found.bytes == second.bytes => {}
            _ => return Err(ProbeError::Dishonest("a refused PUT changed the object".to_owned())),
        }
        for round in 0..RACES {
            let name = format!("{key}/race-{round}");
            let racers = (0..RACERS).map(|racer| self.put_once(&name, PutMode::Create, format!("racer {racer}")));
            // An answer that got lost is no proof of anything.
            let winners = join_all(racers).await.into_iter().filter(Result::is_ok).count();
            if winners > 1 {
                let reason = format!("{winners} of {RACERS} racers all created the same object");
                return Err(ProbeError::Dishonest(reason));
            }
        }
        Ok(())
    }

    async fn put_once(&self, key: &str, mode: PutMode, text: String) -> Result<(), object_store::Error> {
        let path =
            self.path(key).map_err(|error| object_store::Error::Generic { store: "probe", source: error.into() })?;
        let options = PutOptions { mode, ..Default::default() };
        self.inner.put_opts(&path, PutPayload::from_bytes(Bytes::from(text)), options).await.map(|_| ())
    }

    async fn must_swap(&self, key: &str, expected: Option<&Versioned>, text: &str) -> Result<Versioned, ProbeError> {
        self.swap(key, expected, Bytes::from(text.to_owned())).await.map_err(|error| match error {
            SwapError::Object(error) => error.into(),
            SwapError::Doubtful { key, reason } => ObjectError::Transient { key, reason }.into(),
            SwapError::Conflict { key, .. } => {
                ProbeError::Dishonest(format!("a PUT of {key:?} was refused although its condition held"))
            }
        })
    }

    /// A PUT whose condition does not hold. An honest store never does it, however often it is tried.
    async fn must_refuse(&self, key: &str, mode: PutMode, otherwise: &str) -> Result<(), ProbeError> {
        use object_store::Error;
        let mut last = String::new();
        for trial in 1..=self.retry.attempts() {
            if trial > 1 {
                self.retry.wait(trial - 1).await;
            }
            match self.put_once(key, mode.clone(), "late".to_owned()).await {
                Ok(()) => return Err(ProbeError::Dishonest(otherwise.to_owned())),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => return Ok(()),
                Err(Error::NotImplemented { .. }) => {
                    return Err(ProbeError::Dishonest("the store does not know conditional PUT".to_owned()));
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(ObjectError::Transient { key: key.to_owned(), reason: last }.into())
    }
}
