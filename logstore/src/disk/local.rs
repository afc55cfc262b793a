//! A directory of the local file system, locked against a second process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile};

const LOCK_FILE: &str = "LOCK";
const FILL_BLOCK_BYTES: usize = 1 << 20;

/// A local directory. Holds an exclusive lock on it until it is closed.
pub struct LocalDisk {
    directory: PathBuf,
    directory_handle: File,
    /// Kept for its lock, which the kernel releases when the process ends, however it ends.
    lock: Mutex<Option<File>>,
}

impl LocalDisk {
    /// Creates the directory if needed and locks it. Fails with [`io::ErrorKind::WouldBlock`] when another process
    /// (or another store in this process) holds it.
    pub fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        // The new directory's own name must survive a crash as well.
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        let lock =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(directory.join(LOCK_FILE))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("log directory {} is in use by another process", directory.display()),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let directory_handle = File::open(directory)?;
        Ok(LocalDisk { directory: directory.to_owned(), directory_handle, lock: Mutex::new(Some(lock)) })
    }
}

impl Disk for LocalDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            if let Ok(name) = entry?.file_name().into_string()
                && name != LOCK_FILE
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.directory.join(name))?;
        Ok(Arc::new(LocalFile { file }))
    }

    fn create(&self, name: &str, length_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.directory.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let zeros = vec![0u8; FILL_BLOCK_BYTES];
        let mut offset = 0;
        while offset < length_bytes {
            let count = (length_bytes - offset).min(zeros.len() as u64);
            let filled = file.write_all_at(&zeros[..count as usize], offset);
            if let Err(error) = filled {
                // A half-filled file would keep the disk full for everybody else.
                drop(file);
                let _ = std::fs::remove_file(&path);
                return Err(error);
            }
            offset += count;
        }
        Ok(Arc::new(LocalFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory_handle.sync_all()
    }

    fn close(&self) {
        // Readers may keep this object; the lock must not wait for them.
        self.lock.lock().take();
    }

    fn location(&self) -> String {
        self.directory.display().to_string()
    }
}

struct LocalFile {
    file: File,
}

impl DiskFile for LocalFile {
    fn length_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
