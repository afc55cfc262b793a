//! A disk in memory that knows pending from durable bytes, for tests of crashes and faults.
//!
//! A crash keeps, of what was not synced, a random choice of 512-byte sectors and a random prefix of the
//! directory operations (file systems journal those in order). Every choice comes from the seed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile};

const SECTOR_BYTES: usize = 512;

/// Shared handle; clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<FileState>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameOperation>,
    operations: u64,
    syncs: u64,
    crash_at_operation: Option<u64>,
    crashed: bool,
    fail_next_sync: bool,
    capacity_bytes: Option<u64>,
    /// Handles of an earlier life must not write to the disk after the restart.
    life: u64,
}

#[derive(Default)]
struct FileState {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Byte ranges of `current` written since the last sync.
    pending: Vec<(usize, usize)>,
}

enum NameOperation {
    Set(String, usize),
    Rename(String, String),
    Remove(String),
}

impl NameOperation {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameOperation::Set(name, file) => {
                names.insert(name.clone(), *file);
            }
            NameOperation::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            NameOperation::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl State {
    /// Counts one mutating operation; fails once the crash point is reached.
    fn begin(&mut self, life: u64) -> io::Result<()> {
        self.alive(life)?;
        if self.crash_at_operation == Some(self.operations) {
            self.crashed = true;
            return Err(io::Error::other("simulated crash"));
        }
        self.operations += 1;
        Ok(())
    }

    fn alive(&self, life: u64) -> io::Result<()> {
        if self.crashed || self.life != life {
            return Err(io::Error::other("simulated crash"));
        }
        Ok(())
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|&file| self.files[file].current.len() as u64).sum()
    }
}

/// SplitMix64: small, seeded, and enough to choose sectors.
pub struct SeededChoice(u64);

impl SeededChoice {
    /// A generator that always gives the same sequence for the same seed.
    pub fn new(seed: u64) -> Self {
        SeededChoice(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound.max(1)
    }
}

impl SimulatedDisk {
    /// An empty disk without limits or faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Mutating operations so far (writes, syncs, creations, renames, removals).
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Syncs of files so far, over all lives.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Fails every access from operation number `operation` on, as if the machine had stopped there.
    pub fn crash_at_operation(&self, operation: u64) {
        self.state.lock().crash_at_operation = Some(operation);
    }

    /// True once the crash point was reached.
    pub fn crashed(&self) -> bool {
        self.state.lock().crashed
    }

    /// The next sync fails, once.
    pub fn fail_next_sync(&self) {
        self.state.lock().fail_next_sync = true;
    }

    /// Creating files beyond this many bytes in total fails with ENOSPC.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state.lock().capacity_bytes = capacity_bytes;
    }

    /// Stops the machine and starts it again: keeps what was durable and a seeded choice of what was not. All
    /// handles opened before are dead.
    pub fn restart(&self, seed: u64) {
        let mut choice = SeededChoice::new(seed);
        let mut state = self.state.lock();
        let kept = choice.below(state.pending_names.len() as u64 + 1) as usize;
        let mut names = std::mem::take(&mut state.durable_names);
        for operation in state.pending_names.drain(..).take(kept) {
            operation.apply(&mut names);
        }
        for file in &mut state.files {
            for (start, end) in std::mem::take(&mut file.pending) {
                let mut sector = start;
                while sector < end {
                    let next = ((sector / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                    if choice.below(2) == 0 {
                        if file.durable.len() < next {
                            file.durable.resize(next, 0);
                        }
                        file.durable[sector..next].copy_from_slice(&file.current[sector..next]);
                    }
                    sector = next;
                }
            }
            file.current = file.durable.clone();
        }
        state.names = names.clone();
        state.durable_names = names;
        state.crashed = false;
        state.crash_at_operation = None;
        state.operations = 0;
        state.life += 1;
    }

    /// Stops the process but not the machine: everything written stays, only the handles die.
    pub fn restart_process(&self) {
        let mut state = self.state.lock();
        state.crashed = false;
        state.crash_at_operation = None;
        state.operations = 0;
        state.life += 1;
    }

    /// Contents of a file as a reader would see them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.names.get(name).map(|&file| state.files[file].current.clone())
    }

    /// Writes somewhere else than was asked for, as a misdirected write does: silently and durably.
    pub fn misdirect(&self, name: &str, offset: usize, bytes: &[u8]) {
        let mut state = self.state.lock();
        let file = *state.names.get(name).expect("the test names an existing file");
        let FileState { durable, current, .. } = &mut state.files[file];
        let end = (offset + bytes.len()).min(current.len()).min(durable.len());
        let taken = end.saturating_sub(offset);
        for contents in [durable, current] {
            contents[offset..offset + taken].copy_from_slice(&bytes[..taken]);
        }
    }

    /// Cuts a file, as a file system does that has lost the rest: silently and durably.
    pub fn cut(&self, name: &str, length: usize) {
        let mut state = self.state.lock();
        let file = *state.names.get(name).expect("the test names an existing file");
        state.files[file].current.truncate(length);
        state.files[file].durable.truncate(length);
    }

    /// Inverts one bit of a file, as bit rot does: silently and durably.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let mut state = self.state.lock();
        let file = *state.names.get(name).expect("the test names an existing file");
        let (byte, mask) = ((bit / 8) as usize, 1u8 << (bit % 8));
        state.files[file].current[byte] ^= mask;
        if let Some(durable) = state.files[file].durable.get_mut(byte) {
            *durable ^= mask;
        }
    }
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state.lock();
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), file, life: state.life }))
    }

    fn create(&self, name: &str, length_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let life = state.life;
        state.begin(life)?;
        if state.capacity_bytes.is_some_and(|capacity| state.used_bytes() + length_bytes > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let length = length_bytes as usize;
        state.files.push(FileState { durable: Vec::new(), current: vec![0; length], pending: vec![(0, length)] });
        let file = state.files.len() - 1;
        state.names.insert(name.to_owned(), file);
        state.pending_names.push(NameOperation::Set(name.to_owned(), file));
        Ok(Arc::new(SimulatedFile { disk: self.clone(), file, life }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let life = state.life;
        state.begin(life)?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        state.pending_names.push(NameOperation::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let life = state.life;
        state.begin(life)?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.pending_names.push(NameOperation::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let life = state.life;
        state.begin(life)?;
        state.pending_names.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn location(&self) -> String {
        "simulated disk".to_owned()
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
    life: u64,
}

impl DiskFile for SimulatedFile {
    fn length_bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state.lock().files[self.file].current.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state.lock();
        state.alive(self.life)?;
        let start = offset as usize;
        let range = start..start + buffer.len();
        let bytes = state.files[self.file].current.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.alive(self.life)?;
        let crashing = state.begin(self.life);
        // The write at which the machine stops may have reached the device in part.
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let file = &mut state.files[self.file];
        if file.current.len() < end {
            file.current.resize(end, 0);
        }
        file.current[start..end].copy_from_slice(bytes);
        file.pending.push((start, end));
        crashing
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.begin(self.life)?;
        state.syncs += 1;
        if std::mem::take(&mut state.fail_next_sync) {
            return Err(io::Error::other("simulated fsync failure"));
        }
        let file = &mut state.files[self.file];
        let FileState { durable, current, pending } = file;
        durable.resize(current.len(), 0);
        for (start, end) in pending.drain(..) {
            durable[start..end].copy_from_slice(&current[start..end]);
        }
        Ok(())
    }
}
