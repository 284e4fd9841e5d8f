"""Run an example script cell by cell and write it, with everything it printed and drew, as a page.

A script is in the percent format of notebooks: ``# %% [markdown]`` begins a cell of text (every line a comment), ``# %%`` one of code. The
value of a cell's last expression is shown, a data frame as a table; figures that are open after a cell stand below it. Scripts run in an
empty folder of their own and are plain Python: ``python docs/examples/boris_round_trip.py`` does the same without the page.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import html
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
CACHE = ROOT / "build" / "examples"
NAMES = ("own_footage", "boris_round_trip", "comparison")
MOST_ROWS = 12


def page(name: str) -> tuple[str, dict[str, bytes]]:
    """The page of an example and its pictures by file name; run anew only if the example or the package changed since."""
    folder = CACHE / name
    if not (folder / "key").is_file() or (folder / "key").read_text() != _key(name):
        # In a process of its own: what an example imports, changes or warns of is not the site's business.
        path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        subprocess.run(
            [sys.executable, __file__, name], check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": path}
        )
    pictures = {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}
    return (folder / "page.md").read_text(encoding="utf-8"), pictures


def execute(name: str) -> None:
    """Run an example and keep its page. What goes wrong in it is raised."""
    import matplotlib

    matplotlib.use("agg")
    target = CACHE / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        try:
            text = _run(EXAMPLES / f"{name}.py", target, Path(work).resolve())
        finally:
            os.chdir(before)
    (target / "page.md").write_text(text, encoding="utf-8")
    (target / "key").write_text(_key(name))


def _key(name: str) -> str:
    """Of everything that can change the page."""
    files = [EXAMPLES / f"{name}.py", Path(__file__), ROOT / "constraints.txt", *sorted((ROOT / "src").rglob("*.py"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def cells(text: str) -> list[tuple[str, str]]:
    """(kind, source) of every cell; kind is ``markdown`` or ``code``. What stands before the first mark is left out."""
    out = []
    for part in text.split("\n# %%")[1:]:
        first, _, rest = part.partition("\n")
        if "[markdown]" in first:
            out.append(("markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in rest.strip().splitlines())))
        else:
            out.append(("code", rest.strip("\n")))
    return out


def _run(script: Path, target: Path, work: Path) -> str:
    from matplotlib import pyplot as plt

    space: dict[str, Any] = {"__name__": "__main__"}
    parts, pictures = [], 0
    for kind, source in cells("\n" + script.read_text(encoding="utf-8")):
        if kind == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed, value = io.StringIO(), None
        tree = ast.parse(source, script.name)
        last = ast.Expression(tree.body.pop().value) if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, script.name, "exec"), space)
            if last is not None:
                value = eval(compile(last, script.name, "eval"), space)
        parts += [block.replace(f"{work}{os.sep}", "").replace(str(work), ".") for block in _shown(printed.getvalue(), value)]
        for number in plt.get_fignums():
            pictures += 1
            file = f"{script.stem}-{pictures}.png"
            plt.figure(number).savefig(target / file, dpi=150, bbox_inches="tight")
            parts.append(f"![Figure drawn by the code above]({file})")
        plt.close("all")
    return "\n\n".join(parts) + "\n"


def _shown(printed: str, value: Any) -> list[str]:
    import pandas as pd

    out = [f'```text title="Output"\n{printed.rstrip()}\n```'] if printed.strip() else []
    if isinstance(value, pd.Series):
        value = value.to_frame()
    if isinstance(value, pd.DataFrame):
        table = value.head(MOST_ROWS).to_html(border=0, na_rep="–", float_format=lambda x: f"{x:.3g}", max_cols=14)
        more = f"<p>{len(value)} rows, the first {MOST_ROWS} shown</p>" if len(value) > MOST_ROWS else ""
        out.append(f'<div class="output" markdown="0">{table}{more}</div>')
    elif value is not None and type(value).__module__.partition(".")[0] == "xarray":
        out.append(f'```text title="Output"\n{value}\n```')
    elif isinstance(value, str | int | float | list | tuple | dict | Path):
        words = json.dumps(value, indent=1) if isinstance(value, dict) else str(value)
        out.append(f'```text title="Output"\n{words}\n```')
    elif value is not None and not type(value).__module__.startswith("matplotlib"):
        out.append(f'<div class="output" markdown="0"><pre>{html.escape(repr(value))}</pre></div>')
    return out


if __name__ == "__main__":
    for one in sys.argv[1:] or NAMES:
        execute(one)
        print(CACHE / one / "page.md")
