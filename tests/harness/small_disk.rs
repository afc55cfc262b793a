//! Small file systems that a test can fill: tmpfs of a given size. They need the right to mount; without it a test says so
//! and passes over what it cannot do.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; unmounted when dropped.
pub struct SmallDisk {
    path: PathBuf,
}

/// The file that takes what room there is.
const BALLAST: &str = "ballast";

impl SmallDisk {
    /// Mounts one; the reason why not, where that is not permitted.
    pub fn mount(path: &Path, mebibytes: u64) -> Result<SmallDisk, String> {
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(path).output();
        let mounted = mounted.map_err(|error| format!("mount cannot be run: {error}"))?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned());
        }
        Ok(SmallDisk { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all room but so much.
    pub fn fill(&self, but_bytes: u64) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.path.join(BALLAST)).expect("there is room for a name");
        let mut left = free_bytes(&self.path).saturating_sub(but_bytes);
        let block = vec![0; 1 << 16];
        while left > 0 {
            let length = block.len().min(left as usize);
            if file.write_all(&block[..length]).is_err() {
                break;
            }
            left -= length as u64;
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        std::fs::remove_file(self.path.join(BALLAST)).expect("it was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that still holds a file keeps it to itself.
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

/// Room left on the file system of a path.
pub fn free_bytes(path: &Path) -> u64 {
    let c_path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("paths hold no zero byte");
    // SAFETY: all zeros is a valid statvfs, which the call fills; the path ends with a zero byte.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        assert_eq!(libc::statvfs(c_path.as_ptr(), &mut stat), 0, "{} has a file system", path.display());
        stat
    };
    stat.f_bavail * stat.f_frsize
}
