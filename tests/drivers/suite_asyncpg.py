"""The driver suite with asyncpg: every case of cases.txt. Its values travel in binary; text goes through casts."""

import asyncio
import datetime
import decimal
import io
import math
import time
import uuid

import asyncpg

import common
from common import check

ARGUMENTS = common.arguments()


class Connection:
    """`async with`: asyncpg's own connections are not context managers."""

    def __init__(self, **settings):
        self.settings = {"user": "postgres", "database": "postgres", "port": ARGUMENTS.port} | settings
        self.settings["server_settings"] = {"TimeZone": "UTC"} | self.settings.get("server_settings", {})

    async def __aenter__(self):
        self.connection = await asyncpg.connect(host="127.0.0.1", ssl=False, **self.settings)
        return self.connection

    async def __aexit__(self, *_):
        await self.connection.close(timeout=10)


async def fails(state, awaitable, what=""):
    """Expects an error with this SQLSTATE, and returns it."""
    try:
        await awaitable
    except asyncpg.PostgresError as error:
        check(error.sqlstate, state, what, error)
        return error
    raise AssertionError(f"{what}: no error, expected {state}")


async def all_of(checks):
    """Awaits every check of a case, so that one failure does not hide the others."""
    failures = []
    for one in checks:
        try:
            await one
        except Exception as error:  # Reported below, all together.
            failures.append(f"{type(error).__name__}: {error}".strip())
    assert not failures, f"{len(failures)} failures:\n    " + "\n    ".join(failures)


async def values_text():
    async with Connection() as connection:

        async def round_trip(kind, value):
            back = await connection.fetchval(f"SELECT ($1::text::{kind.name})::text", value)
            check(back, kind.expected(value), kind.name)

        await all_of(round_trip(kind, value) for kind in common.types() for value in kind.values + kind.beyond)


async def values_binary():
    async with Connection() as connection:

        async def round_trip(kind, value):
            native = await connection.fetchval(f"SELECT $1::text::{kind.name}", value)
            back = await connection.fetchval(f"SELECT ($1::{kind.name})::text", native)
            check(back, kind.expected(value), kind.name)

        await all_of(round_trip(kind, value) for kind in common.types() for value in kind.values)


async def values_arrays():
    async with Connection() as connection:

        async def round_trip(kind):
            texts = kind.values + [None]
            native = await connection.fetchval(f"SELECT $1::text[]::{kind.name}[]", texts)
            back = await connection.fetchval(f"SELECT ($1::{kind.name}[])::text[]", native)
            check(back, [None if text is None else kind.expected(text) for text in texts], kind.name)

        await all_of(round_trip(kind) for kind in common.types())
        nested = [[1, 2], [3, None]]
        check(await connection.fetchval("SELECT $1::int[]", nested), nested)
        check(await connection.fetchval("SELECT '{}'::int[]"), [])


async def values_null():
    async with Connection() as connection:
        for kind in common.types():
            check(await connection.fetchval(f"SELECT NULL::{kind.name}"), None, kind.name)
            check(await connection.fetchval(f"SELECT $1::{kind.name} IS NULL", None), True, kind.name)


async def values_stored():
    async with Connection() as connection:

        async def stored(number, kind):
            table = f"asyncpg_values_{number}"
            await connection.execute(f"DROP TABLE IF EXISTS {table}")
            await connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v {kind.name})")
            texts = kind.values + kind.beyond + [None]
            rows = list(enumerate(texts))
            await connection.executemany(f"INSERT INTO {table} VALUES ($1, $2::text::{kind.name})", rows)
            found = await connection.fetch(f"SELECT v::text FROM {table} ORDER BY id")
            check([row[0] for row in found], [t if t is None else kind.expected(t) for t in texts], kind.name)
            if kind.base != "json":
                await connection.execute(f"CREATE INDEX ON {table} (v)")
                query = f"SELECT count(*) FROM {table} WHERE v = $1::text::{kind.name} AND id = $2"
                for number, text in enumerate(texts[:-1]):
                    check(await connection.fetchval(query, text, number), 1, kind.name, text)
            await connection.execute(f"DROP TABLE {table}")

        await all_of(stored(number, kind) for number, kind in enumerate(common.types()))


