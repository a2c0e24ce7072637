"""Examples of confirmations and checkpoints, in the OpenAPI document."""

from service.action_examples import body, study
from service.examples import STUDY

_ID = STUDY["id"]
CONFIRM = body("ConfirmationSpec", False, as_usual={}, the_best_two={"best": 2, "seeds": 10})
CONFIRMING = study("queued") | {"name": "quickstart-confirmed", "labels": {"preset": "quickstart", "confirms": _ID}}
