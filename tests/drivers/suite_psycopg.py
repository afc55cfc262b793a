"""The driver suite with psycopg 3: every case of cases.txt, values in text and in binary."""

import datetime
import decimal
import math
import threading
import time
import uuid

import psycopg
from psycopg import errors as sqlstates
from psycopg.types.json import Json, Jsonb

import common
from common import all_of, check

ARGUMENTS = common.arguments()


def connect(**settings):
    settings = {"user": "postgres", "dbname": "postgres", "autocommit": True, "options": "-c TimeZone=UTC"} | settings
    return psycopg.connect(host="127.0.0.1", port=settings.pop("port", ARGUMENTS.port), **settings)


def one(connection, query, *parameters, binary=False):
    return connection.execute(query, parameters or None, binary=binary).fetchone()[0]


def fails(state, function, *arguments):
    """Expects an error with this SQLSTATE, and returns it."""
    try:
        function(*arguments)
    except psycopg.Error as error:
        check(error.sqlstate, state, arguments)
        return error
    raise AssertionError(f"{arguments}: no error, expected {state}")


def adapted(kind, value):
    """A value as psycopg wants to be given it."""
    wrappers = {"json": Json, "jsonb": Jsonb}
    return wrappers[kind.base](value) if kind.base in wrappers else value


def values(binary):
    mark = "%b" if binary else "%t"
    with connect() as connection:

        def round_trip(kind, value):
            native = one(connection, f"SELECT %t::text::{kind.name}", value, binary=binary)
            back = one(connection, f"SELECT ({mark}::{kind.name})::text", adapted(kind, native), binary=binary)
            check(back, kind.expected(value), kind.name)

        def text_only(kind, value):
            check(one(connection, f"SELECT (%t::text::{kind.name})::text", value), value, kind.name)

        all_of(
            [lambda k=kind, v=value: round_trip(k, v) for kind in common.types() for value in kind.values]
            + [lambda k=kind, v=value: text_only(k, v) for kind in common.types() for value in kind.beyond]
        )


def values_text():
    values(binary=False)


def values_binary():
    values(binary=True)


def values_arrays():
    with connect() as connection:

        def round_trip(kind, mark, binary):
            texts = [text for text in kind.values if not (kind.base in ("json", "jsonb") and text == "null")] + [None]
            native = one(connection, f"SELECT %t::text[]::{kind.name}[]", texts, binary=binary)
            if kind.base in ("json", "jsonb"):
                native = [None if value is None else adapted(kind, value) for value in native]
            back = one(connection, f"SELECT ({mark}::{kind.name}[])::text[]", native, binary=binary)
            expected = [None if text is None else kind.expected(text) for text in texts]
            check(back, expected, kind.name, "binary" if binary else "text")

        checks = []
        for kind in common.types():
            checks.append(lambda k=kind: round_trip(k, "%t", False))
            checks.append(lambda k=kind: round_trip(k, "%b", True))
        all_of(checks)
        for binary in (False, True):
            nested = [[1, 2], [3, None]]
            check(one(connection, "SELECT %s::int[]", nested, binary=binary), nested)
            check(one(connection, "SELECT '{}'::int[]", binary=binary), [])


def values_null():
    with connect() as connection:
        for kind in common.types():
            for binary in (False, True):
                check(one(connection, f"SELECT NULL::{kind.name}", binary=binary), None, kind.name)
                check(one(connection, f"SELECT %s::{kind.name} IS NULL", None, binary=binary), True, kind.name)


def values_stored():
    with connect() as connection:

        def stored(number, kind):
            table = f"psycopg_values_{number}"
            connection.execute(f"DROP TABLE IF EXISTS {table}")
            connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v {kind.name})")
            texts = kind.values + kind.beyond + [None]
            with connection.cursor() as cursor:
                rows = list(enumerate(texts))
                cursor.executemany(f"INSERT INTO {table} VALUES (%s, %t::text::{kind.name})", rows)
            found = connection.execute(f"SELECT v::text FROM {table} ORDER BY id").fetchall()
            check([row[0] for row in found], [t if t is None else kind.expected(t) for t in texts], kind.name)
            if kind.base != "json":
                connection.execute(f"CREATE INDEX ON {table} (v)")
                for number, text in enumerate(texts[:-1]):
                    query = f"SELECT count(*) FROM {table} WHERE v = %t::text::{kind.name} AND id = %s"
                    check(one(connection, query, text, number), 1, kind.name, text)
            connection.execute(f"DROP TABLE {table}")

        all_of([lambda n=number, k=kind: stored(n, k) for number, kind in enumerate(common.types())])


