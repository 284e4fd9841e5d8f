"""Reference pages out of the code: every setting with its default and its comment, every command with its help."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import re
import types
import typing
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from foveate import settings as settings_of
from foveate.cli import COMMANDS, main


def settings() -> str:
    """A section for every part of foveate.yaml."""
    out = [
        "# Settings\n\nEverything that can be set in `foveate.yaml`, made from the code (`foveate.settings`). What is not in the file has "
        "its default. A changed setting redoes what depends on it, and nothing else; an unknown one is an error that names the line.\n"
    ]
    parts: dict[type[settings_of.Settings], str] = {settings_of.Config: ""}
    for name, field in settings_of.Config.model_fields.items():
        if (section := _section(field.annotation)) is not None:
            parts.setdefault(section, name)
    for kind, title in parts.items():
        if title:
            out.append(f"## `{title}`\n\n{_markdown(kind.__doc__ or '')}\n")
        out.append("| setting | default | values | meaning |\n| --- | --- | --- | --- |")
        comments = _comments(kind)
        for name, field in kind.model_fields.items():
            words = comments.get(name, "")
            if _section(field.annotation) is not None and not words:
                words = f"[see below](#{name})"
            cells = (f"`{name}`", _default(field), _values(field), words)
            out.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        out.append("")
    return "\n".join(out)


def commands() -> str:
    """``--help`` of every command."""
    out = [
        "# Command line\n\nWhat `foveate COMMAND --help` prints. Every command but `demo` has a function of the same name and arguments "
        "(`import`: `import_tracks`) in [Python](api.md). The exit code is 0 only if everything asked for worked; "
        "errors name file, row and remedy.\n"
    ]
    for name in COMMANDS:
        out.append(f"## {name}\n\n```text\n{_help(name)}\n```\n")
    return "\n".join(out)


def _help(name: str) -> str:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "88"
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([name, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue()).splitlines():
        if title := re.fullmatch(r"╭─ (.*?) ─*╮", line.strip()):  # boxes, where the terminal can draw them
            lines.append(f"{title[1]}:")
        elif not line.startswith("╰") and set(line.strip()) != {"-"}:
            lines.append(re.sub(r"^│(.*?)\s*│$", r" \1", line).rstrip())
    return "\n".join(lines).strip()


def _section(annotation: Any) -> type[settings_of.Settings] | None:
    """The settings class that a field holds, or holds by name."""
    for kind in (annotation, *typing.get_args(annotation)):
        if inspect.isclass(kind) and not isinstance(kind, types.GenericAlias) and issubclass(kind, settings_of.Settings):
            return kind
    return None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, settings_of.Settings):
        value = value.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return f"`{yaml.safe_dump(value, default_flow_style=True).strip()}`" if value else ""
    if value is None:
        return "none"
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=1000).strip().removesuffix("...").strip()
    return f"`{text}`" if text not in ("''", "[]", "{}") else "empty"


def _values(field: FieldInfo) -> str:
    limits = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of", "min_length": "at least"}
    said = [
        f"{word} {getattr(m, name)}"
        for m in field.metadata
        for name, word in limits.items()
        if getattr(m, name, None) is not None
    ]
    return ", ".join([_type(field.annotation), *said])


def _type(annotation: Any) -> str:
    if _section(annotation) is not None:
        return "section" if inspect.isclass(annotation) else "name: section"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(kind) for kind in arguments if kind is not type(None))
    if origin is tuple:
        return "list of " + _type(arguments[0])
    if origin is dict:
        return "name: " + _type(arguments[1])
    return {int: "whole number", float: "number", str: "text", bool: "true or false"}.get(annotation, str(annotation))


def _comments(kind: type) -> dict[str, str]:
    """Field -> its comment in the code: what stands behind it, and the comment lines right above it."""
    source = inspect.getsource(kind)
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above, first = [], node.lineno - 2
        while first >= 0 and lines[first].strip().startswith("#"):
            above.insert(0, lines[first].strip().lstrip("# "))
            first -= 1
        behind = [m[1] for line in lines[node.lineno - 1 : node.end_lineno] if (m := re.search(r"#\s(.*)", line))]
        found[node.target.id] = _markdown(" ".join([*above, *behind]))
    return found


def _markdown(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", re.sub(r"\s*\n(?!\n)\s*", " ", text))
