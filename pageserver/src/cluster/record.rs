//! The records of servers and branches in the metadata map.
//!
//! Format, version 1 (branches: 2), all numbers little-endian, strings as length (2) and UTF-8:
//!
//! ```text
//! server: version (1) · 'S' · incarnation (16) · beat (8) · address · crc32 of everything before (4)
//! branch: version (1) · 'B' · fate (1) · branch (8) · parent (8, 0: none) · branch LSN (8) · created, µs since 1970 (8) ·
//!         shards (4) · stripe pages (4) · retention: bytes (8) · µs (8) · name · (owner · moving to)* · crc32 of everything before (4)
//! number: version (1) · 'N' · the next branch's number (8) · crc32 of everything before (4)
//! lease:  version (1) · 'L' · LSN (8) · end, µs since 1970 (8) · crc32 of everything before (4)
//! horizon: version (1) · 'H' · generation (8) · LSN (8) · crc32 of everything before (4)
//! ```
//!
//! A retention of all ones in both numbers is that of the page servers' options. Version 1 of a branch, which is still read,
//! has no retention. A branch's fate is 0: in use, 1: being deleted, 2: being deleted, and what it had may be gone already.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use storage::layout::ShardLayout;
use storage::{BranchId, Generation, Lsn, ShardId};
use uuid::Uuid;

use crate::compaction::Retention;

/// Version written.
pub const VERSION: u8 = 1;
/// Version of branches written.
pub const BRANCH_VERSION: u8 = 2;
/// Longest name of a server or a branch, and longest address.
pub const MAX_TEXT_BYTES: usize = 255;

/// A running server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRecord {
    /// Of the process: a server that is started again under its old name is another one.
    pub incarnation: Uuid,
    /// Goes up while the server lives.
    pub beat: u64,
    /// Where it answers computes: host:port.
    pub address: String,
}

/// Who serves a shard. Servers are named by their ids; empty: nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Whom computes ask.
    pub owner: String,
    /// Who is getting ready to become the owner.
    pub moving_to: String,
}

/// A branch and the servers of its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchRecord {
    /// Its number, never used again.
    pub branch: BranchId,
    /// Its name, for people.
    pub name: String,
    /// The branch it comes from, and the LSN at which it leaves that.
    pub parent: Option<(BranchId, Lsn)>,
    /// Wall clock at its creation, in microseconds since 1970 UTC.
    pub created_us: u64,
    /// How its pages are distributed.
    pub layout: ShardLayout,
    /// Nobody may use it any more; what it has of its own is being deleted.
    pub deleting: bool,
    /// Its objects may be gone already: a deletion that has come so far is not taken back. Only together with `deleting`.
    pub swept: bool,
    /// How much of its history is kept; `None`: what the page servers were told when they were started.
    pub retention: Option<Retention>,
    /// One for each shard.
    pub placements: Vec<Placement>,
}

/// A reader's right to an LSN for a time: history from there on is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Oldest LSN that is read.
    pub lsn: Lsn,
    /// Wall clock at its end, in microseconds since 1970 UTC.
    pub until_us: u64,
}

/// From where on an owner of a shard keeps history, told before it drops what lies below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HorizonRecord {
    /// Of the owner that tells it: a later one knows better.
    pub generation: Generation,
    /// Nothing before this can be relied on.
    pub lsn: Lsn,
}

/// The bytes are not a record that this program can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the page servers' directory is damaged or of a newer version: {0}")]
pub struct RecordError(pub &'static str);

fn put_text(bytes: &mut BytesMut, text: &str) {
    assert!(text.len() <= MAX_TEXT_BYTES, "texts are checked where they come in: {text:?}");
    bytes.put_u16_le(u16::try_from(text.len()).expect("limited above"));
    bytes.put_slice(text.as_bytes());
}

fn finish(mut bytes: BytesMut) -> Bytes {
    let crc = crc32fast::hash(&bytes);
    bytes.put_u32_le(crc);
    bytes.freeze()
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Checks version, kind and checksum.
    fn new(bytes: &'a [u8], kind: u8) -> Result<Input<'a>, RecordError> {
        let (version, input) = Input::versioned(bytes, kind, VERSION)?;
        debug_assert_eq!(version, VERSION);
        Ok(input)
    }

    /// The same for a kind of which there are versions up to `newest`.
    fn versioned(bytes: &'a [u8], kind: u8, newest: u8) -> Result<(u8, Input<'a>), RecordError> {
        let body = bytes.len().checked_sub(4).filter(|body| *body >= 2).ok_or(RecordError("too short"))?;
        let version = bytes[0];
        if !(1..=newest).contains(&version) {
            return Err(RecordError("unknown version"));
        }
        let (body, mut crc) = bytes.split_at(body);
        if crc.get_u32_le() != crc32fast::hash(body) {
            return Err(RecordError("checksum"));
        }
        if body[1] != kind {
            return Err(RecordError("of another kind"));
        }
        Ok((version, Input(&body[2..])))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RecordError("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(self.take(8)?.get_u64_le())
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(self.take(4)?.get_u32_le())
    }

    fn text(&mut self) -> Result<String, RecordError> {
        let length = usize::from(self.take(2)?.get_u16_le());
        if length > MAX_TEXT_BYTES {
            return Err(RecordError("a text that is too long"));
        }
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| RecordError("a text that is not UTF-8"))
    }

    fn end(self) -> Result<(), RecordError> {
        if self.0.is_empty() { Ok(()) } else { Err(RecordError("bytes at its end")) }
    }
}

/// The number of the next branch, as it is stored.
pub fn encode_number(next: BranchId) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(&[VERSION, b'N']);
    bytes.put_u64_le(next.0);
    finish(bytes)
}

/// Checks and reads what [`encode_number`] gave.
pub fn decode_number(bytes: &[u8]) -> Result<BranchId, RecordError> {
    let mut input = Input::new(bytes, b'N')?;
    let next = BranchId(input.u64()?);
    input.end()?;
    Ok(next)
}

impl LeaseRecord {
    /// As it is stored.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[VERSION, b'L']);
        bytes.put_u64_le(self.lsn.0);
        bytes.put_u64_le(self.until_us);
        finish(bytes)
    }

    /// Checks and reads what [`LeaseRecord::encode`] gave.
    pub fn decode(bytes: &[u8]) -> Result<LeaseRecord, RecordError> {
        let mut input = Input::new(bytes, b'L')?;
        let record = LeaseRecord { lsn: Lsn(input.u64()?), until_us: input.u64()? };
        input.end()?;
        Ok(record)
    }
}

