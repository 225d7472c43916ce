"""Forward and backward passes as CUDA graphs: one launch instead of thousands.

Letters: R rows, T tokens.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn

from nsa_models.cache.kv_cache import NoCache
from nsa_models.configuration.config import NSAConfig
from nsa_models.training.rows import PackedBatch
from nsa_models.training.token_losses import TokenLosses

_MOST_DOCUMENTS = 64
"""Documents of a row up to which it has a graph: kernels launch programs for every document."""

Shape = tuple[int, ...]
"""R and T; for rows of several documents, also bounds of their number and of their length."""


class _Layout:
    """Inputs of passes whose tensors have the same shapes, and their graph.

    Args:
        shape: Of the inputs.
        device: Of the model.

    Attributes:
        ids: (R, T) token ids.
        targets: (R, T) the next tokens.
        graph: The captured pass; None before its capture.
        uses: Number of passes.
    """

    def __init__(self, shape: Shape, device: torch.device) -> None:
        rows, tokens, *bounds = shape
        self.ids, self.targets = torch.zeros(2, rows, tokens, dtype=torch.long, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.uses = 0
        self._offsets: Tensor | None = None
        if bounds:
            self._longest = bounds[1]
            self._offsets = torch.zeros(bounds[0] + 1, dtype=torch.int32, device=device)

    def fill(self, batch: PackedBatch) -> None:
        """Copy a batch to the inputs, without waiting for the copy."""
        self.ids.copy_(batch.ids, non_blocking=True)
        self.targets.copy_(batch.targets, non_blocking=True)
        if self._offsets is not None:
            # The last documents are empty.
            offsets = torch.full((len(self._offsets),), batch.ids.numel(), dtype=torch.int32)
            offsets[: len(batch.lengths) + 1] = torch.tensor([0, *batch.lengths]).cumsum(0)
            if self._offsets.is_cuda:
                offsets = offsets.pin_memory()
            self._offsets.copy_(offsets, non_blocking=True)

    def attention(self) -> NoCache:
        """The attention of a pass."""
        if self._offsets is None:
            return NoCache()
        from nsa_kernels.gpu.layout import Packing

        # The packing keeps what it computes from its offsets, so each pass needs a new one.
        packing = Packing(
            cu_queries=self._offsets,
            cu_keys=self._offsets,
            max_queries=self._longest,
            max_keys=self._longest,
            total_keys=self.ids.numel(),
        )
        return NoCache(packing)


class PassGraphs:
    """Runs passes that add to the gradients, and replays their CUDA graphs.

    The first pass of a layout launches its kernels one by one and compiles them; the second is
    captured. On a CPU every pass is computed directly, on the same static inputs.

    Rows of several documents have a layout for each power of two of their number and of the
    longest document's length. They need the Triton kernels.

    Args:
        losses: The model with its losses.
        packed: Whether rows of several documents have graphs; None decides by the device and the
            model.
    """

    def __init__(self, losses: TokenLosses, *, packed: bool | None = None) -> None:
        self._losses, self._device = losses, losses.model.device
        self._layouts: dict[tuple[Shape, bool], _Layout] = {}
        self._scale = torch.ones((), device=self._device)
        self._total = torch.zeros((), device=self._device)
        self._gradients: dict[nn.Parameter, Tensor] = {}
        self._cuda = self._device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self._cuda else None
        if packed is None:
            packed = self._cuda and _kernels_pack(losses.model.config)
        self._packed = packed

    def run(self, batch: PackedBatch, scale: float) -> bool:
        """Add the gradients of a pass, and its loss to the total.

        Args:
            batch: The rows, on any device.
            scale: Factor of the loss.

        Returns:
            Whether the pass was computed; False for rows that have no fixed shapes.
        """
        shape = self._shape(batch)
        if shape is None:
            return False
        kind = (shape, self._losses.full)
        if kind not in self._layouts:
            self._layouts[kind] = _Layout(shape, self._device)
        layout = self._layouts[kind]
        layout.fill(batch)
        self._scale.fill_(scale)
        self._own_gradients()
        layout.uses += 1
        if self._cuda and layout.uses == 2:
            layout.graph = self._capture(layout)
        if layout.graph is None:
            self._compute(layout)
        else:
            layout.graph.replay()
        return True

    def _shape(self, batch: PackedBatch) -> Shape | None:
        """The shape of a batch's layout; None if it has none."""
        rows, tokens = batch.ids.shape
        if batch.whole:
            return rows, tokens
        if not self._packed or len(batch.lengths) > _MOST_DOCUMENTS:
            return None
        documents, longest = (_power(n) for n in (len(batch.lengths), max(batch.lengths)))
        return rows, tokens, documents, min(longest, rows * tokens)

    def take_total(self) -> Tensor:
        """Return the sum () of the losses since the last call."""
        total = self._total.clone()
        self._total.zero_()
        return total

    def _own_gradients(self) -> None:
        """Give each parameter the gradient to whose memory the graphs add."""
        for parameter in self._losses.parameters():
            own = self._gradients.get(parameter)
            if own is None:
                own = self._gradients[parameter] = torch.zeros_like(parameter)
            if parameter.grad is not own:
                own.copy_(parameter.grad) if parameter.grad is not None else own.zero_()
                parameter.grad = own

    def _capture(self, layout: _Layout) -> torch.cuda.CUDAGraph:
        """Capture a pass without computing it."""
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as the one that pins batches, call CUDA during the capture.
        with torch.cuda.graph(
            graph,
            pool=self._pool,
            stream=torch.cuda.Stream(self._device),
            capture_error_mode="thread_local",
        ):
            self._compute(layout)
        return graph

    def _compute(self, layout: _Layout) -> None:
        loss, _ = self._losses.losses(layout.ids, layout.targets, layout.attention())
        (loss * self._scale).backward()
        self._total.add_(loss.detach())


def _power(number: int) -> int:
    """The least power of two that is not below a number."""
    return 1 << (number - 1).bit_length()


def _kernels_pack(config: NSAConfig) -> bool:
    """Whether the Triton kernels take rows of several documents of a model, with its φ."""
    settings, dim = config.prefill_settings(), config.head_dim
    if settings.select_count is None or find_spec("triton") is None:
        return False
    if config.compress_hidden is not None and not config.branch_inputs:
        return False  # this φ takes one document at a time
    from nsa_kernels.gpu.layout import supports

    assert dim is not None
    return settings.dense_below == 0 and bool(supports(torch.bfloat16, (dim, dim), settings))
