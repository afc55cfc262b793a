//! Every setting that `SET` and `SHOW` know. `docs/settings.md` is generated from this table.

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Bool,
    /// A whole number, stored in `unit`.
    Integer {
        min: i64,
        max: i64,
        unit: Unit,
    },
    /// One of these words.
    Enum(&'static [&'static str]),
    Text,
    /// Checked and normalised by name in `values.rs`.
    TimeZone,
    DateStyle,
    SearchPath,
}

/// Units of whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unit {
    None,
    Milliseconds,
    Kilobytes,
}

impl Unit {
    /// As in `pg_settings.unit`.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Unit::None => None,
            Unit::Milliseconds => Some("ms"),
            Unit::Kilobytes => Some("kB"),
        }
    }
}

/// Who may change a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Nobody: it tells what the server is.
    Internal,
    /// Only when the server starts.
    Postmaster,
    /// Any session.
    User,
}

impl Context {
    /// As in `pg_settings.context`.
    pub fn as_str(self) -> &'static str {
        match self {
            Context::Internal => "internal",
            Context::Postmaster => "postmaster",
            Context::User => "user",
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Name, as `SHOW` prints it.
    pub name: &'static str,
    /// Values.
    pub kind: Kind,
    /// Value at connection.
    pub default: &'static str,
    /// Who may change it.
    pub context: Context,
    /// Told to the client by ParameterStatus.
    pub report: bool,
    /// One sentence.
    pub description: &'static str,
}

const MAX_MILLISECONDS: i64 = i32::MAX as i64;

const fn internal(name: &'static str, default: &'static str, description: &'static str) -> Definition {
    Definition { name, kind: Kind::Text, default, context: Context::Internal, report: false, description }
}

const fn user(name: &'static str, kind: Kind, default: &'static str, description: &'static str) -> Definition {
    Definition { name, kind, default, context: Context::User, report: false, description }
}

const fn reported(definition: Definition) -> Definition {
    Definition { report: true, ..definition }
}

const fn timeout(name: &'static str, description: &'static str) -> Definition {
    user(name, Kind::Integer { min: 0, max: MAX_MILLISECONDS, unit: Unit::Milliseconds }, "0", description)
}

const ISOLATION: Kind = Kind::Enum(&["read committed", "repeatable read", "serializable", "read uncommitted"]);

/// The version of Postgres whose behaviour and catalog are followed.
pub const SERVER_VERSION: &str = "15.8";

/// All settings, sorted by name (compared without case).
pub const DEFINITIONS: &[Definition] = &[
    reported(user("application_name", Kind::Text, "", "Name of the application, shown in pg_stat_activity.")),
    user("bytea_output", Kind::Enum(&["hex"]), "hex", "Output format of bytea."),
    user(
        "check_function_bodies",
        Kind::Bool,
        "on",
        "Accepted for tools that set it; there are no function bodies to check.",
    ),
    reported(user("client_encoding", Kind::Enum(&["UTF8"]), "UTF8", "Encoding of the client. Only UTF8.")),
    user(
        "client_min_messages",
        Kind::Enum(&["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"]),
        "notice",
        "Least severe messages sent to the client.",
    ),
    reported(user("DateStyle", Kind::DateStyle, "ISO, MDY", "Output format (ISO) and input field order of dates.")),
    user("default_table_access_method", Kind::Enum(&["heap"]), "heap", "Accepted for tools that set it."),
    user("default_tablespace", Kind::Enum(&[""]), "", "Accepted for tools that set it; there are no tablespaces."),
    user("default_transaction_isolation", ISOLATION, "read committed", "Isolation level of new transactions."),
    reported(user("default_transaction_read_only", Kind::Bool, "off", "Whether new transactions are read-only.")),
    user(
        "extra_float_digits",
        Kind::Integer { min: -15, max: 3, unit: Unit::None },
        "1",
        "Digits of floating-point output; above 0, the shortest that reads back exactly.",
    ),
    timeout(
        "idle_in_transaction_session_timeout",
        "Ends a session that idles in a transaction for so long. 0 is never.",
    ),
    timeout("idle_session_timeout", "Ends a session that idles outside a transaction for so long. 0 is never."),
    reported(internal("in_hot_standby", "off", "Whether this compute is a read-only replica.")),
    reported(internal("integer_datetimes", "on", "Whether datetimes are 64-bit integers.")),
    reported(user("IntervalStyle", Kind::Enum(&["postgres"]), "postgres", "Output format of intervals.")),
    reported(internal("is_superuser", "off", "Whether the session's role is a superuser.")),
    user("jit", Kind::Bool, "off", "Accepted for drivers that set it; there is no JIT compiler."),
    internal("lc_collate", "C", "Collation of text: by bytes."),
    internal("lc_ctype", "C.UTF-8", "Character classes of text."),
    timeout("lock_timeout", "Longest wait for one lock (55P03). 0 is without end."),
    internal("max_identifier_length", "63", "Longest identifier, bytes."),
    internal("max_index_keys", "32", "Most columns of an index."),
    user("quote_all_identifiers", Kind::Enum(&["off"]), "off", "Accepted for tools that set it."),
    user("role", Kind::Text, "none", "The current role."),
    user("row_security", Kind::Bool, "on", "Accepted for tools that set it; there are no row security policies."),
    user("search_path", Kind::SearchPath, "\"$user\", public", "Schemas searched for unqualified names."),
    reported(internal("server_encoding", "UTF8", "Encoding of stored text.")),
    reported(internal("server_version", SERVER_VERSION, "The Postgres version whose behaviour is followed.")),
    internal("server_version_num", "150008", "The same as a number."),
    reported(internal("session_authorization", "", "The role that connected.")),
    reported(user("standard_conforming_strings", Kind::Enum(&["on"]), "on", "Backslashes in '…' are ordinary.")),
    timeout("statement_timeout", "Cancels a statement that runs for so long (57014). 0 is never."),
    user(
        "synchronize_seqscans",
        Kind::Bool,
        "on",
        "Accepted for tools that set it; sequential scans start at the first key.",
    ),
    user(
        "synchronous_commit",
        Kind::Enum(&["on", "remote_apply", "remote_write", "local"]),
        "on",
        "A commit is always durable on a majority of log nodes first; `off` is refused.",
    ),
    reported(user("TimeZone", Kind::TimeZone, "UTC", "Time zone of timestamptz input and output.")),
    user("transaction_isolation", ISOLATION, "read committed", "Isolation level of the current transaction."),
    user("transaction_read_only", Kind::Bool, "off", "Whether the current transaction is read-only."),
    user(
        "work_mem",
        Kind::Integer { min: 64, max: 16 * 1024 * 1024, unit: Unit::Kilobytes },
        "65536",
        "Memory of one sort or hash before it spills to disk.",
    ),
    user("xmloption", Kind::Enum(&["content"]), "content", "Accepted for tools that set it."),
];

/// Position of a setting in [`DEFINITIONS`], by name without case.
pub fn position(name: &str) -> Option<usize> {
    DEFINITIONS.iter().position(|definition| definition.name.eq_ignore_ascii_case(name))
}
