"""The rules of the house that hold for every file: sizes, names, nothing that could run what it loads."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.environment import ROOT

VAGUE = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}
PICKLES = {".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
PICKLERS = {"_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve"}
LOOSE = {"allow_pickle", "custom_pipeline", "trust_remote_code"}
RUNNERS = {"__import__", "compile", "eval", "exec"}
LOADERS = {
    "builtins": RUNNERS,
    "torch": {"load", "save", "jit", "hub", "package", "serialization"},
    "yaml": {"load", "load_all", "unsafe_load", "full_load"},
}
FULL_NAMES = {f"{module}.{name}" for module, names in LOADERS.items() for name in names}
OF_WEIGHTS = {"from_pretrained", "from_single_file", "load_lora_weights"}
"""Each takes a pickle where there is one, unless `use_safetensors=True`."""
WITHOUT_WEIGHTS = {"AutoTokenizer", "CLIPImageProcessorPil", "CLIPTokenizer"}
"""These read JSON and text, and know no `use_safetensors`."""
RUNS_A_SCRIPT = ("bench/rival/example_script.py", "runpy.run_path")
"""A rival of the benchmarks is the script that diffusers gives as an example."""
OF_THE_SYSTEM = ["api/doorkeeper.py", "api/job_watch.py", "api/metric.py", "api/route/dataset.py"]
"""Who asks for a key, or whether jobs have ended, or for figures of all; and a signed upload, which has no key."""
LONG_ON_PURPOSE = ["worker/training/loop.py: train"]
"""The training loop is read from top to bottom in one place."""

TRACKED = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    if name and (ROOT / name).exists()
]
SOURCES = [path for path in TRACKED if path.suffix == ".py" and "versions" not in path.parts]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_files_are_found() -> None:
    assert {"api/main.py", "worker/main.py", "core/domain/job.py"} <= {named(path) for path in SOURCES}


def test_a_file_is_short_and_says_in_its_name_what_it_is() -> None:
    long = [named(path) for path in SOURCES if len(path.read_text().splitlines()) > 300]
    vague = [named(path) for path in SOURCES if not VAGUE.isdisjoint(path.relative_to(ROOT).with_suffix("").parts)]
    assert (long, vague) == ([], [])


def test_a_function_is_short_and_takes_little() -> None:
    found = [(path, function) for path in SOURCES for function in functions(path)]
    long = [f"{named(path)}: {each.name}" for path, each in found if lines(each) > 50]
    greedy = [f"{named(path)}: {each.name}" for path, each in found if len(parameters(each)) > 8]
    assert (long, greedy) == (LONG_ON_PURPOSE, [])


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    arguments = function.args
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def test_a_module_has_a_caption() -> None:
    modules = {named(path): path.read_text() for path in SOURCES if "tests" not in path.relative_to(ROOT).parts}
    bare = [name for name, source in modules.items() if source.strip() and not ast.get_docstring(ast.parse(source))]
    assert bare == []


def test_the_routes_say_whose_transaction_it_is() -> None:
    """Row-level security holds for what runs for a tenant; only a signed URL or a token may ask for the system's."""
    routes = [path for path in SOURCES if named(path).startswith(("api/route/", "api/submission"))]
    assert [named(path) for path in routes if "transaction()" in path.read_text()] == []
    found = [named(path) for path in SOURCES if path.is_relative_to(ROOT / "api") for _ in walls_left(path.read_text())]
    assert sorted(found) == OF_THE_SYSTEM


def walls_left(source: str) -> Iterator[ast.Call]:
    """Every transaction that is opened for no tenant."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="transaction")):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                if all(isinstance(each, ast.Constant) and each.value is None for each in given):
                    yield node


@pytest.mark.parametrize("source", ["d.transaction()", "a.b.transaction(None)", "d.transaction(tenant_id=None)"])
def test_a_transaction_for_no_tenant_would_be_noticed(source: str) -> None:
    assert len(list(walls_left(f"with {source} as session: pass"))) == 1


def test_a_transaction_for_a_tenant_is_none_of_those() -> None:
    assert list(walls_left("with d.transaction(tenant_id) as session, d.transaction(tenant_id=t): pass")) == []


def test_no_file_is_a_pickle() -> None:
    assert [named(path) for path in TRACKED if path.suffix.lower() in PICKLES] == []


def test_nothing_is_loaded_that_could_run_code() -> None:
    found = {(named(path), loader) for path in SOURCES for loader in loaders(path.read_text())}
    # a test runs the examples of the documentation, which are ours
    ours = {(path, loader) for path, loader in found if loader in RUNNERS and path.startswith("tests/")}
    assert found - ours == {RUNS_A_SCRIPT}


def loaders(source: str) -> Iterator[str]:
    """Every way in which a source could load a pickle or code from a model's folder."""
    tree = ast.parse(source)
    known = aliases(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if is_loader(name.name))
            case ast.ImportFrom(module=str(module), names=names):
                imported = [f"{module}.{name.name}" for name in names]
                star = module in LOADERS and any(name.name == "*" for name in names)
                yield from [module] if star or is_loader(module) else filter(is_loader, imported)
            case ast.Attribute() if dotted(node, known) in FULL_NAMES:
                yield dotted(node, known)
            case ast.keyword(arg=str(name), value=value) if name in LOOSE:
                if not (isinstance(value, ast.Constant) and not value.value):
                    yield name
            case ast.keyword(arg="use_safetensors" | "weights_only", value=value):
                if not (isinstance(value, ast.Constant) and value.value is True):
                    yield str(node.arg)
            case ast.Call():
                yield from called(node, known)


