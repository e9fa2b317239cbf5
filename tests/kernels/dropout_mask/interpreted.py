"""Run by the tests in a process of its own; see `interpreting.py`."""

import torch

from fra_dist.kernels.dropout_mask import dropout_mask, launch
from fra_dist.kernels.dropout_mask import op as operators
from tests.kernels.dropout_mask.checks import CASES, check
from tests.kernels.dropout_mask.mutants import MUTANTS
from tests.kernels.interpreting import main


def check_operators() -> None:
    torch.library.opcheck(operators.mask.custom, (torch.arange(3), [6, 4, 5], 2, 7, 2**50))


def check_compiled() -> None:
    keys = torch.arange(4)

    def kept(keys: torch.Tensor) -> torch.Tensor:
        return dropout_mask(keys, torch.Size((8, 30)), 3, 6, 0.4)

    assert torch.equal(torch.compile(kept, fullgraph=True, backend="aot_eager")(keys), kept(keys))


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    others = {"operators": check_operators, "torch.compile": check_compiled}
    main(cases, others, launch, MUTANTS)
