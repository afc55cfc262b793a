//! What a server should do about the shards. A pure function of what it sees: all who see the same decide the same, and
//! each does only what falls to itself.

use std::collections::{BTreeMap, BTreeSet};

use storage::{BranchId, ShardId};

use super::record::{BranchRecord, Placement};

/// A shard of a branch.
pub type ShardKey = (BranchId, ShardId);

/// Something to be done by the server that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Become the owner of a shard that nobody alive serves.
    Claim(ShardKey),
    /// Begin to serve a shard that is ours, or is to be.
    Attach(ShardKey),
    /// Stop serving a shard that is another's.
    Detach(ShardKey),
    /// Become the owner of a shard that is ready here.
    Finish(ShardKey),
    /// Ask for a shard of a server that has more than its share.
    Pull(ShardKey),
    /// Forget a move to a server that has died.
    CancelMove(ShardKey),
}

/// What a server sees.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Its id.
    pub me: &'a str,
    /// Servers that live, itself included.
    pub alive: &'a BTreeSet<String>,
    /// All branches.
    pub branches: &'a BTreeMap<BranchId, BranchRecord>,
    /// What it serves, and whether it has lost it to another owner.
    pub attached: &'a BTreeMap<ShardKey, bool>,
}

/// The steps, in the order in which they are to be done.
pub fn steps(sight: Sight<'_>) -> Vec<Step> {
    let Sight { me, alive, branches, attached } = sight;
    let mut steps = Vec::new();
    let mut loads: BTreeMap<&str, Vec<ShardKey>> = alive.iter().map(|id| (id.as_str(), Vec::new())).collect();
    let (mut orphans, mut moving) = (Vec::new(), false);
    let lives = |id: &str| alive.contains(id);
    // What is being deleted is served by nobody.
    let live = branches.iter().filter(|(_, record)| !record.deleting);
    let shards = live.flat_map(|(branch, record)| record.shards().map(|(shard, placed)| ((*branch, shard), placed)));
    let mut known = BTreeSet::new();
    for (key, Placement { owner, moving_to }) in shards {
        known.insert(key);
        moving |= !moving_to.is_empty();
        if let Some(load) = loads.get_mut(owner.as_str()) {
            load.push(key);
        }
        let served = attached.get(&key);
        if owner == me {
            if !moving_to.is_empty() && (moving_to == me || !lives(moving_to)) {
                steps.push(Step::CancelMove(key));
            }
            match served {
                None => steps.push(Step::Attach(key)),
                // Whoever took it neither lives nor is to have it: it is taken back.
                Some(true) if !lives(moving_to) => steps.extend([Step::Detach(key), Step::Attach(key)]),
                Some(_) => {}
            }
        } else if moving_to == me {
            steps.push(if served.is_some() { Step::Finish(key) } else { Step::Attach(key) });
        } else {
            if served.is_some() {
                steps.push(Step::Detach(key));
            }
            if !lives(owner) && !lives(moving_to) {
                orphans.push(key);
            }
        }
    }
    let gone = attached.keys().filter(|key| !known.contains(key));
    steps.extend(gone.map(|key| Step::Detach(*key)));
    for key in &orphans {
        let least = loads.iter_mut().min_by_key(|(id, load)| (load.len(), **id));
        let Some((id, load)) = least else { continue };
        load.push(*key);
        if *id == me {
            steps.push(Step::Claim(*key));
        }
    }
    // One move at a time: everybody sees it before the next is decided.
    if orphans.is_empty() && !moving {
        let mine = loads.get(me).map_or(0, Vec::len);
        let most = loads.iter().max_by_key(|(id, load)| (load.len(), std::cmp::Reverse(**id)));
        let least = loads.iter().min_by_key(|(id, load)| (load.len(), **id));
        if let (Some((_, most)), Some((least, _))) = (most, least)
            && *least == me
            && most.len() >= mine + 2
        {
            steps.extend(most.last().map(|key| Step::Pull(*key)));
        }
    }
    steps
}
