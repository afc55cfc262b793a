//! The next segment's file, made ahead of time: filling it with zeros takes long, and it is where a full disk shows
//! before anything was promised.
//!
//! It is durable, and so is its name, before anybody writes into it: a change of segments needs no sync of the directory.
//! A segment of zeros is one that was never begun.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::{SEGMENT_ALIGNMENT_BYTES, StoreError, file_name};
use crate::disk::Disk;

/// Name of the file while it is made.
pub(super) const SPARE_NAME: &str = "spare";

/// A file that is made or to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next {
    sequence: u64,
    length_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody is making one.
    Absent,
    Wanted(Next),
    Making,
    Ready(Next),
}

struct Shared {
    state: State,
    /// Nobody runs [`Spare::serve`] any more, but for one file that it may still be at.
    closed: bool,
    /// The disk failed, for another reason than that it is full: no retry, which might only seem to succeed.
    failed: Option<String>,
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// At most one prepared file.
pub struct Spare {
    disk: Arc<dyn Disk>,
    length_bytes: u64,
    shared: Mutex<Shared>,
    changed: Condvar,
}

impl Spare {
    /// Files of `length_bytes`, or longer ones where what is to be written needs it. With `background`, a thread is expected
    /// to run [`Spare::serve`]; else the writer makes them itself.
    pub fn new(disk: Arc<dyn Disk>, length_bytes: u64, background: bool) -> Arc<Spare> {
        let shared = Mutex::new(Shared { state: State::Absent, closed: !background, failed: None });
        Arc::new(Spare { disk, length_bytes, shared, changed: Condvar::new() })
    }

    fn make(&self, next: Next) -> io::Result<()> {
        let file = self.disk.create(SPARE_NAME, next.length_bytes)?;
        file.sync()?;
        self.disk.rename(SPARE_NAME, &file_name(next.sequence))?;
        self.disk.sync_directory()
    }

    /// Makes files when they are asked for, until [`Spare::close`].
    pub fn serve(&self) {
        let mut shared = self.shared.lock();
        while !shared.closed {
            let State::Wanted(next) = shared.state else {
                self.changed.wait(&mut shared);
                continue;
            };
            shared.state = State::Making;
            drop(shared);
            let made = self.make(next);
            shared = self.shared.lock();
            shared.state = if made.is_ok() { State::Ready(next) } else { State::Absent };
            // A full disk is met again, and reported, by whoever needs the room.
            shared.failed = made.err().filter(|error| !is_full(error)).map(|error| error.to_string());
            self.changed.notify_all();
        }
    }

    /// Asks for the file of this segment to be made in the background.
    pub(super) fn request(&self, sequence: u64) {
        let mut shared = self.shared.lock();
        if !shared.closed && shared.state == State::Absent {
            shared.state = State::Wanted(Next { sequence, length_bytes: self.length_bytes });
            self.changed.notify_all();
        }
    }

    /// Ends [`Spare::serve`]. From now on the writer makes the file itself.
    pub fn close(&self) {
        let mut shared = self.shared.lock();
        shared.closed = true;
        if matches!(shared.state, State::Wanted(_)) {
            shared.state = State::Absent;
        }
        self.changed.notify_all();
    }

    /// Returns the length of this segment's file, at least `needed_bytes`, when it is there; makes it now if nobody else does.
    pub(super) fn ensure(&self, sequence: u64, needed_bytes: u64) -> Result<u64, StoreError> {
        let mut shared = self.shared.lock();
        // Also after the end: two who fill one file with zeros would destroy what the first of them to be done writes.
        while matches!(shared.state, State::Wanted(_) | State::Making) {
            self.changed.wait(&mut shared);
        }
        if let Some(reason) = &shared.failed {
            return Err(StoreError::io(&*self.disk, "preparing a segment")(io::Error::other(reason.clone())));
        }
        if let State::Ready(ready) = shared.state
            && ready.sequence == sequence
            && ready.length_bytes >= needed_bytes
        {
            return Ok(ready.length_bytes);
        }
        let length_bytes = self.length_bytes.max(needed_bytes).next_multiple_of(SEGMENT_ALIGNMENT_BYTES);
        let next = Next { sequence, length_bytes };
        // One that is too short stays until the longer one takes its name.
        self.make(next).map_err(|source| match is_full(&source) {
            true => StoreError::NoSpace { location: self.disk.location(), source },
            false => StoreError::io(&*self.disk, "preparing a segment")(source),
        })?;
        shared.state = State::Ready(next);
        Ok(length_bytes)
    }

    /// Gives the file away, and returns its length.
    pub(super) fn take(&self, sequence: u64, needed_bytes: u64) -> Result<u64, StoreError> {
        let length_bytes = self.ensure(sequence, needed_bytes)?;
        self.shared.lock().state = State::Absent;
        Ok(length_bytes)
    }
}
