//! What goes wrong in a run, and how it is healed.

use logstore::command::Command;
use logstore::identity::node_id;
use logstore::members::Member;

use super::{Event, MOST_NODES, World};
use crate::faults::Fault;
use crate::machine::Machine;

impl World {
    pub(super) fn power_cut(&mut self, id: u64) {
        let seed = self.random.next_u64();
        let pause = self.random.between(50, 2_000);
        let machine = self.machines.get_mut(&id).expect("it exists");
        machine.stop();
        machine.disk.restart(seed);
        let life = machine.life;
        self.after(pause, Event::Start { machine: id, life });
    }

    pub(super) fn crash(&mut self, id: u64) {
        let pause = self.random.between(20, 2_000);
        let machine = self.machines.get_mut(&id).expect("it exists");
        machine.stop();
        machine.disk.restart_process();
        let life = machine.life;
        self.after(pause, Event::Start { machine: id, life });
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        let running = self.running();
        let Some(id) = self.random.one_of(&running) else { return };
        self.note("fault", &[fault as u64, id]);
        let happened = match fault {
            Fault::Crash => {
                self.crash(id);
                true
            }
            Fault::PowerCut => {
                self.power_cut(id);
                true
            }
            Fault::CrashPoint if self.ends_at_archivers_step(id) => true,
            Fault::CrashPoint => {
                let disk = &self.machines[&id].disk;
                disk.crash_at_operation(disk.operations() + self.random.below(30));
                true
            }
            Fault::Partition => {
                let machines: Vec<u64> = self.all().into_iter().chain(self.others.iter().copied()).collect();
                if self.random.percent(30) {
                    self.links.heal();
                    self.links.isolate(id, &machines);
                } else {
                    self.links.partition(&machines, &mut self.random);
                }
                let healed = self.random.between(100, 3_000);
                self.after(healed, Event::Heal);
                true
            }
            Fault::SlowDisk => {
                let sync_ms = self.random.between(20, 600);
                self.machines.get_mut(&id).expect("it runs").sync_ms = sync_ms;
                let pause = self.random.between(500, 4_000);
                self.after(pause, Event::DiskRecovers { machine: id });
                true
            }
            Fault::FullDisk => {
                self.machines[&id]
                    .disk
                    .set_capacity_bytes(Some(self.random.between(2, 6) * self.machines[&id].sizes.segment_bytes));
                let pause = self.random.between(500, 4_000);
                self.after(pause, Event::DiskRecovers { machine: id });
                true
            }
            Fault::FailedSync => {
                self.machines[&id].disk.fail_next_sync();
                true
            }
            Fault::Pause => {
                let until = self.now + self.random.between(50, 3_000);
                let machine = self.machines.get_mut(&id).expect("it runs");
                machine.busy_until = machine.busy_until.max(until);
                if let Some(hosted) = &machine.hosted {
                    hosted.process.pause_until(until);
                }
                let (busy_until, life) = (machine.busy_until, machine.life);
                self.at(busy_until, Event::Wake { machine: id, life });
                true
            }
            Fault::Wipe => self.wipe(id),
            Fault::Membership => self.change_membership(),
        };
        if happened {
            *self.counts.entry(format!("{fault:?}")).or_default() += 1;
        }
    }

    /// Half of the nodes with an archiver end at one of its steps instead of the disk's.
    fn ends_at_archivers_step(&mut self, id: u64) -> bool {
        let Some(archive) = &self.options.archive else { return false };
        let (points, wanted) = (self.random.between(1, 20), archive.crash_points && self.random.percent(50));
        let hosted = self.machines[&id].hosted.as_ref().filter(|_| wanted);
        hosted.map(|hosted| hosted.process.crash_in(points)).is_some()
    }

    /// Everybody is a voter, runs and holds everything that is committed: the cluster can stand the loss of a disk.
    fn is_whole(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let members = leader.members.nodes();
        let voters = leader.voters.len() == members.len()
            && members.values().all(|member| leader.voters.contains(&member.raft_id));
        let in_sync = members.iter().all(|(id, member)| {
            let node = self.machines.get(id).and_then(|machine| machine.node.as_ref());
            node.is_some_and(|node| {
                let view = node.view();
                view.raft_id == member.raft_id && view.committed_index >= leader.committed_index
            })
        });
        !members.is_empty() && voters && leader.learners.is_empty() && in_sync
    }