async def values_bad():
    async with Connection() as connection:
        await all_of(
            fails(state, connection.fetchval(f"SELECT $1::text::{kind.name}", text), f"{kind.name} {text}")
            for kind in common.types()
            for text, state in kind.bad.items()
        )


async def values_native():
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
        "'{\"a\": [1, null]}'::jsonb": '{"a": [1, null]}',
        "ARRAY['a', NULL, 'b,c']": ["a", None, "b,c"],
        "'x '::char(3)": "x  ",
        "true": True,
    }
    async with Connection() as connection:
        for expression, value in expected.items():
            check(await connection.fetchval(f"SELECT {expression}"), value, expression)
        assert math.isnan(await connection.fetchval("SELECT 'NaN'::float8"))


async def parameters():
    async with Connection() as connection:
        row = await connection.fetchrow("SELECT $1::int + $2::int8, $3::text || $4, $5::bool", 1, 2, "a", "b", True)
        check(tuple(row), (3, "ab", True))
        await connection.execute("DROP TABLE IF EXISTS asyncpg_parameters")
        await connection.execute("CREATE TABLE asyncpg_parameters (a int PRIMARY KEY, b text, c numeric(8,2))")
        insert = "INSERT INTO asyncpg_parameters VALUES ($1, $2, $3) RETURNING a, b, c"
        row = await connection.fetchrow(insert, 1, "x", decimal.Decimal("2.5"))
        check(tuple(row), (1, "x", decimal.Decimal("2.50")))
        check(tuple(await connection.fetchrow(insert, 2, None, None)), (2, None, None))
        fetch = connection.fetchval
        check(await fetch("SELECT count(*) FROM asyncpg_parameters WHERE a = ANY($1)", [1, 2, 3]), 2)
        check(await fetch("SELECT a FROM asyncpg_parameters WHERE b = $1 LIMIT $2", "x", 5), 1)
        marks = ", ".join(f"(${number}::int)" for number in range(1, 1001))
        check(await fetch(f"SELECT sum(v) FROM (VALUES {marks}) AS t (v)", *range(1000)), 499500)
        check(await fetch("SELECT length($1::text)", "x" * 3_000_000), 3_000_000)
        # The types that the server infers.
        statement = await connection.prepare("SELECT $1 + a, b || $2 FROM asyncpg_parameters WHERE c > $3")
        check([kind.name for kind in statement.get_parameters()], ["int4", "text", "numeric"])
        check([(field.name, field.type.name) for field in statement.get_attributes()],
              [("?column?", "int4"), ("?column?", "text")])
        await connection.execute("DROP TABLE asyncpg_parameters")


async def errors():
    setup, cases = common.errors()
    async with Connection() as connection:
        for statement in setup:
            await connection.execute(statement)

        async def run(case):
            error = await fails(case["state"], connection.fetch(case["sql"]), case["sql"])
            found = {
                "state": error.sqlstate,
                "message": error.message,
                "detail": error.detail,
                "hint": error.hint,
                "position": error.position,
                "schema": error.schema_name,
                "table": error.table_name,
                "column": error.column_name,
                "constraint": error.constraint_name,
            }
            if case["state"] == "26000":
                found["hint"] = None  # asyncpg writes a hint of its own into this error.
            check(error.severity_en, "ERROR", case["sql"])
            common.check_error(found, case)

        await all_of(run(case) for case in cases)
        check(await connection.fetchval("SELECT 1"), 1)


async def accounts(connection):
    await connection.execute("DROP TABLE IF EXISTS asyncpg_accounts")
    await connection.execute("CREATE TABLE asyncpg_accounts (id int PRIMARY KEY, balance int)")
    await connection.execute("INSERT INTO asyncpg_accounts VALUES (1, 100), (2, 200)")


BALANCE = "SELECT balance FROM asyncpg_accounts WHERE id = 1"
COUNT = "SELECT count(*) FROM asyncpg_accounts"


async def transaction_commit():
    async with Connection() as connection, Connection() as other:
        await accounts(connection)
        async with connection.transaction():
            await connection.execute("UPDATE asyncpg_accounts SET balance = 1 WHERE id = 1")
            check(await connection.fetchval(BALANCE), 1)
            check(await other.fetchval(BALANCE), 100)
            check(connection.is_in_transaction(), True)
        check(await other.fetchval(BALANCE), 1)
        check(connection.is_in_transaction(), False)


