"""Engines, which carry forward, backward and update of a step: DeepSpeed with ZeRO, or plain PyTorch."""
