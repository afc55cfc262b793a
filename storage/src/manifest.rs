//! The manifest: the one object that says which layers a shard has. Changed by compare-and-swap only.
//!
//! Format, version 3, all numbers little-endian:
//!
//! ```text
//! magic "ALMF" (4) · version (1) · zero (3) · body length (4) · crc32 of version, length and body (4)
//! body:  branch (8) · shard (8) · generation (8) · writer id (16) · change number (8) · durable LSN (8) · horizon (8) ·
//!        shards (4) · stripe pages (4) · layers (4) · garbage (4) · marks (4) · layer* · garbage name* · mark*
//! layer: generation (8) · sequence (8) · kind (1) · level (1) · first page (8) · last page (8) · start LSN (8) ·
//!        end LSN (8) · size (8) · entries (8) · branch (8) · visible LSN (8) · shard (8)
//! name:  generation (8) · sequence (8)
//! mark:  LSN (8) · commit time in microseconds since 1970 UTC (8)
//! ```
//!
//! In version 2, layers end with their visible LSN: all are of the manifest's shard. Version 1 has neither shards, stripe pages
//! nor marks (there was one shard), and its layers end with their entries.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::layer::{LayerDescriptor, LayerKind, LayerName};
use crate::layout::ShardLayout;
use crate::{BranchId, Generation, Lsn, PageNo, ShardId};

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = *b"ALMF";
/// Version written.
pub const VERSION: u8 = 3;
const HEAD_BYTES: usize = 16;
const FIXED_BODY_BYTES: usize = 84;
const LAYER_BYTES: usize = 90;
/// The same in version 2.
const SECOND_LAYER_BYTES: usize = 82;
const MARK_BYTES: usize = 16;
/// The same in version 1.
const OLD_FIXED_BODY_BYTES: usize = 72;
const OLD_LAYER_BYTES: usize = 66;
const NAME_BYTES: usize = 16;
/// Longest manifest that is read: about a million layers.
pub const MAX_BYTES: usize = 64 << 20;

/// Marks kept; beyond, every other of the older half goes.
pub const MAX_MARKS: usize = 4096;

/// When a point of the log was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeMark {
    /// End of a batch, or where a branch begins.
    pub lsn: Lsn,
    /// The wall clock at its commit, in microseconds since 1970 UTC.
    pub commit_time_us: u64,
}

/// A shard's state. What it names is durable; what it does not name does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Whose pages.
    pub branch: BranchId,
    /// Which of them.
    pub shard: ShardId,
    /// How the branch's pages are distributed over its shards.
    pub layout: ShardLayout,
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
    /// Of this branch, no longer live, perhaps not yet deleted.
    pub garbage: Vec<LayerName>,
    /// Which LSN was reached when, oldest first, from the horizon on. Sparse: for finding the LSN of a time.
    pub marks: Vec<TimeMark>,
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

fn crc_of(version: u8, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[version]);
    crc.update(&(body.len() as u64).to_le_bytes());
    crc.update(body);
    crc.finalize()
}