def values_bad():
    with connect() as connection:
        all_of(
            [
                lambda q=f"SELECT %t::text::{kind.name}", t=text, s=state: fails(s, one, connection, q, t)
                for kind in common.types()
                for text, state in kind.bad.items()
            ]
        )


def values_native():
    utc = datetime.timezone.utc
    expected = {
        "'-9223372036854775808'::int8": -(2**63),
        "1.50::numeric": decimal.Decimal("1.50"),
        "0.1::float8": 0.1,
        "'\\x00ff'::bytea": b"\x00\xff",
        "date '2024-02-29'": datetime.date(2024, 2, 29),
        "time '12:34:56.7'": datetime.time(12, 34, 56, 700000),
        "timestamp '2024-02-29 01:02:03.000004'": datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
        "timestamptz '2024-02-29 01:02:03+02'": datetime.datetime(2024, 2, 28, 23, 2, 3, tzinfo=utc),
        "interval '3 days 04:05:06'": datetime.timedelta(days=3, hours=4, minutes=5, seconds=6),
        "'550e8400-e29b-41d4-a716-446655440000'::uuid": uuid.UUID("550e8400-e29b-41d4-a716-446655440000"),
        "'{\"a\": [1, null]}'::jsonb": {"a": [1, None]},
        "ARRAY['a', NULL, 'b,c']": ["a", None, "b,c"],
        "'x '::char(3)": "x  ",
        "true": True,
    }
    with connect() as connection:
        for expression, value in expected.items():
            for binary in (False, True):
                found = one(connection, f"SELECT {expression}", binary=binary)
                check((type(found), found), (type(value), value), expression)
        assert math.isnan(one(connection, "SELECT 'NaN'::float8", binary=True))


def parameters():
    with connect() as connection:
        for mark in ("%t", "%b"):
            query = f"SELECT {mark}::int + {mark}::int8, {mark}::text || {mark}::text, {mark}::bool"
            check(connection.execute(query, (1, 2, "a", "b", True)).fetchone(), (3, "ab", True))
        connection.execute("DROP TABLE IF EXISTS psycopg_parameters")
        connection.execute("CREATE TABLE psycopg_parameters (a int PRIMARY KEY, b text, c numeric(8,2))")
        insert = "INSERT INTO psycopg_parameters VALUES (%s, %s, %s) RETURNING a, b, c"
        check(connection.execute(insert, (1, "x", decimal.Decimal("2.5"))).fetchone(), (1, "x", decimal.Decimal("2.50")))
        check(connection.execute(insert, (2, None, None)).fetchone(), (2, None, None))
        check(one(connection, "SELECT count(*) FROM psycopg_parameters WHERE a = ANY(%s)", [1, 2, 3]), 2)
        check(one(connection, "SELECT a FROM psycopg_parameters WHERE b = %s LIMIT %s", "x", 5), 1)
        many = list(range(1000))
        marks = ", ".join(["(%s::int)"] * 1000)
        check(one(connection, f"SELECT sum(v) FROM (VALUES {marks}) AS t (v)", *many), 499500)
        check(one(connection, "SELECT length(%s::text)", "x" * 3_000_000), 3_000_000)
        connection.execute("DROP TABLE psycopg_parameters")


def errors():
    setup, cases = common.errors()
    with connect() as connection:
        for statement in setup:
            connection.execute(statement)

        def run(case):
            error = fails(case["state"], connection.execute, case["sql"])
            diagnostics = error.diag
            found = {
                "state": diagnostics.sqlstate,
                "message": diagnostics.message_primary,
                "detail": diagnostics.message_detail,
                "hint": diagnostics.message_hint,
                "position": diagnostics.statement_position,
                "schema": diagnostics.schema_name,
                "table": diagnostics.table_name,
                "column": diagnostics.column_name,
                "constraint": diagnostics.constraint_name,
            }
            check(diagnostics.severity_nonlocalized, "ERROR", case["sql"])
            common.check_error(found, case)

        all_of([lambda c=case: run(c) for case in cases])
        check(one(connection, "SELECT 1"), 1)


