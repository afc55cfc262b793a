//! Errors as a Postgres client sees them: SQLSTATE, message, detail, hint, position.

use std::fmt;

/// A five-character SQLSTATE of PostgreSQL's Appendix A.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! states {
    ($($name:ident = $code:literal),* $(,)?) => {
        /// The codes in use, named as in PostgreSQL's Appendix A.
        #[allow(missing_docs)]
        impl SqlState {
            $(pub const $name: SqlState = SqlState($code);)*
        }
    };
}

states! {
    SUCCESSFUL_COMPLETION = "00000",
    WARNING = "01000",
    CONNECTION_FAILURE = "08006",
    TRANSACTION_RESOLUTION_UNKNOWN = "08007",
    PROTOCOL_VIOLATION = "08P01",
    FEATURE_NOT_SUPPORTED = "0A000",
    INVALID_GRANT_OPERATION = "0LP01",
    CARDINALITY_VIOLATION = "21000",
    STRING_DATA_RIGHT_TRUNCATION = "22001",
    NUMERIC_VALUE_OUT_OF_RANGE = "22003",
    NULL_VALUE_NOT_ALLOWED = "22004",
    INVALID_DATETIME_FORMAT = "22007",
    DATETIME_FIELD_OVERFLOW = "22008",
    INVALID_TIME_ZONE_DISPLACEMENT_VALUE = "22009",
    DIVISION_BY_ZERO = "22012",
    INTERVAL_FIELD_OVERFLOW = "22015",
    INVALID_ARGUMENT_FOR_LOGARITHM = "2201E",
    INVALID_ARGUMENT_FOR_POWER_FUNCTION = "2201F",
    INVALID_ARGUMENT_FOR_WIDTH_BUCKET_FUNCTION = "2201G",
    INVALID_ROW_COUNT_IN_LIMIT_CLAUSE = "2201W",
    INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE = "2201X",
    CHARACTER_NOT_IN_REPERTOIRE = "22021",
    INVALID_PARAMETER_VALUE = "22023",
    INVALID_ESCAPE_SEQUENCE = "22025",
    INVALID_TEXT_REPRESENTATION = "22P02",
    INVALID_BINARY_REPRESENTATION = "22P03",
    BAD_COPY_FILE_FORMAT = "22P04",
    UNTRANSLATABLE_CHARACTER = "22P05",
    SUBSTRING_ERROR = "22011",
    SEQUENCE_GENERATOR_LIMIT_EXCEEDED = "2200H",
    ARRAY_SUBSCRIPT_ERROR = "2202E",
    ARRAY_ELEMENT_ERROR = "2202E",
    INVALID_REGULAR_EXPRESSION = "2201B",
    NOT_NULL_VIOLATION = "23502",
    FOREIGN_KEY_VIOLATION = "23503",
    UNIQUE_VIOLATION = "23505",
    CHECK_VIOLATION = "23514",
    INVALID_CURSOR_STATE = "24000",
    INVALID_TRANSACTION_STATE = "25000",
    ACTIVE_SQL_TRANSACTION = "25001",
    READ_ONLY_SQL_TRANSACTION = "25006",
    NO_ACTIVE_SQL_TRANSACTION = "25P01",
    IN_FAILED_SQL_TRANSACTION = "25P02",
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = "25P03",
    INVALID_SQL_STATEMENT_NAME = "26000",
    INVALID_AUTHORIZATION_SPECIFICATION = "28000",
    INVALID_PASSWORD = "28P01",
    DEPENDENT_OBJECTS_STILL_EXIST = "2BP01",
    INVALID_CURSOR_NAME = "34000",
    INVALID_SAVEPOINT_SPECIFICATION = "3B001",
    INVALID_CATALOG_NAME = "3D000",
    INVALID_SCHEMA_NAME = "3F000",
    SERIALIZATION_FAILURE = "40001",
    DEADLOCK_DETECTED = "40P01",
    INSUFFICIENT_PRIVILEGE = "42501",
    SYNTAX_ERROR = "42601",
    INVALID_NAME = "42602",
    INVALID_COLUMN_DEFINITION = "42611",
    NAME_TOO_LONG = "42622",
    DUPLICATE_COLUMN = "42701",
    AMBIGUOUS_COLUMN = "42702",
    INVALID_FOREIGN_KEY = "42830",
    UNDEFINED_COLUMN = "42703",
    UNDEFINED_OBJECT = "42704",
    DUPLICATE_OBJECT = "42710",
    DUPLICATE_ALIAS = "42712",
    DUPLICATE_FUNCTION = "42723",
    AMBIGUOUS_FUNCTION = "42725",
    GROUPING_ERROR = "42803",
    DATATYPE_MISMATCH = "42804",
    WRONG_OBJECT_TYPE = "42809",
    CANNOT_COERCE = "42846",
    UNDEFINED_FUNCTION = "42883",
    GENERATED_ALWAYS = "428C9",
    RESERVED_NAME = "42939",
    UNDEFINED_TABLE = "42P01",
    UNDEFINED_PARAMETER = "42P02",
    DUPLICATE_CURSOR = "42P03",
    DUPLICATE_DATABASE = "42P04",
    DUPLICATE_PREPARED_STATEMENT = "42P05",
    DUPLICATE_SCHEMA = "42P06",
    DUPLICATE_TABLE = "42P07",
    AMBIGUOUS_PARAMETER = "42P08",
    INVALID_COLUMN_REFERENCE = "42P10",
    INVALID_TABLE_DEFINITION = "42P16",
    INVALID_RECURSION = "42P19",
    WINDOWING_ERROR = "42P20",
    INVALID_OBJECT_DEFINITION = "42P17",
    INDETERMINATE_DATATYPE = "42P18",
    WITH_CHECK_OPTION_VIOLATION = "44000",
    INSUFFICIENT_RESOURCES = "53000",
    DISK_FULL = "53100",
    OUT_OF_MEMORY = "53200",
    TOO_MANY_CONNECTIONS = "53300",
    PROGRAM_LIMIT_EXCEEDED = "54000",
    STATEMENT_TOO_COMPLEX = "54001",
    TOO_MANY_COLUMNS = "54011",
    TOO_MANY_ARGUMENTS = "54023",
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000",
    OBJECT_IN_USE = "55006",
    CANT_CHANGE_RUNTIME_PARAM = "55P02",
    LOCK_NOT_AVAILABLE = "55P03",
    QUERY_CANCELED = "57014",
    ADMIN_SHUTDOWN = "57P01",
    CANNOT_CONNECT_NOW = "57P03",
    IO_ERROR = "58030",
    UNDEFINED_FILE = "58P01",
    INTERNAL_ERROR = "XX000",
    DATA_CORRUPTED = "XX001",
}

