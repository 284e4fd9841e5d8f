"""Pages that are made and not written: home from the README, settings and commands from the code, examples by running them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "docs" / "site"), str(ROOT / "src")]

import execute  # noqa: E402
import generate  # noqa: E402


def on_files(files: Files, config: Any) -> Files:
    """Add the made pages to those in ``docs/``."""
    made: dict[str, str | bytes] = {"index.md": home(), "settings.md": generate.settings(), "commands.md": generate.commands()}
    for name in execute.NAMES:
        text, pictures = execute.page(name)
        made[f"examples/{name}.md"] = text
        made |= {f"examples/{file}": content for file, content in pictures.items()}
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """The theme would fetch its worker for pages on a disk from elsewhere; ours stands in the page."""
    worker = (ROOT / "docs" / "site" / "worker.js").read_text(encoding="utf-8")
    output = re.sub(
        r'<script src="https://[^"]*/iframe-worker/[^"]*"></script>', lambda _: f"<script>{worker}</script>", output
    )
    if elsewhere := re.search(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"https?://[^>]*>", output):
        raise PluginError(f"the page {page.file.src_uri} loads something from elsewhere: {elsewhere[0]}")
    return output


def home() -> str:
    """The README, with its links as they are inside the site, and without what is only of use in the repository."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\n## The tree\n+```.*?```\n", "\n", text, flags=re.S)
    text = re.sub(r"\]\(docs/", "](", text)
    text = re.sub(r"\[([^]]*)\]\(src/[^)]*\)", r"`\1`", text)
    return re.sub(r"`docs/(\w+)\.md`", r"[\1](\1.md)", text)
