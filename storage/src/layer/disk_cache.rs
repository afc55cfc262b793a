//! Pieces of layers on local disk, so that a read need not go to a distant object store again.
//!
//! Nothing but speed depends on this: the directory may be deleted at any time, also while it is used, and what fails
//! its checksum is fetched anew. A piece is a file of its own: the bytes and their CRC32, bound to the piece's name.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use moka::sync::Cache;

use crate::beside::beside;
use crate::object::{ObjectError, ObjectStore};

/// Bytes of a piece: a few blocks, little enough that a read of one block is not held up.
const PIECE_BYTES: u64 = 256 << 10;
const CRC_BYTES: usize = 4;
const SUFFIX: &str = "piece";

/// A bounded cache in a directory of its own. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DiskCache {
    directory: Arc<PathBuf>,
    /// File name to length. An entry that goes takes its file along.
    pieces: Cache<Arc<str>, u32>,
    /// Damage that was found and mended.
    repairs: Arc<AtomicU64>,
}

/// What became of a piece on disk.
enum Piece {
    Sound(Bytes),
    /// Gone, or the directory is.
    Missing,
    /// Its bytes are not those that were written.
    Damaged,
}

fn piece_name(key: &str, number: u64) -> String {
    // Keys consist of digits, letters, dashes and slashes.
    format!("{}.{number:x}.{SUFFIX}", key.replace('/', "_"))
}

fn crc_of(name: &str, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(name.as_bytes());
    crc.update(bytes);
    crc.finalize()
}

fn read_piece(directory: &Path, name: &str, expected_bytes: usize) -> Piece {
    let Ok(mut bytes) = std::fs::read(directory.join(name)) else { return Piece::Missing };
    let content = bytes.len().checked_sub(CRC_BYTES).filter(|&content| content == expected_bytes);
    let Some(content) = content else { return Piece::Damaged };
    let stored = u32::from_le_bytes(bytes[content..].try_into().expect("four bytes"));
    bytes.truncate(content);
    if crc_of(name, &bytes) == stored { Piece::Sound(Bytes::from(bytes)) } else { Piece::Damaged }
}

fn write_piece(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let staged = directory.join(format!("{}-{number}.staged", std::process::id()));
    let mut content = Vec::with_capacity(bytes.len() + CRC_BYTES);
    content.extend_from_slice(bytes);
    content.extend_from_slice(&crc_of(name, bytes).to_le_bytes());
    let moved = std::fs::write(&staged, content).and_then(|()| std::fs::rename(&staged, directory.join(name)));
    if moved.is_err() {
        let _ = std::fs::remove_file(&staged);
    }
    moved
}

impl DiskCache {
    /// Uses a directory, and what an earlier run left in it, below a limit of bytes.
    pub fn open(directory: &Path, limit_bytes: u64) -> std::io::Result<DiskCache> {
        std::fs::create_dir_all(directory)?;
        let (directory, repairs) = (Arc::new(directory.to_owned()), Arc::default());
        let evicted_from = directory.clone();
        let pieces: Cache<Arc<str>, u32> = Cache::builder()
            .max_capacity(limit_bytes)
            .weigher(|_, bytes: &u32| *bytes)
            .eviction_listener(move |name: Arc<Arc<str>>, _, cause| {
                if cause.was_evicted() {
                    // Gone already, or the directory is: as wanted.
                    let _ = std::fs::remove_file(evicted_from.join(&**name));
                }
            })
            .build();
        for file in std::fs::read_dir(&*directory)? {
            let file = file?;
            match file.file_name().to_str() {
                Some(name) if name.ends_with(SUFFIX) => {
                    let bytes = u32::try_from(file.metadata()?.len()).unwrap_or(u32::MAX);
                    pieces.insert(Arc::from(name), bytes);
                }
                Some(name) if name.ends_with(".staged") => std::fs::remove_file(file.path())?,
                // Not ours.
                _ => {}
            }
        }
        Ok(DiskCache { directory, pieces, repairs })
    }

    /// How often damage was found here, and mended from the object store.
    pub fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Relaxed)
    }

    /// Notes that damage was mended.
    pub(super) fn count_repair(&self) {
        self.repairs.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets the pieces with `range` of an object: they are not what they should be.
    pub(super) fn forget(&self, key: &str, range: Range<u64>) {
        for number in range.start / PIECE_BYTES..range.end.div_ceil(PIECE_BYTES) {
            self.pieces.invalidate(piece_name(key, number).as_str());
        }
    }

    /// Reads `range` of an immutable object of `object_bytes`, from here or from the store.
    pub async fn get_range(
        &self,
        store: &ObjectStore,
        key: &str,
        object_bytes: u64,
        range: Range<u64>,
    ) -> Result<Bytes, ObjectError> {
        let numbers = range.start / PIECE_BYTES..range.end.div_ceil(PIECE_BYTES);
        let first_offset = numbers.start * PIECE_BYTES;
        let mut pieces = Vec::new();
        for number in numbers {
            pieces.push(self.piece(store, key, object_bytes, number).await?);
        }
        let local = |offset: u64| usize::try_from(offset - first_offset).expect("within what was read");
        let wanted = local(range.start)..local(range.end);
        let joined = match pieces.as_slice() {
            [one] => one.clone(),
            several => several
                .iter()
                .fold(BytesMut::new(), |mut all, piece| {
                    all.extend_from_slice(piece);
                    all
                })
                .freeze(),
        };
        if wanted.end > joined.len() {
            let reason = format!("{range:?} asked for, the object has {object_bytes} bytes");
            return Err(ObjectError::Permanent { key: key.to_owned(), reason });
        }
        Ok(joined.slice(wanted))
    }

    async fn piece(
        &self,
        store: &ObjectStore,
        key: &str,
        object_bytes: u64,
        number: u64,
    ) -> Result<Bytes, ObjectError> {
        let name: Arc<str> = Arc::from(piece_name(key, number));
        let range = number * PIECE_BYTES..((number + 1) * PIECE_BYTES).min(object_bytes);
        let bytes = usize::try_from(range.end.saturating_sub(range.start)).expect("a piece is small");
        let mut damaged = false;
        if self.pieces.get(&name).is_some() {
            let (directory, wanted) = (self.directory.clone(), name.clone());
            match beside(move || read_piece(&directory, &wanted, bytes)).await {
                Some(Piece::Sound(found)) => return Ok(found),
                Some(Piece::Damaged) => damaged = true,
                Some(Piece::Missing) | None => {}
            }
        }
        let fetched = store.get_range(key, range).await?;
        if damaged {
            self.count_repair();
        }
        let (directory, wanted, content) = (self.directory.clone(), name.clone(), fetched.clone());
        // A full or missing disk only means that the piece is fetched again.
        if beside(move || write_piece(&directory, &wanted, &content).ok()).await.flatten().is_some() {
            self.pieces.insert(name, u32::try_from(bytes + CRC_BYTES).expect("a piece is small"));
        }
        Ok(fetched)
    }
}
