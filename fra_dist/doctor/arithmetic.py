"""Checks of torch, the GPU and its driver, bf16 and Triton."""

import os
import shutil
import subprocess
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fra_dist.doctor.result import CheckResult, fail, ok, warn
from fra_dist.doctor.subject import Subject
from fra_dist.formats import size_text

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_FREE = 8e9


def check_torch(subject: Subject) -> CheckResult:
    """Check that torch multiplies matrices correctly on the CPU, and name its version, threads and CUDA version."""
    import torch

    error = float((torch.ones(64, 64) @ torch.ones(64, 64) - 64).abs().max())
    found = f"torch {torch.__version__}, {torch.get_num_threads()} threads, built for CUDA {torch.version.cuda}"
    return ok(found) if error == 0 else fail(f"{found}: a product is wrong by {error}", "install torch again")


def check_gpu(subject: Subject) -> CheckResult:
    """The GPUs that torch sees, the driver below them, and their free memory."""
    import torch

    from fra_dist.distributed.gpus import sign_of_gpu, why_no_cuda

    driver = _driver()
    if not torch.cuda.is_available():
        sign = sign_of_gpu(os.environ)
        if subject.device == "cuda":
            return fail(f"train.device=cuda, but {why_no_cuda()} ({driver})", "use train.device=auto, or fix this")
        if subject.device == "cpu" or (sign is None and "no NVIDIA driver" in driver):
            return ok(f"{driver}: runs use the CPU")
        return fail(
            f"{sign or driver}, but torch cannot use a GPU: {why_no_cuda()}",
            "is CUDA_VISIBLE_DEVICES empty, or the driver older than torch's CUDA " + str(torch.version.cuda) + "?",
        )
    found = []
    least = float("inf")
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        least = min(least, free)
        major, minor = torch.cuda.get_device_capability(number)
        name = torch.cuda.get_device_name(number)
        found.append(f"{number}: {name} (sm_{major}{minor}), {size_text(free)} of {size_text(total)} free")
    text = f"{'; '.join(found)}; {driver}"
    if least < _LEAST_FREE:
        return warn(text, "another program holds the memory (nvidia-smi names it), or set a smaller train.micro_batch")
    return ok(text)


def check_bf16(subject: Subject) -> CheckResult:
    """Whether bf16 products are right and faster than float32, on the GPU and on the CPU."""
    import torch

    parts, slow = [], False
    for kind, side in (("cuda", 4096), ("cpu", 256)) if torch.cuda.is_available() else (("cpu", 256),):
        wide = torch.randn(side, side, device=kind)
        narrow = wide.bfloat16()
        right = narrow.float() @ narrow.float()
        error = float(((narrow @ narrow).float() - right).abs().max() / right.abs().max())
        if error > 0.01:
            return fail(f"bf16 on {kind} is off by {error:.1%}", "set train.precision=fp32")
        gain = _seconds(wide) / _seconds(narrow)
        parts.append(f"{kind}: right, {gain:.2g} times as fast as float32")
        slow |= kind == "cuda" and gain < 1.2
    text = "; ".join(parts)
    return (
        warn(text, "this GPU has no fast bf16 (Ampere and later have): set train.precision=fp32") if slow else ok(text)
    )


def check_triton(subject: Subject) -> CheckResult:
    """Whether Triton is here and the fused kernels run."""
    import torch

    if find_spec("triton") is None:
        return warn("Triton is not installed", "plain PyTorch is used; on Linux with a GPU: run `make setup` again")
    if not torch.cuda.is_available():
        return ok("installed; without a GPU plain PyTorch is used")
    from fra_dist.kernels import dispatch

    if (obstacle := dispatch.device_obstacle("cuda", 0)) is not None:
        return warn(f"kernels use plain PyTorch: {obstacle}", "a GPU from Ampere on runs them; slower, but right")
    from fra_dist.kernels.self_check import check_kernels

    findings = list(check_kernels(torch.device("cuda", 0)))
    wrong = [f"{one.kernel}: {one.problem}" for one in findings if one.problem]
    if wrong:
        return warn("; ".join(wrong)[:300], "runs leave these kernels out; a C compiler (gcc) must be on PATH")
    return ok(f"{len(findings)} checks of the kernels agree with plain PyTorch in float64")


def _seconds(matrix: "Tensor") -> float:
    """The seconds of one product, the best of a few."""
    import torch

    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        product = matrix @ matrix
        if product.is_cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return max(best, 1e-9)


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA driver"
    try:
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except subprocess.TimeoutExpired:
        return "nvidia-smi gives no answer in 20 s"
    if said.returncode:
        return f"nvidia-smi: {' '.join((said.stdout + said.stderr).split())[:120]}"
    return f"driver {said.stdout.split()[0] if said.stdout.split() else 'unknown'}"