impl Manifest {
    /// Of a shard that was never served.
    pub fn empty(branch: BranchId, shard: ShardId, layout: ShardLayout) -> Manifest {
        Manifest {
            branch,
            shard,
            layout,
            generation: Generation(0),
            writer: Uuid::nil(),
            change: 0,
            durable_lsn: Lsn::ZERO,
            horizon: Lsn::ZERO,
            layers: Vec::new(),
            garbage: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// The first manifest of a shard of a branch that leaves this one's branch at `branch_lsn`: the same history up to
    /// there, in the same layers. `None` if history that old is no longer kept.
    pub fn branched(&self, branch: BranchId, branch_lsn: Lsn) -> Option<Manifest> {
        if branch_lsn < self.horizon {
            return None;
        }
        let seen = |layer: &&LayerDescriptor| match layer.kind {
            LayerKind::Delta => layer.start_lsn < branch_lsn,
            LayerKind::Image => layer.visible_lsn <= branch_lsn,
        };
        let inherit = |layer: &LayerDescriptor| LayerDescriptor {
            visible_lsn: layer.visible_lsn.min(branch_lsn),
            ..layer.clone()
        };
        let (mut marks, later): (Vec<TimeMark>, Vec<TimeMark>) =
            self.marks.iter().partition(|mark| mark.lsn <= branch_lsn);
        // A mark stands for the commits before it too, up to half a second of them: those that are inherited are known by its
        // time, which is not before theirs. Without, they would not be found by any time until the branch has commits of its own.
        if let Some(next) = later.first()
            && marks.last().is_none_or(|last| last.lsn < branch_lsn)
        {
            marks.push(TimeMark { lsn: branch_lsn, ..*next });
        }
        Some(Manifest {
            durable_lsn: self.durable_lsn.min(branch_lsn),
            horizon: self.horizon,
            layers: self.layers.iter().filter(seen).map(inherit).collect(),
            marks,
            ..Manifest::empty(branch, self.shard, self.layout)
        })
    }

    /// The first manifest of a shard that comes from this one by a split: the same layers, of which it uses its own pages'.
    pub fn split(&self, shard: ShardId, layout: ShardLayout) -> Manifest {
        assert!(layout.is_split_of(self.layout), "{layout:?} is no split of {:?}", self.layout);
        assert!(layout.origins(shard).contains(&(self.shard, self.layout)), "shard {shard}");
        Manifest {
            durable_lsn: self.durable_lsn,
            horizon: self.horizon,
            layers: self.layers.clone(),
            marks: self.marks.clone(),
            ..Manifest::empty(self.branch, shard, layout)
        }
    }

    /// Notes when points of the log were committed, oldest first.
    pub fn add_marks(&mut self, marks: impl IntoIterator<Item = TimeMark>) {
        self.marks.extend(marks);
        while self.marks.len() > MAX_MARKS {
            let (mut number, thinned) = (0, self.marks.len() / 2);
            self.marks.retain(|_| {
                number += 1;
                number > thinned || number % 2 == 1
            });
        }
    }

    /// The last point of the log known to have been committed at or before a time.
    pub fn lsn_at(&self, time_us: u64) -> Option<Lsn> {
        self.marks.iter().rev().find(|mark| mark.commit_time_us <= time_us).map(|mark| mark.lsn)
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
        let lists = self.layers.len() * LAYER_BYTES + self.garbage.len() * NAME_BYTES + self.marks.len() * MARK_BYTES;
        let length = FIXED_BODY_BYTES + lists;
        let mut body = BytesMut::with_capacity(length);
        body.put_u64_le(self.branch.0);
        body.put_u64_le(self.shard.0);
        body.put_u64_le(self.generation.0);
        body.put_slice(self.writer.as_bytes());
        body.put_u64_le(self.change);
        body.put_u64_le(self.durable_lsn.0);
        body.put_u64_le(self.horizon.0);
        body.put_u32_le(self.layout.shards());
        body.put_u32_le(self.layout.stripe_pages());
        body.put_u32_le(u32::try_from(self.layers.len()).expect("compaction bounds the layers"));
        body.put_u32_le(u32::try_from(self.garbage.len()).expect("compaction bounds the garbage"));
        body.put_u32_le(u32::try_from(self.marks.len()).expect("add_marks bounds the marks"));
        for layer in &self.layers {
            put_layer(&mut body, layer);
        }
        for name in &self.garbage {
            put_name(&mut body, *name);
        }
        for mark in &self.marks {
            body.put_u64_le(mark.lsn.0);
            body.put_u64_le(mark.commit_time_us);
        }
        assert_eq!(body.len(), length, "the manifest's length is known beforehand");
        assert!(HEAD_BYTES + length <= MAX_BYTES, "a manifest of {length} bytes could not be read back");
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + length);
        bytes.put_slice(&MAGIC);
        bytes.put_u8(VERSION);
        bytes.put_bytes(0, 3);
        bytes.put_u32_le(u32::try_from(length).expect("limited above"));
        bytes.put_u32_le(crc_of(VERSION, &body));
        bytes.put_slice(&body);
        bytes.freeze()
    }

    /// Checks and reads what [`Manifest::encode`] gave.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let damaged = |reason: String| ManifestError::Damaged(reason);
        if bytes.len() < HEAD_BYTES + OLD_FIXED_BODY_BYTES || bytes.len() > MAX_BYTES || bytes[..4] != MAGIC {
            return Err(damaged(format!("{} bytes that are not a manifest", bytes.len())));
        }
        let version = bytes[4];
        let (fixed_bytes, layer_bytes) = match version {
            1 => (OLD_FIXED_BODY_BYTES, OLD_LAYER_BYTES),
            2 => (FIXED_BODY_BYTES, SECOND_LAYER_BYTES),
            VERSION => (FIXED_BODY_BYTES, LAYER_BYTES),
            _ => return Err(ManifestError::Version { version }),
        };
        if bytes[5..8] != [0; 3] {
            return Err(damaged("reserved bytes are not zero".to_owned()));
        }
        let (mut head, mut body) = bytes.split_at(HEAD_BYTES);
        head.advance(8);
        let (length, crc) = (head.get_u32_le(), head.get_u32_le());
        if length as usize != body.len() || body.len() < fixed_bytes {
            return Err(damaged(format!("{} bytes of body, not {length}", body.len())));
        }
        if crc_of(version, body) != crc {
            return Err(damaged("it fails its checksum".to_owned()));
        }
        let (branch, shard) = (BranchId(body.get_u64_le()), ShardId(body.get_u64_le()));
        let generation = Generation(body.get_u64_le());
        let mut writer = [0; 16];
        body.copy_to_slice(&mut writer);
        let change = body.get_u64_le();
        let (durable_lsn, horizon) = (Lsn(body.get_u64_le()), Lsn(body.get_u64_le()));
        let layout = if version == 1 {
            ShardLayout::SINGLE
        } else {
            let (shards, stripe_pages) = (body.get_u32_le(), body.get_u32_le());
            let refused = || damaged(format!("{shards} shards, {stripe_pages} pages in a stripe"));
            ShardLayout::new(shards, stripe_pages).ok_or_else(refused)?
        };
        let (layers, garbage) = (body.get_u32_le() as usize, body.get_u32_le() as usize);
        let marks = if version == 1 { 0 } else { body.get_u32_le() as usize };
        if layers * layer_bytes + garbage * NAME_BYTES + marks * MARK_BYTES != body.len() {
            return Err(damaged(format!("{layers} layers, {garbage} names, {marks} marks in {} bytes", body.len())));
        }
        let layers = (0..layers).map(|_| get_layer(&mut body, (branch, shard), version)).collect::<Result<_, _>>();
        let layers = layers.map_err(damaged)?;
        let garbage = (0..garbage).map(|_| get_name(&mut body)).collect();
        let mark = |_| TimeMark { lsn: Lsn(body.get_u64_le()), commit_time_us: body.get_u64_le() };
        let marks = (0..marks).map(mark).collect();
        let writer = Uuid::from_bytes(writer);
        let owned = Manifest { generation, writer, change, ..Manifest::empty(branch, shard, layout) };
        Ok(Manifest { durable_lsn, horizon, layers, garbage, marks, ..owned })
    }
}

