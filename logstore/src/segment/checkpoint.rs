//! The state machine, membership and terms as of one index: what a segment begins with.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfState, Snapshot};

use crate::core::TermRuns;
use crate::wire::{Malformed, get_bytes, get_u8, put_bytes};

const VERSION: u8 = 1;
const MAX_CONF_STATE_BYTES: usize = 64 << 10;

/// State after the entry at `index`.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Last applied index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Terms from the beginning of the log to `index`.
    pub terms: TermRuns,
    /// Membership.
    pub conf_state: ConfState,
    /// The state machine, encoded.
    pub machine: Bytes,
}

impl Checkpoint {
    /// The payload of a checkpoint record; index and term are in its header.
    pub fn encode(&self) -> Vec<u8> {
        let mut buffer = vec![VERSION];
        self.terms.encode_until(self.index, &mut buffer);
        let conf_state = self.conf_state.write_to_bytes().expect("serializing to memory cannot fail");
        put_bytes(&mut buffer, &conf_state);
        buffer.extend_from_slice(&self.machine);
        buffer
    }

    /// Reads a checkpoint record's payload.
    pub fn decode(index: u64, term: u64, mut payload: Bytes) -> Result<Checkpoint, Malformed> {
        if get_u8(&mut payload, "checkpoint")? != VERSION {
            return Err(Malformed("checkpoint version"));
        }
        let terms = TermRuns::decode(&mut payload, index)?;
        if terms.term(index) != Some(term) {
            return Err(Malformed("checkpoint term"));
        }
        let conf_state = get_bytes(&mut payload, MAX_CONF_STATE_BYTES, "checkpoint membership")?;
        let conf_state = ConfState::parse_from_bytes(&conf_state).map_err(|_| Malformed("checkpoint membership"))?;
        Ok(Checkpoint { index, term, terms, conf_state, machine: payload })
    }

    /// The same as a Raft snapshot.
    pub fn to_snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot { data: self.machine.clone(), ..Snapshot::default() };
        let metadata = snapshot.mut_metadata();
        metadata.index = self.index;
        metadata.term = self.term;
        metadata.set_conf_state(self.conf_state.clone());
        snapshot
    }

    /// A snapshot that a leader sent.
    pub fn from_snapshot(snapshot: &Snapshot) -> Checkpoint {
        let metadata = snapshot.get_metadata();
        Checkpoint {
            index: metadata.index,
            term: metadata.term,
            terms: TermRuns::starting_at(metadata.index, metadata.term),
            conf_state: metadata.get_conf_state().clone(),
            machine: snapshot.data.clone(),
        }
    }
}