impl HorizonRecord {
    /// As it is stored.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[VERSION, b'H']);
        bytes.put_u64_le(self.generation.0);
        bytes.put_u64_le(self.lsn.0);
        finish(bytes)
    }

    /// Checks and reads what [`HorizonRecord::encode`] gave.
    pub fn decode(bytes: &[u8]) -> Result<HorizonRecord, RecordError> {
        let mut input = Input::new(bytes, b'H')?;
        let record = HorizonRecord { generation: Generation(input.u64()?), lsn: Lsn(input.u64()?) };
        input.end()?;
        Ok(record)
    }
}

impl ServerRecord {
    /// As it is stored.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[VERSION, b'S']);
        bytes.put_slice(self.incarnation.as_bytes());
        bytes.put_u64_le(self.beat);
        put_text(&mut bytes, &self.address);
        finish(bytes)
    }

    /// Checks and reads what [`ServerRecord::encode`] gave.
    pub fn decode(bytes: &[u8]) -> Result<ServerRecord, RecordError> {
        let mut input = Input::new(bytes, b'S')?;
        let incarnation = Uuid::from_slice(input.take(16)?).expect("16 bytes");
        let record = ServerRecord { incarnation, beat: input.u64()?, address: input.text()? };
        input.end()?;
        Ok(record)
    }
}

impl BranchRecord {
    /// Of a branch whose shards nobody serves yet.
    pub fn new(branch: BranchId, name: &str, layout: ShardLayout) -> BranchRecord {
        BranchRecord {
            branch,
            name: name.to_owned(),
            parent: None,
            created_us: 0,
            deleting: false,
            swept: false,
            retention: None,
            layout,
            placements: layout.ids().map(|_| Placement::default()).collect(),
        }
    }

    /// Who serves a shard.
    pub fn placement(&self, shard: ShardId) -> Option<&Placement> {
        usize::try_from(shard.0).ok().and_then(|shard| self.placements.get(shard))
    }

    /// The same, to be changed.
    pub fn placement_mut(&mut self, shard: ShardId) -> Option<&mut Placement> {
        usize::try_from(shard.0).ok().and_then(|shard| self.placements.get_mut(shard))
    }

    /// All shards with who serves them.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &Placement)> {
        self.layout.ids().zip(&self.placements)
    }

    /// As it is stored.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        assert!(self.deleting || !self.swept, "branch {} is swept and in use", self.branch);
        bytes.put_slice(&[BRANCH_VERSION, b'B', u8::from(self.deleting) + u8::from(self.swept)]);
        let (parent, branch_lsn) = self.parent.unwrap_or_default();
        for number in [self.branch.0, parent.0, branch_lsn.0, self.created_us] {
            bytes.put_u64_le(number);
        }
        bytes.put_u32_le(self.layout.shards());
        bytes.put_u32_le(self.layout.stripe_pages());
        let unset = Retention { bytes: u64::MAX, time_us: u64::MAX };
        let retention = self.retention.unwrap_or(unset);
        bytes.put_u64_le(retention.bytes);
        bytes.put_u64_le(retention.time_us);
        put_text(&mut bytes, &self.name);
        assert_eq!(self.placements.len(), self.layout.shards() as usize, "one placement for each shard");
        for placement in &self.placements {
            put_text(&mut bytes, &placement.owner);
            put_text(&mut bytes, &placement.moving_to);
        }
        finish(bytes)
    }

    /// Checks and reads what [`BranchRecord::encode`] gave.
    pub fn decode(bytes: &[u8]) -> Result<BranchRecord, RecordError> {
        let (version, mut input) = Input::versioned(bytes, b'B', BRANCH_VERSION)?;
        let (deleting, swept) = match input.take(1)? {
            [0] => (false, false),
            [1] => (true, false),
            [2] => (true, true),
            _ => return Err(RecordError("neither live nor being deleted")),
        };
        let (branch, parent) = (BranchId(input.u64()?), BranchId(input.u64()?));
        let (branch_lsn, created_us) = (Lsn(input.u64()?), input.u64()?);
        let layout = ShardLayout::new(input.u32()?, input.u32()?).ok_or(RecordError("an impossible layout"))?;
        let parent = (parent.0 != 0).then_some((parent, branch_lsn));
        let retention = match version {
            1 => None,
            _ => Some(Retention { bytes: input.u64()?, time_us: input.u64()? }),
        };
        let retention = retention.filter(|retention| (retention.bytes, retention.time_us) != (u64::MAX, u64::MAX));
        let named = BranchRecord::new(branch, &input.text()?, layout);
        let mut record = BranchRecord { parent, created_us, deleting, swept, retention, ..named };
        for placement in &mut record.placements {
            *placement = Placement { owner: input.text()?, moving_to: input.text()? };
        }
        input.end()?;
        Ok(record)
    }
}
