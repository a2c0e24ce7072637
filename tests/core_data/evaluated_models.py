"""Models whose predictions are written down, and questions to ask them."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn


class Bigram(nn.Module):
    """Logits of the next token depend on the present one alone: row ``token`` of ``table`` [vocabulary, vocabulary]."""

    config = SimpleNamespace()

    def __init__(self, table: torch.Tensor):
        super().__init__()
        self.table = nn.Parameter(table)
        self.head = nn.Identity()

    @property
    def dtype(self) -> torch.dtype:
        return self.table.dtype

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids, attention_mask=None, use_cache=False):
        return SimpleNamespace(logits=self.head(self.table[input_ids]))


QUESTIONS = [
    {"question": f" Which number is {word}? ", "choices": ["0", "1", "2", "3"], "answer": answer, "subject": "s"}
    for answer, word in [(0, "nought"), (1, "one"), (3, "three, the one after two"), (3, "three")]
]


def write_questions(root: Path, questions: list[dict] = QUESTIONS, name: str = "questions") -> str:
    """A folder below ``root``, as a spec names it."""
    (root / name).mkdir()
    (root / name / "test.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    return f"./{name}"
