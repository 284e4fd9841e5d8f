"""The measurement of pretraining: that it counts what it says; how fast this machine is does not matter."""

from __future__ import annotations

import time
from dataclasses import replace

import pandas as pd
import pytest
import torch

import foveate.api as fv
from foveate import bench
from foveate.bench import Ratio
from foveate.cli import main
from foveate.models.vit import VitConfig
from foveate.recipes import RECIPES
from foveate.schema import FoveateError
from foveate.train.speed import Line
from tests.test_pretrain import TINY

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(bench, "PICTURES", 48)
    monkeypatch.setattr(bench, "SIZE", 64)
    tiny = VitConfig(image_size=28, width=24, depth=2, heads=2, mlp_ratio=2)
    monkeypatch.setattr(bench, "sized", lambda name: tiny)


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_ratios_are_those_of_neighbours() -> None:
    found = Ratio.of([1.0, 2.0, 4.0], [2.0, 6.0, 16.0])
    assert found == Ratio(3.0, 2.0, 4.0, (2.0, 6.0))


def test_both_take_turns() -> None:
    order: list[str] = []
    bench.compared(lambda: order.append("a"), lambda: order.append("b"), 3, CPU)
    assert "".join(order) == "ab" + "ba" + "ab" + "ba"
    found = bench.compared(lambda: busy(0.01), lambda: busy(0.03), 3, CPU)
    assert 2 < found.times_faster < 4 and found.seconds == pytest.approx((0.01, 0.03), rel=0.3)


def test_work_beside_the_passes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that takes ten times as long has a tenth of the share."""
    lines: list[Line] = []
    quick = bench.pretraining(TINY, steps=2, say=lines.append)
    assert [line.step for line in lines] == [1, 2, 3] and quick.batch == 6
    assert 0 < quick.share < 1.2 and 0 <= quick.waited <= 1 and quick.rate > 0 and 0 < (quick.mfu or 0) < 1
    step = bench.Dinov2.step

    def slow(method, batch, at):  # type: ignore[no-untyped-def]
        busy(9 * quick.seconds[0])
        return step(method, batch, at)

    monkeypatch.setattr(bench.Dinov2, "step", slow)
    assert bench.pretraining(TINY, steps=2).share < 0.3 * quick.share


def test_the_command_and_the_function(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def tiny(batch: int = 6):  # type: ignore[no-untyped-def]
        return replace(TINY, training=replace(TINY.training, batch=batch))

    monkeypatch.setitem(RECIPES, "miniature", tiny)
    assert main(["bench", "pretrain", "--batch", "4", "--steps", "1"]) == 0
    shown = capsys.readouterr()
    assert "bare passes of a step" in shown.out and "at least 0.9" in shown.out and " of 3 · loss" in shown.err
    table = fv.bench(steps=1, batch=4)
    assert isinstance(table, pd.DataFrame) and {"pictures per second", "waiting for pictures"} < set(table["what"])


def test_only_dinov2_is_measured() -> None:
    with pytest.raises(FoveateError, match=r"only recipes of DINOv2 can be measured"):
        bench.pretraining(replace(TINY, method=object()))  # type: ignore[arg-type]
    with pytest.raises(FoveateError, match="nothing called 'tea'"):
        fv.bench("tea")  # type: ignore[arg-type]
