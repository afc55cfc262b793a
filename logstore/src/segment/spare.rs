//! The next segment's file, made ahead of time: filling it with zeros takes long, and it is where a full disk shows
//! before anything was promised.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::StoreError;
use crate::disk::Disk;

/// Name of the prepared file until it becomes a segment.
pub(super) const SPARE_NAME: &str = "spare";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody is making one.
    Absent,
    Wanted,
    Making,
    Ready,
    Closed,
}

/// At most one prepared file.
pub struct Spare {
    disk: Arc<dyn Disk>,
    length_bytes: u64,
    /// Someone runs [`Spare::serve`]; else the writer makes the file itself.
    background: bool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Spare {
    /// With `background`, a thread is expected to run [`Spare::serve`].
    pub fn new(disk: Arc<dyn Disk>, length_bytes: u64, background: bool) -> Arc<Spare> {
        let state = Mutex::new(State::Absent);
        Arc::new(Spare { disk, length_bytes, background, state, changed: Condvar::new() })
    }

    fn make(&self) -> io::Result<()> {
        let file = self.disk.create(SPARE_NAME, self.length_bytes)?;
        file.sync()
    }

    /// Makes files when they are asked for, until [`Spare::close`].
    pub fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            match *state {
                State::Closed => return,
                State::Wanted => {
                    *state = State::Making;
                    drop(state);
                    let made = self.make();
                    state = self.state.lock();
                    if *state == State::Making {
                        // A failure is met again, and reported, by whoever needs the room.
                        *state = if made.is_ok() { State::Ready } else { State::Absent };
                    }
                    self.changed.notify_all();
                }
                _ => self.changed.wait(&mut state),
            }
        }
    }

    /// Asks for a file to be made in the background.
    pub fn request(&self) {
        let mut state = self.state.lock();
        if self.background && *state == State::Absent {
            *state = State::Wanted;
            self.changed.notify_all();
        }
    }

    /// Ends [`Spare::serve`].
    pub fn close(&self) {
        *self.state.lock() = State::Closed;
        self.changed.notify_all();
    }

    /// True when a file is there, without waiting for it.
    pub fn is_ready(&self) -> bool {
        *self.state.lock() == State::Ready
    }

    /// Returns when a file is there, making it now if nobody else does.
    pub fn ensure(&self) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        while matches!(*state, State::Wanted | State::Making) {
            self.changed.wait(&mut state);
        }
        if *state == State::Ready {
            return Ok(());
        }
        self.make().map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::NoSpace { location: self.disk.location(), source }
            }
            _ => StoreError::io(&*self.disk, "preparing a segment")(source),
        })?;
        if *state != State::Closed {
            *state = State::Ready;
        }
        Ok(())
    }

    /// Gives the file its name as a segment. The name is not yet durable.
    pub(super) fn take(&self, name: &str) -> Result<(), StoreError> {
        self.ensure()?;
        self.disk.rename(SPARE_NAME, name).map_err(StoreError::io(&*self.disk, "naming a segment"))?;
        let mut state = self.state.lock();
        if *state != State::Closed {
            *state = State::Absent;
        }
        Ok(())
    }
}
