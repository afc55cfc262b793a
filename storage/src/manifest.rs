//! The manifest: the one object that says which layers a shard has. Changed by compare-and-swap only.
//!
//! Format, version 1, all numbers little-endian:
//!
//! ```text
//! magic "ALMF" (4) · version (1) · zero (3) · body length (4) · crc32 of version, length and body (4)
//! body:  branch (8) · shard (8) · generation (8) · writer id (16) · change number (8) · durable LSN (8) · horizon (8) ·
//!        layers (4) · garbage (4) · layer* · garbage name*
//! layer: generation (8) · sequence (8) · kind (1) · level (1) · first page (8) · last page (8) · start LSN (8) ·
//!        end LSN (8) · size (8) · entries (8)
//! name:  generation (8) · sequence (8)
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::layer::{LayerDescriptor, LayerKind, LayerName};
use crate::{BranchId, Generation, Lsn, PageNo, ShardId};

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = *b"ALMF";
/// Version written.
pub const VERSION: u8 = 1;
const HEAD_BYTES: usize = 16;
const FIXED_BODY_BYTES: usize = 72;
const LAYER_BYTES: usize = 66;
const NAME_BYTES: usize = 16;
/// Longest manifest that is read: about a million layers.
pub const MAX_BYTES: usize = 64 << 20;

/// A shard's state. What it names is durable; what it does not name does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Whose pages.
    pub branch: BranchId,
    /// Which of them.
    pub shard: ShardId,
    /// Goes up by one with every owner. Only the owner of the current one changes the manifest.
    pub generation: Generation,
    /// The owner: tells apart two that both believe to have taken a generation.
    pub writer: Uuid,
    /// Goes up by one with every change, so that no two manifests of a shard are alike.
    pub change: u64,
    /// Everything at or below is in the layers; the log is needed from here on.
    pub durable_lsn: Lsn,
    /// Oldest LSN that the layers can answer for.
    pub horizon: Lsn,
    /// Live layers.
    pub layers: Vec<LayerDescriptor>,
    /// No longer live, perhaps not yet deleted.
    pub garbage: Vec<LayerName>,
}

/// The bytes are not a manifest that this program can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// XX001.
    #[error("manifest is damaged: {0}")]
    Damaged(String),
    /// Use a newer program.
    #[error("manifest has format version {version}; this program knows {VERSION}")]
    Version { version: u8 },
}

/// Object key of a shard's manifest.
pub fn manifest_key(shard_prefix: &str) -> String {
    format!("{shard_prefix}/manifest")
}

fn crc_of(body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[VERSION]);
    crc.update(&(body.len() as u64).to_le_bytes());
    crc.update(body);
    crc.finalize()
}

impl Manifest {
    /// Of a shard that was never served.
    pub fn empty(branch: BranchId, shard: ShardId) -> Manifest {
        Manifest {
            branch,
            shard,
            generation: Generation(0),
            writer: Uuid::nil(),
            change: 0,
            durable_lsn: Lsn::ZERO,
            horizon: Lsn::ZERO,
            layers: Vec::new(),
            garbage: Vec::new(),
        }
    }

    /// The next manifest of the same owner, to be changed and then swapped in.
    #[must_use]
    pub fn successor(&self) -> Manifest {
        Manifest { change: self.change + 1, ..self.clone() }
    }

    /// The first manifest of a new owner.
    #[must_use]
    pub fn taken_over(&self, writer: Uuid) -> Manifest {
        Manifest { generation: Generation(self.generation.0 + 1), writer, ..self.successor() }
    }

    /// Whether `self` was written by the same owner as `other`.
    pub fn same_owner(&self, other: &Manifest) -> bool {
        (self.generation, self.writer) == (other.generation, other.writer)
    }

