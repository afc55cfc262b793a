//! COPY FROM and TO: formats, cut anywhere, and errors with their places.

use std::sync::Arc;

use super::{CopyFormat, CopyIn, CopyOptions, CopyOut, CopyTarget};
use crate::catalog::Table;
use crate::error::{Result, SqlError, SqlState};
use crate::executor::tests::bed::{Bed, eval_context, seq_scan, show};
use crate::parser::parse;
use crate::plan::{Expr, OutputColumn};
use crate::store::{IsolationLevel, StatementOutcome, Transaction};
use crate::types::{DataType, Datum, Row};

/// The options of `COPY t FROM STDIN <text>`.
fn options_of(text: &str, from: bool) -> Result<CopyOptions> {
    let direction = if from { "FROM STDIN" } else { "TO STDOUT" };
    let statements = parse(&format!("COPY t {direction} {text}"))?;
    let sqlparser::ast::Statement::Copy { options, legacy_options, .. } = &statements[0].ast else { panic!("COPY") };
    CopyOptions::of(options, legacy_options, from)
}

fn target(table: &Arc<Table>, columns: &[usize]) -> CopyTarget {
    let value = |column: usize| {
        let data_type = table.columns[column].data_type;
        match columns.iter().position(|field| *field == column) {
            Some(index) => Expr::Column { index, data_type },
            None => Expr::Literal { value: Datum::Int4(77), data_type },
        }
    };
    CopyTarget {
        table: Arc::clone(table),
        columns: columns.to_vec(),
        values: (0..table.columns.len()).map(value).collect(),
        checks: Vec::new(),
        references: Vec::new(),
    }
}

fn copy_in(
    bed: &Bed,
    transaction: &Arc<dyn Transaction>,
    target: CopyTarget,
    options: CopyOptions,
    pieces: &[&[u8]],
) -> Result<u64> {
    transaction.begin_statement()?;
    let result = (|| {
        let mut copy = CopyIn::begin(target, options, bed.context(Arc::clone(transaction), &[]))?;
        pieces.iter().try_for_each(|piece| copy.push(piece))?;
        copy.finish()
    })();
    transaction.end_statement(if result.is_ok() { StatementOutcome::Keep } else { StatementOutcome::Discard });
    result
}

/// Copies `data` into a new table of an int and a text column, in pieces of every size, and shows its rows.
fn read(options: &str, data: &[u8]) -> Result<String> {
    let mut first: Option<Result<String>> = None;
    for size in [data.len().max(1), 1, 2, 3, 7] {
        let bed = Bed::new();
        let table = bed.typed_table("t", &[DataType::INT4, DataType::TEXT], &[], &[]);
        let transaction = bed.begin(IsolationLevel::ReadCommitted);
        let pieces: Vec<&[u8]> = data.chunks(size).collect();
        let result = copy_in(&bed, &transaction, target(&table, &[0, 1]), options_of(options, true)?, &pieces);
        transaction.commit()?;
        let shown = result.map(|_| bed.contents(&table));
        match &first {
            None => first = Some(shown),
            Some(first) => assert_eq!(*first, shown, "in pieces of {size}"),
        }
    }
    first.expect("at least one size")
}

#[test]
fn text_lines() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("", b"1\tone\n2\ttwo\n", "1 one; 2 two"),
        ("", b"1\tone\r\n2\ttwo\r\n", "1 one; 2 two"),
        ("", b"1\tone\r2\ttwo\r", "1 one; 2 two"),
        ("", b"1\tone\n2\ttwo", "1 one; 2 two"),
        ("", b"1\t\\N\n\\N\t\n", "1 null; null "),
        ("", b"1\ta\\tb\\\\c\\x41\\101\\q\n", "1 a\tb\\cAAq"),
        ("", b"1\ta\\\nb\n", "1 a\nb"),
        ("", b"1\ta\n\\.\nrubbish", "1 a"),
        ("", b"", ""),
        ("(delimiter '|', null '')", b"1|one\n|\n", "1 one; null null"),
        ("(header)", b"a\tb\n1\tone\n", "1 one"),
        ("delimiter ',' null 'x'", b"1,x\n2,y\n", "1 null; 2 y"),
    ];
    for (options, data, expected) in cases {
        assert_eq!(read(options, data).as_deref(), Ok(*expected), "{options} {:?}", String::from_utf8_lossy(data));
    }
}

