//! Syncs that somebody else does: what waits for them, and what does not.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};

use raft::eraftpb::{Message, MessageType};
use storage::{Epoch, Lsn};

use super::node_tests::{Answer, BRANCH, Cluster, content};
use crate::command::Command;
use crate::machine::Outcome;
use crate::node::SyncRequest;

const SLOW_US: u64 = 50_000;

/// From now on the node's syncs wait in the channel.
fn slow(cluster: &mut Cluster, id: u64) -> Receiver<SyncRequest> {
    let (requests, to_sync) = sync_channel(1);
    let node = cluster.nodes.get_mut(&id).expect("it runs");
    node.set_syncer(requests);
    node.synced_in(SLOW_US);
    to_sync
}

fn sync(cluster: &mut Cluster, id: u64, to_sync: &Receiver<SyncRequest>) {
    let request = to_sync.try_recv().expect("a sync is wanted");
    let outcome = request.unsynced.sync();
    let node = cluster.nodes.get_mut(&id).expect("it runs");
    node.synced(&request, outcome, SLOW_US, &mut cluster.wire).expect("no fault");
    node.run(&mut cluster.wire).expect("no fault");
}

fn append(cluster: &mut Cluster, leader: u64, epoch: Epoch, start_lsn: Lsn) -> Answer {
    let bytes = content(start_lsn, 700, epoch.0);
    cluster.propose(leader, &Command::Append { branch: BRANCH, epoch, start_lsn, bytes })
}

fn is_appended(answer: Answer) -> bool {
    matches!(answer.blocking_recv(), Ok(Ok(Outcome::Appended { .. })))
}

/// Lets a node work on what it was sent; what it sends is returned.
fn work(cluster: &mut Cluster, id: u64) -> Vec<Message> {
    let (to_it, others): (VecDeque<Message>, VecDeque<Message>) =
        cluster.wire.queue.drain(..).partition(|message| message.to == id);
    cluster.wire.queue = others;
    let node = cluster.nodes.get_mut(&id).expect("it runs");

    for message in to_it {
        node.step(message);
    }
    node.run(&mut cluster.wire).expect("no fault");
    let from_it = cluster.wire.queue.iter().filter(|message| message.from == id);
    from_it.cloned().collect()
}

fn kinds(messages: &[Message]) -> Vec<MessageType> {
    messages.iter().map(Message::get_msg_type).collect()
}

#[test]
fn a_follower_answers_heartbeats_and_acknowledges_after_the_sync() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    let (epoch, mut end) = cluster.acquire(leader);
    cluster.append(leader, epoch, &mut end, 3);
    let follower = leader % 3 + 1;
    let to_sync = slow(&mut cluster, follower);
    let _answer = append(&mut cluster, leader, epoch, end);
    cluster.nodes.get_mut(&leader).expect("it runs").run(&mut cluster.wire).expect("no fault");
    assert_eq!(kinds(&work(&mut cluster, follower)), []);
    // A second group while the first is being synced; and heartbeats.
    let _answer = append(&mut cluster, leader, epoch, end.advance(700));
    for _ in 0..4 {
        cluster.nodes.get_mut(&leader).expect("it runs").tick().expect("no fault");
    }
    cluster.nodes.get_mut(&leader).expect("it runs").run(&mut cluster.wire).expect("no fault");
    let sent = kinds(&work(&mut cluster, follower));
    assert!(!sent.is_empty() && sent.iter().all(|kind| *kind == MessageType::MsgHeartbeatResponse), "{sent:?}");
    cluster.wire.queue.clear();
    sync(&mut cluster, follower, &to_sync);
    let first: Vec<Message> = cluster.wire.queue.drain(..).collect();
    assert_eq!(kinds(&first), [MessageType::MsgAppendResponse], "the first group is acknowledged");
    // The second is in the next sync, which has begun by itself.
    sync(&mut cluster, follower, &to_sync);
    let second: Vec<Message> = cluster.wire.queue.drain(..).collect();
    assert_eq!(kinds(&second), [MessageType::MsgAppendResponse]);
    assert!(second[0].index > first[0].index, "{second:?}");
    assert!(to_sync.try_recv().is_err(), "nothing is left to sync");
}

/// Two followers have it: the leader answers although its own disk does not. Then its machine stops, and nothing is lost.
#[test]
fn a_leader_does_not_wait_for_its_own_disk() {
    for also in 0..3 {
        let mut cluster = Cluster::new();
        let leader = cluster.leader();
        let (epoch, mut end) = cluster.acquire(leader);
        cluster.append(leader, epoch, &mut end, 3);
        let to_sync = slow(&mut cluster, leader);
        for _ in 0..20 {
            let answer = append(&mut cluster, leader, epoch, end);
            cluster.settle();
            assert!(is_appended(answer), "answered before the leader's disk has it");
            end = end.advance(700);
        }
        // With one follower away the leader's own copy is needed.
        let away = leader % 3 + 1;
        cluster.cut_off = vec![away];
        let mut waiting = append(&mut cluster, leader, epoch, end);
        cluster.settle();
        assert!(waiting.try_recv().is_err(), "one disk is no majority");
        if also > 0 {
            // The sync that is under way began before that append: only the next one counts.
            sync(&mut cluster, leader, &to_sync);
            cluster.settle();
            assert!(waiting.try_recv().is_err(), "a sync that began earlier promises nothing");
        }
        if also > 1 {
            sync(&mut cluster, leader, &to_sync);
            cluster.settle();
            assert!(is_appended(waiting));
            end = end.advance(700);
        }
        cluster.cut_off.clear();
        cluster.nodes.remove(&leader);
        cluster.disks[&leader].restart(also);
        let next = cluster.leader();
        let (epoch, found) = cluster.acquire(next);
        assert!(found >= end, "{end} was acknowledged, and the stream ends at {found}");
        cluster.start(leader);
        let mut end = found;
        cluster.append(next, epoch, &mut end, 5);
        cluster.check_equal();
    }
}

#[test]
fn a_sync_that_fails_beside_the_node_ends_it() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader();
    let (epoch, end) = cluster.acquire(leader);
    let to_sync = slow(&mut cluster, leader);
    cluster.cut_off = (1..=3).filter(|id| *id != leader).collect();
    let mut answer = append(&mut cluster, leader, epoch, end);
    cluster.settle();
    let request = to_sync.try_recv().expect("a sync is wanted");
    let node = cluster.nodes.get_mut(&leader).expect("it runs");
    let failed = node.synced(&request, Err(std::io::Error::other("failed")), SLOW_US, &mut cluster.wire);
    assert!(failed.is_err() && answer.try_recv().is_err(), "the node stops and acknowledges nothing");
}
