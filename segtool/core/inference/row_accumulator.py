"""Probabilities of one image at one size, growing from top to bottom; rows leave as soon as they are final."""

import math

import torch
import torch.nn.functional as F

from segtool.core.inference.windows import Axis
from segtool.values import Size


class RowAccumulator:
    """Adds up the outputs for windows, and returns the final rows at the image's own size.

    Only the rows that windows still write to, or that have not been taken, are held.
    """

    def __init__(self, rows: Axis, columns: Axis, size: Size, classes: int, device: str) -> None:
        """
        Args:
            rows, columns: the grid of windows over the layer, at the size the network sees.
            size: the image's own size.
            classes: number of classes C.
        """
        self.rows, self.columns, self.size = rows, columns, size
        self.probs = torch.empty((classes, 0, columns.length), device=device)
        self.first = 0
        self.final = 0

    def add(self, row: int, column: int, probs: torch.Tensor, weight: float) -> None:
        """Add `weight` times the output for a window, (C, h, w), which may extend over the lower and right edge."""
        vertical, horizontal = self.rows.weights[row], self.columns.weights[column]
        values = probs[:, : len(vertical), : len(horizontal)]
        if len(self.rows.starts) == len(self.columns.starts) == 1:
            # Most images are one window; the first output becomes the sum.
            self.probs = self.probs.add_(values, alpha=weight) if self.probs.shape[1] else values * weight
            return
        top, left = self.rows.starts[row], self.columns.starts[column]
        self._reach(top + len(vertical))
        target = self.probs[:, top - self.first : top - self.first + len(vertical), left : left + len(horizontal)]
        shares = torch.outer(torch.from_numpy(vertical), torch.from_numpy(horizontal)).mul_(weight)
        target.addcmul_(values, shares.to(target.device))

    def close(self, row: int) -> None:
        """Declare that every output for a row of windows has been added."""
        self.final = self.rows.final(row)

    @property
    def ready(self) -> int:
        """Return the number of rows of the image, from the first, that can be taken."""
        if self.final == self.rows.length:
            return self.size.height
        if self._own_size:
            return self.final
        # A row of the image lies between two of the layer, and the lower must be final.
        return max(0, math.floor((self.final - 0.5) * self.size.height / self.rows.length - 0.5))

    @property
    def _own_size(self) -> bool:
        return (self.rows.length, self.columns.length) == self.size

    def take(self, top: int, bottom: int) -> torch.Tensor:
        """Return rows [top, bottom) at the image's size, (C, rows, W), interpolated bilinearly; drop those above."""
        height, width = self.size
        if self._own_size:
            band = self.probs[:, top - self.first : bottom - self.first]
            self._drop(bottom)
            return band
        upper, lower, share = self._sources(top, bottom)
        start, end = int(upper[0]), int(lower[-1]) + 1
        strip = self.probs[None, :, start - self.first : end - self.first]
        # The width first, while there are few rows; F.interpolate does not touch a height that stays the same.
        wide = F.interpolate(strip, size=(end - start, width), mode="bilinear", align_corners=False)[0]
        band = torch.lerp(wide[:, upper - start], wide[:, lower - start], share[:, None])
        if bottom < height:
            self._drop(int(self._sources(bottom, bottom + 1)[0][0]))
        return band

    def _sources(self, top: int, bottom: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the two rows around each row of the image, and the share of the lower (pixel centres aligned)."""
        rows = torch.arange(top, bottom, dtype=torch.float64, device=self.probs.device)
        place = ((rows + 0.5) * (self.rows.length / self.size.height) - 0.5).clamp_(0, self.rows.length - 1)
        upper = place.long()
        return upper, (upper + 1).clamp_(max=self.rows.length - 1), (place - upper).float()

    def _reach(self, bottom: int) -> None:
        """Hold all rows above `bottom`, new ones as zeros."""
        classes, rows, width = self.probs.shape
        missing = bottom - self.first - rows
        if missing > 0:
            # First free the dropped rows, whose memory is shared with those that stay.
            self.probs = self.probs.clone()
            self.probs = torch.cat([self.probs, self.probs.new_zeros((classes, missing, width))], dim=1)

    def _drop(self, top: int) -> None:
        """Drop the rows above `top`; their memory is freed when the next row of windows begins."""
        self.probs = self.probs[:, top - self.first :]
        self.first = top
