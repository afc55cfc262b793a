//! Sequences: current values, shared by all sessions, never given out twice.
//!
//! A value is given out only from a block that has been written to the counters tree and is durable. Blocks
//! begin at [`FIRST_BLOCK`] values and double while the sequence stays busy, so that a bulk insert does not
//! wait for the log every 32 rows; a crash loses what was left of the block, as in Postgres.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use storage::TreeId;

use super::{Oid, Sequence};
use crate::error::{Result, SqlError, SqlState};
use crate::store::Store;

/// Values reserved at first, as Postgres' `SEQ_LOG_VALS`.
const FIRST_BLOCK: u64 = 32;
/// Values reserved at most.
const LAST_BLOCK: u64 = 4096;

/// Where a sequence stands, as `SELECT last_value, is_called FROM sequence` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequencePosition {
    /// The last value given out, or the first to be.
    pub last_value: i64,
    /// Whether `last_value` has been given out.
    pub is_called: bool,
}

/// Shared state of one sequence.
#[derive(Default)]
struct State {
    position: Option<SequencePosition>,
    /// Values after `position` that are reserved durably.
    reserved: u64,
    /// Size of the last block.
    block: u64,
}

/// The sequences of a store.
#[derive(Default)]
pub struct Sequences {
    /// By [`Sequence::state`].
    states: Mutex<HashMap<u64, Arc<Mutex<State>>>>,
}

/// What a session remembers of sequences: for `currval`, `lastval` and CACHE.
#[derive(Default)]
pub struct SequenceSession {
    /// Sequence → its last value here.
    current: HashMap<Oid, i64>,
    last: Option<Oid>,
    /// Sequence → values taken for CACHE and not yet given out, with the state they belong to.
    cached: HashMap<Oid, (u64, Vec<i64>)>,
}

impl Sequences {
    /// Nothing in memory yet: positions are read when first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// `nextval`: the next value, taken for the session from its CACHE where it has some.
    pub fn nextval(
        &self,
        store: &dyn Store,
        counters: TreeId,
        sequence: &Sequence,
        session: &mut SequenceSession,
    ) -> Result<i64> {
        let cached = session.cached.entry(sequence.oid).or_insert_with(|| (sequence.state, Vec::new()));
        if cached.0 != sequence.state {
            *cached = (sequence.state, Vec::new());
        }
        let value = match cached.1.pop() {
            Some(value) => value,
            None => {
                let state = self.state(sequence);
                let mut state = state.lock();
                let first = state.advance(store, counters, sequence)?;
                // The rest of the cache is a convenience: running into the limit is the next call's error.
                for _ in 1..sequence.cache {
                    match state.advance(store, counters, sequence) {
                        Ok(value) => cached.1.push(value),
                        Err(_) => break,
                    }
                }
                cached.1.reverse();
                first
            }
        };
        session.current.insert(sequence.oid, value);
        session.last = Some(sequence.oid);
        Ok(value)
    }

    /// `setval`: not undone by a rollback, as in Postgres.
    pub fn setval(
        &self,
        store: &dyn Store,
        counters: TreeId,
        sequence: &Sequence,
        position: SequencePosition,
        session: &mut SequenceSession,
    ) -> Result<i64> {
        let value = position.last_value;
        if value < sequence.min || value > sequence.max {
            let (name, min, max) = (&sequence.name, sequence.min, sequence.max);
            let message = format!("setval: value {value} is out of bounds for sequence \"{name}\" ({min}..{max})");
            return Err(SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
        }
        let state = self.state(sequence);
        let mut state = state.lock();
        let lsn = store.put_immediate(counters, &key(sequence), encode(position))?;
        store.block_until_durable(lsn)?;
        *state = State { position: Some(position), reserved: 0, block: 0 };
        session.cached.remove(&sequence.oid);
        if position.is_called {
            session.current.insert(sequence.oid, value);
        }
        Ok(value)
    }

    /// Writes the first position of a state that no session uses yet.
    pub(super) fn prepare(
        &self,
        store: &dyn Store,
        counters: TreeId,
        sequence: &Sequence,
        position: SequencePosition,
    ) -> Result<()> {
        store.put_immediate(counters, &key(sequence), encode(position)).map(drop)
    }

    /// Where the sequence stands.
    pub fn position(&self, store: &dyn Store, counters: TreeId, sequence: &Sequence) -> Result<SequencePosition> {
        self.state(sequence).lock().position(store, counters, sequence)
    }

    fn state(&self, sequence: &Sequence) -> Arc<Mutex<State>> {
        Arc::clone(self.states.lock().entry(sequence.state).or_default())
    }
}

impl State {
    fn position(&mut self, store: &dyn Store, counters: TreeId, sequence: &Sequence) -> Result<SequencePosition> {
        if let Some(position) = self.position {
            return Ok(position);
        }
        let position = match store.get_newest(counters, &key(sequence))? {
            Some(value) => decode(&value)?,
            None => SequencePosition { last_value: sequence.start, is_called: false },
        };
        self.position = Some(position);
        Ok(position)
    }

