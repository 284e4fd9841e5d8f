"""The layout shows the architecture: imports go one way, and importing foveate is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import foveate

ROOT = Path(foveate.__file__).parent

LAYERS = (
    ("schema",),
    ("store", "masks", "spreadsheet", "settings"),
    ("project", "jobs"),
    ("video", "videowriter", "timeline", "framestore", "init"),
    ("annotations", "simulate"),
    ("models", "exchange"),
    ("track",),
    ("crops",),
    ("schedules", "losses"),
    ("losses_pairs", "losses_contrastive"),
    ("data",),
    ("methods",),
    ("train",),
    ("recipes",),
    ("actions", "attention", "checkpoints", "evaluate", "pretrain", "bench"),
    ("groups",),
    ("report", "inspection"),
    ("run",),
    ("console", "results", "learning"),
    ("printed", "verbs", "scoring"),
    ("api",),
    ("cli",),
    ("__main__",),
)
"""From bottom to top; a module imports from its own layer and from those before it."""

RANK = {name: i for i, layer in enumerate(LAYERS) for name in layer}


def modules() -> dict[str, Path]:
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "foveate" else [f"foveate.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("foveate.")}
    return found & set(RANK) | {name for name in found if (ROOT / name).exists() or (ROOT / f"{name}.py").exists()}


def test_imports_go_one_way() -> None:
    backward = [
        f"{name} imports {other}"
        for name, path in modules().items()
        if (top := name.split(".")[0]) != "__init__"
        for other in imports(path)
        if RANK[other] > RANK[top]
    ]
    assert not backward


def test_modules_stay_readable() -> None:
    long = {name: n for name, path in modules().items() if (n := len(path.read_text(encoding="utf-8").splitlines())) > 450}
    assert not long


def test_import_is_cheap_and_status_needs_no_torch() -> None:
    code = (
        "import sys, time; t = time.perf_counter(); import foveate; took = time.perf_counter() - t;"
        "import foveate.cli, foveate.run, foveate.timeline, foveate.track, foveate.crops, foveate.annotations, foveate.groups,"
        "foveate.report, foveate.attention, foveate.actions.embed, foveate.actions.probe, foveate.actions.predict;"
        "heavy = {'torch', 'transformers', 'matplotlib', 'sklearn', 'scipy', 'statsmodels'} & set(sys.modules);"
        "assert not heavy, heavy; assert took < 0.3, took"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
