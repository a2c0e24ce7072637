"""Examples of confirmations and checkpoints, in the OpenAPI document."""

from service.action_examples import body, study
from service.examples import STUDY

_ID = STUDY["id"]
CONFIRM = body("ConfirmationSpec", False, as_usual={}, the_best_two={"best": 2, "seeds": 10})
CONFIRMING = study("queued") | {"name": "quickstart-confirmed", "labels": {"preset": "quickstart", "confirms": _ID}}
KEEP = body("Keeping", False, the_best={}, the_best_three={"best": 3}, one_of_them={"trials": [7]})
KEEPING = study("queued") | {"name": "quickstart-kept", "labels": {"preset": "quickstart", "checkpoints_of": _ID}}
_HERE = f"/studies/{_ID}/checkpoints/3"
CHECKPOINT = {
    "study": _ID,
    "ordinal": 3,
    "searched": 3.91,
    "value": 3.91,
    "agreement": "bit-equal",
    "difference": 0.0,
    "run": "st_4mWc7sJf0HyRq2Lb",
    "trial": 0,
    "kept_at": "2026-11-21T09:20:11Z",
    "bytes": 5270465,
    "files": [
        {"name": "README.md", "bytes": 2537, "sha256": "25a4…", "href": f"{_HERE}/README.md"},
        {"name": "model.safetensors", "bytes": 5267928, "sha256": "0dca…", "href": f"{_HERE}/model.safetensors"},
    ],
}
CHECKPOINTS = {
    "study": _ID,
    "items": [CHECKPOINT],
    "keeping": [{"study": CHECKPOINT["run"], "name": "quickstart-kept", "state": "completed", "trials": [3]}],
}
FILE = {"schema": {"type": "string", "format": "binary"}, "example": "the bytes of the file"}