async def transaction_rollback():
    async with Connection() as connection:
        await accounts(connection)
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("DELETE FROM asyncpg_accounts")
        await connection.execute("CREATE TABLE asyncpg_undone (a int)")
        check(await connection.fetchval(COUNT), 0)
        await transaction.rollback()
        check(await connection.fetchval(COUNT), 2)
        await fails("42P01", connection.execute("SELECT * FROM asyncpg_undone"))
    async with Connection() as lost:
        await lost.execute("BEGIN")
        await lost.execute("DELETE FROM asyncpg_accounts")
    async with Connection() as connection:
        check(await connection.fetchval(COUNT), 2)


async def savepoints():
    async with Connection() as connection:
        await accounts(connection)
        async with connection.transaction():
            await connection.execute("UPDATE asyncpg_accounts SET balance = 1 WHERE id = 1")
            try:
                async with connection.transaction():
                    await connection.execute("UPDATE asyncpg_accounts SET balance = 2 WHERE id = 1")
                    async with connection.transaction():
                        await connection.execute("UPDATE asyncpg_accounts SET balance = 3 WHERE id = 1")
                    check(await connection.fetchval(BALANCE), 3)
                    await connection.execute("SELECT 1/0")
            except asyncpg.DivisionByZeroError:
                pass
            check(await connection.fetchval(BALANCE), 1)
            async with connection.transaction():
                await connection.execute("UPDATE asyncpg_accounts SET balance = balance + 10 WHERE id = 1")
        check(await connection.fetchval(BALANCE), 11)


async def failed_block():
    async with Connection() as connection:
        await accounts(connection)
        await connection.execute("BEGIN")
        await connection.execute("DELETE FROM asyncpg_accounts")
        await fails("22012", connection.fetchval("SELECT 1/0"))
        await fails("25P02", connection.fetchval("SELECT 1"))
        await fails("25P02", connection.execute("SELECT 1"))
        check(await connection.execute("COMMIT"), "ROLLBACK")
        check(await connection.fetchval(COUNT), 2)
        transaction = connection.transaction(readonly=True)
        await transaction.start()
        await fails("25006", connection.execute("DELETE FROM asyncpg_accounts"))
        await transaction.rollback()


async def isolation_levels():
    async with Connection() as reader, Connection() as writer:
        await accounts(writer)
        async with reader.transaction(isolation="read_committed"):
            check(await reader.fetchval("SHOW transaction_isolation"), "read committed")
            check(await reader.fetchval(BALANCE), 100)
            await writer.execute("UPDATE asyncpg_accounts SET balance = 101 WHERE id = 1")
            check(await reader.fetchval(BALANCE), 101)
        levels = ["repeatable_read", "serializable"]
        if ARGUMENTS.server == "alluvium":
            async with Connection() as other:
                await fails("0A000", other.transaction(isolation=levels.pop()).start(), "serializable")
        for level in levels:
            transaction = reader.transaction(isolation=level)
            await transaction.start()
            check(await reader.fetchval("SHOW transaction_isolation"), level.replace("_", " "))
            before = await reader.fetchval(BALANCE)
            await writer.execute("UPDATE asyncpg_accounts SET balance = balance + 1 WHERE id = 1")
            check(await reader.fetchval(BALANCE), before)
            await fails("40001", reader.execute("UPDATE asyncpg_accounts SET balance = 0 WHERE id = 1"), level)
            await transaction.rollback()


async def implicit_transactions():
    async with Connection() as connection:
        await accounts(connection)
        await fails("22012", connection.execute("DELETE FROM asyncpg_accounts; SELECT 1/0"))
        check(await connection.fetchval(COUNT), 2)
        # One pipeline up to its Sync is one transaction: what came before the error is undone.
        insert = "INSERT INTO asyncpg_accounts VALUES ($1, 1)"
        await fails("23505", connection.executemany(insert, [(3,), (4,), (1,), (5,)]))
        check(await connection.fetchval(COUNT), 2)
        await connection.executemany(insert, [(3,), (4,)])
        check(await connection.fetchval(COUNT), 4)


