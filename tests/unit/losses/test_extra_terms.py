"""Terms of one's own: found by name, refused in one line, and summed with their weights."""

import sys

import pytest
import torch

from fra_dist.config import LossConfig, extensions, load_config
from fra_dist.errors import ConfigError
from fra_dist.losses import fra_loss, loss_term
from fra_dist.losses.extra_terms import check_extra_terms
from fra_dist.models.outputs import FRAOutput, NetworkOutput


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(extensions, "_registered", {})


@pytest.fixture
def output():
    torch.manual_seed(0)
    views = [NetworkOutput(torch.randn(4, 3, 2, 2), torch.randn(4, 6, requires_grad=True)) for _ in range(4)]
    return FRAOutput((views[0], views[1]), (views[2], views[3]), (torch.randn(4, 6), torch.randn(4, 6)), None)


def size(output, cross, placement):
    found = output.online[0].global_embedding.square().mean()
    return found, {"mine/root": found.sqrt()}


def config(extra):
    return LossConfig(local=0.0, relation=0.0, extra=extra)


def test_a_registered_term_is_weighed_and_its_metric_has_no_gradient(output):
    loss_term("size")(size)
    plain, found = fra_loss(output, config({})), fra_loss(output, config({"size": 0.25}))
    assert found["total"].item() == pytest.approx(plain["total"].item() + 0.25 * found["size"].item())
    assert found["mine/root"].item() == pytest.approx(found["size"].item() ** 0.5)
    assert not found["mine/root"].requires_grad
    (slope,) = torch.autograd.grad(found["total"], output.online[0].global_embedding)
    torch.testing.assert_close(slope, 0.25 * 2 / 24 * output.online[0].global_embedding)


def test_one_name_means_one_function():
    loss_term("size")(size)
    loss_term("size")(size)
    with pytest.raises(ConfigError, match="'size' is registered"):
        loss_term("size")(lambda output, cross, placement: output.prediction[0].sum())


def test_a_term_cannot_take_the_name_of_another(output):
    for name in ("global", "total"):
        loss_term(name)(size)
        with pytest.raises(ConfigError, match=f"another term is called '{name}'"):
            fra_loss(output, config({name: 1.0}))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "no loss term is called 'nothing' (installed: none)"),
        ("no.such.module:term", "ModuleNotFoundError"),
        ("math:nothing", "AttributeError"),
        ("math:pi", "is a float, not a function"),
        ("math:", "not of the form module:name"),
        ("os;remove:x", "not of the form module:name"),
        ("half_written:term", "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_had_is_one_line_before_the_first_step(name, said, tmp_path, monkeypatch):
    (tmp_path / "half_written.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_extra_terms(config({name: 0.1}))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_term_that_is_no_number_is_named(output):
    loss_term("rows")(lambda output, cross, placement: output.prediction[0])
    with pytest.raises(ConfigError, match="'rows' must return 0-dim tensors"):
        fra_loss(output, config({"rows": 1.0}))


def test_a_name_that_two_packages_give_is_refused(tmp_path, monkeypatch):
    for package in ("one", "two"):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[fra_dist.loss_terms]\nsize = {package}.x:size\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"several packages \(one, two\)"):
        check_extra_terms(config({"size": 0.1}))


def test_reading_a_configuration_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "tripwire.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = load_config(None, ["loss.extra={'tripwire:term': 0.5}", "loss.extra.other=2"])
    assert found.loss.extra == {"tripwire:term": 0.5, "other": 2.0}
    assert "tripwire" not in sys.modules
    with pytest.raises(ConfigError, match=r"loss\.extra\.other"):
        load_config(None, ["loss.extra={other: -1}"])
