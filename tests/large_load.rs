//! Loads and transactions of more data than memory: they go through, say what they should, and the process
//! stays within `--memory` and a fixed overhead.
//!
//! `ALLUVIUM_LOAD_BYTES` sets how much is loaded (8 MiB; 1 GB by hand), `ALLUVIUM_LOAD_MEMORY` the server's memory
//! (`128MiB`, the least there is).

#![allow(clippy::disallowed_methods)]

mod harness;

use std::time::Instant;

use bytes::Bytes;
use futures::SinkExt;
use harness::Program;
use harness::tools::setting;
use tokio_postgres::Client;

/// What the server may take beyond `--memory`: its code, threads, sessions, the log's buffers and the allocator's
/// slack. A bound for hundreds of megabytes of data: a COPY of 1 GB was seen to take 520 MiB beyond (glibc's
/// arenas, which keep what the log and the page server gave back).
const OVERHEAD_BYTES: u64 = 320 << 20;

/// Bytes of a row's text.
const PAD_BYTES: usize = 160;
/// Of a row, its key and numbers counted.
const ROW_BYTES: u64 = PAD_BYTES as u64 + 24;

/// The `number`th of `rows` rows in an order without any: a permutation, as the factor is odd and the modulus a
/// power of two; numbers beyond the rows are left out.
fn shuffled(rows: u64) -> impl Iterator<Item = u64> {
    let modulus = rows.next_power_of_two();
    (0..modulus)
        .map(move |number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15 | 1) % modulus)
        .filter(move |id| *id < rows)
}

async fn copy(client: &Client, ids: impl Iterator<Item = u64>) -> u64 {
    let sink = client.copy_in("COPY big FROM STDIN").await.expect("COPY begins");
    let mut sink = std::pin::pin!(sink);
    let mut chunk = Vec::new();
    for id in ids {
        let pad = format!("{id:0>width$}", width = PAD_BYTES);
        chunk.extend_from_slice(format!("{id}\t{}\t{pad}\n", id % 1000).as_bytes());
        if chunk.len() > 256 << 10 {
            sink.send(Bytes::from(std::mem::take(&mut chunk))).await.expect("COPY goes on");
        }
    }
    sink.send(Bytes::from(chunk)).await.expect("COPY goes on");
    sink.as_mut().finish().await.expect("COPY ends")
}

/// Count, sum of the keys and of the numbers, over the table and over the index alone.
async fn sums(client: &Client) -> [i64; 4] {
    let query = "SELECT count(*), coalesce(sum(id), 0)::bigint, coalesce(sum(n), 0)::bigint FROM big";
    let row = client.query_one(query, &[]).await.expect("the table can be read");
    let query = "SELECT count(*) FROM big WHERE n >= 0 AND n < 1000000";
    let by_index: i64 = client.query_one(query, &[]).await.expect("the index can be read").get(0);
    [row.get(0), row.get(1), row.get(2), by_index]
}

/// The most memory that a process has ever had resident, bytes.
fn peak_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kib << 10
}

fn megabytes(memory: &str) -> u64 {
    let number = memory.strip_suffix("MiB").and_then(|number| number.parse::<u64>().ok());
    number.expect("ALLUVIUM_LOAD_MEMORY is given in MiB") << 20
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_memory_is_loaded_and_changed_within_it() {
    let bytes: u64 = setting("ALLUVIUM_LOAD_BYTES", 8 << 20);
    let memory: String = setting("ALLUVIUM_LOAD_MEMORY", "128MiB".to_owned());
    let limit_bytes = megabytes(&memory) + OVERHEAD_BYTES;
    let rows = (bytes / ROW_BYTES).max(1000);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = Program::start_within(directory.path(), &memory);
    let client = program.connect().await;
    let mut begun = Instant::now();
    let mut step = |what: &str| {
        let peak = peak_bytes(program.id());
        println!("{what}: {:.1} s, peak {} MiB", begun.elapsed().as_secs_f64(), peak >> 20);
        assert!(peak < limit_bytes, "{what}: {} MiB resident, {} MiB allowed", peak >> 20, limit_bytes >> 20);
        begun = Instant::now();
    };
    step("start");

    let run = async |statement: &str| client.execute(statement, &[]).await.expect(statement);
    run("CREATE TABLE big (id bigint PRIMARY KEY, n int NOT NULL, pad text NOT NULL)").await;
    assert_eq!(copy(&client, shuffled(rows)).await, rows);
    step("COPY into an empty table, keys shuffled");
    run("CREATE INDEX big_n ON big (n)").await;
    step("CREATE INDEX");
    let (count, keys) = (rows as i64, (rows * (rows - 1) / 2) as i64);
    let numbers: i64 = (0..rows).map(|id| (id % 1000) as i64).sum();
    assert_eq!(sums(&client).await, [count, keys, numbers, count]);
    step("sums");

    assert_eq!(run("UPDATE big SET n = n + 1").await, rows);
    step("UPDATE of all rows");
    let numbers = numbers + count;
    assert_eq!(sums(&client).await, [count, keys, numbers, count]);
    step("sums");

    run("BEGIN").await;
    assert_eq!(run("UPDATE big SET n = n + 5, pad = pad || 'x'").await, rows);
    run("SAVEPOINT a").await;
    assert_eq!(run("DELETE FROM big WHERE id % 3 = 1").await, rows / 3 + u64::from(rows % 3 > 1));
    run("ROLLBACK TO a").await;
    assert_eq!(sums(&client).await, [count, keys, numbers + 5 * count, count]);
    run("ROLLBACK").await;
    assert_eq!(sums(&client).await, [count, keys, numbers, count]);
    step("the same and more rolled back");

    let insert = format!("INSERT INTO big SELECT id + {rows}, n, pad FROM big WHERE id % 2 = 0");
    let added = rows.div_ceil(2);
    run("BEGIN").await;
    assert_eq!(run(&insert).await, added);
    run("ROLLBACK").await;
    assert_eq!(sums(&client).await, [count, keys, numbers, count]);
    step("INSERT of a selection rolled back");
    assert_eq!(run(&insert).await, added);
    let halves = (0..rows).step_by(2);
    let keys = keys + halves.clone().map(|id| (id + rows) as i64).sum::<i64>();
    let numbers = numbers + halves.map(|id| (id % 1000 + 1) as i64).sum::<i64>();
    let count = count + added as i64;
    assert_eq!(sums(&client).await, [count, keys, numbers, count]);
    step("INSERT of a selection");

    let more = rows / 4;
    assert_eq!(copy(&client, shuffled(more).map(|id| id + 4 * rows)).await, more);
    let keys = keys + (0..more).map(|id| (id + 4 * rows) as i64).sum::<i64>();
    let numbers = numbers + (0..more).map(|id| ((id + 4 * rows) % 1000) as i64).sum::<i64>();
    let count = count + more as i64;
    assert_eq!(sums(&client).await, [count, keys, numbers, count]);
    step("COPY into a table with rows, keys shuffled");

    assert_eq!(program.check(), "");
    step("consistency check");
    let metrics = program.admin_get("/metrics");
    let used = metrics.lines().find_map(|line| line.strip_prefix("alluvium_spill_used_bytes ")).map(str::to_owned);
    println!("temporary files hold {used:?} bytes at the end");
    assert_eq!(std::fs::read_dir(directory.path().join("tmp")).expect("it is there").count(), 0);
    drop(client);
    program.stop();

    let program = Program::start_within(directory.path(), &memory);
    let client = program.connect().await;
    assert_eq!(sums(&client).await, [count, keys, numbers, count]);
}
