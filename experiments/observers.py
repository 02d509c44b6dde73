"""A database as a second record of a run: one option of every experiment's command line.

`--observe URL` adds Sacred's observer for SQL or for MongoDB. The folder under `runs/` stays the record: a
database gives each run an id of its own, since several machines may share it.
"""

import contextlib
import importlib
import json
import os
import warnings
from typing import Any
from urllib.parse import urlsplit

from sacred.commandline_options import cli_option
from sacred.observers import MongoObserver, SqlObserver
from sacred.run import Run

from sbp_bayes.base.errors import ConfigError

SECONDS_TO_ANSWER = 5


@cli_option("-o", "--observe")
def observe(url: str, run: Run) -> None:
    """Record the run in a database too: sqlite:///FILE, postgresql://…, or mongodb://HOST:PORT/NAME."""
    if os.environ.get("RANK", "0") != "0":
        return
    scheme, shown = url.partition("://")[0], _without_password(url)
    try:
        run.observers.append(_mongo(url) if scheme.startswith("mongodb") else _sql(url))
    except ImportError as error:
        raise ConfigError(f"--observe {shown} needs the package {error.name}: pip install it") from error
    except Exception as error:  # of whichever database
        reason = " ".join(str(error).replace(url, shown).split())
        raise ConfigError(f"--observe {shown}: cannot be used ({reason})") from error


def _mongo(url: str) -> MongoObserver:
    import pymongo

    wait = SECONDS_TO_ANSWER * 1000
    client: Any = pymongo.MongoClient(url, serverSelectionTimeoutMS=wait, connectTimeoutMS=wait)
    client.admin.command("ping")
    name = urlsplit(url).path.strip("/") or "sacred"
    return _Mongo(client=client, db_name=name)


def _sql(url: str) -> SqlObserver:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Sacred looks for a name where SQLAlchemy 1 had it
        importlib.import_module("sacred.observers.sql_bases")
    observer = _Sql(url)
    with contextlib.closing(observer.engine.connect()):
        return observer


class _Mongo(MongoObserver):
    """Sacred's observer, with the database's own ids."""

    def started_event(self, *event: Any, **named: Any) -> None:
        super().started_event(*event, **{**named, "_id": None})  # and gives the run no name


class _Sql(SqlObserver):
    """Sacred's observer, with the database's own ids, and with results that are no number.

    Its column for the result is a number; every result goes into the information on the run, as JSON.
    """

    def started_event(self, *event: Any, **named: Any) -> None:
        super().started_event(*event, **{**named, "_id": None})  # and gives the run no name

    def heartbeat_event(self, info: Any, captured_out: str, beat_time: Any, result: Any) -> None:
        super().heartbeat_event(info, captured_out, beat_time, _number(result))

    def completed_event(self, stop_time: Any, result: Any) -> None:
        self.run.info = json.dumps({**json.loads(self.run.info or "{}"), "result": result}, default=str)
        super().completed_event(stop_time, _number(result))


def _number(result: Any) -> float | None:
    return float(result) if isinstance(result, int | float) else None


def _without_password(url: str) -> str:
    try:
        password = urlsplit(url).password
    except ValueError:
        return url.partition("://")[0]
    return url.replace(f":{password}@", ":…@") if password else url
