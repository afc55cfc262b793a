//! Rows of the catalog tree: keys and values.
//!
//! Key: kind (1 byte), database OID (4, big-endian; 0 for objects of the whole cluster), OID (4) and, for
//! comments, the object's OID (4) and sub-object number (4). Value: a format version byte, the length of the
//! body (4, big-endian), the body as JSON. Pages carry the checksum.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use storage::{PageNo, TreeId};

use super::datum_codec::{decode_datum, encode_datum};
use super::{
    Check, Column, ColumnStatistics, Database, ForeignKey, Grant, Identity, Index, Oid, PrimaryKey, Role, Schema,
    Sequence, Table, TableStatistics, View,
};
use crate::error::{Result, SqlError, SqlState};
use crate::types::DataType;

/// Version of the rows' format.
const FORMAT_VERSION: u8 = 1;
/// A body longer than this is refused, when written and when read.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Kinds of rows. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub(super) enum ObjectKind {
    Counters = 1,
    Database = 2,
    Role = 3,
    Schema = 4,
    /// Before tables, which pick theirs up.
    Statistics = 5,
    Table = 6,
    View = 7,
    Sequence = 8,
    Comment = 9,
}

impl ObjectKind {
    const ALL: [ObjectKind; 9] = {
        use ObjectKind::*;
        [Counters, Database, Role, Schema, Statistics, Table, View, Sequence, Comment]
    };
}

/// The key of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectKey {
    pub kind: ObjectKind,
    /// 0: the whole cluster's.
    pub database: Oid,
    /// The object's OID; of a comment the catalog's.
    pub oid: Oid,
    /// Comments: the object.
    pub object: Oid,
    /// Comments: the attribute number.
    pub sub: i32,
}

impl ObjectKey {
    /// The key of anything but a comment.
    pub fn new(kind: ObjectKind, database: Oid, oid: Oid) -> Self {
        Self { kind, database, oid, object: 0, sub: 0 }
    }

    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(17);
        bytes.push(self.kind as u8);
        bytes.extend(self.database.to_be_bytes());
        bytes.extend(self.oid.to_be_bytes());
        if self.kind == ObjectKind::Comment {
            bytes.extend(self.object.to_be_bytes());
            bytes.extend(self.sub.to_be_bytes());
        }
        Bytes::from(bytes)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let kind = ObjectKind::ALL.into_iter().find(|kind| Some(&(*kind as u8)) == bytes.first());
        let Some(kind) = kind else { return Err(corrupt(format!("kind of catalog key {bytes:02x?}"))) };
        let expected = if kind == ObjectKind::Comment { 17 } else { 9 };
        if bytes.len() != expected {
            return Err(corrupt(format!("length {} of catalog key {bytes:02x?}", bytes.len())));
        }
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("the length was checked"));
        let (object, sub) = if kind == ObjectKind::Comment { (word(9), word(13).cast_signed()) } else { (0, 0) };
        Ok(Self { kind, database: word(1), oid: word(5), object, sub })
    }
}

/// What a row holds.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// The tree of counters.
    Counters(TreeId),
    Database(Database),
    Role(Role),
    Schema(Schema),
    Statistics(Oid, TableStatistics),
    Table(Table),
    View(View),
    Sequence(Sequence),
    Comment {
        class: Oid,
        object: Oid,
        sub: i32,
        text: String,
    },
}

impl Object {
    /// Its key in `database`.
    pub fn key(&self, database: Oid) -> ObjectKey {
        match self {
            Object::Counters(_) => ObjectKey::new(ObjectKind::Counters, 0, 0),
            Object::Database(object) => ObjectKey::new(ObjectKind::Database, 0, object.oid),
            Object::Role(object) => ObjectKey::new(ObjectKind::Role, 0, object.oid),
            Object::Schema(object) => ObjectKey::new(ObjectKind::Schema, database, object.oid),
            Object::Statistics(table, _) => ObjectKey::new(ObjectKind::Statistics, database, *table),
            Object::Table(object) => ObjectKey::new(ObjectKind::Table, database, object.oid),
            Object::View(object) => ObjectKey::new(ObjectKind::View, database, object.oid),
            Object::Sequence(object) => ObjectKey::new(ObjectKind::Sequence, database, object.oid),
            Object::Comment { class, object, sub, .. } => comment_key(database, *class, *object, *sub),
        }
    }