ROWS = [
    (1, "plain", decimal.Decimal("1.50"), datetime.date(2024, 2, 29)),
    (2, "tab\tnewline\nreturn\rback\\slash", None, None),
    (3, "", decimal.Decimal("-0.01"), datetime.date(1, 1, 2)),
    (4, None, decimal.Decimal("12345678901234567890.12"), datetime.date(9999, 12, 30)),
    (5, 'quote",comma \u4e16\u754c', decimal.Decimal("0"), None),
    (6, "\\N", decimal.Decimal("0.00"), None),
    (7, "NULL", decimal.Decimal("7"), None),
]
CSV = (
    'a,b,c,d\n1,plain,1.50,2024-02-29\n2,"tab\tnewline\nreturn\rback\\slash",,\n3,"",-0.01,0001-01-02\n'
    '4,,12345678901234567890.12,9999-12-30\n5,"quote"",comma \u4e16\u754c",0,\n6,\\N,0.00,\n7,NULL,7,\n'
)


async def copied(connection):
    return [tuple(row) for row in await connection.fetch("SELECT * FROM asyncpg_copy ORDER BY a")]


async def copy_table(connection):
    await connection.execute("DROP TABLE IF EXISTS asyncpg_copy")
    await connection.execute("CREATE TABLE asyncpg_copy (a int PRIMARY KEY, b text, c numeric, d date)")
    await connection.executemany("INSERT INTO asyncpg_copy VALUES ($1, $2, $3, $4)", ROWS)


async def copy_round_trip(connection, **options):
    """Out, in again in blocks that break lines and fields, and the same rows are there."""
    output = io.BytesIO()
    check(await connection.copy_from_table("asyncpg_copy", output=output, **options), "COPY 7")
    data = output.getvalue()
    await connection.execute("TRUNCATE asyncpg_copy")

    async def blocks():
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    check(await connection.copy_to_table("asyncpg_copy", source=blocks(), **options), "COPY 7")
    check(await copied(connection), ROWS)
    return data


async def copy_text():
    async with Connection() as connection:
        await copy_table(connection)
        data = await copy_round_trip(connection, format="text")
        check(data.split(b"\n")[1], b"2\ttab\\tnewline\\nreturn\\rback\\\\slash\t\\N\t\\N")
        output = io.BytesIO()
        query = "SELECT a, b FROM asyncpg_copy WHERE a < $1"
        check(await connection.copy_from_query(query, 2, output=output), "COPY 1")
        check(output.getvalue(), b"1\tplain\n")
        source = io.BytesIO(b"eight|8\nnone|9\n")
        options = {"columns": ["b", "a"], "delimiter": "|", "null": "none"}
        await connection.copy_to_table("asyncpg_copy", source=source, **options)
        check((await copied(connection))[-2:], [(8, "eight", None, None), (9, None, None, None)])


async def copy_csv():
    async with Connection() as connection:
        await copy_table(connection)
        data = await copy_round_trip(connection, format="csv", header=True)
        check(data.decode(), CSV)
        await connection.execute("TRUNCATE asyncpg_copy")
        await connection.copy_to_table("asyncpg_copy", source=io.BytesIO(CSV.encode()), format="csv", header=True)
        check(await copied(connection), ROWS)


async def copy_binary():
    async with Connection() as connection:
        await copy_table(connection)
        data = await copy_round_trip(connection, format="binary")
        check(data[:11], b"PGCOPY\n\xff\r\n\0")
        await connection.execute("TRUNCATE asyncpg_copy")
        check(await connection.copy_records_to_table("asyncpg_copy", records=ROWS), "COPY 7")
        check(await copied(connection), ROWS)


