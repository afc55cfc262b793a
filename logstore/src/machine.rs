//! The replicated state machine: what every log node computes alike from the same commands. No I/O, no clocks.
//!
//! Invariants: `end_lsn` of a branch only grows; `epoch` only grows; an append changes state only if its epoch is the
//! current one and it starts at the end; a consumer's position never moves back.

use std::collections::BTreeMap;

use bytes::Bytes;
use storage::{BranchId, Epoch, Lsn};

use crate::archive::{ARCHIVE_CONSUMER, ARCHIVE_KEY};
use crate::client::{EpochGrant, LogError, MetadataValue};
use crate::command::{Command, MAX_CONSUMER_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::members::Members;
use crate::wire::{Malformed, get_bytes, get_length, get_string, get_u8, get_u64, put_bytes, put_u64};

/// Branches that one log cluster serves at most. Bounds a checkpoint's size.
pub const MAX_BRANCHES: usize = 16_384;
/// Consumers of one branch.
pub const MAX_CONSUMERS: usize = 256;
/// Sum of key and value bytes in the metadata map.
pub const MAX_METADATA_BYTES: usize = 4 << 20;

/// 1 had no members.
const VERSION: u8 = 2;

/// One branch's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BranchState {
    /// Highest epoch granted.
    pub epoch: Epoch,
    /// End of the stream.
    pub end_lsn: Lsn,
    /// Positions below which each consumer no longer needs the log.
    pub consumers: BTreeMap<String, Lsn>,
}

/// The whole state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateMachine {
    applied_index: u64,
    branches: BTreeMap<BranchId, BranchState>,
    metadata: BTreeMap<String, MetadataValue>,
    metadata_bytes: usize,
    members: Members,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The group is in; the stream now ends here.
    Appended { end_lsn: Lsn },
    /// A new epoch was granted.
    Granted(EpochGrant),
    /// The consumer's position was noted.
    Reported,
    /// The members of the cluster are as asked for; Raft's membership follows.
    MembersChanged,
    /// The key has this version now; `None`: it was removed.
    Swapped { version: Option<u64> },
    /// The key was not at the expected version.
    Conflict { current: Option<MetadataValue> },
}

impl StateMachine {
    /// A new cluster with these members, as of `index`.
    pub fn begin(index: u64, members: Members) -> StateMachine {
        StateMachine { applied_index: index, members, ..StateMachine::default() }
    }

    /// The nodes that the cluster is to consist of.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Index of the last command applied.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// A branch's state; `None` if it was never written.
    pub fn branch(&self, branch: BranchId) -> Option<&BranchState> {
        self.branches.get(&branch)
    }

    /// All branches.
    pub fn branches(&self) -> impl Iterator<Item = (BranchId, &BranchState)> {
        self.branches.iter().map(|(&id, state)| (id, state))
    }

    /// Below this nobody needs a branch's log: min(archived, every reader's position). Zero while it has no reader, and
    /// while there is an archive that does not hold anything of it yet.
    pub fn trim_floor(&self, state: &BranchState) -> Lsn {
        let is_archive = |name: &String| name == ARCHIVE_CONSUMER;
        let readers = state.consumers.iter().filter(|(name, _)| !is_archive(name)).map(|(_, position)| *position).min();
        let archived = match state.consumers.get(ARCHIVE_CONSUMER) {
            Some(position) => *position,
            None if self.metadata.contains_key(ARCHIVE_KEY) => Lsn::ZERO,
            None => Lsn::MAX,
        };
        readers.map_or(Lsn::ZERO, |readers| readers.min(archived))
    }

    /// A metadata key.
    pub fn metadata(&self, key: &str) -> Option<&MetadataValue> {
        self.metadata.get(key)
    }