    /// Its value.
    pub fn encode(&self) -> Result<Bytes> {
        let body = match self {
            Object::Counters(tree) => serde_json::to_vec(&tree.0.0),
            Object::Database(object) => serde_json::to_vec(object),
            Object::Role(object) => serde_json::to_vec(object),
            Object::Schema(object) => serde_json::to_vec(object),
            Object::Statistics(_, statistics) => serde_json::to_vec(&StoredStatistics::new(statistics)),
            Object::Table(table) => serde_json::to_vec(&StoredTable::new(table)),
            Object::View(object) => serde_json::to_vec(object),
            Object::Sequence(object) => serde_json::to_vec(object),
            Object::Comment { text, .. } => serde_json::to_vec(text),
        };
        let body = body.map_err(|error| SqlError::internal(format!("catalog row cannot be encoded: {error}")))?;
        if body.len() > MAX_BODY_BYTES {
            let message = format!("catalog entry of {} bytes exceeds the limit of {MAX_BODY_BYTES}", body.len());
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
        }
        let mut bytes = Vec::with_capacity(body.len() + 5);
        bytes.push(FORMAT_VERSION);
        bytes.extend((body.len() as u32).to_be_bytes());
        bytes.extend(body);
        Ok(Bytes::from(bytes))
    }
}

/// Comments on global objects (databases, roles) have no database of their own.
pub(super) fn comment_key(database: Oid, class: Oid, object: Oid, sub: i32) -> ObjectKey {
    let shared = [super::class::DATABASE, super::class::ROLE].contains(&class);
    ObjectKey { kind: ObjectKind::Comment, database: if shared { 0 } else { database }, oid: class, object, sub }
}

/// Reads a row.
pub(super) fn decode_row(key: ObjectKey, bytes: &[u8]) -> Result<Object> {
    let Some((&[version, a, b, c, d], body)) = bytes.split_first_chunk::<5>() else {
        return Err(corrupt(format!("{} bytes for {key:?}", bytes.len())));
    };
    if version != FORMAT_VERSION {
        return Err(corrupt(format!("format version {version} of {key:?}, this program reads {FORMAT_VERSION}")));
    }
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length != body.len() || length > MAX_BODY_BYTES {
        return Err(corrupt(format!("{key:?} states {length} bytes and has {}", body.len())));
    }
    Ok(match key.kind {
        ObjectKind::Counters => Object::Counters(TreeId(PageNo(parse(key, body)?))),
        ObjectKind::Database => Object::Database(parse(key, body)?),
        ObjectKind::Role => Object::Role(parse(key, body)?),
        ObjectKind::Schema => Object::Schema(parse(key, body)?),
        ObjectKind::Statistics => Object::Statistics(key.oid, parse::<StoredStatistics>(key, body)?.restore()?),
        ObjectKind::Table => Object::Table(parse::<StoredTable>(key, body)?.restore()?),
        ObjectKind::View => Object::View(parse(key, body)?),
        ObjectKind::Sequence => Object::Sequence(parse(key, body)?),
        ObjectKind::Comment => {
            Object::Comment { class: key.oid, object: key.object, sub: key.sub, text: parse(key, body)? }
        }
    })
}

fn parse<T: for<'a> Deserialize<'a>>(key: ObjectKey, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| corrupt(format!("{key:?}: {error}")))
}

fn corrupt(what: String) -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, format!("catalog row is damaged: {what}"))
}

/// [`Table`] as stored: statistics apart, values encoded.
#[derive(Serialize, Deserialize)]
struct StoredTable {
    oid: Oid,
    schema: Oid,
    name: String,
    owner: Oid,
    tree: u64,
    columns: Vec<StoredColumn>,
    primary_key: Option<PrimaryKey>,
    indexes: Vec<Index>,
    checks: Vec<Check>,
    /// Not there in rows written before there were foreign keys.
    #[serde(default)]
    foreign_keys: Vec<ForeignKey>,
    options: Vec<String>,
    privileges: Vec<Grant>,
}