    fn wipe(&mut self, id: u64) -> bool {
        // Of two members none can be lost, nor of three of which one is on its way out.
        let staying = self
            .leader()
            .map_or(0, |leader| leader.members.nodes().keys().filter(|member| !self.leaving.contains(member)).count());
        if staying < 3 || !self.is_whole() {
            return false;
        }
        let pause = self.random.between(20, 2_000);
        let mut blank = self.new_machine(id);
        let life = self.machines[&id].life;
        blank.life = life;
        self.machines.insert(id, blank);
        self.after(pause, Event::Start { machine: id, life });
        true
    }

    fn change_membership(&mut self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let members: Vec<u64> = leader.members.nodes().keys().copied().collect();
        let at = node_id(leader.raft_id);
        if members.len() > 3 && self.random.percent(50) {
            let Some(gone) = self.random.one_of(&members) else { return false };
            self.leaving.insert(gone);
            self.order(at, &Command::RemoveMember { node_id: gone });
            return true;
        }
        if members.is_empty() || members.len() >= MOST_NODES {
            return false;
        }
        let id = self.machines.keys().max().map_or(1, |id| id + 1);
        let member = Member { raft_id: 0, address: id.to_string() };
        self.order(at, &Command::SetMember { node_id: id, expected: None, member });
        self.machines.insert(id, self.new_machine(id));
        let pause = self.random.below(1_000);
        self.after(pause, Event::Start { machine: id, life: 0 });
        true
    }

    /// No more faults. Either everything is healed, and all must come back in sync; or only a majority, and it must go on.
    /// Returns the nodes that stay dead.
    pub fn heal(&mut self) -> Vec<u64> {
        self.faulty = false;
        self.links.heal();
        (self.options.loss, self.options.duplicates) = (0, 0);
        let sync_ms = self.options.sync_ms;
        for machine in self.machines.values_mut() {
            machine.sync_ms = sync_ms;
            machine.disk.set_capacity_bytes(None);
            if let Some(hosted) = &machine.hosted {
                hosted.process.resume();
                hosted.process.forget_crash_point();
            }
        }
        let mut left_dead = Vec::new();
        if self.options.heals_majority_only {
            left_dead = self.choose_dead();
            for &id in &left_dead {
                let machine = self.machines.get_mut(&id).expect("it exists");
                machine.stop();
                machine.is_retired = true;
            }
        }
        left_dead
    }

    /// What is not as it should be some time after [`World::heal`], if anything is. `before`: the progress then.
    pub fn unhealed(&self, before: &[u64]) -> Option<String> {
        let moved = self.progress().iter().zip(before).all(|(now, before)| now > before);
        let whole = self.options.heals_majority_only || self.is_whole();
        (!moved || !whole).then(|| {
            let (progress, leader) = (self.progress(), self.leader());
            let nodes = self.describe();
            format!("progress {progress:?} since {before:?}, whole {whole}, leader {leader:#?}\n{nodes}")
        })
    }

    /// For a failure's message.
    fn describe(&self) -> String {
        let describe = |machine: &Machine| {
            let state = match &machine.node {
                Some(node) => format!("{:?}", node.view()),
                None => format!("does not run: {:?}", machine.last_failure),
            };
            let (id, life, busy_until) = (machine.id, machine.life, machine.busy_until);
            format!("machine {id}: life {life}, busy until {busy_until} of {}, {state}", self.now)
        };
        self.machines.values().filter(|machine| !machine.is_retired).map(describe).collect::<Vec<_>>().join("\n")
    }

    /// A minority of the voters that the newest leader knew, if the rest can go on without it.
    fn choose_dead(&mut self) -> Vec<u64> {
        if !self.is_whole() {
            return Vec::new();
        }
        // Neither those that were removed and still run, nor those on their way out.
        let Some(leader) = self.leader() else { return Vec::new() };
        let members = leader.members.nodes().keys().copied();
        let mut ids: Vec<u64> = members.filter(|id| !self.leaving.contains(id)).collect();
        let spare = ids.len().saturating_sub(1) / 2;
        let mut dead = Vec::new();
        for _ in 0..spare {
            let position = self.random.below(ids.len() as u64) as usize;
            dead.push(ids.swap_remove(position));
        }
        dead
    }
}
