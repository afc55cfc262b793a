//! The data directory: made when missing, owned by one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A locked data directory. The lock ends with the process, however it ends.
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if need be and locks it.
    pub fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        std::fs::create_dir_all(path).map_err(|error| format!("cannot create data directory {shown}: {error}"))?;
        let lock_path = path.join("LOCK");
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .map_err(|error| format!("cannot open {}: {error}", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = std::fs::read_to_string(&lock_path).unwrap_or_default();
                let owner =
                    if owner.trim().is_empty() { String::new() } else { format!(" (process {})", owner.trim()) };
                return Err(format!(
                    "data directory {shown} is in use by another alluvium{owner}; stop it or choose another with --data-dir"
                ));
            }
            Err(TryLockError::Error(error)) => return Err(format!("cannot lock {}: {error}", lock_path.display())),
        }
        // Only for the message above; the lock itself is the kernel's.
        let noted = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        noted.map_err(|error| format!("cannot write {}: {error}", lock_path.display()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// A directory inside, created if need be.
    pub fn sub(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        std::path::absolute(&path).map_err(|error| format!("cannot resolve {}: {error}", path.display()))
    }
}