/// [`Column`] as stored.
#[derive(Serialize, Deserialize)]
struct StoredColumn {
    name: String,
    data_type: DataType,
    not_null: bool,
    default: Option<String>,
    identity: Option<Identity>,
    missing: Option<String>,
    dropped: bool,
}

impl StoredTable {
    fn new(table: &Table) -> Self {
        let column = |column: &Column| StoredColumn {
            name: column.name.clone(),
            data_type: column.data_type,
            not_null: column.not_null,
            default: column.default.clone(),
            identity: column.identity,
            missing: encode_datum(&column.missing),
            dropped: column.dropped,
        };
        Self {
            oid: table.oid,
            schema: table.schema,
            name: table.name.clone(),
            owner: table.owner,
            tree: table.tree.0.0,
            columns: table.columns.iter().map(column).collect(),
            primary_key: table.primary_key.clone(),
            indexes: table.indexes.iter().map(|index| Index::clone(index)).collect(),
            checks: table.checks.clone(),
            foreign_keys: table.foreign_keys.clone(),
            options: table.options.clone(),
            privileges: table.privileges.clone(),
        }
    }

    fn restore(self) -> Result<Table> {
        let column = |column: StoredColumn| {
            Ok(Column {
                missing: decode_datum(column.missing.as_deref(), column.data_type)?,
                name: column.name,
                data_type: column.data_type,
                not_null: column.not_null,
                default: column.default,
                identity: column.identity,
                dropped: column.dropped,
            })
        };
        Ok(Table {
            oid: self.oid,
            schema: self.schema,
            name: self.name,
            owner: self.owner,
            columns: self.columns.into_iter().map(column).collect::<Result<_>>()?,
            tree: TreeId(PageNo(self.tree)),
            primary_key: self.primary_key,
            indexes: self.indexes.into_iter().map(Into::into).collect(),
            checks: self.checks,
            foreign_keys: self.foreign_keys,
            statistics: None,
            options: self.options,
            privileges: self.privileges,
        })
    }
}

/// [`TableStatistics`] as stored. Each column's values carry the type they were sampled as.
#[derive(Serialize, Deserialize)]
struct StoredStatistics {
    rows: f64,
    row_bytes: f64,
    columns: Vec<StoredColumnStatistics>,
}

/// [`ColumnStatistics`] as stored.
#[derive(Serialize, Deserialize)]
struct StoredColumnStatistics {
    data_type: DataType,
    null_fraction: f64,
    distinct: f64,
    common: Vec<(Option<String>, f64)>,
    histogram: Vec<Option<String>>,
}

impl StoredStatistics {
    fn new(statistics: &TableStatistics) -> Self {
        let column = |column: &ColumnStatistics| StoredColumnStatistics {
            data_type: column.data_type,
            null_fraction: column.null_fraction,
            distinct: column.distinct,
            common: column.common.iter().map(|(datum, share)| (encode_datum(datum), *share)).collect(),
            histogram: column.histogram.iter().map(encode_datum).collect(),
        };
        Self {
            rows: statistics.rows,
            row_bytes: statistics.row_bytes,
            columns: statistics.columns.iter().map(column).collect(),
        }
    }

    fn restore(self) -> Result<TableStatistics> {
        let column = |column: StoredColumnStatistics| {
            let datum = |text: Option<String>| decode_datum(text.as_deref(), column.data_type);
            Ok(ColumnStatistics {
                data_type: column.data_type,
                null_fraction: column.null_fraction,
                distinct: column.distinct,
                common: column
                    .common
                    .into_iter()
                    .map(|(text, share)| Ok((datum(text)?, share)))
                    .collect::<Result<_>>()?,
                histogram: column.histogram.into_iter().map(datum).collect::<Result<_>>()?,
            })
        };
        Ok(TableStatistics {
            rows: self.rows,
            row_bytes: self.row_bytes,
            columns: self.columns.into_iter().map(column).collect::<Result<_>>()?,
        })
    }
}
