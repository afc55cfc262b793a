//! Values of every type, in text and in binary, alone and in arrays; and parameters.

use serde_json::Value;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Row};

use crate::harness::state;
use crate::servers::Servers;
use crate::{Checks, open, run, shared_file, text};

type Failure = Box<dyn std::error::Error + Sync + Send>;

/// The bytes of any type as they travel.
#[derive(Debug, PartialEq)]
struct Raw(Option<Vec<u8>>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Raw, Failure> {
        Ok(Raw(Some(bytes.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Result<Raw, Failure> {
        Ok(Raw(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let Some(bytes) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A type of `values.json`.
struct Kind {
    name: String,
    /// What is given, and what comes back.
    values: Vec<(String, String)>,
    /// Malformed text with its SQLSTATE.
    bad: Vec<(String, String)>,
}

fn kinds() -> Vec<Kind> {
    let entries: Vec<Value> = serde_json::from_str(&shared_file("values.json")).expect("values.json is JSON");
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().expect("text").to_owned()).collect()
    };
    let pairs = |value: &Value| -> Vec<(String, String)> {
        value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(a, b)| (a.clone(), b.as_str().expect("text").to_owned()))
            .collect()
    };
    entries
        .iter()
        .map(|entry| {
            let canonical = pairs(&entry["canonical"]);
            let values = strings(&entry["values"]).into_iter().chain(strings(&entry["beyond"]));
            let back =
                |value: &String| canonical.iter().find(|(given, _)| given == value).map(|(_, back)| back.clone());
            Kind {
                name: entry["type"].as_str().expect("a name").to_owned(),
                values: values.map(|value| (value.clone(), back(&value).unwrap_or(value))).collect(),
                bad: pairs(&entry["bad"]),
            }
        })
        .collect()
}

/// A literal of any text.
fn quoted(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// One row of a query with parameters, or the error in words.
async fn row(client: &Client, query: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, String> {
    client.query_one(query, parameters).await.map_err(|error| format!("{query}: {error:?}"))
}

async fn string(client: &Client, query: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<String, String> {
    row(client, query, parameters).await?.try_get(0).map_err(|error| error.to_string())
}

pub async fn text_round_trips(servers: &Servers) {
    let client = open(servers).await;
    let mut checks = Checks::default();
    for kind in kinds() {
        for (value, expected) in &kind.values {
            // As a literal of the type, which comes back in text format.
            let messages = client.simple_query(&format!("SELECT {}::{}", quoted(value), kind.name)).await;
            let found = messages.map_err(|error| format!("{error:?}")).map(|messages| {
                messages.iter().find_map(|message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                })
            });
            // In text format a char(n) keeps its padding, and a bool is a letter.
            let found = found.map(|text| match (kind.name.as_str(), text.as_deref()) {
                ("char(4)", Some(text)) => Some(text.trim_end().to_owned()),
                ("bool", Some("t")) => Some("true".to_owned()),
                ("bool", Some("f")) => Some("false".to_owned()),
                _ => text,
            });
            checks.equal(&format!("{} {value:?}", kind.name), found, Ok(Some(expected.clone())));
        }
    }
    checks.finish();
}

pub async fn binary_round_trips(servers: &Servers) {
    let client = open(servers).await;
    let mut checks = Checks::default();
    for kind in kinds() {
        let fetch = format!("SELECT $1::text::{}", kind.name);
        let back = format!("SELECT ($1::{})::text", kind.name);
        for (value, expected) in &kind.values {
            let found = match row(&client, &fetch, &[value]).await {
                Ok(row) => string(&client, &back, &[&row.get::<_, Raw>(0)]).await,
                Err(error) => Err(error),
            };
            checks.equal(&format!("{} {value:?}", kind.name), found, Ok(expected.clone()));
        }
    }
    checks.finish();
}

pub async fn arrays(servers: &Servers) {
    let client = open(servers).await;
    let mut checks = Checks::default();
    for kind in kinds() {
        let given: Vec<Option<&str>> =
            kind.values.iter().map(|(value, _)| Some(value.as_str())).chain([None]).collect();
        let fetch = format!("SELECT $1::text[]::{}[]", kind.name);
        let back = format!("SELECT ($1::{}[])::text[]", kind.name);
        let found = match row(&client, &fetch, &[&given]).await {
            Ok(native) => row(&client, &back, &[&native.get::<_, Raw>(0)]).await,
            Err(error) => Err(error),
        };
        let found = found.map(|row| row.get::<_, Vec<Option<String>>>(0));
        let expected = kind.values.iter().map(|(_, expected)| Some(expected.clone())).chain([None]).collect();
        checks.equal(&kind.name, found, Ok(expected));
    }
    let nested = text(&client, "SELECT '{{1,2},{3,NULL}}'::int[]").await;
    checks.equal("nested", nested, Some("{{1,2},{3,NULL}}".to_owned()));
    let empty = row(&client, "SELECT $1::int[]", &[&Vec::<i32>::new()]).await.map(|row| row.get::<_, Vec<i32>>(0));
    checks.equal("empty", empty, Ok(Vec::new()));
    checks.finish();
}

pub async fn nulls(servers: &Servers) {
    let client = open(servers).await;
    let mut checks = Checks::default();
    for kind in kinds() {
        let found = row(&client, &format!("SELECT NULL::{}", kind.name), &[]).await.map(|row| row.get::<_, Raw>(0));
        checks.equal(&kind.name, found, Ok(Raw(None)));
        let found = row(&client, &format!("SELECT $1::{} IS NULL", kind.name), &[&Raw(None)]).await;
        checks.equal(&kind.name, found.map(|row| row.get::<_, bool>(0)), Ok(true));
        checks.equal(&kind.name, text(&client, &format!("SELECT NULL::{}", kind.name)).await, None);
    }
    checks.finish();
}

pub async fn stored(servers: &Servers) {
    let client = open(servers).await;
    let mut checks = Checks::default();
    for (number, kind) in kinds().into_iter().enumerate() {
        let table = format!("rust_values_{number}");
        run(
            &client,
            &format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id int PRIMARY KEY, v {})", kind.name),
        )
        .await;
        let insert = format!("INSERT INTO {table} VALUES ($1, $2::text::{})", kind.name);
        let insert = client.prepare(&insert).await.expect("it is prepared");
        let given = kind.values.iter().map(|(value, _)| Some(value.as_str())).chain([None]);
        for (id, value) in given.enumerate() {
            client
                .execute(&insert, &[&(id as i32), &value])
                .await
                .unwrap_or_else(|error| panic!("{value:?}: {error:?}"));
        }
        let rows = client.query(&format!("SELECT v::text FROM {table} ORDER BY id"), &[]).await.expect("readable");
        let found: Vec<Option<String>> = rows.iter().map(|row| row.get(0)).collect();
        let expected = kind.values.iter().map(|(_, expected)| Some(expected.clone())).chain([None]).collect();
        checks.equal(&kind.name, found, expected);
        if kind.name != "json" {
            run(&client, &format!("CREATE INDEX ON {table} (v)")).await;
            let find = format!("SELECT count(*) FROM {table} WHERE v = $1::text::{} AND id = $2", kind.name);
            for (id, (value, _)) in kind.values.iter().enumerate() {
                let found = row(&client, &find, &[value, &(id as i32)]).await.map(|row| row.get::<_, i64>(0));
                checks.equal(&format!("{} = {value:?}", kind.name), found, Ok(1));
            }
        }
        run(&client, &format!("DROP TABLE {table}")).await;
    }
    checks.finish();
}

pub async fn bad(servers: &Servers) {
    let client = open(servers).await;
    let mut checks = Checks::default();
    for kind in kinds() {
        for (value, expected) in &kind.bad {
            let query = format!("SELECT $1::text::{}", kind.name);
            let found = match client.query_one(&query, &[value]).await {
                Ok(_) => "no error".to_owned(),
                Err(error) => state::<()>(Err(error)),
            };
            checks.equal(&format!("{} {value:?}", kind.name), &found, expected);
        }
    }
    checks.finish();
}

/// The exact bytes in binary format, which drivers decode without asking.
pub async fn native(servers: &Servers) {
    let client = open(servers).await;
    let mut checks = Checks::default();
    for (expression, expected) in [
        ("'-9223372036854775808'::int8", "8000000000000000"),
        ("1.50::numeric", "00020000000000020001 1388"),
        ("'NaN'::numeric", "00000000c0000000"),
        ("10000::numeric", "0001000100000000 0001"),
        ("0.1::float8", "3fb999999999999a"),
        ("'\\x00ff'::bytea", "00ff"),
        ("date '2024-02-29'", "00002279"),
        ("date '-infinity'", "80000000"),
        ("time '12:34:56.7'", "0000000a8be4ca60"),
        ("timestamp '2024-02-29 01:02:03.000004'", "0002b5799374d8c4"),
        ("timestamptz '2024-02-29 01:02:03+02'", "0002b577e64d90c0"),
        ("timestamptz 'infinity'", "7fffffffffffffff"),
        ("interval '1 month 3 days 04:05:06'", "000000036c8bc080 00000003 00000001"),
        ("'550e8400-e29b-41d4-a716-446655440000'::uuid", "550e8400e29b41d4a716446655440000"),
        ("'{\"a\": [1, null]}'::jsonb", "01 7b2261223a205b312c206e756c6c5d7d"),
        ("ARRAY['a', NULL]", "00000001 00000001 00000019 00000002 00000001 00000001 61 ffffffff"),
        ("'x '::char(3)", "782020"),
        ("true", "01"),
    ] {
        let found = row(&client, &format!("SELECT {expression}"), &[]).await.map(|row| row.get::<_, Raw>(0).0);
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        checks.equal(expression, found.map(|bytes| bytes.map(hex)), Ok(Some(expected.replace(' ', ""))));
    }
    checks.finish();
}

pub async fn parameters(servers: &Servers) {
    let client = open(servers).await;
    let found = client
        .query_one("SELECT $1::int + $2::int8, $3::text || $4, $5::bool", &[&1i32, &2i64, &"a", &"b", &true])
        .await
        .expect("it is answered");
    assert_eq!((found.get::<_, i64>(0), found.get::<_, &str>(1), found.get::<_, bool>(2)), (3, "ab", true));

    run(
        &client,
        "DROP TABLE IF EXISTS rust_parameters; CREATE TABLE rust_parameters (a int PRIMARY KEY, b text, c float8)",
    )
    .await;
    let insert = "INSERT INTO rust_parameters VALUES ($1, $2, $3) RETURNING a, b, c";
    let found = client.query_one(insert, &[&1i32, &"x", &2.5f64]).await.expect("inserted");
    assert_eq!((found.get::<_, i32>(0), found.get::<_, &str>(1), found.get::<_, f64>(2)), (1, "x", 2.5));
    let found = client.query_one(insert, &[&2i32, &None::<String>, &None::<f64>]).await.expect("inserted");
    assert_eq!((found.get::<_, Option<String>>(1), found.get::<_, Option<f64>>(2)), (None, None));
    let any = "SELECT count(*) FROM rust_parameters WHERE a = ANY($1)";
    assert_eq!(client.query_one(any, &[&vec![1i32, 2, 3]]).await.expect("counted").get::<_, i64>(0), 2);
    let limit = "SELECT a FROM rust_parameters WHERE b = $1 LIMIT $2";
    assert_eq!(client.query_one(limit, &[&"x", &5i64]).await.expect("found").get::<_, i32>(0), 1);

    let marks: Vec<String> = (1..=1000).map(|number| format!("(${number}::int)")).collect();
    let numbers: Vec<i32> = (0..1000).collect();
    let numbers: Vec<&(dyn ToSql + Sync)> = numbers.iter().map(|number| number as _).collect();
    let sum = format!("SELECT sum(v) FROM (VALUES {}) AS t (v)", marks.join(", "));
    assert_eq!(client.query_one(&sum, &numbers).await.expect("summed").get::<_, i64>(0), 499_500);
    let long = "x".repeat(3_000_000);
    let length = client.query_one("SELECT length($1::text)", &[&long]).await.expect("measured");
    assert_eq!(length.get::<_, i32>(0), 3_000_000);

    // The types that the server infers.
    let statement = client.prepare("SELECT $1 + a, b || $2 FROM rust_parameters WHERE c > $3").await.expect("prepared");
    assert_eq!(statement.params(), [Type::INT4, Type::TEXT, Type::FLOAT8]);
    let columns: Vec<_> = statement.columns().iter().map(|column| (column.name(), column.type_())).collect();
    assert_eq!(columns, [("?column?", &Type::INT4), ("?column?", &Type::TEXT)]);
    run(&client, "DROP TABLE rust_parameters").await;
}