async def copy_failures():
    async with Connection() as connection:
        await copy_table(connection)
        await connection.execute("TRUNCATE asyncpg_copy")

        async def copy_fails(state, text):
            return await fails(state, connection.copy_to_table("asyncpg_copy", source=io.BytesIO(text)), text)

        error = await copy_fails("22P02", b"1\tgood\t1\t\\N\n2\tbad\tx\t\\N\n")
        check(error.context, 'COPY asyncpg_copy, line 2, column c: "x"')
        error = await copy_fails("22P04", b"1\tfew\n")
        check(error.message, 'missing data for column "c"')
        error = await copy_fails("22P04", b"1\ta\t1\t\\N\tmore\n")
        check(error.message, "extra data after last expected column")
        error = await copy_fails("23505", b"1\ta\t1\t\\N\n1\tb\t1\t\\N\n")
        check(error.constraint_name, "asyncpg_copy_pkey")

        async def gives_up():
            yield b"1\ta\t1\t\\N\n"
            raise KeyError("the client gives up")

        try:
            await connection.copy_to_table("asyncpg_copy", source=gives_up())
        except KeyError:
            pass
        check(await connection.fetchval("SELECT count(*) FROM asyncpg_copy"), 0)


async def cancel():
    async with Connection() as connection:
        for query in ["SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1, 100000000000) AS g"]:
            begun = time.monotonic()
            running = asyncio.ensure_future(connection.fetchval(query))
            await asyncio.sleep(0.3)
            running.cancel()
            try:
                await running
                raise AssertionError("the statement was not cancelled")
            except asyncio.CancelledError:
                pass
            # asyncpg waits for the server's answer to the cancel request before the next statement.
            check(await connection.fetchval("SELECT 1"), 1)
            assert time.monotonic() - begun < 10, "the cancel request took too long"


async def statement_timeout():
    async with Connection() as connection:
        await connection.execute("SET statement_timeout = '200ms'")
        error = await fails("57014", connection.fetchval("SELECT pg_sleep(60)"))
        check(error.message, "canceling statement due to statement timeout")
        await connection.execute("RESET statement_timeout")
        check(await connection.fetchval("SELECT 1"), 1)


async def prepared_reuse():
    async with Connection() as connection:
        await accounts(connection)
        query = await connection.prepare("SELECT balance + $1 FROM asyncpg_accounts WHERE id = $2")
        for number in range(50):
            check(await query.fetchval(number, 1), 100 + number)
        update = await connection.prepare("UPDATE asyncpg_accounts SET balance = balance + $1 WHERE id = $2")
        for _ in range(20):
            await update.fetch(1, 2)
            check(update.get_statusmsg(), "UPDATE 1")
        await connection.execute("CREATE INDEX asyncpg_balance ON asyncpg_accounts (balance)")
        await connection.execute("ALTER TABLE asyncpg_accounts ADD COLUMN extra text DEFAULT 'new'")
        check(await query.fetchval(0, 2), 220)
        await connection.execute("PREPARE asyncpg_sum (int) AS SELECT sum(balance) + $1 FROM asyncpg_accounts")
        check(await connection.fetchval("EXECUTE asyncpg_sum (1)"), 321)
        await connection.execute("DEALLOCATE asyncpg_sum")
        await fails("26000", connection.execute("EXECUTE asyncpg_sum (1)"))


async def cursors():
    async with Connection() as connection:
        async with connection.transaction():
            query = "SELECT g, repeat('x', 100) FROM generate_series(1, $1::int) AS g"
            found = [row[0] async for row in connection.cursor(query, 100, prefetch=7)]
            check(found, list(range(1, 101)))
            cursor = await connection.cursor(query, 100)
            check((await cursor.fetchrow())[0], 1)
            check([row[0] for row in await cursor.fetch(3)], [2, 3, 4])
            check(await cursor.forward(6), 6)
            check([row[0] for row in await cursor.fetch(1000)], list(range(11, 101)))
        if ARGUMENTS.server == "alluvium":
            await fails("0A000", connection.execute("DECLARE c SCROLL CURSOR FOR SELECT 1"), "SCROLL")
        async with connection.transaction():
            await connection.execute("DECLARE c CURSOR FOR SELECT g FROM generate_series(1, 10) AS g")

            async def fetch(what):
                return [row[0] for row in await connection.fetch(what)]

            check(await fetch("FETCH 3 FROM c"), [1, 2, 3])
            check(await connection.execute("MOVE 4 IN c"), "MOVE 4")
            check(await fetch("FETCH ALL FROM c"), [8, 9, 10])
            await connection.execute("CLOSE c")
        await fails("34000", connection.execute("FETCH 1 FROM c"))