def called(call: ast.Call, known: dict[str, str]) -> Iterator[str]:
    """What a call does that its arguments or the want of them make dangerous."""
    match call.func:
        case ast.Attribute(value=receiver, attr=attribute) if attribute in OF_WEIGHTS:
            is_said = any(keyword.arg == "use_safetensors" for keyword in call.keywords)
            if not is_said and dotted(receiver, known).rpartition(".")[2] not in WITHOUT_WEIGHTS:
                yield attribute
        case ast.Name(id="getattr"):
            match call.args:
                case [module, ast.Constant(value=str(name)), *_] if is_loader(f"{dotted(module, known)}.{name}"):
                    yield f"{dotted(module, known)}.{name}"
    name = dotted(call.func, known)
    if name in RUNNERS | {"importlib.import_module", "runpy.run_path"}:
        yield name
    elif name == "numpy.load" and len(call.args) > 2:
        yield "allow_pickle"


def aliases(tree: ast.Module) -> dict[str, str]:
    """Full names of what a source imports, or calls otherwise, by the names that it uses."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                known |= {name.asname: name.name for name in names if name.asname}
            case ast.ImportFrom(module=str(module), names=names):
                known |= {name.asname or name.name: f"{module}.{name.name}" for name in names}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=str(name))], value=ast.Name() | ast.Attribute() as value):
                if dotted(value, known) in LOADERS or dotted(value, known) in known.values():
                    known[name] = dotted(value, known)
    return known


def dotted(node: ast.expr, known: dict[str, str]) -> str:
    """`a.b.c`, its first part by its full name; empty for what is no such name."""
    match node:
        case ast.Name(id=str(name)):
            return known.get(name, name)
        case ast.Attribute(value=value, attr=attribute):
            before = dotted(value, known)
            return f"{before}.{attribute}" if before else ""
    return ""


def is_loader(name: str) -> bool:
    """Whether a full name is one of a loader, or lies in the module of one."""
    parts = name.split(".")
    return parts[0] in PICKLERS or any(".".join(parts[:end]) in FULL_NAMES for end in range(1, len(parts) + 1))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("def f():\n    return torch.load('x')", "torch.load"),
        ("AutoTokenizer.from_pretrained('x', trust_remote_code=True)", "trust_remote_code"),
        ("from torch import load", "torch.load"),
        ("torch.jit.load('x')", "torch.jit"),
        ("numpy.load('x', allow_pickle=True)", "allow_pickle"),
        ("numpy.load('x', allow_pickle=whatever)", "allow_pickle"),
        ("AutoModel.from_pretrained('x', use_safetensors=None)", "use_safetensors"),
        ("yaml.load(text)", "yaml.load"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("builtins.exec(text)", "builtins.exec"),
        ("import torch as t\nt.load('x')", "torch.load"),
        ("import torch\nt = torch\nt.load('x')", "torch.load"),
        ("getattr(torch, 'load')('x')", "torch.load"),
        ("torch.serialization.load('x')", "torch.serialization"),
        ("import torch.serialization", "torch.serialization"),
        ("from torch.serialization import load", "torch.serialization"),
        ("from torch import serialization as s", "torch.serialization"),
        ("from torch.jit import load", "torch.jit"),
        ("from torch import *", "torch"),
        ("import pickle as p", "pickle"),
        ("import importlib\nimportlib.import_module('pickle')", "importlib.import_module"),
        ("from importlib import import_module as bring\nbring('pickle')", "importlib.import_module"),
        ("__import__('pickle').load(file)", "__import__"),
        ("import numpy as np\nnp.load('x', None, True)", "allow_pickle"),
        ("AutoModel.from_pretrained('x')", "from_pretrained"),
        ("getattr(diffusers, kind).from_pretrained('x', **options)", "from_pretrained"),
        ("a.pipeline.load_lora_weights('x', weight_name='a.bin')", "load_lora_weights"),
        ("StableDiffusionPipeline.from_single_file('x.ckpt')", "from_single_file"),
    ],
)
def test_such_loading_would_be_noticed(source: str, found: str) -> None:
    assert list(loaders(source)) == [found]


@pytest.mark.parametrize(
    "source",
    [
        "AutoModel.from_pretrained('x', use_safetensors=True)",
        "transformers.CLIPTokenizer.from_pretrained('x')",
        "import torch as t\nt.no_grad()",
        "import numpy as np\nnp.load('x')",
        "re.compile('x'), json.load(file), model.save('x')",
    ],
)
def test_other_loading_is_none_of_that(source: str) -> None:
    assert list(loaders(source)) == []
