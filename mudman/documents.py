"""Reading and writing the documents that people write: YAML 1.2 (so that ``1e-7`` is a number) and JSON.

Whatever is read is plain data: mappings with text keys, lists, text, numbers, booleans and null.
"""

import io
import json
import warnings
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLWarning

from mudman.faults import SpecError

LONGEST_YAML = 100_000  # characters; a spec has a few thousand, and a megabyte would hold a processor for ten seconds
DEEPEST_YAML = 50  # levels; a spec has five, and the reader's time grows faster than the depth
_TAG = "tag:yaml.org,2002:"


class _PlainConstructor(SafeConstructor):
    """The types of YAML's core schema; dates stay text, every other tag (sets, binary, Python objects) is refused."""

    yaml_constructors = {
        None: SafeConstructor.construct_undefined,
        f"{_TAG}timestamp": SafeConstructor.construct_yaml_str,
        **{
            f"{_TAG}{name}": SafeConstructor.yaml_constructors[f"{_TAG}{name}"]
            for name in ("null", "bool", "int", "float", "str", "seq", "map")
        },
    }
    yaml_multi_constructors = {}

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError):  # a tag that the text does not fit (!!int x), or a number of 5,000 digits
            raise ConstructorError(None, None, f"found a value that is no {node.tag}", node.start_mark) from None

    def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
        if not isinstance(key, str):
            raise ConstructorError(None, None, "found a key that is no text", key_node.start_mark)
        if key in mapping:
            raise ConstructorError(None, None, f"found duplicate key {key!r}", key_node.start_mark)
        return True


def read_yaml(text: str) -> Any:
    """Parse one document of YAML 1.2. Raises ``SpecError`` that names line and column."""
    if len(text) > LONGEST_YAML:
        raise SpecError.at("", f"has {len(text)} characters of YAML", f"shorten it to {LONGEST_YAML}, or send JSON")
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _PlainConstructor
    reader.max_depth = DEEPEST_YAML
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", YAMLWarning)  # about YAML 1.1, where a document asks for it
            return reader.load(text)
    except MarkedYAMLError as error:
        raise _not_valid("YAML", _at(error.problem_mark), error.problem) from None
    except YAMLError as error:
        raise _not_valid("YAML", "", " ".join(str(error).split())) from None
    except RecursionError:
        raise _not_valid("YAML", "", "it is nested too deeply") from None


def write_yaml(document: dict[str, Any]) -> str:
    text, writer = io.StringIO(), YAML()
    writer.default_flow_style = None  # small mappings on one line
    writer.width = 100
    writer.dump(document, text)
    return text.getvalue()


def read_json(text: str) -> Any:
    """Parse JSON (RFC 8259: no NaN, no infinity, no key twice). Raises ``SpecError`` that names line and column."""
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _not_valid("JSON", f" at line {error.lineno}, column {error.colno}", error.msg) from None
    except RecursionError:
        raise _not_valid("JSON", "", "it is nested too deeply") from None
    except ValueError as error:
        raise _not_valid("JSON", "", str(error)) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"found duplicate key {key!r}")
        result[key] = value
    return result


def _at(mark: Any) -> str:
    return f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _not_valid(language: str, where: str, problem: str) -> SpecError:
    remedy = "correct it there" if where else "correct it"
    return SpecError.at("", f"is not valid {language}{where}: {problem[:300]}", remedy)
