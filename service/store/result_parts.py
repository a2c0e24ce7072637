"""Parts of a trial's result, read by the database: it may be megabytes, and is unpacked once for all its parts."""

from typing import Any

from sqlalchemy import column, func
from sqlalchemy.sql.selectable import Lateral
from sqlalchemy.types import TypeEngine

from service.store.tables import Trial


def result_parts(**kinds: type[TypeEngine[Any]]) -> Lateral:
    """One row beside each trial's, to be joined with ``on true``; nulls where the trial has no result, or not that."""
    columns = [column(name, kind) for name, kind in kinds.items()]
    # Postgres evaluates ``result -> 'x'`` anew for each x, from the packed value.
    found = func.jsonb_to_record(Trial.result).table_valued(*columns, name="part")
    return found.render_derived(name="part", with_types=True).lateral("part")
