//! Clients of the metadata map: they read a key and swap it. Its versions make the check simple: an operation that begins
//! after another has ended must not see an older version, and each swap must follow the one whose version it names.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use logstore::client::LogError;
use logstore::command::Command;
use logstore::machine::Outcome;

use crate::clients::{Ask, Asked, Reply, Request};
use crate::random::Random;

/// The key.
pub const KEY: &str = "register";
const TIMEOUT_MS: u64 = 400;

/// What all clients together have seen.
#[derive(Default)]
pub struct Register {
    /// Highest version that an operation which has ended saw or made.
    newest: u64,
    /// Version made → version expected.
    swaps: BTreeMap<u64, u64>,
    /// Versions expected by swaps whose outcome nobody knows.
    unknown: BTreeSet<u64>,
}

impl Register {
    fn seen(&mut self, at_least: u64, version: u64, what: &str) {
        assert!(version >= at_least, "{what} saw version {version}, but {at_least} had been seen before it began");
        self.newest = self.newest.max(version);
    }

    /// Every swap follows the one before it; between them may be those with an unknown outcome.
    pub fn check(&self) {
        let mut last = 0;
        for (&version, &expected) in &self.swaps {
            assert!(
                expected >= last,
                "the swap to {version} expected {expected}, after {last} was the current version"
            );
            if expected != last {
                assert!(!self.unknown.is_empty(), "nobody made version {expected}, which {version} replaced");
            }
            last = version;
        }
    }
}

enum Doing {
    Nothing,
    Reading,
    Swapping { expected: u64 },
}

/// One client.
pub struct Swapper {
    pub target: u64,
    doing: Doing,
    request: u64,
    began: u64,
    /// What had been seen by all when the operation began.
    floor: u64,
    known: Option<u64>,
    pub successes: u64,
}

impl Swapper {
    pub fn new(target: u64) -> Swapper {
        Swapper { target, doing: Doing::Nothing, request: 0, began: 0, floor: 0, known: None, successes: 0 }
    }

    pub fn step(
        &mut self,
        now: u64,
        random: &mut Random,
        nodes: &[u64],
        next_request: &mut u64,
        register: &mut Register,
    ) -> Option<Request> {
        if !matches!(self.doing, Doing::Nothing) {
            if now < self.began + TIMEOUT_MS {
                return None;
            }
            self.give_up(register);
            self.target = random.one_of(nodes).unwrap_or(self.target);
        }
        if !random.percent(30) {
            return None;
        }
        *next_request += 1;
        (self.request, self.began, self.floor) = (*next_request, now, register.newest);
        let ask = match self.known.take() {
            None => {
                self.doing = Doing::Reading;
                Ask::Get(KEY.to_owned())
            }
            Some(version) => {
                self.doing = Doing::Swapping { expected: version };
                let expected = (version != 0).then_some(version);
                let value = Some(Bytes::from(self.request.to_le_bytes().to_vec()));
                Ask::Command(Command::CompareAndSwap { key: KEY.to_owned(), expected, value })
            }
        };
        Some(Request { id: self.request, ask })
    }

    fn give_up(&mut self, register: &mut Register) {
        if let Doing::Swapping { expected } = self.doing {
            register.unknown.insert(expected);
        }
        self.doing = Doing::Nothing;
    }

    pub fn answered(&mut self, reply: Reply, random: &mut Random, nodes: &[u64], register: &mut Register) {
        if reply.request != self.request {
            return;
        }
        match (reply.outcome, &self.doing) {
            (_, Doing::Nothing) => return,
            (Ok(Asked::Value(value)), _) => {
                let version = value.map_or(0, |value| value.version);
                register.seen(self.floor, version, "a read");
                self.known = Some(version);
                self.successes += 1;
            }
            (Ok(Asked::Outcome(Outcome::Swapped { version: Some(version) })), Doing::Swapping { expected }) => {
                assert!(version > *expected, "versions grow");
                register.seen(self.floor, version, "a swap");
                let before = register.swaps.insert(version, *expected);
                assert_eq!(before, None, "version {version} was made twice");
                self.known = Some(version);
                self.successes += 1;
            }
            (Ok(Asked::Outcome(Outcome::Conflict { current })), _) => {
                let version = current.map_or(0, |value| value.version);
                register.seen(self.floor, version, "a refused swap");
                self.known = Some(version);
            }
            (Ok(_), _) => panic!("the register was answered by something else"),
            (Err(LogError::NotLeader { leader }), _) => {
                let named = leader.map(|leader| leader.parse().expect("addresses here are node numbers"));
                self.target = named.or(random.one_of(nodes)).unwrap_or(self.target);
            }
            (Err(LogError::NoSpace { .. }), _) => {}
            (Err(_), _) => {
                self.give_up(register);
                self.target = random.one_of(nodes).unwrap_or(self.target);
            }
        }
        self.doing = Doing::Nothing;
    }
}
