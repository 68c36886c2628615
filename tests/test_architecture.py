"""The shape of the code itself: who imports whom, how long files are, what is public."""

import ast
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from fnmatch import fnmatch
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

import jaxnn

ROOT = Path(jaxnn.__file__).parents[1]
FILES = sorted((ROOT / "jaxnn").rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FILES
}

# Each room imports only from rooms above it, or from its own. The design's layout, in words.
ROOMS = [
    ("typing", "checks", "programs", "formatting", "caching", "markup"),
    ("display",),
    ("names",),
    ("masked",),
    ("calls",),
    ("network",),
    ("layers",),
    ("transforms",),
    ("models",),
    ("summary",),
    ("metrics",),
    ("objectives",),
    ("hparams",),
    ("learning",),
    ("reading",),
    ("data",),
    ("tables",),
    ("streams",),
    ("scale",),
    ("pretrained",),
    ("loop",),
    ("driver",),
    ("planning",),
    ("pictures",),
    ("storage",),
    ("diagnosis",),
    ("progress",),
    ("observing",),
    ("catalog",),
    ("report",),
    ("runs",),
    ("search",),
    ("exporting",),
    ("serving",),
    ("sklearn",),
    ("__main__",),
]
CONFIGURE = ("jaxnn.caching", "jaxnn.scale._start")
PRETRAINED = {"gguf", "huggingface_hub", "jinja2", "tokenizers", "torch", "transformers"}
ALIASES = {"Duration", "STATUSES", "Select"}
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}


def tree(path):
    return ast.parse(path.read_text())


def imports(path, top_level_only=False):
    """The modules that a file imports, with the line: `jaxnn.data` for `from jaxnn import data`."""
    module = tree(path)
    for node in module.body if top_level_only else ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield (name if name in MODULES else node.module), node.lineno


def room(module):
    return module.split(".")[1]


def of_jaxnn(module):
    return module == "jaxnn" or module.startswith("jaxnn.")


INSIDE = [module for module in MODULES if module != "jaxnn"]


@pytest.mark.parametrize("module", INSIDE)
def test_a_room_imports_only_rooms_above_it(module):
    assert room(module) in FLOORS, f"{module} is in no room of the layout: give it a place"
    for imported, line in imports(MODULES[module]):
        if of_jaxnn(imported):
            assert imported != "jaxnn", f"{module}:{line} imports the package as a whole"
            own = room(imported) == room(module)
            above = FLOORS[room(imported)] < FLOORS[room(module)]
            assert own or above, f"{module}:{line} imports {imported}, which is not above it"


