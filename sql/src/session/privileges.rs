//! Which privileges a plan needs, so that GRANT and REVOKE mean something.
//!
//! Tables under a view are checked with the rights of the caller, not of the view's owner: stricter than
//! Postgres, never laxer.

use crate::catalog::{Oid, Privilege};
use crate::plan::{Node, Plan};

/// Relations that a plan touches, with what it does to each.
pub(super) fn needed(plan: &Plan) -> Vec<(Oid, Privilege)> {
    let mut needed = Vec::new();
    plan.for_each_node(&mut |plan| match &plan.node {
        Node::SeqScan { table, .. } | Node::IndexScan { table, .. } | Node::IndexJoin { table, .. } => {
            needed.push((table.oid, Privilege::Select));
        }
        Node::LockRows { targets, .. } => {
            needed.extend(targets.iter().map(|target| (target.table.oid, Privilege::Update)));
        }
        Node::Insert(insert) => {
            needed.push((insert.table.oid, Privilege::Insert));
            if insert.on_conflict.as_ref().is_some_and(|conflict| conflict.update.is_some()) {
                needed.push((insert.table.oid, Privilege::Update));
            }
        }
        Node::Update(update) => needed.push((update.table.oid, Privilege::Update)),
        Node::Delete(delete) => needed.push((delete.table.oid, Privilege::Delete)),
        _ => {}
    });
    needed.sort_unstable_by_key(|(oid, privilege)| (*oid, *privilege as u8));
    needed.dedup();
    needed
}
