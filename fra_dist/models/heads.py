"""The two-layer heads: projectors and predictors."""

from torch import Tensor, nn

from fra_dist.models.norm import BatchNorm


class MLPHead(nn.Module):
    """A head: linear in→K, batch norm, ReLU, linear K→D, without biases, on rows: (N, in) -> (N, D).

    A 1×1 convolution over pixels or regions is the same thing with the pixels or regions as rows, and slower. Weights
    start Kaiming normal, fan-out.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(inputs, hidden, bias=False)
        self.norm = BatchNorm(hidden)
        self.linear2 = nn.Linear(hidden, outputs, bias=False)
        for linear in (self.linear1, self.linear2):
            nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, rows: Tensor) -> Tensor:
        """The head applied to each row: (N, in) -> (N, D)."""
        return self.linear2(self.norm(self.linear1(rows), relu=True))

    def over_pixels(self, features: Tensor) -> Tensor:
        """The head applied to each pixel of a map: (B, C, H, W) -> (B, D, H, W), stored channels-last."""
        batch, _, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(batch * height * width, -1)
        return self(rows).view(batch, height, width, -1).permute(0, 3, 1, 2)

    def over_regions(self, regions: Tensor) -> Tensor:
        """The head applied to each region: (B, Q, C) -> (B, Q, D)."""
        return self(regions.flatten(0, 1)).view(*regions.shape[:2], -1)
