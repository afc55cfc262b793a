//! What goes into the Raft log: one command per entry. The fields travel in the entry's context and the payload in
//! its data, so that an append's bytes are never copied to be framed.

use bytes::Bytes;
use storage::{BranchId, Epoch, Lsn};

use crate::members::{MAX_ADDRESS_BYTES, Member};
use crate::wire::{Malformed, get_bytes, get_string, get_u8, get_u64, put_bytes, put_u64};

/// Longest name of a consumer.
pub const MAX_CONSUMER_BYTES: usize = 256;
/// Longest key of the metadata map.
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest value of the metadata map.
pub const MAX_VALUE_BYTES: usize = 256 << 10;

const VERSION: u8 = 1;

/// A change of the log's state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A group of a branch's stream.
    Append { branch: BranchId, epoch: Epoch, start_lsn: Lsn, bytes: Bytes },
    /// The next epoch for a branch.
    AcquireEpoch { branch: BranchId },
    /// A consumer holds everything below `durable_lsn`; [`Lsn::MAX`] forgets the consumer.
    ReportConsumer { branch: BranchId, consumer: String, durable_lsn: Lsn },
    /// Sets (or with `None` removes) a metadata key if its version is `expected` (`None`: absent).
    CompareAndSwap { key: String, expected: Option<u64>, value: Option<Bytes> },
    /// Adds a node to the cluster or changes what is known of it, if its incarnation is `expected` (`None`: absent).
    SetMember { node_id: u64, expected: Option<u64>, member: Member },
    /// Removes a node from the cluster.
    RemoveMember { node_id: u64 },
}

impl Command {
    /// The entry's context and data.
    pub fn encode(&self) -> (Bytes, Bytes) {
        let mut context = Vec::with_capacity(32);
        context.push(VERSION);
        let data = match self {
            Command::Append { branch, epoch, start_lsn, bytes } => {
                context.push(1);
                put_u64(&mut context, branch.0);
                put_u64(&mut context, epoch.0);
                put_u64(&mut context, start_lsn.0);
                bytes.clone()
            }
            Command::AcquireEpoch { branch } => {
                context.push(2);
                put_u64(&mut context, branch.0);
                Bytes::new()
            }
            Command::ReportConsumer { branch, consumer, durable_lsn } => {
                context.push(3);
                put_u64(&mut context, branch.0);
                put_u64(&mut context, durable_lsn.0);
                put_bytes(&mut context, consumer.as_bytes());
                Bytes::new()
            }
            Command::CompareAndSwap { key, expected, value } => {
                context.push(4);
                context.push(u8::from(expected.is_some()) | u8::from(value.is_some()) << 1);
                put_u64(&mut context, expected.unwrap_or(0));
                put_bytes(&mut context, key.as_bytes());
                value.clone().unwrap_or_default()
            }
            Command::SetMember { node_id, expected, member } => {
                context.push(5);
                context.push(u8::from(expected.is_some()));
                put_u64(&mut context, *node_id);
                put_u64(&mut context, expected.unwrap_or(0));
                put_u64(&mut context, member.raft_id);
                put_bytes(&mut context, member.address.as_bytes());
                Bytes::new()
            }
            Command::RemoveMember { node_id } => {
                context.push(6);
                put_u64(&mut context, *node_id);
                Bytes::new()
            }
        };
        (context.into(), data)
    }

    /// Reads an entry; `None` for the empty one that a new leader writes.
    pub fn decode(mut context: Bytes, data: Bytes) -> Result<Option<Command>, Malformed> {
        const WHAT: &str = "log command";
        if context.is_empty() && data.is_empty() {
            return Ok(None);
        }
        if get_u8(&mut context, WHAT)? != VERSION {
            return Err(Malformed("log command version"));
        }
        let kind = get_u8(&mut context, WHAT)?;
        let command = match kind {
            1 => Command::Append {
                branch: BranchId(get_u64(&mut context, WHAT)?),
                epoch: Epoch(get_u64(&mut context, WHAT)?),
                start_lsn: Lsn(get_u64(&mut context, WHAT)?),
                bytes: data,
            },
            2 => Command::AcquireEpoch { branch: BranchId(get_u64(&mut context, WHAT)?) },
            3 => Command::ReportConsumer {
                branch: BranchId(get_u64(&mut context, WHAT)?),
                durable_lsn: Lsn(get_u64(&mut context, WHAT)?),
                consumer: get_string(&mut context, MAX_CONSUMER_BYTES, WHAT)?,
            },
            4 => {
                let flags = get_u8(&mut context, WHAT)?;
                if flags > 3 {
                    return Err(Malformed(WHAT));
                }
                let expected = get_u64(&mut context, WHAT)?;
                Command::CompareAndSwap {
                    expected: (flags & 1 != 0).then_some(expected),
                    value: (flags & 2 != 0).then_some(data),
                    key: get_bytes(&mut context, MAX_KEY_BYTES, WHAT)
                        .and_then(|key| String::from_utf8(key.to_vec()).map_err(|_| Malformed(WHAT)))?,
                }
            }
            5 => {
                let known = get_u8(&mut context, WHAT)?;
                let node_id = get_u64(&mut context, WHAT)?;
                let expected = get_u64(&mut context, WHAT)?;
                let raft_id = get_u64(&mut context, WHAT)?;
                let address = get_string(&mut context, MAX_ADDRESS_BYTES, WHAT)?;
                let expected = (known != 0).then_some(expected);
                Command::SetMember { node_id, expected, member: Member { raft_id, address } }
            }
            6 => Command::RemoveMember { node_id: get_u64(&mut context, WHAT)? },
            _ => return Err(Malformed("log command kind")),
        };
        if context.is_empty() { Ok(Some(command)) } else { Err(Malformed(WHAT)) }
    }
}
