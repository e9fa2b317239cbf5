"""A metric of checkpoint.keep_best that no row will have."""

import subprocess
import sys

import pytest
import torch

from fra_dist.config import load_config
from fra_dist.errors import ConfigError
from fra_dist.launch.checks.before_launch import check_run
from fra_dist.losses.geometry import Placement
from fra_dist.losses.total import fra_loss
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints.best_metric import known_metrics, missing_metric, refuse_unknown_metric

PROBED = ["probe.every_steps=1000", "probe.sets=[{data: faces/landmarks, tasks: [alignment], name: marks}, {data: f}]"]


def refuse(name, *overrides):
    refuse_unknown_metric(load_config(None, [f"checkpoint.keep_best={name}", *overrides]))


@pytest.mark.parametrize(
    ("name", "overrides", "meant"),
    [
        ("loss/totl", [], "did you mean loss/total"),
        ("total", [], "did you mean loss/total"),
        ("loss/local", ["model.decoder=null", "loss.local=0", "loss.relation=0"], "did you mean loss/global or"),
        ("probe/marks/alignment/linear_nme_interocular", PROBED, "did you mean probe/marks/alignment/linear_nme_inter"),
        ("probe/marks/expression/knn_accuracy", PROBED, "did you mean probe/f/expression/knn_accuracy"),
        ("probe/mark/alignment/linear_mae_of_side", [*PROBED, "loss.extra={a:b: 1}"], "did you mean probe/marks/"),
        ("zzzzzz", [], "it has loss/total, loss/global, "),
    ],
)
def test_a_metric_that_no_row_will_have_is_refused_with_the_nearest(name, overrides, meant):
    with pytest.raises(ConfigError, match=f"checkpoint.keep_best={name}: no metric of this run is called so; {meant}"):
        refuse(name, *overrides)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("loss/total", []),
        ("regions/in_use", []),
        ("loss/together", ["loss.extra={mine.losses:together: 0.1}"]),
        ("mine/distance", ["loss.extra={mine.losses:together: 0.1}"]),  # the term may report it
        ("loss/correspondence", ["loss.correspondence=1"]),
        ("probe/f/regions/heatmaps_parts_nmi", PROBED),
        ("probe/f/attributes/linear_age_mae", PROBED),
        ("probe/seconds", PROBED),
        ("source/bytes_fetched", []),  # of shards that are fetched
    ],
)
def test_a_metric_that_rows_may_have_is_not(name, overrides):
    refuse(name, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.decoder=null", "loss.local=0", "loss.relation=0"],
        ["loss.correspondence=1", "loss.exchange=true", "data.local_views=2", "data.local_size=32"],
        ["loss.match=present", "loss.relation_match=geometry"],
    ],
)
def test_the_names_are_those_that_the_loss_gives(overrides):
    config = load_config("debug_cpu", overrides)
    sizes = [32, 32] + [32] * config.data.local_views
    output = FRA(config.model).train()(*(torch.randn(4, 3, size, size) for size in sizes))
    loss_config = config.loss.model_copy(update={"exchange_group": None})
    terms = fra_loss(output, loss_config, placement=Placement.same(4, torch.device("cpu")))
    given = {name if "/" in name else f"loss/{name}" for name in terms}
    known = {name for name in known_metrics(config) if name.startswith(("loss/", "regions/", "queries/", "views/"))}
    assert given >= known
    assert given <= {*known, "embedding/spread", "embedding/rank"}


def test_it_is_refused_before_torch_is_imported_and_before_a_launch(tmp_path):
    code = "import sys\nfrom fra_dist.cli.main import main\nstatus = main(sys.argv[1:])\n"
    code += "assert 'torch' not in sys.modules\nsys.exit(status)\n"
    words = ["pretrain", "debug_cpu", f"output={tmp_path / 'run'}", "checkpoint.keep_best=loss/totl"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "did you mean loss/total" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="did you mean loss/total"):
        check_run(load_config("debug_cpu", words[2:]), [1])


def test_a_row_that_should_have_the_metric_and_lacks_it():
    row = {"step": 20, "loss/total": 1.0, "mine/distance": None}
    assert missing_metric("mine/distance", row) is None  # not finite
    assert missing_metric("mine/distance", {"step": 20, "step/applied": 0.0}) is None
    assert missing_metric("probe/a/regions/heatmaps_nmi", row) is None
    text = missing_metric("mine/distanc", row)
    assert text is not None
    assert "the row of step 20 has no metric of that name" in text
    assert "did you mean mine/distance?" in text
    probed = {"step": 0, "probe/seconds": 1.0, "probe/a/attributes/linear_auc": 0.5}
    text = missing_metric("probe/a/attributes/linear_age_mae", probed)
    assert text is not None
    assert "did you mean probe/a/attributes/linear_auc" in text
