"""The head that LAION's aesthetic predictor and ImageReward put on an embedding: five linear layers, nothing between them."""

from __future__ import annotations

from torch import Tensor, nn


class Head(nn.Module):
    """width - 1024 - 128 - 64 - 16 - 1. The published weights number the dropouts too, hence their places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2), nn.Linear(128, 64), nn.Dropout(0.1),
            nn.Linear(64, 16), nn.Linear(16, 1),
        )  # fmt: skip

    def forward(self, embeddings: Tensor) -> Tensor:
        """[B,width] -> [B]"""
        return self.layers(embeddings).squeeze(1)
