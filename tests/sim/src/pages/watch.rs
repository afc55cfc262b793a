//! Checks of what the object store holds, at every change: no layer is written twice, a manifest only grows, everything
//! that a manifest names is there, and nothing that one names is deleted (FAULTS 13, 16, 27).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use storage::layer::LayerName;
use storage::layout::ShardLayout;
use storage::manifest::Manifest;
use storage::{BranchId, ShardId};

use crate::world::MAIN;

/// See the module.
pub struct StoreWatch {
    shards: u32,
    /// Checksum of every object that ever was, by key.
    written: BTreeMap<String, u32>,
    present: BTreeSet<String>,
    manifests: BTreeMap<(BranchId, ShardId), Manifest>,
    /// When keys came and went.
    changes: Vec<(u64, String, bool)>,
    /// Branches of which somebody was told that they are made. Others may have manifests too, and none of what follows need hold for
    /// them: page servers see a branch before it is known whether it can stay.
    made: BTreeSet<BranchId>,
    /// Branches that somebody has tried to delete.
    pub dying: BTreeSet<BranchId>,
    /// Changes of manifests so far.
    pub swaps: u64,
    /// Layers deleted so far.
    pub deleted: u64,
}

enum Key {
    /// Of the log's archive, or its archivers' trials. Pieces are looked at by [`crate::trimming`].
    Archive,
    Manifest(BranchId, ShardId),
    Layer(BranchId, ShardId, LayerName),
}

fn parse(key: &str) -> Key {
    let parts: Vec<_> = key.split('/').collect();
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("object {key:?} belongs to nobody"));
    match parts[..] {
        ["branches", branch, "shards", shard, "manifest"] => {
            Key::Manifest(BranchId(number(branch)), ShardId(number(shard)))
        }
        ["branches", branch, "shards", shard, "layers", name] => {
            let name = LayerName::parse(name).unwrap_or_else(|| panic!("object {key:?} is no layer"));
            Key::Layer(BranchId(number(branch)), ShardId(number(shard)), name)
        }
        ["log", _, "identity"] | ["log", _, _, _, _] | ["probe", _, _] => Key::Archive,
        _ => panic!("object {key:?} belongs to nobody"),
    }
}

impl StoreWatch {
    pub fn new(shards: u32) -> StoreWatch {
        StoreWatch {
            shards,
            written: BTreeMap::new(),
            present: BTreeSet::new(),
            manifests: BTreeMap::new(),
            changes: Vec::new(),
            made: BTreeSet::from([MAIN]),
            dying: BTreeSet::new(),
            swaps: 0,
            deleted: 0,
        }
    }

    /// An object was written.
    pub fn put(&mut self, now: u64, key: &str, bytes: &Bytes) {
        let crc = crc32fast::hash(bytes);
        let before = self.written.insert(key.to_owned(), crc);
        if self.present.insert(key.to_owned()) {
            self.changes.push((now, key.to_owned(), true));
        }
        match parse(key) {
            Key::Archive => {}
            Key::Manifest(branch, shard) => {
                let manifest = Manifest::decode(bytes).unwrap_or_else(|error| panic!("{key} at {now}: {error}"));
                self.manifest(branch, shard, manifest);
            }
            Key::Layer(..) => {
                assert!(before.is_none_or(|before| before == crc), "{key}: written twice, with other bytes");
            }
        }
    }

    /// A branch is there to stay: all that its manifests name must have stayed meanwhile.
    pub fn confirm(&mut self, branch: BranchId) {
        self.made.insert(branch);
        for (&(_, shard), manifest) in self.manifests.range((branch, ShardId(0))..=(branch, ShardId(u64::MAX))) {
            self.check_layers(branch, shard, manifest);
        }
    }

    fn is_kept(&self, branch: BranchId) -> bool {
        self.made.contains(&branch) && !self.dying.contains(&branch)
    }

    fn check_layers(&self, branch: BranchId, shard: ShardId, manifest: &Manifest) {
        for layer in &manifest.layers {
            let key = layer.key();
            assert!(
                self.present.contains(&key),
                "branch {branch} shard {shard}: generation {} change {} names {key}, which is not there (written: {})",
                manifest.generation,
                manifest.change,
                self.written.contains_key(&key)
            );
        }
    }

    fn manifest(&mut self, branch: BranchId, shard: ShardId, manifest: Manifest) {
        self.swaps += 1;
        assert_eq!((manifest.branch, manifest.shard), (branch, shard), "a manifest lies where it belongs");
        let shards = manifest.layout.shards();
        let comes_from = |before: u32| shards.is_multiple_of(before) && (shards / before).is_power_of_two();
        assert!(comes_from(self.shards), "branch {branch} began with {} shards, and has {shards}", self.shards);
        if self.made.contains(&branch) {
            self.check_layers(branch, shard, &manifest);
        }
        if let Some(before) = self.manifests.get(&(branch, shard)) {
            let follows = manifest.change > before.change
                && manifest.generation >= before.generation
                && (manifest.generation > before.generation || manifest.writer == before.writer)
                && (manifest.layout == before.layout || manifest.layout.is_split_of(before.layout))
                && manifest.durable_lsn >= before.durable_lsn
                && manifest.horizon >= before.horizon;
            assert!(follows, "branch {branch} shard {shard}: {before:#?} is followed by {manifest:#?}");
        }
        self.manifests.insert((branch, shard), manifest);
    }

    /// An object is about to be deleted.
    pub fn delete(&mut self, now: u64, key: &str) {
        match parse(key) {
            Key::Archive => {}
            Key::Manifest(branch, shard) => {
                assert!(!self.is_kept(branch), "the manifest of branch {branch} shard {shard} is deleted");
                self.manifests.remove(&(branch, shard));
            }
            Key::Layer(branch, shard, name) => {
                for (&(of, _), manifest) in &self.manifests {
                    let names = manifest.layers.iter().any(|layer| layer.id() == (branch, shard, name));
                    assert!(!names || !self.is_kept(of), "{key} is deleted, which branch {of} still needs");
                }
                self.deleted += 1;
            }
        }
        if self.present.remove(key) {
            self.changes.push((now, key.to_owned(), false));
        }
    }

    /// The layout in the manifest of a shard that is served under it.
    pub fn layout(&self, branch: BranchId, shard: ShardId) -> Option<ShardLayout> {
        self.manifests.get(&(branch, shard)).map(|manifest| manifest.layout)
    }

    /// Keys that came since a time, and keys that went.
    pub fn changed_since(&self, time: u64) -> (BTreeSet<String>, BTreeSet<String>) {
        let from = self.changes.partition_point(|(at, ..)| *at <= time);
        let (mut came, mut went) = (BTreeSet::new(), BTreeSet::new());
        for (_, key, is_new) in &self.changes[from..] {
            if *is_new {
                came.insert(key.clone())
            } else {
                went.insert(key.clone())
            };
        }
        (&came - &went, &went - &came)
    }
}
