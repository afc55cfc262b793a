//! A local directory as an object store whose acknowledged writes survive a power cut.
//!
//! `object_store`'s own implementation neither syncs nor knows conditional updates. This one stages every object in a
//! synced file beside its destination, moves it there, and syncs the directory. Updates are compared and moved under
//! an exclusive lock on a file of the store, which the kernel gives up when a process dies.
//!
//! A sync that fails after an object was moved ends the store: the object would be read back and taken for written, and syncing
//! again would promise what nobody knows. So nothing is read or written any more until the store is opened anew.
//!
//! An object's ETag is made of inode, modification time in microseconds, and size. An update therefore gets a later time
//! than what it replaces: otherwise a reused inode could make an old ETag valid again.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;

/// File that updates lock. Its name is no object's: ours have no leading dot.
const LOCK_FILE: &str = ".swap-lock";

/// A directory of objects, durable on acknowledgement.
#[derive(Debug)]
pub struct DurableLocal {
    files: Arc<LocalFileSystem>,
    root: PathBuf,
    /// Directories already known to be durable themselves.
    directories: Arc<Mutex<HashSet<PathBuf>>>,
    syncs: Arc<Syncs>,
}

/// Makes a file or a directory durable.
pub(super) type Sync = fn(&File) -> std::io::Result<()>;

/// Syncs, and the first of them that failed where that was too late.
#[derive(Debug)]
struct Syncs {
    sync: Sync,
    failed: OnceLock<String>,
}

impl Syncs {
    /// Of a file that has no name as an object yet: a failure only means that it gets none.
    fn staged(&self, file: &File) -> std::io::Result<()> {
        (self.sync)(file)
    }

    /// Of what has its name already.
    fn placed(&self, path: &FsPath) -> std::io::Result<()> {
        let file = File::open(path)?;
        (self.sync)(&file).inspect_err(|error| {
            let _ = self.failed.set(format!("syncing {} has failed: {error}", path.display()));
        })
    }

    /// Refuses everything once a sync has failed.
    fn check(&self) -> Result<()> {
        match self.failed.get() {
            None => Ok(()),
            Some(reason) => {
                let source = format!("{reason}; the store takes and gives nothing more until it is opened anew").into();
                Err(Error::NotSupported { source })
            }
        }
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableLocal({})", self.root.display())
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::Generic { store: "DurableLocal", source: error.into() }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|source| Error::JoinError { source })?
}

/// Creates `directory` and its missing ancestors so that they survive a power cut.
fn create_directories(directory: &FsPath, known: &Mutex<HashSet<PathBuf>>, syncs: &Syncs) -> std::io::Result<()> {
    if known.lock().contains(directory) {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    for ancestor in directory.ancestors().filter(|a| !a.as_os_str().is_empty()) {
        match syncs.placed(ancestor) {
            // Directories that we may not open were not made by us.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => break,
            outcome => outcome?,
        }
    }
    known.lock().insert(directory.to_owned());
    Ok(())
}

/// Writes a synced file beside `destination`. The `#digits` suffix keeps it out of listings.
fn stage(destination: &FsPath, payload: &PutPayload, syncs: &Syncs) -> std::io::Result<(File, PathBuf)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = u64::from(std::process::id()) * 1_000_000_000 + COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut name = destination.as_os_str().to_owned();
        name.push(format!("#{number}"));
        let staged = PathBuf::from(name);
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            outcome => outcome?,
        };
        let written = payload.iter().try_for_each(|part| file.write_all(part)).and_then(|()| syncs.staged(&file));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&staged);
            return Err(error);
        }
        return Ok((file, staged));
    }
}

/// Removes what was being staged when a process died. Where another process lives, its write fails and is repeated.
fn remove_staged(directory: &FsPath) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_staged(&entry.path())?;
            continue;
        }
        let name = entry.file_name();
        let suffix = name.to_str().and_then(|name| name.rsplit_once('#')).map_or("", |(_, suffix)| suffix);
        if !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit()) {
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
    }
    Ok(())
}

impl DurableLocal {
    /// Opens a directory, creating it if missing, and removes what writers that died left half done.
    pub fn open(root: &FsPath) -> Result<DurableLocal> {
        DurableLocal::open_with(root, File::sync_all)
    }

    /// The same, with something else in the place of [`File::sync_all`].
    pub(super) fn open_with(root: &FsPath, sync: Sync) -> Result<DurableLocal> {
        let syncs = Arc::new(Syncs { sync, failed: OnceLock::new() });
        let directories = Arc::new(Mutex::new(HashSet::new()));
        create_directories(root, &directories, &syncs).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        remove_staged(&root).map_err(failed)?;
        let files = Arc::new(LocalFileSystem::new_with_prefix(&root)?);
        Ok(DurableLocal { files, root, directories, syncs })
    }

