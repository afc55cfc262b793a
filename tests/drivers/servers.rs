//! The servers that the driver suites talk to: Alluvium, and a PostgreSQL that keeps the suites honest.

use std::net::SocketAddr;

use crate::harness::Program;
use crate::harness::postgres::{PASSWORD_ROLE, Postgres};
use crate::harness::tools::psql_text;

/// The password of [`PASSWORD_ROLE`]: not ASCII, and with characters that quoting gets wrong.
#[allow(dead_code)]
pub const PASSWORD: &str = "pencil \u{e9}'\\ 17";

/// Running servers, and what they keep alive.
pub struct Servers {
    /// Trusts its clients.
    pub address: SocketAddr,
    /// Asks [`PASSWORD_ROLE`] for its password.
    pub password_address: SocketAddr,
    /// Not PostgreSQL.
    pub is_alluvium: bool,
    programs: Vec<Program>,
    _postgres: Option<Postgres>,
    _directories: Vec<tempfile::TempDir>,
}

fn create_role(address: SocketAddr) {
    let password = PASSWORD.replace('\'', "''").replace('\\', "\\\\");
    psql_text(address, &["-q", "-c", &format!("CREATE ROLE {PASSWORD_ROLE} LOGIN PASSWORD E'{password}'")], "");
}

impl Servers {
    /// Two Alluviums, the second with `--require-password`.
    pub fn alluvium() -> Servers {
        let directories: Vec<_> = (0..2).map(|_| tempfile::tempdir().expect("a temporary directory")).collect();
        let trusting = Program::start(directories[0].path());
        let preparing = Program::start(directories[1].path());
        create_role(preparing.address);
        preparing.stop();
        let asking = Program::start_with(directories[1].path(), &["--require-password"]);
        Servers {
            address: trusting.address,
            password_address: asking.address,
            is_alluvium: true,
            programs: vec![trusting, asking],
            _postgres: None,
            _directories: directories,
        }
    }

    /// PostgreSQL 15, where it is installed.
    pub fn postgres() -> Option<Servers> {
        let postgres = Postgres::start()?;
        create_role(postgres.address);
        Some(Servers {
            address: postgres.address,
            password_address: postgres.address,
            is_alluvium: false,
            programs: Vec::new(),
            _postgres: Some(postgres),
            _directories: Vec::new(),
        })
    }

    /// Stops Alluvium, and asserts that it ends in order.
    pub fn stop(self) {
        self.programs.into_iter().for_each(Program::stop);
    }
}
