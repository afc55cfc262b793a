//! [`DataType`]: which type a value has, with its modifier.

/// The base types. Discriminants are PostgreSQL's type OIDs (`pg_type.oid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum BaseType {
    Bool = 16,
    Bytea = 17,
    /// `"char"`: one byte, used by the system catalog.
    InternalChar = 18,
    Name = 19,
    Int8 = 20,
    Int2 = 21,
    Int2Vector = 22,
    Int4 = 23,
    Regproc = 24,
    Text = 25,
    Oid = 26,
    Xid = 28,
    OidVector = 30,
    Json = 114,
    PgNodeTree = 194,
    Float4 = 700,
    Float8 = 701,
    /// The type of an untyped literal or parameter until it is resolved.
    Unknown = 705,
    /// `char(n)`: blank-padded.
    Bpchar = 1042,
    Varchar = 1043,
    Date = 1082,
    Time = 1083,
    Timestamp = 1114,
    Timestamptz = 1184,
    Interval = 1186,
    Numeric = 1700,
    Regclass = 2205,
    Regtype = 2206,
    Record = 2249,
    Void = 2278,
    /// Pseudo-type of signatures: any type at all.
    Any = 2276,
    /// Pseudo-type of signatures: an array of what [`BaseType::AnyElement`] stands for.
    AnyArray = 2277,
    /// Pseudo-type of signatures: the same type wherever it stands in a call.
    AnyElement = 2283,
    Uuid = 2950,
    PgLsn = 3220,
    Jsonb = 3802,
    Regnamespace = 4089,
    Regrole = 4096,
    /// Pseudo-type of signatures: the common type of all arguments that stand for it.
    AnyCompatible = 5077,
    /// Pseudo-type of signatures: an array of what [`BaseType::AnyCompatible`] stands for.
    AnyCompatibleArray = 5078,
}

/// A type as a column or an expression has it: base, whether an array of it, and PostgreSQL's `typmod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct DataType {
    /// The (element) type.
    pub base: BaseType,
    /// An array of `base`, of any dimension.
    pub array: bool,
    /// PostgreSQL's `atttypmod`: -1 is none; n + 4 for varchar(n) and char(n);
    /// ((precision << 16) | (scale & 0x7ff)) + 4 for numeric; fractional digits for time types.
    pub modifier: i32,
}

impl DataType {
    /// The type without modifier.
    pub const fn new(base: BaseType) -> Self {
        Self { base, array: false, modifier: -1 }
    }

    /// An array of the type.
    pub const fn array_of(base: BaseType) -> Self {
        Self { base, array: true, modifier: -1 }
    }

    /// The same type with another modifier.
    #[must_use]
    pub const fn with_modifier(self, modifier: i32) -> Self {
        Self { modifier, ..self }
    }

    /// Whether values of both have the same representation and OID (modifiers aside).
    pub fn same_type(self, other: Self) -> bool {
        self.base == other.base && self.array == other.array
    }
}

macro_rules! shorthands {
    ($($name:ident = $base:ident),* $(,)?) => {
        #[allow(missing_docs)]
        impl DataType {
            $(pub const $name: DataType = DataType::new(BaseType::$base);)*
        }
    };
}

shorthands! {
    BOOL = Bool, INT2 = Int2, INT4 = Int4, INT8 = Int8, FLOAT4 = Float4, FLOAT8 = Float8,
    NUMERIC = Numeric, TEXT = Text, VARCHAR = Varchar, BPCHAR = Bpchar, NAME = Name, BYTEA = Bytea,
    DATE = Date, TIME = Time, TIMESTAMP = Timestamp, TIMESTAMPTZ = Timestamptz, INTERVAL = Interval,
    UUID = Uuid, JSON = Json, JSONB = Jsonb, OID = Oid, UNKNOWN = Unknown, VOID = Void,
    REGCLASS = Regclass, REGTYPE = Regtype, REGPROC = Regproc, RECORD = Record, PG_LSN = PgLsn,
    INTERNAL_CHAR = InternalChar, XID = Xid, REGNAMESPACE = Regnamespace, REGROLE = Regrole,
    OIDVECTOR = OidVector, INT2VECTOR = Int2Vector, PG_NODE_TREE = PgNodeTree,
}
