"""One of two ranks that meet on the null GPU and agree on something; prints what this rank was given, as JSON."""

import json
import sys

import torch.distributed as dist

from fra_dist import distributed

ctx = distributed.start("cuda", timeout_minutes=2)
answers = ctx.agree_any(ctx.rank == 1, False)
group = dist.distributed_c10d._get_default_group()
print(json.dumps({"device": str(ctx.device), "bound": str(group.bound_device_id), "answers": answers}))
distributed.stop()
sys.stdout.flush()
