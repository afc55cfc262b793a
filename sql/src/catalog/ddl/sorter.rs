//! Sorting keys and values by key, in memory up to a limit and in temporary files beyond it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Result, SqlError, SqlState};

/// Cost of an entry in memory beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 48;

/// A key with its value.
type Entry = (Box<[u8]>, Box<[u8]>);

/// Collects entries in any order and gives them back by key. Equal keys come in no particular order.
pub(super) struct Sorter {
    entries: Vec<Entry>,
    bytes: usize,
    limit_bytes: usize,
    directory: Arc<Path>,
    runs: Vec<File>,
}

impl Sorter {
    pub fn new(limit_bytes: usize, directory: Arc<Path>) -> Self {
        Self { entries: Vec::new(), bytes: 0, limit_bytes, directory, runs: Vec::new() }
    }

    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.bytes += key.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        self.entries.push((key.into(), value.into()));
        if self.bytes > self.limit_bytes { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<()> {
        self.entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut writer = BufWriter::new(anonymous_file(&self.directory)?);
        for (key, value) in self.entries.drain(..) {
            for part in [&key, &value] {
                let length = u32::try_from(part.len()).expect("keys and rows stay below 4 GiB");
                writer.write_all(&length.to_le_bytes()).and_then(|()| writer.write_all(part)).map_err(failed)?;
            }
        }
        let mut file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.runs.push(file);
        self.bytes = 0;
        Ok(())
    }

    /// Calls `take` with every entry, by key.
    pub fn finish(mut self, mut take: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        if self.runs.is_empty() {
            self.entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            return self.entries.iter().try_for_each(|(key, value)| take(key, value));
        }
        if !self.entries.is_empty() {
            self.spill()?;
        }
        let mut runs: Vec<_> = self.runs.into_iter().map(BufReader::new).collect();
        let mut heads = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(read_entry(run)?.map(|entry| Reverse((entry, number))));
        }
        while let Some(Reverse(((key, value), number))) = heads.pop() {
            take(&key, &value)?;
            heads.extend(read_entry(&mut runs[number])?.map(|entry| Reverse((entry, number))));
        }
        Ok(())
    }
}

fn read_entry(run: &mut BufReader<File>) -> Result<Option<Entry>> {
    let mut length = [0; 4];
    match run.read_exact(&mut length) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map_err(failed)?,
    }
    let mut part = |length: [u8; 4]| {
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        run.read_exact(&mut bytes).map(|()| bytes.into_boxed_slice())
    };
    let key = part(length).map_err(failed)?;
    run.read_exact(&mut length).map_err(failed)?;
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    run.read_exact(&mut bytes).map_err(failed)?;
    Ok(Some((key, bytes.into_boxed_slice())))
}

/// A file that has no name: it goes with its handle, also when the process is killed.
fn anonymous_file(directory: &Path) -> Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path: PathBuf = directory.join(format!("alluvium-sort-{}-{number}", std::process::id()));
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true).open(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}

fn failed(error: std::io::Error) -> SqlError {
    let state = match error.kind() {
        std::io::ErrorKind::StorageFull => SqlState::DISK_FULL,
        _ => SqlState::IO_ERROR,
    };
    SqlError::new(state, format!("temporary file for a sort: {error}"))
}
