//! Linearizable reads of a cluster whose messages take their time.

use std::collections::VecDeque;

use raft::eraftpb::{Message, MessageType};
use tokio::sync::oneshot;

use super::node_tests::{BRANCH, Cluster};
use crate::client::{BranchStatus, LogError};
use crate::node::Read;

/// A cluster whose messages arrive a number of ticks after they were sent.
struct Slow {
    cluster: Cluster,
    delay_ticks: u64,
    now: u64,
    under_way: VecDeque<(u64, Message)>,
}

impl Slow {
    fn tick(&mut self) {
        self.now += 1;
        let Cluster { nodes, wire, .. } = &mut self.cluster;
        for node in nodes.values_mut() {
            node.tick().expect("no fault");
            node.run(wire).expect("no fault");
        }
        loop {
            let (now, delay_ticks) = (self.now, self.delay_ticks);
            self.under_way.extend(wire.queue.drain(..).map(|message| (now + delay_ticks, message)));
            let Some((_, message)) = self.under_way.pop_front_if(|(arrives, _)| *arrives <= now) else { break };
            let node = nodes.get_mut(&message.to).expect("it runs");
            node.step(message);
            node.run(wire).expect("no fault");
        }
    }

    fn leader(&mut self) -> u64 {
        for _ in 0..500 {
            if let Some((&id, _)) = self.cluster.nodes.iter().find(|(_, node)| node.is_leader()) {
                return id;
            }
            self.tick();
        }
        panic!("no leader");
    }

    fn read(&mut self, leader: u64) -> oneshot::Receiver<Result<BranchStatus, LogError>> {
        let (reply, answer) = oneshot::channel();
        self.cluster.nodes.get_mut(&leader).expect("it runs").read(Read::Status(BRANCH, reply));
        answer
    }

    /// How long it takes until the answer is there.
    fn ticks_until(&mut self, mut answer: oneshot::Receiver<Result<BranchStatus, LogError>>) -> u64 {
        let asked = self.now;
        for _ in 0..100 {
            if let Ok(answered) = answer.try_recv() {
                answered.expect("the leader has not changed");
                return self.now - asked;
            }
            self.tick();
        }
        panic!("no answer; messages take {} ticks", self.delay_ticks);
    }
}

fn check(delay_ticks: u64) {
    let mut slow = Slow { cluster: Cluster::new(), delay_ticks, now: 0, under_way: VecDeque::new() };
    let leader = slow.leader();
    // This one has to wait until the leader has committed something in its term, which takes another round.
    let early = slow.read(leader);
    let took = slow.ticks_until(early);
    assert!(took <= 4 * delay_ticks + 2, "{took} ticks for the first one, where messages take {delay_ticks}");
    for _ in 0..5 {
        let several: Vec<_> = (0..3).map(|_| slow.read(leader)).collect();
        for answer in several {
            let took = slow.ticks_until(answer);
            assert!(took <= 2 * delay_ticks + 1, "{took} ticks, where messages take {delay_ticks}");
        }
        slow.tick();
    }
    // What was sent for it is lost: the next heartbeats ask again.
    let lost = slow.read(leader);
    slow.tick();
    slow.under_way.retain(|(_, message)| message.get_msg_type() != MessageType::MsgHeartbeat);
    let took = slow.ticks_until(lost);
    assert!(took <= 2 * delay_ticks + 4, "{took} ticks after a loss, where messages take {delay_ticks}");
}

/// Story (simulator, seed 13540): a leader asked again for each unanswered read at each tick, and took no answer but the one to its
/// last question. Where that took longer than a tick, no read was answered, for ever, while appends went on.
#[test]
fn reads_are_answered_however_long_messages_take() {
    for delay_ticks in [0, 1, 2, 4] {
        check(delay_ticks);
    }
}