    /// Metadata keys that begin with `prefix`, in order.
    pub fn metadata_with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a MetadataValue)> {
        self.metadata.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Applies the entry at `index`. `None` is the empty entry of a new leader, or one that changes the membership.
    pub fn apply(&mut self, index: u64, command: Option<&Command>) -> Result<Outcome, LogError> {
        assert_eq!(index, self.applied_index + 1, "entries are applied in order and once");
        self.applied_index = index;
        match command {
            None => Ok(Outcome::Reported),
            Some(Command::Append { branch, epoch, start_lsn, bytes }) => {
                self.append(*branch, *epoch, *start_lsn, bytes.len())
            }
            Some(Command::AcquireEpoch { branch }) => self.acquire_epoch(*branch),
            Some(Command::ReportConsumer { branch, consumer, durable_lsn }) => {
                self.report_consumer(*branch, consumer, *durable_lsn)
            }
            Some(Command::CompareAndSwap { key, expected, value }) => {
                self.compare_and_swap(index, key, *expected, value.as_ref())
            }
            Some(Command::SetMember { node_id, expected, member }) => {
                self.members.set(*node_id, *expected, member).map(|()| Outcome::MembersChanged)
            }
            Some(Command::RemoveMember { node_id }) => self.members.remove(*node_id).map(|()| Outcome::MembersChanged),
        }
    }

    fn append(&mut self, branch: BranchId, epoch: Epoch, start: Lsn, bytes: usize) -> Result<Outcome, LogError> {
        let (current, end_lsn) =
            self.branches.get(&branch).map_or((Epoch::default(), Lsn::ZERO), |state| (state.epoch, state.end_lsn));
        check_append(branch, epoch, start, current, end_lsn)?;
        let state = self.branches.get_mut(&branch).expect("a branch with an epoch exists");
        state.end_lsn = state.end_lsn.advance(bytes as u64);
        Ok(Outcome::Appended { end_lsn: state.end_lsn })
    }

    fn acquire_epoch(&mut self, branch: BranchId) -> Result<Outcome, LogError> {
        if self.branches.len() >= MAX_BRANCHES && !self.branches.contains_key(&branch) {
            return Err(LogError::Invalid { reason: format!("more than {MAX_BRANCHES} branches") });
        }
        let state = self.branches.entry(branch).or_default();
        state.epoch = Epoch(state.epoch.0 + 1);
        Ok(Outcome::Granted(EpochGrant { epoch: state.epoch, end_lsn: state.end_lsn }))
    }

    fn report_consumer(&mut self, branch: BranchId, consumer: &str, durable_lsn: Lsn) -> Result<Outcome, LogError> {
        let Some(state) = self.branches.get_mut(&branch) else {
            // A consumer may attach before the first writer does.
            if durable_lsn == Lsn::ZERO || durable_lsn == Lsn::MAX {
                return Ok(Outcome::Reported);
            }
            return Err(LogError::Invalid { reason: format!("branch {branch} does not exist") });
        };
        if durable_lsn == Lsn::MAX {
            state.consumers.remove(consumer);
            return Ok(Outcome::Reported);
        }
        if durable_lsn > state.end_lsn {
            let reason = format!("consumer {consumer} reports {durable_lsn}, past the end {}", state.end_lsn);
            return Err(LogError::Invalid { reason });
        }
        if state.consumers.len() >= MAX_CONSUMERS && !state.consumers.contains_key(consumer) {
            return Err(LogError::Invalid { reason: format!("more than {MAX_CONSUMERS} consumers") });
        }
        let position = state.consumers.entry(consumer.to_owned()).or_default();
        *position = durable_lsn.max(*position);
        Ok(Outcome::Reported)
    }

    fn compare_and_swap(
        &mut self,
        index: u64,
        key: &str,
        expected: Option<u64>,
        value: Option<&Bytes>,
    ) -> Result<Outcome, LogError> {
        let current = self.metadata.get(key);
        if current.map(|value| value.version) != expected {
            return Ok(Outcome::Conflict { current: current.cloned() });
        }
        let entry_bytes = |value: &Bytes| key.len() + value.len();
        let freed = current.map_or(0, |current| entry_bytes(&current.bytes));
        let added = value.map_or(0, entry_bytes);
        if self.metadata_bytes - freed + added > MAX_METADATA_BYTES {
            return Err(LogError::Invalid { reason: format!("metadata exceeds {MAX_METADATA_BYTES} bytes") });
        }
        self.metadata_bytes = self.metadata_bytes - freed + added;
        match value {
            Some(bytes) => {
                // A copy, so that a small value does not keep a large network buffer alive.
                let bytes = Bytes::copy_from_slice(bytes);
                self.metadata.insert(key.to_owned(), MetadataValue { version: index, bytes });
                Ok(Outcome::Swapped { version: Some(index) })
            }
            None => {
                self.metadata.remove(key);
                Ok(Outcome::Swapped { version: None })
            }
        }
    }

    /// The state as bytes, for checkpoints and Raft snapshots.
    pub fn encode(&self) -> Vec<u8> {
        let mut buffer = vec![VERSION];
        put_u64(&mut buffer, self.applied_index);
        buffer.extend_from_slice(&(self.branches.len() as u32).to_le_bytes());
        for (id, state) in &self.branches {
            put_u64(&mut buffer, id.0);
            put_u64(&mut buffer, state.epoch.0);
            put_u64(&mut buffer, state.end_lsn.0);
            buffer.extend_from_slice(&(state.consumers.len() as u32).to_le_bytes());
            for (consumer, position) in &state.consumers {
                put_bytes(&mut buffer, consumer.as_bytes());
                put_u64(&mut buffer, position.0);
            }
        }
        buffer.extend_from_slice(&(self.metadata.len() as u32).to_le_bytes());
        for (key, value) in &self.metadata {
            put_bytes(&mut buffer, key.as_bytes());
            put_u64(&mut buffer, value.version);
            put_bytes(&mut buffer, &value.bytes);
        }
        self.members.encode(&mut buffer);
        buffer
    }

    /// Reads what [`StateMachine::encode`] wrote.
    pub fn decode(mut bytes: Bytes) -> Result<StateMachine, Malformed> {
        const WHAT: &str = "log state machine";
        let bytes = &mut bytes;
        let version = get_u8(bytes, WHAT)?;
        if version == 0 || version > VERSION {
            return Err(Malformed("log state machine version"));
        }
        let mut machine = StateMachine { applied_index: get_u64(bytes, WHAT)?, ..StateMachine::default() };
        for _ in 0..get_length(bytes, MAX_BRANCHES, WHAT)? {
            let id = BranchId(get_u64(bytes, WHAT)?);
            let mut state = BranchState {
                epoch: Epoch(get_u64(bytes, WHAT)?),
                end_lsn: Lsn(get_u64(bytes, WHAT)?),
                consumers: BTreeMap::new(),
            };
            for _ in 0..get_length(bytes, MAX_CONSUMERS, WHAT)? {
                let consumer = get_string(bytes, MAX_CONSUMER_BYTES, WHAT)?;
                state.consumers.insert(consumer, Lsn(get_u64(bytes, WHAT)?));
            }
            machine.branches.insert(id, state);
        }
        for _ in 0..get_length(bytes, MAX_METADATA_BYTES, WHAT)? {
            let key = get_string(bytes, MAX_KEY_BYTES, WHAT)?;
            let version = get_u64(bytes, WHAT)?;
            let value = Bytes::copy_from_slice(&get_bytes(bytes, MAX_VALUE_BYTES, WHAT)?);
            machine.metadata_bytes += key.len() + value.len();
            machine.metadata.insert(key, MetadataValue { version, bytes: value });
        }
        if version >= 2 {
            machine.members = Members::decode(bytes)?;
        }
        if bytes.is_empty() { Ok(machine) } else { Err(Malformed(WHAT)) }
    }
}

/// The rule by which an append is accepted, also used to tell accepted entries from refused ones when the log is read
/// back from its files.
pub fn check_append(
    branch: BranchId,
    epoch: Epoch,
    start_lsn: Lsn,
    current: Epoch,
    end_lsn: Lsn,
) -> Result<(), LogError> {
    if epoch != current || epoch == Epoch::default() {
        return Err(LogError::Fenced { branch, epoch, current, end_lsn });
    }
    if start_lsn != end_lsn {
        return Err(LogError::Gap { branch, start_lsn, end_lsn });
    }
    Ok(())
}
