//! Settings: values, scopes, what the client is told. Expected texts are PostgreSQL 15's.

use super::{Scope, Settings};

fn show(settings: &Settings, name: &str) -> String {
    settings.show(name).expect("the setting exists")
}

#[test]
fn values_are_normalised_as_postgres_shows_them() {
    let cases = [
        ("statement_timeout", "5000", "5s"),
        ("statement_timeout", "90 s", "90s"),
        ("statement_timeout", "1.5h", "90min"),
        ("statement_timeout", "0", "0"),
        ("work_mem", "64MB", "64MB"),
        ("work_mem", "1025", "1025kB"),
        ("datestyle", "dmy", "ISO, DMY"),
        ("TIMEZONE", "europe/berlin", "Europe/Berlin"),
        ("timezone", "-3.5", "<-03:30>+03:30"),
        ("client_encoding", "utf-8", "UTF8"),
        ("jit", "TRUE", "on"),
        ("search_path", "a, \"B c\"", "a, \"B c\""),
    ];
    for (name, value, shown) in cases {
        let mut settings = Settings::default();
        settings.set(name, value, Scope::Session).unwrap_or_else(|error| panic!("{name} = {value}: {error}"));
        assert_eq!(show(&settings, name), shown, "{name} = {value}");
    }
}

#[test]
fn bad_values_and_names_are_refused() {
    let cases = [
        ("statement_timeout", "-1", "22023"),
        ("statement_timeout", "5 parsecs", "22023"),
        ("jit", "maybe", "22023"),
        ("client_encoding", "LATIN1", "22023"),
        ("synchronous_commit", "off", "22023"),
        ("timezone", "Mars/Olympus", "22023"),
        ("datestyle", "german", "0A000"),
        ("server_version", "16", "55P02"),
        ("no_such_setting", "1", "42704"),
    ];
    for (name, value, state) in cases {
        let error = Settings::default().set(name, value, Scope::Session).expect_err(name);
        assert_eq!(error.state().0, state, "{name} = {value}: {error}");
    }
}

#[test]
fn a_rollback_undoes_and_local_ends_with_the_transaction() {
    let mut settings = Settings::default();
    settings.set("lock_timeout", "1s", Scope::Session).unwrap();
    settings.end_transaction(true);
    settings.set("lock_timeout", "2s", Scope::Session).unwrap();
    settings.end_transaction(false);
    assert_eq!(show(&settings, "lock_timeout"), "1s");
    settings.set("lock_timeout", "3s", Scope::Local).unwrap();
    assert_eq!(settings.typed().lock_timeout_ms, 3_000);
    settings.end_transaction(true);
    assert_eq!(settings.typed().lock_timeout_ms, 1_000);
    settings.set("lock_timeout", "3s", Scope::Local).unwrap();
    settings.set("lock_timeout", "4s", Scope::Session).unwrap();
    settings.end_transaction(true);
    assert_eq!(settings.typed().lock_timeout_ms, 4_000);
}

#[test]
fn reset_goes_back_to_the_start_up_packet() {
    let mut settings = Settings::default();
    settings.set("application_name", "psql", Scope::Startup).unwrap();
    settings.set("application_name", "other", Scope::Session).unwrap();
    settings.reset("application_name").unwrap();
    assert_eq!(show(&settings, "application_name"), "psql");
    settings.set("my.own", "x", Scope::Session).unwrap();
    assert_eq!(show(&settings, "my.own"), "x");
    settings.reset_all();
    assert!(settings.show("my.own").is_err());
}

#[test]
fn the_client_is_told_of_changes_once() {
    let mut settings = Settings::default();
    settings.set("TimeZone", "Asia/Tokyo", Scope::Session).unwrap();
    settings.set("lock_timeout", "1", Scope::Session).unwrap();
    let told: Vec<_> =
        settings.take_changed_reports().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(told, ["TimeZone=Asia/Tokyo"]);
    assert!(!settings.has_changed_reports());
    settings.end_transaction(false);
    assert_eq!(settings.take_changed_reports().len(), 1);
}
