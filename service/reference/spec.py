"""The reference of specs: every model that a spec is made of, with every field."""

from mudman.specs import StudySpec
from service.reference.schemas import reached, section

_HEAD = """# Every setting of a spec

Written by `make reference` from [`mudman/specs`](../../mudman/specs). The same model is the body of `POST /studies`,
what is stored, and what a trial gets. A field that is not listed is refused, with the closest name that is.

A *number or [Range](#range)* is fixed by a number and searched where it is a range. Where a field takes a mapping with
`type`, the type's name alone stands for it with all other settings at their defaults: `mask: sign`. What methods and
components compute: [methods](../methods.md). A comparison has two fields more: `variants`, a mapping of names to dotted
overrides, and `baseline`, which is true unless said otherwise ([how to](../how-to/comparisons.md)).
"""


def spec() -> str:
    schema = StudySpec.model_json_schema()
    definitions = schema.pop("$defs")
    lines = [*_HEAD.splitlines(), "", *section("StudySpec", schema)]
    for name in reached(schema, definitions):
        lines += section(name, definitions[name])
    return "\n".join(lines).rstrip() + "\n"