/// Layers for somebody else, each as a manifest lists it, behind the manifest's version (1).
pub fn encode_layers(layers: &[LayerDescriptor]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + layers.len() * LAYER_BYTES);
    bytes.put_u8(VERSION);
    layers.iter().for_each(|layer| put_layer(&mut bytes, layer));
    bytes.freeze()
}

/// Checks and reads what [`encode_layers`] gave.
pub fn decode_layers(bytes: &[u8]) -> Result<Vec<LayerDescriptor>, ManifestError> {
    let (version, mut body) = bytes.split_first().ok_or_else(|| ManifestError::Damaged("no layers".to_owned()))?;
    if *version != VERSION {
        return Err(ManifestError::Version { version: *version });
    }
    if !body.len().is_multiple_of(LAYER_BYTES) {
        return Err(ManifestError::Damaged(format!("{} bytes of layers", body.len())));
    }
    // Layers of this version say all of themselves.
    let own = (BranchId::default(), ShardId::default());
    let layers = (0..body.len() / LAYER_BYTES).map(|_| get_layer(&mut body, own, VERSION));
    layers.collect::<Result<_, _>>().map_err(ManifestError::Damaged)
}

fn put_layer(body: &mut BytesMut, layer: &LayerDescriptor) {
    put_name(body, layer.name);
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
    body.put_u64_le(layer.branch.0);
    body.put_u64_le(layer.visible_lsn.0);
    body.put_u64_le(layer.shard.0);
}

fn put_name(body: &mut BytesMut, name: LayerName) {
    body.put_u64_le(name.generation.0);
    body.put_u64_le(name.sequence);
}

fn get_name(body: &mut &[u8]) -> LayerName {
    LayerName { generation: Generation(body.get_u64_le()), sequence: body.get_u64_le() }
}

/// From version 2 on it says whose branch's it is and how far it may be read, from version 3 on whose shard's.
fn get_layer(body: &mut &[u8], own: (BranchId, ShardId), version: u8) -> Result<LayerDescriptor, String> {
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
    let (branch, visible_lsn) =
        if version > 1 { (BranchId(body.get_u64_le()), Lsn(body.get_u64_le())) } else { (own.0, end_lsn) };
    let shard = if version > 2 { ShardId(body.get_u64_le()) } else { own.1 };
    if first_page > last_page || start_lsn > visible_lsn || visible_lsn > end_lsn {
        return Err(format!("layer {name} spans {first_page}..={last_page}, {start_lsn}..{visible_lsn} of {end_lsn}"));
    }
    Ok(LayerDescriptor {
        branch,
        shard,
        name,
        kind,
        level,
        first_page,
        last_page,
        start_lsn,
        end_lsn,
        visible_lsn,
        size_bytes,
        entries,
    })
}
