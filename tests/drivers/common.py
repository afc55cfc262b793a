"""What the suites of all drivers share: the list of cases, the values and errors, and the way of running.

Each suite runs every case of cases.txt, no more and no fewer, in that order, and ends with status 1 when one
fails. `tests/drivers.rs` is the same suite for tokio-postgres.
"""

import argparse
import json
import pathlib
import traceback

FOLDER = pathlib.Path(__file__).parent
PASSWORD_ROLE = "driver_login"
PASSWORD = "pencil \u00e9'\\ 17"


def arguments():
    """Where the servers are: one that trusts, and one that asks `driver_login` for its password."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--password-port", type=int, required=True)
    parser.add_argument("--server", choices=["alluvium", "postgresql"], default="alluvium")
    return parser.parse_args()


class Type:
    """A type, the canonical text of values that every driver can hold, and of those that only text can."""

    def __init__(self, entry):
        self.name = entry["type"]
        self.canonical = entry.get("canonical", {})
        self.values = entry["values"]
        self.beyond = entry.get("beyond", [])
        self.bad = entry.get("bad", {})

    @property
    def base(self):
        """The name without a modifier."""
        return self.name.split("(")[0]

    def expected(self, value):
        """What a value looks like when it comes back."""
        return self.canonical.get(value, value)


def types():
    return [Type(entry) for entry in json.loads((FOLDER / "values.json").read_text())]


def errors():
    """Statements that prepare, and cases: a statement with the error that PostgreSQL 15 answers."""
    content = json.loads((FOLDER / "errors.json").read_text())
    return content["setup"], content["cases"]


def check(found, expected, *what):
    assert found == expected, f"{' '.join(map(str, what))}: found {found!r}, expected {expected!r}"


def check_error(found, case):
    """Compares every field of an error; `found` maps the names used in errors.json."""
    for field in ["state", "message", "detail", "hint", "position", "schema", "table", "column", "constraint"]:
        value = found.get(field)
        value = int(value) if field == "position" and value is not None else value
        check(value, case.get(field), case["sql"], "-", field)


def all_of(checks):
    """Runs every check of a case, so that one failure does not hide the others."""
    failures = []
    for one in checks:
        try:
            one()
        except Exception as error:  # Reported below, all together.
            failures.append(f"{type(error).__name__}: {error}".strip())
    assert not failures, f"{len(failures)} failures:\n    " + "\n    ".join(failures)


def names(cases):
    """Compares a suite's functions with the list, and returns them in its order."""
    wanted = (FOLDER / "cases.txt").read_text().split()
    check(sorted(cases), sorted(wanted), "cases of the suite")
    return wanted


def report(name, failed, error=None):
    if error is None:
        print(f"ok {name}", flush=True)
        return
    failed.append(name)
    print(f"FAILED {name}", flush=True)
    text = "".join(traceback.format_exception(error))
    print("    " + text.replace("\n", "\n    "), flush=True)


def finish(driver, count, failed):
    print(f"{driver}: {count - len(failed)} of {count} cases passed", flush=True)
    raise SystemExit(1 if failed else 0)
