"""Run by the tests in a process of its own; see `interpreting.py`."""

import torch
from dropout_mask_checks import CASES, check
from dropout_mask_mutants import MUTANTS
from interpreting import main

from fra_dist.kernels import dropout_mask_launch
from fra_dist.kernels import dropout_mask_op as operators
from fra_dist.kernels.dropout_mask import dropout_mask


def check_operators() -> None:
    torch.library.opcheck(operators.mask, (torch.arange(3), [6, 4, 5], 2, 7, 2**50))


def check_compiled() -> None:
    keys = torch.arange(4)

    def kept(keys: torch.Tensor) -> torch.Tensor:
        return dropout_mask(keys, torch.Size((8, 30)), 3, 6, 0.4)

    assert torch.equal(torch.compile(kept, fullgraph=True, backend="aot_eager")(keys), kept(keys))


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    others = {"operators": check_operators, "torch.compile": check_compiled}
    main(cases, others, dropout_mask_launch, MUTANTS)