def accounts(connection):
    connection.execute("DROP TABLE IF EXISTS psycopg_accounts")
    connection.execute("CREATE TABLE psycopg_accounts (id int PRIMARY KEY, balance int)")
    connection.execute("INSERT INTO psycopg_accounts VALUES (1, 100), (2, 200)")


BALANCE = "SELECT balance FROM psycopg_accounts WHERE id = 1"


def transaction_commit():
    with connect() as connection, connect() as other:
        accounts(connection)
        with connection.transaction():
            connection.execute("UPDATE psycopg_accounts SET balance = 1 WHERE id = 1")
            check(one(connection, BALANCE), 1)
            check(one(other, BALANCE), 100)
        check(one(other, BALANCE), 1)
    with connect(autocommit=False) as connection:
        connection.execute("UPDATE psycopg_accounts SET balance = 2 WHERE id = 1")
        check(connection.info.transaction_status, psycopg.pq.TransactionStatus.INTRANS)
        connection.commit()
        check(connection.info.transaction_status, psycopg.pq.TransactionStatus.IDLE)
    with connect() as connection:
        check(one(connection, BALANCE), 2)


def transaction_rollback():
    with connect() as connection:
        accounts(connection)
        with connection.transaction(force_rollback=True):
            connection.execute("DELETE FROM psycopg_accounts")
            connection.execute("CREATE TABLE psycopg_undone (a int)")
            check(one(connection, "SELECT count(*) FROM psycopg_accounts"), 0)
        check(one(connection, "SELECT count(*) FROM psycopg_accounts"), 2)
        fails("42P01", connection.execute, "SELECT * FROM psycopg_undone")
    lost = connect(autocommit=False)
    lost.execute("DELETE FROM psycopg_accounts")
    lost.close()
    with connect() as connection:
        check(one(connection, "SELECT count(*) FROM psycopg_accounts"), 2)


def savepoints():
    with connect() as connection:
        accounts(connection)
        with connection.transaction():
            connection.execute("UPDATE psycopg_accounts SET balance = 1 WHERE id = 1")
            try:
                with connection.transaction():
                    connection.execute("UPDATE psycopg_accounts SET balance = 2 WHERE id = 1")
                    with connection.transaction():
                        connection.execute("UPDATE psycopg_accounts SET balance = 3 WHERE id = 1")
                    check(one(connection, BALANCE), 3)
                    connection.execute("SELECT 1/0")
            except sqlstates.DivisionByZero:
                pass
            check(one(connection, BALANCE), 1)
            with connection.transaction():
                connection.execute("UPDATE psycopg_accounts SET balance = balance + 10 WHERE id = 1")
        check(one(connection, BALANCE), 11)


def failed_block():
    with connect() as connection:
        accounts(connection)
        connection.execute("BEGIN")
        connection.execute("DELETE FROM psycopg_accounts")
        fails("22012", connection.execute, "SELECT 1/0")
        check(connection.info.transaction_status, psycopg.pq.TransactionStatus.INERROR)
        fails("25P02", connection.execute, "SELECT 1")
        check(connection.execute("COMMIT").statusmessage, "ROLLBACK")
        check(one(connection, "SELECT count(*) FROM psycopg_accounts"), 2)
        fails("25006", connection.execute, "BEGIN READ ONLY; DELETE FROM psycopg_accounts")
        connection.execute("ROLLBACK")


def isolation_levels():
    with connect(autocommit=False) as reader, connect() as writer:
        accounts(writer)
        check(one(reader, "SHOW transaction_isolation"), "read committed")
        check(one(reader, BALANCE), 100)
        writer.execute("UPDATE psycopg_accounts SET balance = 101 WHERE id = 1")
        check(one(reader, BALANCE), 101)
        reader.commit()
        levels = psycopg.IsolationLevel
        if ARGUMENTS.server == "alluvium":
            reader.isolation_level = levels.SERIALIZABLE
            fails("0A000", reader.execute, BALANCE)
            reader.rollback()
        for level, name in [(levels.REPEATABLE_READ, "repeatable read"), (levels.SERIALIZABLE, "serializable")]:
            reader.isolation_level = level
            if name == "serializable" and ARGUMENTS.server == "alluvium":
                continue
            check(one(reader, "SHOW transaction_isolation"), name)
            before = one(reader, BALANCE)
            writer.execute("UPDATE psycopg_accounts SET balance = balance + 1 WHERE id = 1")
            check(one(reader, BALANCE), before)
            fails("40001", reader.execute, "UPDATE psycopg_accounts SET balance = 0 WHERE id = 1")
            reader.rollback()


