//! README's first two commands end in a psql prompt that works: in a terminal, as a person would use it, with
//! tab completion.

#![allow(clippy::disallowed_methods)]

mod harness;

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use harness::Program;
use harness::tools::{program as tool, repository};

/// psql in a terminal of its own (`script` makes one).
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    fn open(command: &str, home: &std::path::Path) -> Terminal {
        let mut child = Command::new("script")
            .args(["-q", "-e", "-f", "-c", command, "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("TERM", "dumb")
            .env("LC_ALL", "C.UTF-8")
            .env("PSQL_PAGER", "cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("script of util-linux is installed: tests/setup does it");
        let keyboard = child.stdin.take().expect("piped");
        let mut output = child.stdout.take().expect("piped");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(bytes) = output.read(&mut buffer) {
                if bytes == 0 || sender.send(buffer[..bytes].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keyboard, screen, shown: String::new() }
    }

    fn type_in(&mut self, keys: &str) {
        self.shown.clear();
        self.keyboard.write_all(keys.as_bytes()).expect("psql reads");
        self.keyboard.flush().expect("psql reads");
    }

    /// Waits until the screen shows a text.
    fn expect(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.shown.contains(text) {
            match self.screen.recv_timeout(Duration::from_millis(200)) {
                Ok(bytes) => self.shown.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("psql ended before {text:?}:\n{}", self.shown),
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no {text:?} on the screen:\n{}", self.shown);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_readme_ends_in_a_prompt_that_works() {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("there is a README");
    assert!(readme.contains("cargo run --release -p alluvium -- dev\n"), "the README starts `alluvium dev`");
    let told = readme.lines().find(|line| line.starts_with("psql ")).expect("the README calls psql");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start(directory.path());
    // The test's server listens elsewhere; nothing else differs.
    assert!(told.contains("127.0.0.1:5432"), "{told}");
    let command = told.replace("127.0.0.1:5432", &program.address.to_string());
    let command = command.replacen("psql", &tool("psql").display().to_string(), 1);

    let mut terminal = Terminal::open(&command, directory.path());
    terminal.expect("postgres=# ");
    terminal.type_in("\\conninfo\n");
    terminal.expect("You are connected to database \"postgres\" as user \"postgres\"");
    terminal.expect("postgres=# ");
    terminal.type_in("CREATE TABLE completion_of_names (number int PRIMARY KEY, word text);\n");
    terminal.expect("CREATE TABLE");
    terminal.expect("postgres=# ");
    // Tab completes a command, a table, a column.
    terminal.type_in("INSERT INTO completion_\t");
    terminal.expect("completion_of_names");
    terminal.type_in("VALUES (1, 'one');\n");
    terminal.expect("INSERT 0 1");
    terminal.expect("postgres=# ");
    terminal.type_in("SELECT * FROM completion_of_names WHERE wo\t");
    terminal.expect("word");
    terminal.type_in("= 'one';\n");
    terminal.expect("(1 row)");
    terminal.expect("postgres=# ");
    terminal.type_in("\\d completion_of_\t\n");
    terminal.expect("completion_of_names_pkey");
    terminal.expect("postgres=# ");
    terminal.type_in("\\dt\n");
    terminal.expect("completion_of_names");
    terminal.expect("postgres=# ");
    // A statement over two lines, a block, an error, Ctrl-C of a running statement.
    terminal.type_in("BEGIN;\n");
    terminal.expect("postgres=*# ");
    terminal.type_in("SELECT 1 /\n0;\n");
    terminal.expect("ERROR:  division by zero");
    terminal.expect("postgres=!# ");
    terminal.type_in("ROLLBACK;\n");
    terminal.expect("postgres=# ");
    terminal.type_in("SELECT pg_sleep(100);\n");
    std::thread::sleep(Duration::from_millis(500));
    terminal.type_in("\x03");
    terminal.expect("ERROR:  canceling statement due to user request");
    terminal.expect("postgres=# ");
    terminal.type_in("\\q\n");
    // `script` tells of the Ctrl-C in its status, though psql went on: that it ends is what counts.
    terminal.child.wait().expect("psql ends");
    program.stop();
}
