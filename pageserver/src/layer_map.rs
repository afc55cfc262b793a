//! Which layers answer for a page at an LSN. Pure.

use std::sync::Arc;

use storage::layer::{LayerDescriptor, LayerKind};
use storage::manifest::Manifest;
use storage::{Lsn, PageNo};

/// A manifest's layers, arranged for reading. Immutable: a change makes a new one.
#[derive(Clone, Debug, Default)]
pub struct LayerMap {
    /// Newest first.
    images: Vec<Arc<LayerDescriptor>>,
    /// Newest first.
    deltas: Vec<Arc<LayerDescriptor>>,
    durable_lsn: Lsn,
    horizon: Lsn,
}

/// What has to be read for a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadPlan {
    /// The page as of this layer's LSN, or no page at all.
    pub image: Option<Arc<LayerDescriptor>>,
    /// What is at hand takes the place of an image.
    pub from_known: bool,
    /// Records after that, oldest layer first.
    pub deltas: Vec<Arc<LayerDescriptor>>,
}

impl LayerMap {
    /// Of a manifest.
    pub fn new(manifest: &Manifest) -> LayerMap {
        let of_kind = |kind| {
            let mut layers: Vec<_> = manifest.layers.iter().filter(|l| l.kind == kind).cloned().map(Arc::new).collect();
            layers.sort_by_key(|layer| std::cmp::Reverse((layer.visible_lsn, layer.start_lsn)));
            layers
        };
        LayerMap {
            images: of_kind(LayerKind::Image),
            deltas: of_kind(LayerKind::Delta),
            durable_lsn: manifest.durable_lsn,
            horizon: manifest.horizon,
        }
    }

    /// Everything at or below is in the layers.
    pub fn durable_lsn(&self) -> Lsn {
        self.durable_lsn
    }

    /// Oldest LSN that can be answered.
    pub fn horizon(&self) -> Lsn {
        self.horizon
    }

    /// Layers in all.
    pub fn len(&self) -> usize {
        self.images.len() + self.deltas.len()
    }

    /// Layers to read for `page` as of `at`. What is known of it as of `known` serves as the base if no newer image
    /// does: records between the two may be gone, and would be more to read in any case.
    pub fn plan(&self, page: PageNo, at: Lsn, known: Option<Lsn>) -> ReadPlan {
        let image = self.images.iter().find(|layer| layer.end_lsn <= at && layer.covers(page));
        let from_known = known.is_some() && known >= image.map(|layer| layer.end_lsn);
        let image = image.filter(|_| !from_known).cloned();
        let above = if from_known { known } else { image.as_ref().map(|layer| layer.end_lsn) };
        let mut deltas: Vec<_> = self
            .deltas
            .iter()
            .take_while(|layer| above.is_none_or(|above| layer.visible_lsn > above))
            .filter(|layer| layer.start_lsn < at && layer.covers(page))
            .cloned()
            .collect();
        deltas.reverse();
        ReadPlan { image, from_known, deltas }
    }
}