def implicit_transactions():
    with connect() as connection:
        accounts(connection)
        fails("22012", connection.execute, "DELETE FROM psycopg_accounts; SELECT 1/0")
        check(one(connection, "SELECT count(*) FROM psycopg_accounts"), 2)
        # A pipeline up to its Sync is one transaction: what came before the error is undone.
        try:
            with connection.pipeline():
                connection.execute("DELETE FROM psycopg_accounts WHERE id = %s", (1,))
                connection.execute("SELECT 1/0")
                connection.execute("DELETE FROM psycopg_accounts WHERE id = %s", (2,))
        except (sqlstates.DivisionByZero, psycopg.errors.PipelineAborted):
            pass
        check(one(connection, "SELECT count(*) FROM psycopg_accounts"), 2)
        with connection.pipeline() as pipeline:
            first = connection.execute("UPDATE psycopg_accounts SET balance = 7 WHERE id = %s", (1,))
            second = connection.execute(BALANCE)
            pipeline.sync()
            check((first.rowcount, second.fetchone()), (1, (7,)))
        with connection.cursor() as cursor:
            fails(
                "23505", cursor.executemany, "INSERT INTO psycopg_accounts VALUES (%s, 1)", [(3,), (4,), (1,), (5,)]
            )
        check(one(connection, "SELECT count(*) FROM psycopg_accounts"), 2)


ROWS = [
    (1, "plain", decimal.Decimal("1.50"), datetime.date(2024, 2, 29)),
    (2, "tab\tnewline\nreturn\rback\\slash", None, None),
    (3, "", decimal.Decimal("-0.01"), datetime.date(1, 1, 2)),
    (4, None, decimal.Decimal("12345678901234567890.12"), datetime.date(9999, 12, 30)),
    (5, 'quote",comma \u4e16\u754c', decimal.Decimal("0"), None),
    (6, "\\N", decimal.Decimal("0.00"), None),
    (7, "NULL", decimal.Decimal("7"), None),
]


def copied(connection):
    return connection.execute("SELECT * FROM psycopg_copy ORDER BY a").fetchall()


def copy_table(connection):
    connection.execute("DROP TABLE IF EXISTS psycopg_copy")
    connection.execute("CREATE TABLE psycopg_copy (a int PRIMARY KEY, b text, c numeric, d date)")


def copy_round_trip(options, binary):
    with connect() as connection:
        copy_table(connection)
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY psycopg_copy FROM STDIN {options}") as copy:
                if binary:
                    copy.set_types(["int4", "text", "numeric", "date"])
                if binary or not options:
                    for row in ROWS:
                        copy.write_row(row)
                else:
                    copy.write(CSV.encode())
            check(cursor.rowcount, len(ROWS))
        check(copied(connection), ROWS)
        with connection.cursor() as cursor, cursor.copy(f"COPY psycopg_copy TO STDOUT {options}") as copy:
            data = b"".join(bytes(block) for block in copy)
        connection.execute("TRUNCATE psycopg_copy")
        with connection.cursor() as cursor, cursor.copy(f"COPY psycopg_copy FROM STDIN {options}") as copy:
            for start in range(0, len(data), 7):  # Blocks that break lines and fields.
                copy.write(data[start : start + 7])
        check(copied(connection), ROWS)
        return data


CSV = (
    'a,b,c,d\n1,plain,1.50,2024-02-29\n2,"tab\tnewline\nreturn\rback\\slash",,\n3,"",-0.01,0001-01-02\n'
    '4,,12345678901234567890.12,9999-12-30\n5,"quote"",comma \u4e16\u754c",0,\n6,\\N,0.00,\n7,NULL,7,\n'
)


def copy_text():
    data = copy_round_trip("", binary=False)
    check(data.split(b"\n")[1], b"2\ttab\\tnewline\\nreturn\\rback\\\\slash\t\\N\t\\N")
    with connect() as connection, connection.cursor() as cursor:
        with cursor.copy("COPY (SELECT a, b FROM psycopg_copy WHERE a < 2) TO STDOUT") as copy:
            check(list(copy.rows()), [("1", "plain")])
        with cursor.copy("COPY psycopg_copy (b, a) FROM STDIN WITH (DELIMITER '|', NULL 'none')") as copy:
            copy.write(b"eight|8\nnone|9\n")
        check(copied(connection)[-2:], [(8, "eight", None, None), (9, None, None, None)])