def test_contributing_lists_the_rooms_in_their_order():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    lines = re.findall(r"^    ([a-z_, ]+?)(?:, \.\.\.)?  ", text, re.M)
    listed = [name for line in lines for name in line.split(", ") if name in FLOORS]
    folders = {path.name for path in (ROOT / "jaxnn").iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(listed)
    assert [FLOORS[name] for name in listed] == sorted(FLOORS[name] for name in listed)


def test_no_imports_go_in_a_circle():
    graph = {
        module: {name for name, _ in imports(path) if of_jaxnn(name)}
        for module, path in MODULES.items()
    }
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for imported in sorted(graph[module]):
                visit(imported, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


@pytest.mark.parametrize("module", MODULES)
def test_a_file_is_short_and_says_what_it_is(module):
    path = MODULES[module]
    text = path.read_text()
    assert len(text.splitlines()) < 350, f"{path} is too long: part it"
    opening = ast.get_docstring(tree(path))
    assert opening and opening.splitlines()[0].rstrip().endswith((".", ":"))


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_promised_configured_or_pickled(module):
    path = MODULES[module]
    names = {"utils", "util", "common", "base", "misc", "helpers", "helper"}
    assert not names & set(module.split("."))
    with tokenize.open(path) as file:
        comments = [
            (token.string, token.start[0])
            for token in tokenize.generate_tokens(file.readline)
            if token.type == tokenize.COMMENT
        ]
    assert not [c for c in comments if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", c[0])]
    # Only `compile_cache` and `scale.start`, which are asked to, set jax's configuration;
    # experiments and tests may.
    calls = [ast.unparse(n.func) for n in ast.walk(tree(path)) if isinstance(n, ast.Call)]
    configures = {call for call in calls if call.endswith("config.update")}
    assert configures == ({"jax.config.update"} if module in CONFIGURE else set())
    imported = {name.split(".")[0] for name, _ in imports(path)}
    assert not imported & {"pickle", "dill", "cloudpickle", "shelve", "marshal"}


@pytest.mark.parametrize("module", MODULES)
def test_what_is_heavy_is_imported_where_it_is_used(module):
    top = {name.split(".")[0] for name, _ in imports(MODULES[module], top_level_only=True)}
    heavy = {"flax", "rich", "tyro", "pooch", "orbax", "matplotlib", "pandas", "grain", "polars"}
    assert not top & (heavy | {"tensorboard", "tensorboardX"} | PRETRAINED)


def test_importing_jaxnn_loads_nothing_heavy():
    heavy = ["flax", "grain", "matplotlib", "orbax", "pandas", "polars", "pooch", "rich", "tyro"]
    heavy += sorted(PRETRAINED)
    code = f"import json, sys, jaxnn; print(json.dumps([n for n in {heavy} if n in sys.modules]))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) == []


def test_only_jaxnn_is_installed():
    """Other folders, like `experiments`, would hide a user's own of that name."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["packages"]["find"]["include"]
    folders = [path.name for path in ROOT.iterdir() if path.is_dir() and "." not in path.name]
    installed = [name for name in folders if any(fnmatch(name, each) for each in patterns)]
    assert installed == ["jaxnn"]


# --- Public names ------------------------------------------------------------------------------


ROOMS_THAT_OFFER = ["jaxnn"] + [
    name
    for name, path in MODULES.items()
    if path.name == "__init__.py" and name != "jaxnn" and hasattr(import_module(name), "__all__")
]
OFFERED = [(room, name) for room in ROOMS_THAT_OFFER for name in import_module(room).__all__]


@pytest.mark.parametrize("package", [m for m, path in MODULES.items() if path.stem == "__init__"])
def test_what_a_package_imports_is_what_it_offers_in_order(package):
    body = tree(MODULES[package]).body
    imported = [
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert getattr(import_module(package), "__all__", []) == sorted(imported)
    assert len(set(imported)) == len(imported)
    extra = [type(n).__name__ for n in body if not isinstance(n, ast.ImportFrom | ast.Assign)]
    assert extra == ["Expr"]  # the docstring: beside the names there is nothing else


@pytest.mark.parametrize("module", INSIDE)
def test_no_name_hides_a_module(module):
    """What `import jaxnn.loop._run` brings is what `jaxnn.loop._run` means."""
    if module != "jaxnn.__main__":  # is run, not imported
        imported = import_module(module)
        assert attrgetter(module.removeprefix("jaxnn."))(jaxnn) is imported


@pytest.mark.parametrize(("package", "name"), OFFERED)
def test_a_public_name_is_documented(package, name):
    value = getattr(import_module(package), name)
    if name in ALIASES:  # have no docstring of their own: it stands below them
        return
    words = (getattr(value, "__doc__", None) or "").strip()
    # What NamedTuple and dataclass write by themselves does not count.
    assert words and not words.startswith(f"{name}(")
    assert words.splitlines()[0].rstrip().endswith((".", ":"))


def test_aliases_are_documented_where_they_stand():
    """A string under an assignment is what editors and pdoc show for it."""
    for path in (MODULES[f"jaxnn.{name}"] for name in ("typing", "data.durations", "driver.trial")):
        body = tree(path).body
        for node, after in zip(body, body[1:], strict=False):
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            target = node.target if isinstance(node, ast.AnnAssign) else target
            public = isinstance(target, ast.Name) and target.id[0].isupper()
            if public:
                documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                assert documented, f"{path}:{node.lineno}"


# --- Words -------------------------------------------------------------------------------------

GONE = re.compile(
    r"\b(goes on|go on|going on|went on|go_on|goes_on|told|_?kept|settled?|late|around|lasting"
    r"|gathered|joined|united|dealt|_?found|of another kind|is no int|damaged?|put aside"
    r"|a link to elsewhere|mess leads|search for garbage|what decides|what looks at|what is seen"
    r"|in the place of|it learning|made|judged|listened|halves|halves_of|of a population)\b",
    re.IGNORECASE,
)


def test_the_words_are_those_of_the_field():
    """Words of our own for what has a name elsewhere; ten may stay where they are plain English."""
    uses = [
        f"{path.relative_to(ROOT)}: {word}"
        for folder in ("jaxnn", "experiments", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".ipynb", ".js", ".css"}
        for word in GONE.findall(path.read_text())
    ]
    assert len(uses) <= 10, uses