async def notices():
    async with Connection() as connection:
        seen = []
        connection.add_log_listener(lambda _, notice: seen.append((notice.severity_en, notice.sqlstate, notice.message)))
        await connection.execute("DROP TABLE IF EXISTS asyncpg_missing")
        await asyncio.sleep(0.05)
        check(seen, [("NOTICE", "00000", 'table "asyncpg_missing" does not exist, skipping')])
        await connection.execute("SET client_min_messages = warning")
        await connection.execute("DROP TABLE IF EXISTS asyncpg_missing")
        await asyncio.sleep(0.05)
        check(len(seen), 1)
        await connection.execute("COMMIT")
        await asyncio.sleep(0.05)
        check(seen[1], ("WARNING", "25P01", "there is no transaction in progress"))


async def listen():
    async with Connection() as connection:
        if ARGUMENTS.server == "alluvium":
            await fails("0A000", connection.add_listener("channel", lambda *_: None), "LISTEN")
            await fails("0A000", connection.execute("NOTIFY channel"), "NOTIFY")
        await connection.execute("UNLISTEN *")
        check(await connection.fetchval("SELECT 1"), 1)


async def settings():
    given = {"application_name": "suite", "statement_timeout": "12345", "search_path": "pg_catalog"}
    async with Connection(server_settings=given) as connection:
        show = connection.fetchval
        check(await show("SHOW application_name"), "suite")
        check(await show("SHOW statement_timeout"), "12345ms")
        check(await show("SELECT current_setting('search_path')"), "pg_catalog")
        status = connection.get_settings()
        check((status.application_name, status.server_encoding), ("suite", "UTF8"))
        check((status.integer_datetimes, status.standard_conforming_strings), ("on", "on"))
        check((status.DateStyle, status.TimeZone), ("ISO, MDY", "UTC"))
        assert connection.get_server_version().major >= 15
        await connection.execute("SET TimeZone = 'America/New_York'")
        check(connection.get_settings().TimeZone, "America/New_York")
        check(await show("SELECT timestamptz '2024-07-01 12:00:00+00'::text"), "2024-07-01 08:00:00-04")
        async with connection.transaction():
            await connection.execute("SET LOCAL TimeZone = 'UTC'")
            check(connection.get_settings().TimeZone, "UTC")
        check(connection.get_settings().TimeZone, "America/New_York")
        await connection.execute("BEGIN; SET application_name = 'undone'; ROLLBACK")
        check(await show("SHOW application_name"), "suite")
        check(await show("SELECT set_config('application_name', 'configured', false)"), "configured")
        check(connection.get_settings().application_name, "configured")
        await connection.reset()
        check(await show("SHOW application_name"), "suite")
        check(await show("SELECT current_user || '@' || current_database()"), "postgres@postgres")
    await fails("3D000", Connection(database="missing").__aenter__(), "a missing database")
    await fails("28000", Connection(user="missing").__aenter__(), "a missing role")
    async with asyncpg.create_pool(
        host="127.0.0.1", port=ARGUMENTS.port, user="postgres", database="postgres", min_size=2, max_size=3
    ) as pool:
        found = await asyncio.gather(*(pool.fetchval("SELECT $1::int", number) for number in range(20)))
        check(found, list(range(20)))


async def passwords():
    good = {"user": common.PASSWORD_ROLE, "port": ARGUMENTS.password_port}
    async with Connection(password=common.PASSWORD, **good) as connection:
        check(await connection.fetchval("SELECT current_user::text"), common.PASSWORD_ROLE)
    for password in ["wrong", common.PASSWORD + " "]:
        await fails("28P01", Connection(password=password, **good).__aenter__(), "a wrong password")


async def main():
    failed = []
    names = common.names(
        [name for name in (common.FOLDER / "cases.txt").read_text().split() if callable(globals().get(name))]
    )
    for name in names:
        try:
            await asyncio.wait_for(globals()[name](), timeout=120)
            common.report(name, failed)
        except Exception as error:  # One case's failure must not hide the others.
            common.report(name, failed, error)
    common.finish(f"asyncpg {asyncpg.__version__}", len(names), failed)


asyncio.run(main())
