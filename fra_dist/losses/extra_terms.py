"""Loss terms from outside this package, by the names and weights in `loss.extra`.

A term is a function of what the networks gave:

    @loss_term("together")
    def together(output: Output, cross: CrossRank, placement: Placement | None) -> Tensor:
        one, two = (view.global_embedding for view in output.online)
        return (one - two).square().mean()

It returns the term, 0-dim and this rank's, so that the mean over ranks is the whole; or (term, metrics), metrics being
0-dim tensors by the names under which rows hold them, such as `mine/distance`. `placement` says where the two views lie
in their photos. The decorator serves scripts; an installed package names the function in its entry points (group
`fra_dist.loss_terms`), and `loss.extra={module:function: 0.1}` takes any importable one; see `config/extensions.py`.
A checkpoint holds the names only: nothing but training looks them up.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from fra_dist.config import LossConfig
from fra_dist.config.extensions import find_extension, known_extensions, register, short_name
from fra_dist.distributed import CrossRank
from fra_dist.errors import ConfigError
from fra_dist.losses.geometry import Placement
from fra_dist.losses.loss_inputs import Output

GROUP = "fra_dist.loss_terms"

LossTerm = Callable[[Output, CrossRank, Placement | None], Tensor | tuple[Tensor, Mapping[str, Tensor]]]


def loss_term(name: str) -> Callable[[LossTerm], LossTerm]:
    """Decorator: make `loss.extra={name: weight}` mean the function, in this process.

    Raises ConfigError when the name is taken by another function.
    """

    def keep(term: LossTerm) -> LossTerm:
        register(GROUP, name, term)
        return term

    return keep


def find_term(name: str) -> LossTerm:
    """The function of a name in `loss.extra`. Raises ConfigError where there is none."""
    term = find_extension(GROUP, name)
    if term is None:
        known = ", ".join(known_extensions(GROUP)) or "none"
        raise ConfigError(f"loss.extra: no loss term is called {name!r} (installed: {known}); or write module:function")
    return term


def check_extra_terms(config: LossConfig) -> None:
    """Look up every term, so that a run begins only with all of them. Raises ConfigError when one is not there."""
    for name in config.extra:
        find_term(name)


def extra_term(name: str, output: Output, cross: CrossRank, placement: Placement | None) -> dict[str, Tensor]:
    """The term under its short name, and its metrics. Raises ConfigError for what is not a 0-dim tensor."""
    found = find_term(name)(output, cross, placement)
    term, metrics = found if isinstance(found, tuple) else (found, {})
    given = {**metrics, short_name(name): term}
    for key, value in given.items():
        if not isinstance(value, Tensor) or value.dim():
            raise ConfigError(f"loss.extra: {name!r} must return 0-dim tensors, but its {key} is not one")
    return {key: value.detach() if key in metrics else value for key, value in given.items()}