#[test]
fn csv_lines() {
    let cases: &[(&str, &[u8], &str)] = &[
        ("(format csv)", b"1,one\n2,two\r\n", "1 one; 2 two"),
        ("(format csv)", b"1,\"a,b\"\"c\nd\"\n", "1 a,b\"c\nd"),
        ("(format csv)", b"1,\n2,\"\"\n", "1 null; 2 "),
        ("(format csv)", b"1,x\"y\"z\n", "1 xyz"),
        ("(format csv, header true)", b"a,b\n1,\\N\n", "1 \\N"),
        ("(format csv, quote '''', escape '\\')", b"1,'it\\'s'\n", "1 it's"),
        ("(format csv, force_null (b))", b"1,\"\"\n", "1 null"),
        ("(format csv, force_not_null (b))", b"1,\n", "1 "),
        ("(format csv, null 'NIL', delimiter ';')", b"NIL;\"NIL\"\n", "null NIL"),
        ("csv header", b"a,b\n1,x\n", "1 x"),
        ("(format csv)", b"1,a\n\\.\n9,z\n", "1 a"),
    ];
    for (options, data, expected) in cases {
        assert_eq!(read(options, data).as_deref(), Ok(*expected), "{options} {:?}", String::from_utf8_lossy(data));
    }
}

#[test]
fn errors_tell_line_and_column() {
    let cases: &[(&str, &[u8], SqlState, &str, &str)] = &[
        (
            "",
            b"1\ta\nx\tb\n",
            SqlState::INVALID_TEXT_REPRESENTATION,
            "invalid input syntax for type integer: \"x\"",
            "COPY t, line 2, column a: \"x\"",
        ),
        (
            "",
            b"1\ta\tc\n",
            SqlState::BAD_COPY_FILE_FORMAT,
            "extra data after last expected column",
            "COPY t, line 1: \"1\ta\tc\"",
        ),
        ("", b"1\n", SqlState::BAD_COPY_FILE_FORMAT, "missing data for column \"b\"", "COPY t, line 1: \"1\""),
        (
            "",
            b"1\t\xFF\n",
            SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            "invalid byte sequence for encoding \"UTF8\": 0xff",
            "COPY t, line 1, column b: \"\u{FFFD}\"",
        ),
        ("(format csv)", b"1,\"a\n", SqlState::BAD_COPY_FILE_FORMAT, "unterminated CSV quoted field", "COPY t, line 1"),
        (
            "",
            b"1\ta\n2\tb\rc\n",
            SqlState::BAD_COPY_FILE_FORMAT,
            "literal carriage return found in data",
            "COPY t, line 2",
        ),
    ];
    for (options, data, state, message, context) in cases {
        let error = read(options, data).expect_err("bad data");
        assert_eq!((error.state(), error.message()), (*state, *message));
        assert_eq!(error.fields().context.as_deref(), Some(*context), "{message}");
    }
}

#[test]
fn options_are_refused_as_postgres_refuses_them() {
    let cases = [
        ("(format xml)", true, "COPY format \"xml\" not recognized"),
        ("(delimiter 'a')", true, "COPY delimiter cannot be \"a\""),
        ("(quote '!')", true, "COPY quote available only in CSV mode"),
        ("(format csv, delimiter '\"')", true, "COPY delimiter and quote must be different"),
        ("(format csv, force_quote (a))", true, "COPY force quote only available using COPY TO"),
        ("(format csv, force_null (a))", false, "COPY force null only available using COPY FROM"),
        ("(format binary, null 'x')", true, "cannot specify NULL in BINARY mode"),
        ("(null E'a\\tb')", true, "COPY delimiter must not appear in the NULL specification"),
        ("(encoding 'latin1')", true, "COPY in encoding \"latin1\" is not supported"),
    ];
    for (text, from, message) in cases {
        assert_eq!(options_of(text, from).expect_err("refused").message(), message, "{text}");
    }
    options_of("(format csv, encoding 'utf-8', freeze)", true).expect("taken");
}

fn output_columns() -> Vec<OutputColumn> {
    let column = |name: &str, data_type| OutputColumn { name: name.to_owned(), data_type, origin: None };
    vec![column("a", DataType::INT4), column("b", DataType::TEXT)]
}

fn write(options: &str, rows: &[Row]) -> Vec<u8> {
    let mut copy = CopyOut::new(&output_columns(), options_of(options, false).expect("options")).expect("columns");
    let mut out = Vec::new();
    copy.start(&mut out);
    rows.iter().for_each(|row| copy.row(row, &eval_context(), &mut out));
    copy.end(&mut out);
    out
}

