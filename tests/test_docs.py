"""What the documents say is so: paths exist, examples run, stubs match."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import ranvier
from ranvier import _core, functional

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# A path: something with a slash or a known ending, in backquotes.
PATH = re.compile(r"`(\.?[\w.-]+(?:/[\w.<>*-]*)+|[\w.-]+\.(?:py|pyi|toml|md|cpp|h|txt|json))`")
STUB = Path(inspect.getfile(ranvier)).with_name("_core.pyi")


def modules() -> list[str]:
    found = pkgutil.walk_packages(ranvier.__path__, "ranvier.")
    return ["ranvier", *(m.name for m in found if m.name not in ("ranvier._core", "ranvier.__main__"))]


def exists(path: str) -> bool:
    """In the repository; <family> and * stand for any name."""
    return any(ROOT.glob(re.sub(r"<\w+>", "*", path).rstrip("/")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_named_exists(document: Path) -> None:
    paths = PATH.findall(document.read_text())
    assert paths, f"{document.name} names no path: does the pattern still find them?"
    assert [path for path in paths if not exists(path)] == []


@pytest.mark.parametrize("operation", ["softplus", "where"])
def test_adding_an_operation_is_true(operation: str) -> None:
    """Each numbered item begins with a file, and the file speaks of the operation."""
    text = (ROOT / "docs" / "adding-an-operation.md").read_text()
    section = re.search(rf"^## .*`{operation}`\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    files = re.findall(r"^\d+\. `(.*?)`", section[1], re.MULTILINE)
    assert len(files) >= 6
    assert [file for file in files if operation not in (ROOT / file).read_text().lower()] == []


def python_blocks(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)


def test_the_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = python_blocks(ROOT / "README.md")
    assert blocks
    assert len(blocks[0].strip().splitlines()) <= 15
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_links_lead_to_what_exists() -> None:
    for document in DOCUMENTS:
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text())
        assert [link for link in links if not (document.parent / link).exists()] == [], document


@pytest.mark.parametrize("name", modules())
def test_doctests(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_the_walk_finds_doctests() -> None:
    finder = doctest.DocTestFinder()
    found = [test for name in modules() for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) > 20


def stub_names(body: list[ast.stmt]) -> set[str]:
    """Functions, classes and variables; not the stub's own type aliases."""
    defined = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    variables = {
        node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return defined | {name for name in variables if not name[0].isupper()}


def test_the_stub_names_what_the_core_has() -> None:
    core = {name for name in dir(_core) if not name.startswith("__")} | {"__version__"}
    assert stub_names(ast.parse(STUB.read_text()).body) == core


def test_the_stub_names_what_its_classes_have() -> None:
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.ClassDef):
            core = {member for member in vars(getattr(_core, node.name)) if not member.startswith("_")}
            assert {member for member in stub_names(node.body) if not member.startswith("_")} == core, node.name


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("exp", "1.04 ulp"),
        ("log", "0.94 ulp"),
        ("tanh", "2.5 ulp"),
        ("gelu", "6.42 ulp (70.35 without FMA)"),
        ("elu", "0.95 ulp"),
        ("cosh", "1.51 ulp"),
        ("sigmoid", "2.41 ulp"),
        ("silu", "3.4 ulp"),
        ("softplus", "1.75 ulp"),
        ("gelu_tanh", "1.63 ulp of x"),
        ("power", "0.51 ulp"),
    ],
)
def test_docstrings_state_the_error_of_what_is_rounded(name: str, error: str) -> None:
    """tests/cpp/test_math.cpp measures them."""
    assert f"at most {error};" in " ".join(inspect.getdoc(getattr(functional, name)).split())


def test_public_names_are_documented() -> None:
    public = [getattr(ranvier, name) for name in ranvier.__all__]
    assert [o.__name__ for o in public if (inspect.isclass(o) or inspect.isroutine(o)) and not inspect.getdoc(o)] == []
