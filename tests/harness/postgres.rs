//! A PostgreSQL 15 of the test's own, to compare with: in a temporary directory, on a loopback port.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::tools::{POSTGRES_PROGRAMS, succeeded};

/// A running PostgreSQL; ends with the value.
pub struct Postgres {
    server: Child,
    /// Where it listens.
    pub address: SocketAddr,
    _directory: tempfile::TempDir,
}

/// The role that asks for a password; all others are trusted, as in `alluvium dev`.
pub const PASSWORD_ROLE: &str = "driver_login";

impl Postgres {
    /// Starts one; none where PostgreSQL 15 is not installed.
    pub fn start() -> Option<Postgres> {
        let programs = Path::new(POSTGRES_PROGRAMS);
        if !programs.join("initdb").exists() || !programs.join("postgres").exists() {
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        // SAFETY: asks for the caller's user id; touches no memory.
        let is_root = unsafe { libc::geteuid() } == 0;
        if is_root {
            // PostgreSQL refuses to run as root.
            succeeded("chown", Command::new("chown").arg("postgres").arg(directory.path()).output().expect("chown"));
        }
        let command = |name: &str| {
            if is_root {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(programs.join(name));
                command
            } else {
                Command::new(programs.join(name))
            }
        };
        let mut initdb = command("initdb");
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]).arg(&data);
        succeeded("initdb", initdb.current_dir(directory.path()).output().expect("initdb starts"));
        let access = format!("host all {PASSWORD_ROLE} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n");
        std::fs::write(data.join("pg_hba.conf"), access).expect("the directory can be written");
        // Bound and let go: another process could take the port in between, and the start would then fail loudly.
        let port = super::ports::free_port();
        let mut server = command("postgres");
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k", ""]);
        for setting in ["fsync=off", "listen_addresses=127.0.0.1", "timezone=UTC", "log_min_messages=fatal"] {
            server.args(["-c", setting]);
        }
        let server = server
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres starts");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let postgres = Postgres { server, address, _directory: directory };
        let begun = Instant::now();
        while !super::tools::psql(address, &["-c", "SELECT 1"], "").status.success() {
            assert!(begun.elapsed() < Duration::from_secs(60), "PostgreSQL did not start in a minute");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(postgres)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SAFETY: sends a signal to a process that this value owns and has not waited for. SIGINT is a fast
        // shutdown: it ends the server's children too, which SIGKILL would leave behind.
        unsafe { libc::kill(self.server.id() as libc::pid_t, libc::SIGINT) };
        let _ = self.server.wait();
    }
}