#[test]
fn output() {
    let rows = [vec![Datum::Int4(1), Datum::text("a\tb\\c\nd\"e,")], vec![Datum::Null, Datum::text("")]];
    let cases = [
        ("", "1\ta\\tb\\\\c\\nd\"e,\n\\N\t\n"),
        ("(header)", "a\tb\n1\ta\\tb\\\\c\\nd\"e,\n\\N\t\n"),
        ("(delimiter ',')", "1,a\\tb\\\\c\\nd\"e\\,\n\\N,\n"),
        ("(format csv)", "1,\"a\tb\\c\nd\"\"e,\"\n,\"\"\n"),
        ("(format csv, header, null 'x', force_quote (a))", "a,b\n\"1\",\"a\tb\\c\nd\"\"e,\"\nx,\n"),
        ("(format csv, force_quote *)", "\"1\",\"a\tb\\c\nd\"\"e,\"\n,\"\"\n"),
    ];
    for (options, expected) in cases {
        assert_eq!(String::from_utf8(write(options, &rows)).as_deref(), Ok(expected), "{options}");
    }
}

#[test]
fn what_is_written_can_be_read() {
    let rows = [
        vec![Datum::Int4(1), Datum::text("plain")],
        vec![Datum::Null, Datum::text("\\N \\. \r\n\t\"',;|\u{e9}\u{1F600}")],
        vec![Datum::Int4(-5), Datum::Null],
        vec![Datum::Int4(0), Datum::text("")],
    ];
    for options in ["", "(delimiter '|')", "(format csv)", "(format csv, escape '\\', quote '''')", "(format binary)"] {
        let bytes = write(options, &rows);
        assert_eq!(read(options, &bytes).as_deref(), Ok(&*show(&rows)), "{options}");
    }
}

#[test]
fn binary_errors() {
    let good = write("(format binary)", &[vec![Datum::Int4(1), Datum::text("x")]]);
    let mut signature = good.clone();
    signature[0] = b'X';
    let mut count = good.clone();
    count[20] = 3;
    let cases: [(&[u8], &str); 3] = [
        (&signature, "COPY file signature not recognized"),
        (&count, "row field count is 3, expected 2"),
        (&good[..25], "unexpected EOF in COPY data"),
    ];
    for (data, message) in cases {
        let error = read("(format binary)", data).expect_err("bad data");
        assert_eq!((error.state(), error.message()), (SqlState::BAD_COPY_FILE_FORMAT, message));
    }
    assert_eq!(options_of("(format binary)", true).expect("options").format, CopyFormat::Binary);
}

/// A table made in the transaction that copies into it, so that rows go straight into its trees.
fn bulk(data: &str) -> (Result<u64, SqlError>, String, Vec<usize>) {
    bulk_within(4 << 20, data)
}

fn bulk_within(work_mem_bytes: usize, data: &str) -> (Result<u64, SqlError>, String, Vec<usize>) {
    let mut bed = Bed::new();
    bed.work_mem_bytes = work_mem_bytes;
    let model = bed.table("t", 2, &[0], &[(&[1], true), (&[1, 0], false)]);
    let transaction = bed.begin(IsolationLevel::ReadCommitted);
    transaction.begin_statement().expect("statement");
    let mut table = (*model).clone();
    table.tree = transaction.create_tree().expect("tree");
    for index in &mut table.indexes {
        Arc::make_mut(index).tree = transaction.create_tree().expect("tree").0.0;
    }
    transaction.end_statement(StatementOutcome::Keep);
    let table = Arc::new(table);
    let options = options_of("(delimiter ' ')", true).expect("options");
    let result = copy_in(&bed, &transaction, target(&table, &[0, 1]), options, &[data.as_bytes()]);
    transaction.commit().expect("commit");
    let entries = table.indexes.iter().map(|index| bed.store.rows(index.tree()).len()).collect();
    (result, show(&bed.rows(seq_scan(&table, None))), entries)
}

#[test]
fn new_tables_are_loaded_in_bulk() {
    assert_eq!(bulk("1 5\n2 4\n3 3\n"), (Ok(3), "1 5; 2 4; 3 3".to_owned(), vec![3, 3]));
    assert_eq!(bulk("1 5\n3 4\n2 3\n4 9\n"), (Ok(4), "1 5; 2 3; 3 4; 4 9".to_owned(), vec![4, 4]));
    for (data, detail, context) in [
        ("1 5\n1 6\n", "Key (a)=(1) already exists.", "COPY t, line 2"),
        ("2 5\n1 6\n2 7\n", "Key (a)=(2) already exists.", "COPY t, line 3"),
        ("1 5\n2 5\n", "Key (b)=(5) already exists.", "COPY t"),
    ] {
        let error = bulk(data).0.expect_err("duplicate");
        assert_eq!(error.state(), SqlState::UNIQUE_VIOLATION);
        assert_eq!(error.fields().detail.as_deref(), Some(detail));
        assert_eq!(error.fields().context.as_deref(), Some(context));
    }
}

