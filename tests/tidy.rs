//! Tidiness: what reviewers would otherwise have to look for. Reads the repository's files and nothing else.
//!
//! Each test lists *all* offenders, with the file and the rule, so that one run is enough to mend them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Crates, lowest first: one may depend on those before it.
const CRATES: &[&str] = &[
    "proto",
    "storage",
    "logstore",
    "pageserver",
    "sql",
    "compute",
    "control",
    "alluvium",
    "tests/history",
    "tests/sim",
];

/// Lines that a file may have. Ours are far below; beyond it nobody finds their way.
const MAX_LINES: usize = 800;

/// Dependencies that a crate must not have: the absences that ARCHITECTURE.md promises. (Crates of our own that
/// stand above are covered by their order.)
const FORBIDDEN_DEPENDENCIES: &[(&str, &[&str])] = &[
    ("proto", &["tokio", "storage", "serde", "sqlparser", "datafusion", "arrow"]),
    ("storage", &["tonic", "axum", "hyper", "raft", "proto", "sqlparser", "pgwire", "rand", "datafusion", "arrow"]),
    ("logstore", &["axum", "object_store", "sqlparser", "pgwire", "rand", "datafusion", "arrow"]),
    ("pageserver", &["axum", "raft", "sqlparser", "pgwire", "rand", "datafusion", "arrow"]),
    (
        "sql",
        &[
            "proto",
            "logstore",
            "pageserver",
            "tokio",
            "tokio-util",
            "tokio-stream",
            "tonic",
            "axum",
            "raft",
            "pgwire",
            "object_store",
        ],
    ),
    ("compute", &["object_store", "raft", "axum", "datafusion", "arrow"]),
    ("control", &["storage", "logstore", "pageserver", "sql", "compute", "raft", "sqlparser", "datafusion", "arrow"]),
    ("alluvium", &["raft", "sqlparser", "datafusion", "arrow"]),
];

/// Text that must not stand in a crate's own code (its tests aside), with the reason.
const FORBIDDEN_TEXT: &[(&str, &[&str], &str)] = &[
    ("storage/src", &["tokio::net", "std::net", "TcpStream"], "storage opens no socket"),
    ("storage/src", &["Instant::now", "SystemTime::now"], "storage reads no clock"),
    ("sql/src", &["tokio::", "std::net", "TcpStream"], "sql opens no socket and starts no task"),
    (
        "logstore/src",
        &[
            "storage::page",
            "storage::btree",
            "storage::record",
            "storage::redo",
            "storage::row",
            "storage::key",
            "storage::layer",
        ],
        "the log service knows bytes, epochs and positions, never pages",
    ),
    ("logstore/src", &["SystemTime"], "the log service knows no wall clock"),
    ("logstore/src/core", &["std::fs", "std::thread", "tokio::", "Instant::now"], "the Raft core does no I/O"),
    (
        "logstore/src/machine.rs",
        &["std::fs", "std::thread", "tokio::", "Instant::now"],
        "the state machine does no I/O",
    ),
    ("compute/src", &["std::fs::", "tokio::fs"], "compute keeps no durable local state"),
    ("pageserver/src", &["std::fs::", "tokio::fs"], "a page server's disk is a cache, which storage::layer keeps"),
    ("proto/src", &["fn ", "impl "], "proto holds no logic"),
];

/// Of these there is one version in the lock file, because their types cross crates.
const SINGLE_VERSION: &[&str] =
    &["arrow", "bytes", "lz4_flex", "metrics", "object_store", "parking_lot", "prost", "sqlparser", "tokio", "tonic"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// Every file of the repository with its path from the root, build products and hidden folders aside.
fn files() -> Vec<(String, PathBuf)> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<(String, PathBuf)>) {
        let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for entry in entries {
            let path = entry.expect("a directory's entries can be read").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            let shown = path.strip_prefix(root).expect("found below the root").to_string_lossy().into_owned();
            let hidden = name.starts_with('.') && name != ".ci" && !name.ends_with(".toml");
            if hidden || name == "target" || name == "alluvium-data" {
                continue;
            }
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push((shown, path));
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    walk(&root, &root, &mut found);
    found.sort();
    assert!(found.len() > 100, "the repository's files are not at {}", root.display());
    found
}

/// Files whose names end so, with their text.
fn texts(suffixes: &[&str]) -> Vec<(String, String)> {
    let matching = files().into_iter().filter(|(shown, _)| suffixes.iter().any(|suffix| shown.ends_with(suffix)));
    matching.filter_map(|(shown, path)| Some((shown, fs::read_to_string(path).ok()?))).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a Rust file holds tests or their help, not the program.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/")
        || ["/tests/", "/tests.rs", "_tests.rs", "/testing/", "/testing.rs", "/benches/"]
            .iter()
            .any(|part| path.contains(part))
}

#[track_caller]
fn report(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let mut offenders = Vec::new();
    for (path, text) in texts(&[".rs"]) {
        let header: String = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .map(|line| &line[3..])
            .collect::<Vec<_>>()
            .join(" ");
        if header.trim().len() < 4 {
            offenders.push(format!("{path}: no `//!` header that says what the file is for"));
        }
        if text.lines().all(|line| line.trim().is_empty() || line.starts_with("//")) {
            offenders.push(format!("{path}: holds nothing"));
        }
    }
    report("Rust files begin with a header and then hold something", &offenders);
}

#[test]
fn files_stay_short() {
    let long = texts(&[".rs", ".proto", ".sh", ".py"]).into_iter().filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{path}: {lines} lines"))
    });
    report(&format!("a file has at most {MAX_LINES} lines"), &long.collect::<Vec<_>>());
}

