//! The test of record: the log replayed from empty is the database, at every batch boundary.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use sql::store::{IsolationLevel, RowLockMode, WaitPolicy};
use storage::page::Page;
use storage::redo::redo;
use storage::testing::{decode_log, replay};
use storage::{BranchId, Lsn, PageNo, TreeId, btree};

use super::{World, begin, rows};
use crate::testing::{MemoryLog, ReplayPages};
use crate::{Compute, ComputeConfig};

/// Inserts, updates, deletes, large values and loads from several threads.
fn workload(world: &World) -> Vec<TreeId> {
    let trees = [world.tree(), world.tree()];
    let threads: Vec<_> = (0..3_u32)
        .map(|number| {
            let compute = world.compute.clone();
            thread::spawn(move || {
                for round in 0..120_u32 {
                    let transaction = begin(&compute, IsolationLevel::ReadCommitted);
                    for tree in trees {
                        for step in 0..4 {
                            let row = (round * 7 + step * 31 + number * 1000) % 400;
                            let key = format!("{row:05} of {number}");
                            let mode = RowLockMode::Exclusive;
                            transaction.lock_row(tree, key.as_bytes(), mode, WaitPolicy::Block).expect("no cycle");
                            if (round + step) % 5 == 0 {
                                transaction.delete(tree, key.as_bytes()).expect("delete");
                            } else {
                                let length =
                                    if (round + row) % 37 == 0 { 30_000 } else { 50 + (row as usize * 13) % 600 };
                                transaction
                                    .put(tree, key.as_bytes(), Bytes::from(vec![round as u8; length]))
                                    .expect("put");
                            }
                        }
                    }
                    if round % 9 == 0 {
                        transaction.rollback();
                    } else {
                        transaction.commit().expect("commit");
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let transaction = world.begin();
    transaction.begin_statement().expect("statement");
    let loaded = transaction.create_tree().expect("create");
    let mut loader = transaction.bulk_load(loaded).expect("load");
    for row in 0..2000_u32 {
        loader.push(&row.to_be_bytes(), &[1; 64]).expect("push");
    }
    loader.finish().expect("finish");
    transaction.end_statement(sql::store::StatementOutcome::Keep);
    world.commit(&transaction).expect("commit");
    let dropper = world.begin();
    dropper.drop_tree(trees[1]).expect("drop");
    world.commit(&dropper).expect("commit");
    while !world.compute.reclaiming_is_done() {
        thread::yield_now();
    }
    let engine = world.compute.engine();
    engine.block_durable(engine.positions.applied()).expect("durable");
    vec![trees[0], loaded]
}

#[test]
fn the_log_replayed_from_empty_gives_the_pages_in_the_cache() {
    for world in [World::new(4096), World::new(150), World::spilling(150, 1), World::spilling(4096, 3000)] {
        workload(&world);
        let engine = world.compute.engine();
        let durable = engine.positions.durable();
        let replayed = replay(&world.log.bytes());
        let mut compared = 0;
        for (number, expected) in &replayed {
            let reader = crate::cache::SnapshotReader::new(engine.cache.clone(), durable);
            let cached = btree::PageReader::page(&reader, *number).expect("page");
            assert_eq!(cached.bytes(), expected.bytes(), "page {number}");
            compared += 1;
        }
        assert!(compared > 50, "{compared} pages");
    }
}

#[test]
fn every_prefix_that_ends_at_a_batch_is_a_valid_database() {
    for world in [World::new(1024), World::spilling(1024, 1)] {
        check_prefixes(&world);
    }
}

fn check_prefixes(world: &World) {
    let trees = workload(world);
    let log = world.log.bytes();
    let mut pages: BTreeMap<PageNo, Box<Page>> = BTreeMap::new();
    let batches = decode_log(&log);
    let count = batches.len();
    for (number, batch) in batches.into_iter().enumerate() {
        for record in batch.records() {
            let record = record.expect("sound");
            let page = pages.entry(record.page).or_insert_with(Page::unused);
            redo(page, &record.op).expect("applies");
            page.set_lsn(batch.end_lsn);
        }
        if number % 40 == 0 || number + 1 == count {
            check_database(&log[..batch.end_lsn.0 as usize], &trees, &pages);
        }
    }
}

/// Opens a compute on a prefix of the log, reads everything, writes.
fn check_database(log: &[u8], trees: &[TreeId], pages: &BTreeMap<PageNo, Box<Page>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let log = Arc::new(MemoryLog::holding(Bytes::copy_from_slice(log)));
    let server = Arc::new(ReplayPages::new(log.clone()));
    let config = ComputeConfig {
        branch: BranchId(1),
        memory_bytes: 8 << 20,
        transaction_limit_bytes: 1 << 20,
        ..ComputeConfig::new(BranchId(1), 0)
    };
    let compute = runtime.block_on(Compute::start(config, log, server)).expect("start");
    for tree in trees {
        let transaction = begin(&compute, IsolationLevel::ReadCommitted);
        let is_root = pages.get(&tree.0).is_some_and(|page| page.is_slotted() && page.tree() == *tree);
        let mut cursor =
            transaction.scan(*tree, sql::store::KeyRange::ALL, sql::store::Direction::Forward).expect("scan");
        let mut last: Option<Vec<u8>> = None;
        while cursor.advance().expect("every row can be read") {
            assert!(is_root && last.as_deref().is_none_or(|last| last < cursor.key()));
            last = Some(cursor.key().to_vec());
        }
    }
    let transaction = begin(&compute, IsolationLevel::ReadCommitted);
    let tree = transaction.create_tree().expect("create");
    transaction.put(tree, b"after", Bytes::from_static(b"restart")).expect("put");
    let lsn = transaction.commit().expect("commit").expect("wrote");
    runtime.block_on(sql::store::Store::wait_durable(&*compute, lsn)).expect("durable");
    assert!(lsn > Lsn::ZERO);
    assert_eq!(rows(&begin(&compute, IsolationLevel::ReadCommitted), tree).len(), 1);
    runtime.block_on(compute.shutdown()).expect("shutdown");
}
