"""The attempts of a study as a Parquet file: the columns of its CSV with their types, and the study itself."""

import io
import json
from typing import TYPE_CHECKING

from service.export import ExportedTrial, StudyExport

if TYPE_CHECKING:
    import pyarrow

ABOUT = b"mudman-study"
"""Key of the file's metadata that holds the export's ``study`` as JSON."""
_INTEGERS = ("ordinal", "attempt", "passes_booked", "passes_made", "passes_skipped", "stopped_at_pass")
_TEXTS, _TIMES = ("outcome", "reason"), ("started_at", "finished_at")


def as_parquet(export: StudyExport) -> bytes:
    """A row for each attempt; a column for each hyper-parameter, ``hyperparameters.NAME``; null where there is no
    number."""
    # Loaded only where it is asked for: half a second, and 40 MB that no other answer needs.
    import pyarrow
    from pyarrow import parquet

    searched = sorted({name for trial in export.trials for name in trial.hyperparameters})
    own = [name for name in ExportedTrial.model_fields if name != "hyperparameters"]
    columns = {name: [getattr(trial, name) for trial in export.trials] for name in own}
    for name in searched:
        columns[f"hyperparameters.{name}"] = [trial.hyperparameters.get(name) for trial in export.trials]
    about = {ABOUT: json.dumps(export.study.model_dump(mode="json")).encode()}
    schema = pyarrow.schema([(name, _kind(name)) for name in columns], metadata=about)
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns, schema=schema), file, compression="zstd")
    return file.getvalue()


def _kind(name: str) -> "pyarrow.DataType":
    import pyarrow

    if name in _INTEGERS:
        return pyarrow.int64()
    if name in _TEXTS:
        return pyarrow.string()
    return pyarrow.timestamp("us", tz="UTC") if name in _TIMES else pyarrow.float64()