/// Names under `[dependencies]`, `[dev-dependencies]` and `[build-dependencies]` of a crate, by section.
fn dependencies(manifest: &str) -> BTreeMap<String, BTreeSet<String>> {
    let (mut section, mut found) = (String::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']).to_owned();
        } else if section.ends_with("dependencies") && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(|character: char| !(character.is_alphanumeric() || "-_".contains(character)));
            let name = &line[..end.unwrap_or(line.len())];
            found.entry(section.clone()).or_default().insert(name.to_owned());
        }
    }
    found
}

#[test]
fn no_crate_depends_on_one_above_it() {
    let workspace = read("Cargo.toml");
    let members = workspace.lines().find(|line| line.starts_with("members")).expect("the workspace lists its members");
    let listed: BTreeSet<&str> = members.split('"').skip(1).step_by(2).collect();
    assert_eq!(listed, CRATES.iter().copied().collect(), "this test knows every member of the workspace");
    let mut offenders = Vec::new();
    for (rank, name) in CRATES.iter().enumerate() {
        for (section, dependencies) in dependencies(&read(&format!("{name}/Cargo.toml"))) {
            for above in CRATES[rank..].iter().filter(|above| dependencies.contains(**above)) {
                offenders.push(format!("{name} [{section}]: {above}"));
            }
        }
    }
    report("a crate imports only what stands below it", &offenders);
}

#[test]
fn crates_lack_what_they_promise_to_lack() {
    let mut offenders = Vec::new();
    for (name, forbidden) in FORBIDDEN_DEPENDENCIES {
        // Tests may bring what they like: they are not linked into the program.
        let found = dependencies(&read(&format!("{name}/Cargo.toml")));
        for dependency in found.get("dependencies").into_iter().flatten() {
            let matches =
                |forbidden: &&str| dependency == forbidden || dependency.starts_with(&format!("{forbidden}-"));
            if forbidden.iter().any(matches) {
                offenders.push(format!("{name}: depends on {dependency}"));
            }
        }
    }
    for (path, text) in texts(&[".rs"]).into_iter().filter(|(path, _)| !is_test(path)) {
        for (folder, forbidden, reason) in FORBIDDEN_TEXT {
            if path != *folder && !path.starts_with(&format!("{folder}/")) {
                continue;
            }
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
                for word in forbidden.iter().filter(|word| line.contains(**word)) {
                    offenders.push(format!("{path}:{}: {word}: {reason}", number + 1));
                }
            }
        }
    }
    report("absences that ARCHITECTURE.md promises", &offenders);
}

#[test]
fn one_version_of_what_crosses_crates() {
    let lock = read("Cargo.lock");
    let mut versions = BTreeMap::<&str, usize>::new();
    for name in lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')) {
        *versions.entry(name).or_default() += 1;
    }
    let twice = SINGLE_VERSION.iter().filter(|name| versions.get(**name).is_some_and(|&count| count > 1));
    report("one version each in Cargo.lock", &twice.map(|name| (*name).to_owned()).collect::<Vec<_>>());
}

/// A failed fsync makes untrue what rests on one, and each of these has its test (FAULTS 6). Caches and temporary files sync
/// nothing, because nothing rests on them.
#[test]
fn only_the_log_and_the_local_object_store_sync_files() {
    const SYNCING: [&str; 2] = ["logstore/src/disk/local.rs", "storage/src/object/durable_local.rs"];
    let calls = ["sync_all", "sync_data", "fsync(", "fdatasync(", "syncfs("];
    let sources = texts(&[".rs"]).into_iter().filter(|(path, _)| !is_test(path));
    let syncing = sources.filter(|(_, text)| calls.iter().any(|call| text.contains(call))).map(|(path, _)| path);
    let syncing: BTreeSet<String> = syncing.collect();
    assert_eq!(syncing.iter().map(String::as_str).collect::<Vec<_>>(), SYNCING);
}