/// One error, ready for an ErrorResponse. Boxed inside: `Result<T, SqlError>` stays small.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlError(Box<ErrorFields>);

/// The fields of an ErrorResponse or NoticeResponse that Alluvium fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFields {
    /// SQLSTATE.
    pub state: SqlState,
    /// Primary message: lower case, no full stop, as Postgres writes them.
    pub message: String,
    /// What exactly was wrong; a full sentence.
    pub detail: Option<String>,
    /// What to do about it; a full sentence.
    pub hint: Option<String>,
    /// 1-based character position in the statement's text.
    pub position: Option<u32>,
    /// Call stack of the error as Postgres gives it, such as `COPY t, line 3`.
    pub context: Option<String>,
    /// Names of the objects concerned, as Postgres fills `s`, `t`, `c`, `n`.
    pub schema: Option<String>,
    /// OID of the schema, where its name is not at hand; the session fills in the name.
    pub schema_oid: Option<u32>,
    /// Table concerned.
    pub table: Option<String>,
    /// Column concerned.
    pub column: Option<String>,
    /// Constraint concerned.
    pub constraint: Option<String>,
}

/// Shorthand for results of this crate.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

impl SqlError {
    /// An error with a SQLSTATE and a primary message.
    #[cold]
    pub fn new(state: SqlState, message: impl Into<String>) -> Self {
        Self(Box::new(ErrorFields {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: None,
            schema: None,
            schema_oid: None,
            table: None,
            column: None,
            constraint: None,
        }))
    }

    /// 0A000, naming the feature.
    #[cold]
    pub fn unsupported(feature: impl fmt::Display) -> Self {
        Self::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{feature} is not supported"))
    }

    /// XX000: an invariant of ours did not hold. The message names what was found.
    #[cold]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(SqlState::INTERNAL_ERROR, message)
    }

    /// All fields, for the wire.
    pub fn fields(&self) -> &ErrorFields {
        &self.0
    }

    /// The SQLSTATE.
    pub fn state(&self) -> SqlState {
        self.0.state
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident => $field:ident),* $(,)?) => {
        impl SqlError {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, text: impl Into<String>) -> Self {
                self.0.$field = Some(text.into());
                self
            })*
        }
    };
}

setters! {
    /// Adds the detail sentence.
    with_detail => detail,
    /// Adds the hint sentence.
    with_hint => hint,
    /// Adds the context line.
    with_context => context,
    /// Names the schema.
    with_schema => schema,
    /// Names the table.
    with_table => table,
    /// Names the column.
    with_column => column,
    /// Names the constraint.
    with_constraint => constraint,
}

impl SqlError {
    /// Names the table concerned, and its schema by OID.
    #[must_use]
    pub fn of_table(mut self, schema_oid: u32, table: &str) -> Self {
        self.0.schema_oid = Some(schema_oid);
        self.0.table = Some(table.to_owned());
        self
    }

    /// Sets the 1-based character position, unless an inner error has set it already.
    #[must_use]
    pub fn at(mut self, position: u32) -> Self {
        self.0.position.get_or_insert(position);
        self
    }
}

impl fmt::Debug for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.state.0, self.0.message)?;
        self.0.detail.iter().try_for_each(|detail| write!(f, " ({detail})"))
    }
}

impl std::error::Error for SqlError {}