    /// Gives out the next value, reserving a block first when none is left.
    fn advance(&mut self, store: &dyn Store, counters: TreeId, sequence: &Sequence) -> Result<i64> {
        let position = self.position(store, counters, sequence)?;
        let value = step(sequence, position)?;
        if self.reserved == 0 {
            let block = (self.block * 2).clamp(FIRST_BLOCK, LAST_BLOCK);
            let mut end = SequencePosition { last_value: value, is_called: true };
            let mut taken = 1;
            while taken < block
                && let Ok(next) = step(sequence, end)
            {
                end.last_value = next;
                taken += 1;
            }
            let lsn = store.put_immediate(counters, &key(sequence), encode(end))?;
            store.block_until_durable(lsn)?;
            (self.block, self.reserved) = (block, taken);
        }
        self.reserved -= 1;
        self.position = Some(SequencePosition { last_value: value, is_called: true });
        Ok(value)
    }
}

/// The value after a position.
fn step(sequence: &Sequence, position: SequencePosition) -> Result<i64> {
    let Sequence { increment, min, max, .. } = *sequence;
    if !position.is_called {
        return Ok(position.last_value);
    }
    let next = position.last_value.checked_add(increment).filter(|next| (min..=max).contains(next));
    match next {
        Some(next) => Ok(next),
        None if sequence.cycle => Ok(if increment > 0 { min } else { max }),
        None => {
            let (limit, bound) = if increment > 0 { ("maximum", max) } else { ("minimum", min) };
            let message = format!("nextval: reached {limit} value of sequence \"{}\" ({bound})", sequence.name);
            Err(SqlError::new(SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED, message))
        }
    }
}

impl SequenceSession {
    /// `currval`.
    pub fn currval(&self, sequence: &Sequence) -> Result<i64> {
        self.current.get(&sequence.oid).copied().ok_or_else(|| {
            let message = format!("currval of sequence \"{}\" is not yet defined in this session", sequence.name);
            SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        })
    }

    /// `lastval`. `exists` tells whether a sequence is still there.
    pub fn lastval(&self, exists: impl Fn(Oid) -> bool) -> Result<i64> {
        self.last.filter(|oid| exists(*oid)).and_then(|oid| self.current.get(&oid).copied()).ok_or_else(|| {
            let message = "lastval is not yet defined in this session";
            SqlError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        })
    }

    /// DISCARD SEQUENCES.
    pub fn discard(&mut self) {
        *self = Self::default();
    }
}

/// Key of a sequence's position in the counters tree.
pub(super) fn key(sequence: &Sequence) -> [u8; 9] {
    let mut key = [b's'; 9];
    key[1..].copy_from_slice(&sequence.state.to_be_bytes());
    key
}

fn encode(position: SequencePosition) -> Bytes {
    let mut bytes = position.last_value.to_be_bytes().to_vec();
    bytes.push(u8::from(position.is_called));
    Bytes::from(bytes)
}

fn decode(bytes: &[u8]) -> Result<SequencePosition> {
    match bytes.split_first_chunk::<8>() {
        Some((value, [called @ (0 | 1)])) => {
            Ok(SequencePosition { last_value: i64::from_be_bytes(*value), is_called: *called == 1 })
        }
        _ => Err(SqlError::new(SqlState::DATA_CORRUPTED, format!("sequence value is damaged: {bytes:02x?}"))),
    }
}