def copy_csv():
    data = copy_round_trip("WITH (FORMAT csv, HEADER)", binary=False)
    check(data.decode(), CSV)


def copy_binary():
    data = copy_round_trip("WITH (FORMAT binary)", binary=True)
    check(data[:11], b"PGCOPY\n\xff\r\n\0")


def copy_failures():
    with connect() as connection, connection.cursor() as cursor:
        copy_table(connection)

        def copy_in(text):
            with cursor.copy("COPY psycopg_copy FROM STDIN") as copy:
                copy.write(text)

        error = fails("22P02", copy_in, "1\tgood\t1\t\\N\n2\tbad\tx\t\\N\n")
        check(error.diag.context, 'COPY psycopg_copy, line 2, column c: "x"')
        error = fails("22P04", copy_in, "1\tfew\n")
        check(error.diag.message_primary, 'missing data for column "c"')
        error = fails("22P04", copy_in, "1\ta\t1\t\\N\tmore\n")
        check(error.diag.message_primary, "extra data after last expected column")
        error = fails("23505", copy_in, "1\ta\t1\t\\N\n1\tb\t1\t\\N\n")
        check(error.diag.constraint_name, "psycopg_copy_pkey")
        try:
            with cursor.copy("COPY psycopg_copy FROM STDIN") as copy:
                copy.write("1\ta\t1\t\\N\n")
                raise KeyError("the client gives up")
        except KeyError:
            pass
        check(one(connection, "SELECT count(*) FROM psycopg_copy"), 0)


def cancel():
    with connect() as connection:
        for query in ["SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 100000000000) AS g"]:
            timer = threading.Timer(0.3, connection.cancel)
            begun = time.monotonic()
            timer.start()
            error = fails("57014", connection.execute, query)
            check(error.diag.message_primary, "canceling statement due to user request")
            timer.join()
            assert time.monotonic() - begun < 10, "the cancel request took too long"
            check(one(connection, "SELECT 1"), 1)


def statement_timeout():
    with connect() as connection:
        connection.execute("SET statement_timeout = '200ms'")
        error = fails("57014", connection.execute, "SELECT pg_sleep(60)")
        check(error.diag.message_primary, "canceling statement due to statement timeout")
        connection.execute("RESET statement_timeout")
        check(one(connection, "SELECT 1"), 1)


def prepared_reuse():
    with connect() as connection:
        accounts(connection)
        query = "SELECT balance + %s FROM psycopg_accounts WHERE id = %s"
        for number in range(50):
            check(connection.execute(query, (number, 1), prepare=True).fetchone(), (100 + number,))
        update = "UPDATE psycopg_accounts SET balance = balance + %s WHERE id = %s"
        for _ in range(20):
            check(connection.execute(update, (1, 2), prepare=True).rowcount, 1)
        connection.execute("CREATE INDEX psycopg_balance ON psycopg_accounts (balance)")
        connection.execute("ALTER TABLE psycopg_accounts ADD COLUMN extra text DEFAULT 'new'")
        check(connection.execute(query, (0, 2), prepare=True).fetchone(), (220,))
        connection.execute("PREPARE psycopg_sum (int) AS SELECT sum(balance) + $1 FROM psycopg_accounts")
        check(one(connection, "EXECUTE psycopg_sum (1)"), 321)
        connection.execute("DEALLOCATE psycopg_sum")
        fails("26000", connection.execute, "EXECUTE psycopg_sum (1)")


def cursors():
    with connect(autocommit=False) as connection:
        with connection.cursor("psycopg_cursor") as cursor:
            cursor.itersize = 7
            cursor.execute("SELECT g, repeat('x', 100) FROM generate_series(1, %s) AS g", (100,))
            check(cursor.fetchone()[0], 1)
            check([row[0] for row in cursor.fetchmany(3)], [2, 3, 4])
            check([row[0] for row in cursor], list(range(5, 101)))
        connection.rollback()
        if ARGUMENTS.server == "alluvium":
            fails("0A000", connection.execute, "DECLARE c SCROLL CURSOR FOR SELECT 1")
            connection.rollback()
        connection.execute("DECLARE c CURSOR FOR SELECT g FROM generate_series(1, 10) AS g")
        check(connection.execute("FETCH 3 FROM c").fetchall(), [(1,), (2,), (3,)])
        check(connection.execute("MOVE 4 IN c").statusmessage, "MOVE 4")
        check(connection.execute("FETCH ALL FROM c").fetchall(), [(8,), (9,), (10,)])
        connection.execute("CLOSE c")
        fails("34000", connection.execute, "FETCH 1 FROM c")
        connection.rollback()
        with connection.cursor() as cursor:
            check([row[0] for row in cursor.stream("SELECT generate_series(1, 50)")], list(range(1, 51)))