    /// Moves staged bytes to `destination`: over what is there, or only where nothing is.
    async fn place(&self, destination: PathBuf, payload: PutPayload, overwrite: bool) -> Result<()> {
        let (known, syncs) = (self.directories.clone(), self.syncs.clone());
        blocking(move || {
            let directory = destination.parent().expect("an object's path lies below the root").to_owned();
            create_directories(&directory, &known, &syncs).map_err(failed)?;
            let (_, staged) = match stage(&destination, &payload, &syncs) {
                // The directory went away behind our back: forget that it was there, so that a retry makes it.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    known.lock().clear();
                    return Err(failed(error));
                }
                outcome => outcome.map_err(failed)?,
            };
            let placed = if overwrite {
                std::fs::rename(&staged, &destination).map_err(failed)
            } else {
                let linked = std::fs::hard_link(&staged, &destination).map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists => {
                        Error::AlreadyExists { path: destination.display().to_string(), source: error.into() }
                    }
                    _ => failed(error),
                });
                let _ = std::fs::remove_file(&staged);
                linked
            };
            if placed.is_err() {
                let _ = std::fs::remove_file(&staged);
            }
            placed?;
            syncs.placed(&directory).map_err(failed)
        })
        .await
    }

    /// Held while an object is compared and changed, by one process and task at a time.
    async fn lock(&self) -> Result<File> {
        let lock_path = self.root.join(LOCK_FILE);
        blocking(move || {
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock_path).map_err(failed)?;
            lock.lock().map_err(failed)?;
            Ok(lock)
        })
        .await
    }

    /// Replaces an object if its ETag is still `expected`. Gives the lock back: it is held until the new contents are
    /// in place, also when this future is dropped meanwhile.
    async fn update(&self, lock: File, location: &Path, payload: PutPayload, expected: Option<String>) -> Result<File> {
        let destination = self.files.path_to_filesystem(location)?;
        let current = match self.files.head(location).await {
            Ok(meta) => meta.e_tag,
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        if current.is_none() || current != expected {
            let path = location.to_string();
            return Err(Error::Precondition { path, source: "precondition failed: the object has changed".into() });
        }
        let syncs = self.syncs.clone();
        blocking(move || {
            let (file, staged) = stage(&destination, &payload, &syncs).map_err(failed)?;
            let place = || -> std::io::Result<()> {
                let (old, new) = (std::fs::metadata(&destination)?.modified()?, file.metadata()?.modified()?);
                let least = old + Duration::from_micros(1);
                if new < least {
                    file.set_modified(least)?;
                    syncs.staged(&file)?;
                }
                std::fs::rename(&staged, &destination)?;
                syncs.placed(destination.parent().expect("an object's path lies below the root"))
            };
            let placed = place().map_err(failed);
            if placed.is_err() {
                let _ = std::fs::remove_file(&staged);
            }
            placed.map(|()| lock)
        })
        .await
    }

    /// Names what was just put, before anybody else can replace it.
    async fn put_result(&self, location: &Path, lock: File) -> Result<PutResult> {
        let e_tag = self.files.head(location).await?.e_tag;
        drop(lock);
        Ok(PutResult { e_tag, version: None })
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.syncs.check()?;
        let destination = self.files.path_to_filesystem(location)?;
        match options.mode {
            PutMode::Overwrite => {
                self.place(destination, payload, true).await?;
                Ok(PutResult { e_tag: None, version: None })
            }
            PutMode::Create => {
                let lock = self.lock().await?;
                self.place(destination, payload, false).await?;
                self.put_result(location, lock).await
            }
            PutMode::Update(version) => {
                let lock = self.lock().await?;
                let lock = self.update(lock, location, payload, version.e_tag).await?;
                self.put_result(location, lock).await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.syncs.check()?;
        let path = self.files.path_to_filesystem(location)?;
        let directory = path.parent().expect("an object's path lies below the root").to_owned();
        let (known, syncs) = (self.directories.clone(), self.syncs.clone());
        blocking(move || create_directories(&directory, &known, &syncs).map_err(failed)).await?;
        let parts = self.files.put_multipart_opts(location, options).await?;
        Ok(Box::new(DurableUpload { parts, path, syncs: self.syncs.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.syncs.check()?;
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.syncs.check()?;
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        let operation = "copy, which would not be synced".to_owned();
        Err(Error::NotImplemented { operation, implementer: self.to_string() })
    }
}

/// Parts written by `object_store`; synced when they become one object.
#[derive(Debug)]
struct DurableUpload {
    parts: Box<dyn MultipartUpload>,
    path: PathBuf,
    syncs: Arc<Syncs>,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.syncs.check()?;
        let result = self.parts.complete().await?;
        let (path, syncs) = (self.path.clone(), self.syncs.clone());
        // Nobody reads the object before this returns, so syncing it in its final place is early enough.
        blocking(move || {
            syncs.placed(&path).map_err(failed)?;
            syncs.placed(path.parent().expect("an object's path lies below the root")).map_err(failed)
        })
        .await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.abort().await
    }
}
