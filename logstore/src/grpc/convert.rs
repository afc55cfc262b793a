//! Between the wire messages and this crate's types.

use proto::logstore::{Failure, failure::Kind};
use storage::{BranchId, Epoch, Lsn};

use crate::client::{LogError, MetadataValue};

/// An error as a message.
pub(crate) fn to_failure(error: LogError) -> Failure {
    let empty = Failure::default();
    match error {
        LogError::Fenced { branch, epoch, current, end_lsn } => Failure {
            kind: Kind::Fenced.into(),
            branch: branch.0,
            epoch: epoch.0,
            current_epoch: current.0,
            actual_lsn: end_lsn.0,
            ..empty
        },
        LogError::Gap { branch, start_lsn, end_lsn } => {
            Failure { kind: Kind::Gap.into(), branch: branch.0, asked_lsn: start_lsn.0, actual_lsn: end_lsn.0, ..empty }
        }
        LogError::Trimmed { branch, asked, first_lsn } => Failure {
            kind: Kind::Trimmed.into(),
            branch: branch.0,
            asked_lsn: asked.0,
            actual_lsn: first_lsn.0,
            ..empty
        },
        LogError::TooLarge { branch, bytes, limit_bytes } => Failure {
            kind: Kind::TooLarge.into(),
            branch: branch.0,
            bytes: bytes as u64,
            limit_bytes: limit_bytes as u64,
            ..empty
        },
        LogError::NotLeader { leader } => {
            Failure { kind: Kind::NotLeader.into(), leader: leader.unwrap_or_default(), ..empty }
        }
        LogError::Unavailable { reason } => Failure { kind: Kind::Unavailable.into(), reason, ..empty },
        LogError::NoSpace { reason } => Failure { kind: Kind::NoSpace.into(), reason, ..empty },
        LogError::Corrupt { reason } => Failure { kind: Kind::Corrupt.into(), reason, ..empty },
        LogError::Invalid { reason } => Failure { kind: Kind::Invalid.into(), reason, ..empty },
    }
}

/// A call that came to no answer.
pub(super) fn unavailable(status: &tonic::Status) -> LogError {
    LogError::Unavailable { reason: format!("{}: {}", status.code(), status.message()) }
}

/// The error in a message. An unknown kind, of a newer server, counts as unavailable: the outcome is not known.
pub(crate) fn from_failure(failure: Failure) -> LogError {
    let branch = BranchId(failure.branch);
    let (asked, actual) = (Lsn(failure.asked_lsn), Lsn(failure.actual_lsn));
    let kind = failure.kind();
    let reason = failure.reason;
    match kind {
        Kind::Fenced => LogError::Fenced {
            branch,
            epoch: Epoch(failure.epoch),
            current: Epoch(failure.current_epoch),
            end_lsn: actual,
        },
        Kind::Gap => LogError::Gap { branch, start_lsn: asked, end_lsn: actual },
        Kind::Trimmed => LogError::Trimmed { branch, asked, first_lsn: actual },
        Kind::TooLarge => {
            LogError::TooLarge { branch, bytes: failure.bytes as usize, limit_bytes: failure.limit_bytes as usize }
        }
        Kind::NotLeader => LogError::NotLeader { leader: Some(failure.leader).filter(|leader| !leader.is_empty()) },
        Kind::NoSpace => LogError::NoSpace { reason },
        Kind::Corrupt => LogError::Corrupt { reason },
        Kind::Invalid => LogError::Invalid { reason },
        Kind::Unavailable => LogError::Unavailable { reason },
    }
}

/// A metadata value with its key.
pub(super) fn to_value(key: String, value: MetadataValue) -> proto::logstore::MetadataValue {
    proto::logstore::MetadataValue { key, version: value.version, bytes: value.bytes }
}

/// The same back.
pub(super) fn from_value(value: proto::logstore::MetadataValue) -> (String, MetadataValue) {
    (value.key, MetadataValue { version: value.version, bytes: value.bytes })
}