def notices():
    with connect() as connection:
        seen = []
        connection.add_notice_handler(
            lambda notice: seen.append((notice.severity_nonlocalized, notice.sqlstate, notice.message_primary))
        )
        connection.execute("DROP TABLE IF EXISTS psycopg_missing")
        check(seen, [("NOTICE", "00000", 'table "psycopg_missing" does not exist, skipping')])
        connection.execute("SET client_min_messages = warning")
        connection.execute("DROP TABLE IF EXISTS psycopg_missing")
        check(len(seen), 1)
        connection.execute("COMMIT")
        check(seen[1], ("WARNING", "25P01", "there is no transaction in progress"))


def listen():
    with connect() as connection:
        if ARGUMENTS.server == "alluvium":
            fails("0A000", connection.execute, "LISTEN channel")
            fails("0A000", connection.execute, "NOTIFY channel")
        connection.execute("UNLISTEN *")
        check(one(connection, "SELECT 1"), 1)


def settings():
    options = "-c statement_timeout=12345 -c search_path=pg_catalog"
    with connect(application_name="suite", options=options, client_encoding="UTF8") as connection:
        check(one(connection, "SHOW application_name"), "suite")
        check(one(connection, "SHOW statement_timeout"), "12345ms")
        check(one(connection, "SELECT current_setting('search_path')"), "pg_catalog")
        status = connection.info.parameter_status
        check(status("application_name"), "suite")
        check(status("server_encoding"), "UTF8")
        check(status("integer_datetimes"), "on")
        check(status("standard_conforming_strings"), "on")
        check(status("DateStyle"), "ISO, MDY")
        assert connection.info.server_version >= 150000
        connection.execute("SET TimeZone = 'America/New_York'")
        check(status("TimeZone"), "America/New_York")
        check(one(connection, "SELECT timestamptz '2024-07-01 12:00:00+00'::text"), "2024-07-01 08:00:00-04")
        with connection.transaction():
            connection.execute("SET LOCAL TimeZone = 'UTC'")
            check(status("TimeZone"), "UTC")
        check(status("TimeZone"), "America/New_York")
        connection.execute("BEGIN; SET application_name = 'undone'; ROLLBACK")
        check(one(connection, "SHOW application_name"), "suite")
        check(one(connection, "SELECT set_config('application_name', 'configured', false)"), "configured")
        check(status("application_name"), "configured")
        connection.execute("RESET ALL")
        check(one(connection, "SHOW application_name"), "suite")
        check(one(connection, "SELECT current_user || '@' || current_database()"), "postgres@postgres")
    for change, message in [
        ({"dbname": "missing"}, 'database "missing" does not exist'),
        ({"user": "missing"}, 'role "missing" does not exist'),
    ]:
        try:
            connect(**change).close()
        except psycopg.OperationalError as error:
            assert message in str(error), str(error)
        else:
            raise AssertionError(f"{change}: the server accepted")


def passwords():
    good = {"user": common.PASSWORD_ROLE, "port": ARGUMENTS.password_port}
    with connect(password=common.PASSWORD, **good) as connection:
        check(one(connection, "SELECT current_user::text"), common.PASSWORD_ROLE)
    for change in [{"password": "wrong"}, {"password": common.PASSWORD + " "}]:
        try:
            connect(**(good | change)).close()
        except psycopg.OperationalError as error:
            assert "password authentication failed for user" in str(error), str(error)
        else:
            raise AssertionError(f"{change}: the server accepted")


def main():
    failed = []
    names = common.names(
        [name for name in (common.FOLDER / "cases.txt").read_text().split() if callable(globals().get(name))]
    )
    for name in names:
        try:
            globals()[name]()
            common.report(name, failed)
        except Exception as error:  # One case's failure must not hide the others.
            common.report(name, failed, error)
    common.finish(f"psycopg {psycopg.__version__}", len(names), failed)


main()
