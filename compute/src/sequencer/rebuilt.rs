//! [`RebuiltLeaves`]: what a large commit has built for the leaves of one tree, and from what.
//!
//! A commit of a gigabyte rebuilds more than a hundred thousand leaves; kept encoded they take some fifty bytes
//! each.

use hashbrown::HashSet;
use storage::btree::Replacement;
use storage::bulk::NewLeaf;
use storage::varint::{DecodeError, Input, put_bytes, put_varint};
use storage::{Lsn, PageNo, TreeId};

/// One leaf's replacement, with where it came from.
#[derive(Clone, Debug)]
pub(crate) struct RebuiltLeaf {
    pub(crate) replacement: Replacement,
    /// The leaf was read as of this LSN.
    pub(crate) at: Lsn,
    /// Page numbers that the replacement took, as positions in the order of taking.
    pub(crate) numbers: (u64, u64),
}

/// See the module.
pub(crate) struct RebuiltLeaves {
    pub(crate) tree: TreeId,
    encoded: Vec<u8>,
    count: usize,
    /// Positions of those that are not to be attached any more.
    given_up: HashSet<usize>,
}

impl RebuiltLeaves {
    pub(crate) fn new(tree: TreeId) -> Self {
        Self { tree, encoded: Vec::new(), count: 0, given_up: HashSet::new() }
    }

    pub(crate) fn push(&mut self, leaf: &RebuiltLeaf) {
        let RebuiltLeaf { replacement, at, numbers } = leaf;
        let out = &mut self.encoded;
        put_varint(out, replacement.leaf.0);
        put_varint(out, at.0);
        put_varint(out, numbers.0);
        put_varint(out, numbers.1 - numbers.0);
        put_varint(out, u64::from(replacement.has_overflow));
        put_bytes(out, &replacement.first_key);
        put_bytes(out, &replacement.last_key);
        put_varint(out, replacement.leaves.len() as u64);
        for leaf in &replacement.leaves {
            put_varint(out, leaf.page.0);
            put_bytes(out, &leaf.separator);
        }
        put_varint(out, replacement.outdated.len() as u64);
        replacement.outdated.iter().for_each(|page| put_varint(out, page.0));
        self.count += 1;
    }

    /// Leaves it out from now on.
    pub(crate) fn give_up(&mut self, position: usize) {
        self.given_up.insert(position);
    }

    /// Those to attach, with their positions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, RebuiltLeaf)> + '_ {
        let mut input = Input::new(&self.encoded);
        (0..self.count)
            .map(move |position| (position, decode(&mut input).expect("encoded by `push`")))
            .filter(|(position, _)| !self.given_up.contains(position))
    }
}

fn decode(input: &mut Input<'_>) -> Result<RebuiltLeaf, DecodeError> {
    let leaf = PageNo(input.varint()?);
    let at = Lsn(input.varint()?);
    let from = input.varint()?;
    let numbers = (from, from + input.varint()?);
    let has_overflow = input.varint()? != 0;
    let first_key = input.bytes()?.into();
    let last_key = input.bytes()?.into();
    let count = input.varint()?;
    let leaves = (0..count).map(|_| {
        let page = PageNo(input.varint()?);
        Ok(NewLeaf { page, separator: input.bytes()?.into() })
    });
    let leaves = leaves.collect::<Result<_, DecodeError>>()?;
    let count = input.varint()?;
    let outdated = (0..count).map(|_| Ok(PageNo(input.varint()?))).collect::<Result<_, DecodeError>>()?;
    let replacement = Replacement { leaf, first_key, last_key, leaves, outdated, has_overflow };
    Ok(RebuiltLeaf { replacement, at, numbers })
}