#[test]
fn nothing_is_left_undone() {
    // Put together here, so that this file does not find itself.
    let forbidden =
        [concat!("#[ig", "nore"), concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("db", "g!(")];
    let mut offenders = Vec::new();
    for (path, text) in texts(&[".rs"]) {
        for (number, line) in text.lines().enumerate() {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                offenders.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    report("no ignored tests and no stubs", &offenders);
}

#[test]
fn nothing_tells_where_it_was_made() {
    let forbidden = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut offenders = Vec::new();
    for (path, text) in texts(&[".rs", ".md", ".toml", ".proto", ".sql", ".sh", ".yml", ".svg", "/run", "/compare"]) {
        for (number, line) in text.lines().enumerate() {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                offenders.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    report("no paths of a developer's machine", &offenders);
}

/// The anchor that a Markdown heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|character| character.is_alphanumeric() || "-_ ".contains(*character));
    kept.map(|character| if character == ' ' { '-' } else { character.to_ascii_lowercase() }).collect()
}

/// Lines of a Markdown text outside code blocks, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut in_code = false;
    let outside = text.lines().enumerate().filter(|(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    });
    outside.map(|(number, line)| (number + 1, line)).collect()
}

/// Targets of the links in a line, what stands between backticks left out.
fn links(line: &str) -> Vec<String> {
    let without_code: String = line.split('`').step_by(2).collect::<Vec<_>>().join("x");
    let targets = without_code.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.trim().to_owned()).collect()
}

#[test]
fn links_lead_somewhere() {
    let pages: BTreeMap<String, String> = texts(&[".md"]).into_iter().collect();
    let anchors = |text: &str| -> BTreeSet<String> {
        let headings = prose(text).into_iter().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| anchor(line.trim_start_matches('#'))).collect()
    };
    let mut offenders = Vec::new();
    for (path, text) in &pages {
        for (number, line) in prose(text) {
            for target in links(line) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let (file, fragment) = target.split_once('#').unwrap_or((&target, ""));
                let mut resolved = PathBuf::from(path);
                if !file.is_empty() {
                    resolved.pop();
                }
                for component in Path::new(file).components() {
                    match component {
                        Component::ParentDir => drop(resolved.pop()),
                        Component::Normal(part) => resolved.push(part),
                        _ => {}
                    }
                }
                let shown = resolved.to_string_lossy().into_owned();
                if !root().join(&resolved).exists() {
                    offenders.push(format!("{path}:{number}: {target}: no such file"));
                } else if !fragment.is_empty()
                    && pages.get(&shown).is_some_and(|page| !anchors(page).contains(fragment))
                {
                    offenders.push(format!("{path}:{number}: {target}: no such heading"));
                }
            }
        }
    }
    report("links in Markdown resolve", &offenders);
}

#[test]
fn every_format_version_is_documented() {
    let document = read("docs/formats.md");
    let (mut offenders, mut seen) = (Vec::new(), 0);
    for (path, text) in texts(&[".rs"]).into_iter().filter(|(path, _)| !is_test(path)) {
        for line in text.lines() {
            let Some(constant) = line.trim_start_matches("pub ").strip_prefix("const ") else { continue };
            let Some((name, value)) = constant.trim_end_matches(';').split_once(": u8 = ") else { continue };
            if !name.ends_with("VERSION") {
                continue;
            }
            seen += 1;
            let told = document.lines().any(|line| {
                line.starts_with('|')
                    && line.contains(&format!("`{path}`"))
                    && line.contains(&format!("`{name}`"))
                    && line.contains(&format!("| {value} |"))
            });
            if !told {
                offenders.push(format!("{path}: {name} = {value}"));
            }
        }
    }
    assert!(seen >= 9, "only {seen} version constants were found; has their form changed?");
    report("docs/formats.md has a row with the file, the constant and its value of every format version", &offenders);
}

#[test]
fn every_metric_is_documented() {
    let is_name = |text: &str| {
        // Names of metrics have a subject and a unit: at least two underscores.
        text.starts_with("alluvium_")
            && text.matches('_').count() > 1
            && text.chars().all(|character| character.is_ascii_lowercase() || character == '_')
    };
    let mut in_code = BTreeSet::new();
    for (path, text) in texts(&[".rs"]).into_iter().filter(|(path, _)| !is_test(path)) {
        if CRATES.iter().any(|name| path.starts_with(&format!("{name}/src/"))) {
            let quoted = text.lines().flat_map(|line| line.split('"').skip(1).step_by(2));
            in_code.extend(quoted.filter(|text| is_name(text)).map(str::to_owned));
        }
    }
    assert!(in_code.len() > 20, "only {in_code:?} were found; have the metrics moved?");
    let document = read("docs/operations.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<String> = rows.filter(|name| is_name(name)).map(str::to_owned).collect();
    let missing = in_code.difference(&documented).map(|name| format!("{name}: not in docs/operations.md"));
    let gone = documented.difference(&in_code).map(|name| format!("{name}: documented and not in the code"));
    report("docs/operations.md tells of every metric", &missing.chain(gone).collect::<Vec<_>>());
}
