"""CSV files that people made, mostly with a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

from foveate.schema import FoveateError


def read_csv(path: Path, required: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV file as (row number, stripped cells); the header is row 1; empty rows are skipped.

    Accepts UTF-8 with or without a byte-order mark, and comma, semicolon or tab as separator (spreadsheets write all three).
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise FoveateError("no such file", file=path, remedy="run `foveate init`, or restore the file") from None
    except UnicodeDecodeError:
        raise FoveateError("not UTF-8 text", file=path, remedy='save it as "CSV UTF-8"') from None
    if not text.strip():
        raise FoveateError("the file is empty", file=path, row=1, remedy="first row: " + ",".join(required))
    header_line = text.splitlines()[0]
    separator = max(",;\t", key=header_line.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise FoveateError(f"not a CSV file ({error})", file=path, row=reader.line_num, remedy="export it again") from None
    header = [cell.strip() for cell in rows[0][1]]
    missing = [name for name in required if name not in header]
    if missing:
        raise FoveateError(
            f"column {missing[0]!r} is missing; found: {', '.join(header)}",
            file=path,
            row=1,
            remedy="the first row must name the columns " + ", ".join(required),
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise FoveateError(f"column {twice[0]!r} stands twice", file=path, row=1, remedy="rename or remove one")
    out = []
    for number, row in rows[1:]:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
            raise FoveateError(
                f"{len(row)} cells, but the header has {len(header)}", file=path, row=number, remedy="quote cells with commas"
            )
        cells = {name: (row[i].strip() if i < len(row) else "") for i, name in enumerate(header) if name}
        out.append((number, cells))
    return out
