"""Dependencies point one way, in Python and in C++; docs/design.md shows the same tables."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "neural_fields"

# A layer may import itself and the rows above it; parts that share a row do not know each other.
# `data` uses the cameras of `rendering`, and `fields` know nothing of either. The facade is
# `neural_fields/__init__.py` and the top-level modules behind it: the Python API.
PYTHON_LAYERS = [
    ("errors",),
    ("_core", "_cuda"),
    ("ops",),
    ("encodings",),
    ("decoders",),
    ("architectures",),
    ("fields",),
    ("rendering",),
    ("data",),
    ("training",),
    ("spectra",),
    ("distill",),
    ("codec",),
    ("exporters",),
    ("integrations",),
    ("facade",),
    ("scenes",),
    ("viewer",),
    ("benchmarks",),
    ("cli",),
]
FACADE = {"__init__", "api", "fit"}
MAPPED = ("scenes", "viewer", "benchmarks")  # top-level folders installed inside the package
NEVER_IMPORTED = {"tests", "examples", "docs", *MAPPED}  # by these names, from the package

# What each part of csrc may include besides itself; an op also names the other ops that it uses.
NATIVE_PARTS = {
    "common": set(),
    "ops": {"common"},
    "fused": {"common", "ops"},
    "bind": {"common", "ops", "fused"},
}
OP_USES = {
    "march": {"occupancy"},  # the traversal reads the grid's bits
    "voxels": {"spherical_harmonics"},  # colours are sums of them
}
NATIVE_SUFFIXES = {".h", ".hpp", ".cuh", ".inl", ".c", ".cc", ".cpp", ".cu"}
PYTHON_HEADERS = re.compile(r"(Python\.h$|pybind11/|torch/|ATen/|c10/)")

RANK = {name: rank for rank, row in enumerate(PYTHON_LAYERS) for name in row}


def python_modules(root):
    """Yield (dotted name, is a package, path) of all the package's modules as installed."""
    folders = [(root / PACKAGE, (PACKAGE,))]
    folders += [(root / name, (PACKAGE, name)) for name in MAPPED]
    for folder, prefix in folders:
        for path in sorted(folder.rglob("*.py")):
            parts = (*prefix, *path.relative_to(folder).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            yield ".".join(parts[:-1] if is_package else parts), is_package, path


def layer_of(module):
    """The layer that a dotted name below the package belongs to."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "__init__"
    return "facade" if name in FACADE else name


def imported_names(tree, module, is_package):
    """Yield (line, dotted name) of every import anywhere in a file, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = parts[: len(parts) - node.level + is_package]
                base = ".".join([*kept, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def python_violations(root):
    modules = list(python_modules(root))
    known = {name.split(".")[1] for name, _, _ in modules if "." in name} | set(RANK)
    problems = []
    for module, is_package, path in modules:
        layer = layer_of(module)
        where = path.relative_to(root)
        if layer not in RANK:
            problems.append(f"{where}: {layer!r} is in no layer of the table")
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        for line, name in imported_names(tree, module, is_package):
            head, _, rest = name.partition(".")
            if head in NEVER_IMPORTED:
                problems.append(f"{where}:{line}: imports {name}, which is not installed as that")
            if head != PACKAGE:
                continue
            # `from neural_fields import x` reaches the layer x, or else a name of the facade.
            target = layer_of(name) if rest.split(".")[0] in known else "facade"
            allowed = target == layer or RANK.get(target, len(RANK)) < RANK[layer]
            if not allowed:
                problems.append(f"{where}:{line}: {layer} imports {target} ({name})")
    return problems


def native_part(relative):
    """('ops', 'mlp') for csrc/ops/mlp/mlp.h; ('common', '') for csrc/common/simd.h."""
    parts = relative.parts
    if parts[0] == "ops":
        return "ops", parts[1] if len(parts) > 2 else ""
    return parts[0] if len(parts) > 1 else "", ""


def resolve_include(root, file, target):
    """The path under csrc that an include reaches, or None for a header from outside."""
    csrc = root / "csrc"
    for folder in (file.parent, csrc, root):
        found = (folder / target).resolve()
        if found.is_file() and found.is_relative_to(csrc.resolve()):
            return found.relative_to(csrc.resolve())
    return None


def native_violations(root, op_uses=OP_USES):
    problems = []
    files = sorted(p for p in (root / "csrc").rglob("*") if p.suffix in NATIVE_SUFFIXES)
    for file in files:
        relative = file.relative_to(root / "csrc")
        part, op = native_part(relative)
        if part not in NATIVE_PARTS or (part == "ops" and not op):
            problems.append(f"csrc/{relative}: is in no part of the table")
            continue
        text = file.read_text(encoding="utf-8")
        for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*["<]([^">]+)[">]', text, re.M):
            line = text.count("\n", 0, match.start()) + 1
            where = f"csrc/{relative}:{line}"
            target = resolve_include(root, file, match[1])
            if target is None:
                if part != "bind" and PYTHON_HEADERS.match(match[1]):
                    problems.append(f"{where}: {match[1]} belongs to bind only")
                continue
            other, other_op = native_part(target)
            if part == other == "ops":
                allowed = op == other_op or other_op in op_uses.get(op, set())
            else:
                allowed = part == other or other in NATIVE_PARTS[part]
            if not allowed:
                problems.append(f"{where}: {part}/{op} includes {target}".replace("/ ", " "))
    return problems


def shadowed_names(root):
    """Names that `neural_fields/__init__.py` gives to functions though a module has them."""
    init = root / PACKAGE / "__init__.py"
    children = {name.split(".")[1] for name, _, _ in python_modules(root) if "." in name}
    bound = set()
    for node in ast.parse(init.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            from_itself = node.module == PACKAGE or (node.level == 1 and node.module is None)
            names = {alias.asname or alias.name for alias in node.names}
            bound |= set() if from_itself else names
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            bound |= {target.id for target in targets if isinstance(target, ast.Name)}
            if isinstance(node.value, ast.Dict):  # a table of names resolved on first use
                pairs = zip(node.value.keys, node.value.values, strict=True)
                constants = [(k.value, ast.unparse(v)) for k, v in pairs if hasattr(k, "value")]
                bound |= {key for key, value in constants if value != repr(f"{PACKAGE}.{key}")}
    return sorted(bound & children)


def test_python_imports_point_down():
    assert list(python_modules(ROOT))
    assert python_violations(ROOT) == []


def test_native_includes_point_down():
    assert (ROOT / "csrc" / "common").is_dir()
    assert native_violations(ROOT) == []


def test_functions_and_modules_never_share_a_name():
    assert shadowed_names(ROOT) == []


def write_tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


GOOD_PYTHON = {
    "neural_fields/__init__.py": "from neural_fields.fields.io import load\n",
    "neural_fields/errors.py": "",
    "neural_fields/ops/__init__.py": "from .. import errors\nfrom . import mlp\n",
    "neural_fields/ops/mlp.py": "from neural_fields import _core\nimport torch\n",
    "neural_fields/fields/__init__.py": "from neural_fields import ops\n",
    "neural_fields/fields/io.py": "from ..ops.mlp import forward\nfrom .base import Field\n",
    "neural_fields/training/__init__.py": "import neural_fields.fields as f\n",
    "neural_fields/cli/main.py": "import neural_fields\nimport neural_fields.viewer\n",
    "scenes/__init__.py": "from neural_fields.data import save\nfrom .recipe import make\n",
    "benchmarks/ops/bench_mlp.py": "from neural_fields.scenes import make\n",
}


def test_a_tree_in_order_passes(tmp_path):
    write_tree(tmp_path, GOOD_PYTHON)
    assert python_violations(tmp_path) == []
    assert shadowed_names(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("neural_fields/ops/x.py", "import neural_fields.fields", "ops imports fields"),
        ("neural_fields/ops/x.py", "from ..training import loop", "ops imports training"),
        ("neural_fields/ops/__init__.py", "from ..fields import base", "ops imports fields"),
        ("neural_fields/ops/deep/x.py", "from ...fields import base", "ops imports fields"),
        ("neural_fields/fields/x.py", "def f():\n  from .. import training", "x.py:2: fields"),
        ("neural_fields/fields/x.py", "if TYPE_CHECKING:\n  from ..cli import main", "imports cli"),
        ("neural_fields/errors.py", "from neural_fields import load", "errors imports facade"),
        ("neural_fields/fields/x.py", "import neural_fields", "fields imports facade"),
        ("neural_fields/fields/x.py", "import_module('neural_fields.cli')", "fields imports cli"),
        ("neural_fields/data/x.py", "from neural_fields.scenes import make", "imports scenes"),
        ("neural_fields/data/x.py", "from scenes import make", "not installed as that"),
        ("neural_fields/data/x.py", "from tests.helpers import y", "not installed as that"),
        ("scenes/x.py", "from ..cli import main", "scenes imports cli"),
        ("viewer/x.py", "from neural_fields.benchmarks import y", "viewer imports benchmarks"),
        ("neural_fields/utils/x.py", "", "'utils' is in no layer"),
        ("neural_fields/ops/x.py", "from neural_fields.utils import y", "ops imports facade"),
    ],
)
def test_a_wrong_import_is_found(tmp_path, file, source, complaint):
    write_tree(tmp_path, {**GOOD_PYTHON, file: source})
    problems = python_violations(tmp_path)
    assert len(problems) == 1
    assert complaint in problems[0]


@pytest.mark.parametrize(
    "source",
    [
        "def fields(): ...",
        "from neural_fields.training.api import train as fields",
        "_LAZY = {'fields': 'neural_fields.training.api'}",
        "fields = object()",
    ],
)
def test_a_shared_name_is_found(tmp_path, source):
    write_tree(tmp_path, {**GOOD_PYTHON, "neural_fields/__init__.py": source})
    assert shadowed_names(tmp_path) == ["fields"]


@pytest.mark.parametrize(
    "source", ["from . import fields", "_LAZY = {'fields': 'neural_fields.fields'}"]
)
def test_the_sub_package_itself_may_be_exposed(tmp_path, source):
    write_tree(tmp_path, {**GOOD_PYTHON, "neural_fields/__init__.py": source})
    assert shadowed_names(tmp_path) == []


GOOD_NATIVE = {
    "csrc/common/simd.h": "#include <cmath>\n",
    "csrc/ops/mlp/mlp.h": '#include "common/simd.h"\n',
    "csrc/ops/mlp/mlp_cpu.cpp": '#include "mlp.h"\n#include "../../common/simd.h"\n',
    "csrc/ops/adam/adam.h": '#include "common/simd.h"\n',
    "csrc/fused/step.h": '#include "ops/mlp/mlp.h"\n#include "ops/adam/adam.h"\n',
    "csrc/bind/module.cpp": '#include <pybind11/pybind11.h>\n#include "fused/step.h"\n',
}


def test_includes_in_order_pass(tmp_path):
    write_tree(tmp_path, GOOD_NATIVE)
    assert native_violations(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("csrc/common/x.h", '#include "ops/mlp/mlp.h"', "common"),
        ("csrc/common/x.h", '#include "../fused/step.h"', "includes fused"),
        ("csrc/ops/adam/x.cpp", '\n# include "../mlp/mlp.h"', "x.cpp:2: ops/adam includes ops/mlp"),
        ("csrc/ops/adam/x.cpp", "#include <ops/mlp/mlp.h>", "ops/adam includes ops/mlp"),
        ("csrc/ops/adam/x.cpp", '#include "fused/step.h"', "includes fused"),
        ("csrc/fused/x.cpp", '#include "csrc/bind/module.cpp"', "includes bind"),
        ("csrc/fused/x.cpp", "#include <Python.h>", "Python.h belongs to bind"),
        ("csrc/common/x.cu", "#include <torch/extension.h>", "torch/extension.h belongs to bind"),
        ("csrc/ops/x.h", "", "in no part"),
        ("csrc/utils/x.h", "", "in no part"),
    ],
)
def test_a_wrong_include_is_found(tmp_path, file, source, complaint):
    write_tree(tmp_path, {**GOOD_NATIVE, file: source})
    problems = native_violations(tmp_path)
    assert len(problems) == 1
    assert complaint in problems[0]


def test_an_op_may_use_the_ops_it_states(tmp_path):
    write_tree(tmp_path, {**GOOD_NATIVE, "csrc/ops/adam/x.cpp": '#include "ops/mlp/mlp.h"'})
    assert native_violations(tmp_path, {"adam": {"mlp"}}) == []
