//! COPY in and out, in text, csv and binary, in blocks that break lines and fields.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio_postgres::Client;
use tokio_postgres::error::DbError;

use crate::servers::Servers;
use crate::{open, run, text};

const TEXT: &str = "1\tplain\t1.50\t2024-02-29\n2\ttab\\tnewline\\nreturn\\rback\\\\slash\t\\N\t\\N\n\
    3\t\t-0.01\t0001-01-02\n4\t\\N\t12345678901234567890.12\t9999-12-30\n5\tquote\",comma \u{4e16}\u{754c}\t0\t\\N\n\
    6\t\\\\N\t0.00\t\\N\n7\tNULL\t7\t\\N\n";

const CSV: &str = "a,b,c,d\n1,plain,1.50,2024-02-29\n2,\"tab\tnewline\nreturn\rback\\slash\",,\n3,\"\",-0.01,0001-01-02\n\
    4,,12345678901234567890.12,9999-12-30\n5,\"quote\"\",comma \u{4e16}\u{754c}\",0,\n6,\\N,0.00,\n7,NULL,7,\n";

async fn copy_in(client: &Client, statement: &str, data: &[u8], block: usize) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in(statement).await?;
    let mut sink = std::pin::pin!(sink);
    for block in data.chunks(block) {
        sink.send(Bytes::copy_from_slice(block)).await?;
    }
    sink.finish().await
}

async fn copy_out(client: &Client, statement: &str) -> Vec<u8> {
    let stream = client.copy_out(statement).await.expect("COPY begins");
    let blocks: Vec<_> = stream.map(|block| block.expect("a block").to_vec()).collect().await;
    blocks.concat()
}

async fn table(client: &Client) {
    let create = "CREATE TABLE rust_copy (a int PRIMARY KEY, b text, c numeric, d date)";
    run(client, &format!("DROP TABLE IF EXISTS rust_copy; {create}")).await;
}

/// In, out again; the same bytes, the same rows.
async fn round_trip(servers: &Servers, options: &str, data: &[u8]) {
    let client = open(servers).await;
    let (into, from) = (format!("COPY rust_copy FROM STDIN {options}"), format!("COPY rust_copy TO STDOUT {options}"));
    for block in [1, 7, 1 << 20] {
        table(&client).await;
        assert_eq!(copy_in(&client, &into, data, block).await.expect("it is taken"), 7);
        let found = copy_out(&client, &from).await;
        assert!(found == data, "{options}: {:?}", String::from_utf8_lossy(&found));
        assert_eq!(copy_out(&client, "COPY rust_copy TO STDOUT").await, TEXT.as_bytes());
    }
}

pub async fn text_format(servers: &Servers) {
    round_trip(servers, "", TEXT.as_bytes()).await;
    let client = open(servers).await;
    assert_eq!(copy_out(&client, "COPY (SELECT a, b FROM rust_copy WHERE a < 2) TO STDOUT").await, b"1\tplain\n");
    let options = "COPY rust_copy (b, a) FROM STDIN WITH (DELIMITER '|', NULL 'none')";
    assert_eq!(copy_in(&client, options, b"eight|8\nnone|9\n", 100).await.expect("it is taken"), 2);
    let found = copy_out(&client, "COPY (SELECT * FROM rust_copy WHERE a > 7 ORDER BY a) TO STDOUT").await;
    assert_eq!(found, b"8\teight\t\\N\t\\N\n9\t\\N\t\\N\t\\N\n");
}

pub async fn csv_format(servers: &Servers) {
    round_trip(servers, "WITH (FORMAT csv, HEADER)", CSV.as_bytes()).await;
}

pub async fn binary_format(servers: &Servers) {
    let client = open(servers).await;
    table(&client).await;
    copy_in(&client, "COPY rust_copy FROM STDIN", TEXT.as_bytes(), 100).await.expect("it is taken");
    let binary = copy_out(&client, "COPY rust_copy TO STDOUT WITH (FORMAT binary)").await;
    assert_eq!(&binary[..11], b"PGCOPY\n\xff\r\n\0");
    // Header, flags and extension; four fields; an int of four bytes.
    assert_eq!(&binary[11..29], b"\0\0\0\0\0\0\0\0\0\x04\0\0\0\x04\0\0\0\x01");
    round_trip(servers, "WITH (FORMAT binary)", &binary).await;
}

pub async fn failures(servers: &Servers) {
    let client = open(servers).await;
    table(&client).await;
    let fails = async |data: &str| -> DbError {
        let error = copy_in(&client, "COPY rust_copy FROM STDIN", data.as_bytes(), 100).await;
        error.expect_err("the data is malformed").as_db_error().expect("the server's error").clone()
    };
    let error = fails("1\tgood\t1\t\\N\n2\tbad\tx\t\\N\n").await;
    assert_eq!((error.code().code(), error.where_()), ("22P02", Some("COPY rust_copy, line 2, column c: \"x\"")));
    let error = fails("1\tfew\n").await;
    assert_eq!((error.code().code(), error.message()), ("22P04", "missing data for column \"c\""));
    let error = fails("1\ta\t1\t\\N\tmore\n").await;
    assert_eq!((error.code().code(), error.message()), ("22P04", "extra data after last expected column"));
    let error = fails("1\ta\t1\t\\N\n1\tb\t1\t\\N\n").await;
    assert_eq!((error.code().code(), error.constraint()), ("23505", Some("rust_copy_pkey")));
    // A sink that is dropped unfinished tells the server that the client gives up.
    {
        let sink = client.copy_in::<_, Bytes>("COPY rust_copy FROM STDIN").await.expect("COPY begins");
        let mut sink = std::pin::pin!(sink);
        sink.send(Bytes::from_static(b"1\ta\t1\t\\N\n")).await.expect("it is taken");
    }
    assert_eq!(text(&client, "SELECT count(*) FROM rust_copy").await.as_deref(), Some("0"));
}
