"""What people read while it runs and when something went wrong."""

from __future__ import annotations

import pytest

from foveate import console
from foveate.jobs import Failure
from foveate.schema import FoveateError


@pytest.mark.parametrize(
    ("failed", "mark", "count"),
    [((), "✓", "5 items"), (("a", "b"), "!", "3 of 5 items"), (tuple("abcde"), "✗", "0 of 5 items")],
)
def test_a_stage_counts_what_worked(failed: tuple[str, ...], mark: str, count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with console.show("track", 5) as display:
        for item in "abcde":
            display.update(item, 1, 1)
            if item in failed:
                display.failed(item)
            display.finished(item)
    said = capsys.readouterr().err
    assert said.startswith(mark) and f" {count} in " in said


def test_one_message_for_many(capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(stage: str, item: str, problem: str) -> Failure:
        return Failure(stage, item, FoveateError(problem, file="foveate.yaml", row=3, remedy="correct it"))

    failures = [wrong(stage, f"v{k}", "no such model") for stage in ("embed", "predict") for k in range(200)]
    failures += [wrong("compare", "default", "no such model"), wrong("track", "v7", "no subject")]
    console.problems(failures)
    said = capsys.readouterr().err
    assert said.count("no such model") == said.count("no subject") == 1
    assert "embed · 200 videos" in said and "track · v7" in said and "compare" not in said
    console.problems([wrong("labels", "all", f"row {k}") for k in range(30)], most=20)
    said = capsys.readouterr().err
    assert said.count("correct it") == 20 and "10 more problems" in said
