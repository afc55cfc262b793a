//! The only way to the disk. Everything the log writes goes through [`Disk`] and [`DiskFile`], so that tests can
//! replace the disk by one that crashes, fills up, fails an fsync or flips a bit ([`simulated::SimulatedDisk`]).
//!
//! Durability contract, as POSIX gives it: bytes written are durable after [`DiskFile::sync`], names after
//! [`Disk::sync_directory`]; before that a crash may keep any part of them.

pub mod local;
pub mod simulated;

use std::io;
use std::sync::Arc;

/// One directory of files.
pub trait Disk: Send + Sync {
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a file of `length_bytes` zeros whose blocks are allocated and written, so that overwriting them
    /// neither changes metadata nor runs out of space. An existing file of that name is replaced.
    fn create(&self, name: &str, length_bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file, replacing `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; open handles stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Gives up ownership of the directory; nothing is written after that. Open files stay readable.
    fn close(&self) {}
    /// Where the files are, for messages.
    fn location(&self) -> String;
}

/// One file.
pub trait DiskFile: Send + Sync {
    /// Length in bytes.
    fn length_bytes(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`; fails when the file ends before that.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything written durable (fdatasync). After a failure the state of the file is unknown: the
    /// caller must stop, never retry.
    fn sync(&self) -> io::Result<()>;
}