#[test]
fn rows_that_are_inserted_together_fail_as_if_one_by_one() {
    // Two rows are there, and b is unique.
    let cases = [
        ("5 50\n4 40\n3 null\n", Ok("1 10; 2 20; 3 null; 4 40; 5 50")),
        ("9 90\n4 20\n1 99\n8 80\n", Err(("Key (b)=(20) already exists.", "COPY t, line 2"))),
        ("9 90\n2 20\n", Err(("Key (a)=(2) already exists.", "COPY t, line 2"))),
        ("7 70\n6 60\n7 71\n5 60\n", Err(("Key (a)=(7) already exists.", "COPY t, line 3"))),
        ("7 70\n6 60\n5 60\n7 71\n", Err(("Key (b)=(60) already exists.", "COPY t, line 3"))),
        ("7 null\n6 null\n1 60\n", Err(("Key (a)=(1) already exists.", "COPY t, line 3"))),
    ];
    for (data, expected) in cases {
        let bed = Bed::new();
        let table = bed.table("t", 2, &[0], &[(&[1], true)]);
        let mut copied = Ok(0);
        for data in ["1 10\n2 20\n", data] {
            let transaction = bed.begin(IsolationLevel::ReadCommitted);
            let options = options_of("(delimiter ' ', null 'null')", true).expect("options");
            copied = copy_in(&bed, &transaction, target(&table, &[0, 1]), options, &[data.as_bytes()]);
            transaction.commit().expect("commit");
        }
        match (copied, expected) {
            (Ok(rows), Ok(expected)) => {
                assert_eq!((rows, show(&bed.rows(seq_scan(&table, None)))), (3, expected.to_owned()));
            }
            (Err(error), Err((detail, context))) => {
                assert_eq!(error.fields().detail.as_deref(), Some(detail), "{data}");
                assert_eq!(error.fields().context.as_deref(), Some(context), "{data}");
                assert_eq!(show(&bed.rows(seq_scan(&table, None))), "1 10; 2 20", "{data}");
            }
            (copied, expected) => panic!("{data}: {copied:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn loads_in_any_order_need_no_more_than_work_mem() {
    /// `1 1; 2 2; …`, and the same as lines in some order.
    fn lines(keys: impl Iterator<Item = u64>) -> String {
        keys.map(|key| format!("{key} {key}\n")).collect()
    }
    const ROWS: u64 = 1000;
    let shown: Vec<String> = (0..ROWS).map(|key| format!("{key} {key}")).collect();
    let shuffled = || (0..ROWS).map(|number| number * 789 % ROWS);
    let orders: [(&str, String); 5] = [
        ("ascending", lines(0..ROWS)),
        ("descending", lines((0..ROWS).rev())),
        ("shuffled", lines(shuffled())),
        ("ascending, then shuffled", lines((0..ROWS).step_by(2).chain(shuffled().filter(|key| key % 2 == 1)))),
        ("ascending but one", lines((1..ROWS).chain([0]))),
    ];
    for work_mem_bytes in [1, 3000, 4 << 20] {
        for (order, data) in &orders {
            let (copied, rows, entries) = bulk_within(work_mem_bytes, data);
            assert_eq!(copied, Ok(ROWS), "{order} within {work_mem_bytes}");
            assert!(rows == shown.join("; "), "{order} within {work_mem_bytes}: other rows");
            assert_eq!(entries, [ROWS as usize; 2], "{order} within {work_mem_bytes}");
        }
        // Of several duplicates the one is told that comes first, wherever it comes.
        for (order, data) in &orders {
            let error = bulk_within(work_mem_bytes, &format!("{data}500 9\n7 7\n")).0.expect_err("duplicate");
            let detail = error.fields().detail.as_deref().unwrap_or_default();
            let context = error.fields().context.as_deref().unwrap_or_default();
            let first = ("Key (a)=(500) already exists.", "COPY t, line 1001");
            let lowest = ("Key (a)=(7) already exists.", "COPY t, line 1002");
            // Rows that come too late are looked up one by one, by key.
            assert!(
                [first, lowest].contains(&(detail, context)),
                "{order} within {work_mem_bytes}: {detail} {context}"
            );
        }
    }
}

#[test]
fn columns_left_out_take_their_defaults() {
    let bed = Bed::new();
    let table = bed.table("t", 3, &[0], &[]);
    let transaction = bed.begin(IsolationLevel::ReadCommitted);
    let options = options_of("", true).expect("options");
    let rows = copy_in(&bed, &transaction, target(&table, &[2, 0]), options, &[b"30\t1\n40\t2\n"]);
    assert_eq!(rows, Ok(2));
    transaction.commit().expect("commit");
    assert_eq!(bed.contents(&table), "1 77 30; 2 77 40");
}