    /// As it is stored.
    pub fn encode(&self) -> Bytes {
        let length = FIXED_BODY_BYTES + self.layers.len() * LAYER_BYTES + self.garbage.len() * NAME_BYTES;
        let mut body = BytesMut::with_capacity(length);
        body.put_u64_le(self.branch.0);
        body.put_u64_le(self.shard.0);
        body.put_u64_le(self.generation.0);
        body.put_slice(self.writer.as_bytes());
        body.put_u64_le(self.change);
        body.put_u64_le(self.durable_lsn.0);
        body.put_u64_le(self.horizon.0);
        body.put_u32_le(u32::try_from(self.layers.len()).expect("compaction bounds the layers"));
        body.put_u32_le(u32::try_from(self.garbage.len()).expect("compaction bounds the garbage"));
        for layer in &self.layers {
            put_name(&mut body, layer.name);
            body.put_u8(match layer.kind {
                LayerKind::Delta => 1,
                LayerKind::Image => 2,
            });
            body.put_u8(layer.level);
            body.put_u64_le(layer.first_page.0);
            body.put_u64_le(layer.last_page.0);
            body.put_u64_le(layer.start_lsn.0);
            body.put_u64_le(layer.end_lsn.0);
            body.put_u64_le(layer.size_bytes);
            body.put_u64_le(layer.entries);
        }
        for name in &self.garbage {
            put_name(&mut body, *name);
        }
        assert_eq!(body.len(), length, "the manifest's length is known beforehand");
        assert!(HEAD_BYTES + length <= MAX_BYTES, "a manifest of {length} bytes could not be read back");
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + length);
        bytes.put_slice(&MAGIC);
        bytes.put_u8(VERSION);
        bytes.put_bytes(0, 3);
        bytes.put_u32_le(u32::try_from(length).expect("limited above"));
        bytes.put_u32_le(crc_of(&body));
        bytes.put_slice(&body);
        bytes.freeze()
    }

    /// Checks and reads what [`Manifest::encode`] gave.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let damaged = |reason: String| ManifestError::Damaged(reason);
        if bytes.len() < HEAD_BYTES + FIXED_BODY_BYTES || bytes.len() > MAX_BYTES || bytes[..4] != MAGIC {
            return Err(damaged(format!("{} bytes that are not a manifest", bytes.len())));
        }
        if bytes[4] != VERSION {
            return Err(ManifestError::Version { version: bytes[4] });
        }
        if bytes[5..8] != [0; 3] {
            return Err(damaged("reserved bytes are not zero".to_owned()));
        }
        let (mut head, mut body) = bytes.split_at(HEAD_BYTES);
        head.advance(8);
        let (length, crc) = (head.get_u32_le(), head.get_u32_le());
        if length as usize != body.len() {
            return Err(damaged(format!("{} bytes of body, not {length}", body.len())));
        }
        if crc_of(body) != crc {
            return Err(damaged("it fails its checksum".to_owned()));
        }
        let (branch, shard) = (BranchId(body.get_u64_le()), ShardId(body.get_u64_le()));
        let generation = Generation(body.get_u64_le());
        let mut writer = [0; 16];
        body.copy_to_slice(&mut writer);
        let change = body.get_u64_le();
        let (durable_lsn, horizon) = (Lsn(body.get_u64_le()), Lsn(body.get_u64_le()));
        let (layers, garbage) = (body.get_u32_le() as usize, body.get_u32_le() as usize);
        if layers * LAYER_BYTES + garbage * NAME_BYTES != body.len() {
            return Err(damaged(format!("{layers} layers and {garbage} names in {} bytes", body.len())));
        }
        let layers = (0..layers).map(|_| get_layer(&mut body)).collect::<Result<_, _>>().map_err(damaged)?;
        let garbage = (0..garbage).map(|_| get_name(&mut body)).collect();
        let writer = Uuid::from_bytes(writer);
        Ok(Manifest { branch, shard, generation, writer, change, durable_lsn, horizon, layers, garbage })
    }
}

fn put_name(body: &mut BytesMut, name: LayerName) {
    body.put_u64_le(name.generation.0);
    body.put_u64_le(name.sequence);
}

fn get_name(body: &mut &[u8]) -> LayerName {
    LayerName { generation: Generation(body.get_u64_le()), sequence: body.get_u64_le() }
}

fn get_layer(body: &mut &[u8]) -> Result<LayerDescriptor, String> {
    let name = get_name(body);
    let kind = match body.get_u8() {
        1 => LayerKind::Delta,
        2 => LayerKind::Image,
        other => return Err(format!("layer {name} is of unknown kind {other}")),
    };
    let level = body.get_u8();
    let (first_page, last_page) = (PageNo(body.get_u64_le()), PageNo(body.get_u64_le()));
    let (start_lsn, end_lsn) = (Lsn(body.get_u64_le()), Lsn(body.get_u64_le()));
    let (size_bytes, entries) = (body.get_u64_le(), body.get_u64_le());
    if first_page > last_page || start_lsn > end_lsn {
        return Err(format!("layer {name} spans {first_page}..={last_page}, {start_lsn}..{end_lsn}"));
    }
    Ok(LayerDescriptor { name, kind, level, first_page, last_page, start_lsn, end_lsn, size_bytes, entries })
}
