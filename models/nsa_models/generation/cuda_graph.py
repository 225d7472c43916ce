"""Decoding on CUDA devices: a step is one launch of a CUDA graph on each that layers lie on.

Nothing waits for the host. A step takes a fixed number of tokens at a place that the device knows:
those that are tried ahead beside the last one. Where fewer are tried, what is made of the rest is
passed over, and the next step writes over it.

Letters: L layers, B batch (one), T tokens of a step, H query heads, G key/value groups, D head
dim, N selection blocks, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu.decode import nsa_decode
from nsa_kernels.gpu.decode_cache import DecodeCache, DecodeWorkspace
from nsa_kernels.gpu.decode_mass import selected_mass
from nsa_kernels.gpu.dense_decode import MOST_ROWS, DenseWorkspace, dense_decode
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.kv_cache import KVCache, Summarise
from nsa_models.cache.layer_devices import device_runs
from nsa_models.modeling.model import NSALanguageModel


class CudaGraphDecoder:
    """A step of decoding after what a cache holds: the launch of a graph on each of its devices.

    Args:
        model: The model, whose weights lie on devices alone.
        cache: What was read, each layer's where the layer is. Steps are appended to it.
        settings: What to attend to; `combine` is `union`.
        tokens: T at most; fewer where a group has many query heads, one where blocks are selected.

    Raises:
        UnsupportedError: If the kernels cannot do this.
    """

    def __init__(
        self, model: NSALanguageModel, cache: KVCache, settings: AttentionSettings, tokens: int
    ) -> None:
        _, batch, groups, _, _ = cache.shape
        heads = model.config.num_attention_heads
        if batch != 1 or settings.combine != "union":
            raise UnsupportedError(
                f"a step decodes one text by combine='union'; batch is {batch}, "
                f"combine {settings.combine!r}"
            )
        self.tokens = max(1, min(tokens, MOST_ROWS * groups // heads)) if settings.dense else 1
        self._model, self._cache, self._settings = model, cache, settings
        self._ids = torch.zeros(1, self.tokens, dtype=torch.long, device=cache.layer_devices[0])
        if not settings.dense:
            cache.summaries(settings)  # brought up to date; the steps complete those that follow
        self._stages = [
            _DeviceGraph(cache, settings, heads, self.tokens, home, layers)
            for home, layers in device_runs(cache.layer_devices)
        ]

    def fits(self) -> bool:
        """Whether the cache has room for another step."""
        return self._cache.length + self.tokens <= self._cache.capacity

    def run(self, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Run the next tokens through the model, and append them to the cache.

        Args:
            tokens: At least one, and at most those of a step.

        Returns:
            Logits (T, V) of these tokens, which the next run writes over, and the mass
            (L, H, T, N) that each gave each block.
        """
        count, cache = len(tokens), self._cache
        assert 0 < count <= self.tokens, (count, self.tokens)
        assert self.fits(), (cache.length, self.tokens, cache.capacity)
        padded = [*tokens, *[tokens[-1]] * (self.tokens - count)]
        self._ids.copy_(torch.tensor([padded]))
        for stage in self._stages:
            stage.lengths.fill_(cache.length)
        logits = self._alone() if len(self._stages) == 1 else self._in_turns()
        cache.advance(count)
        self._tell(count)
        blocks = (cache.length - 1) // self._settings.select_block + 1
        masses = [stage.mass[:, 0, :, :count, :blocks] for stage in self._stages]
        return logits[:count], torch.cat([mass.to(self._ids.device) for mass in masses])

    def _alone(self) -> Tensor:
        """The whole model on one device: logits (T, V)."""
        [stage] = self._stages

        def whole() -> Tensor:
            output = self._model(
                self._ids, cache=stage, settings=self._settings, last_logits=self.tokens
            )
            logits: Tensor = output.logits
            return logits

        return stage.run(whole)[0]

    def _in_turns(self) -> Tensor:
        """Each device's layers after those of the one before it: logits (T, V)."""
        x = self._model.embed(self._ids)
        for stage in self._stages:
            x = stage.run(
                lambda x, at=stage: self._model.through(x, at.layers, self._settings, at)[0], x
            )
        return self._model.logits(x)[0]

    def _tell(self, count: int) -> None:
        """Tell whoever observes the cache which blocks were attended to."""
        if self._cache.observe is None:
            return
        for stage in self._stages:
            chosen = None if self._settings.dense else stage.selected.cpu()
            for layer in stage.layers:
                blocks = None if chosen is None else chosen[layer - stage.layers.start]
                self._cache.observe(layer, blocks, self._settings, self._cache.length, count)


class _DeviceGraph:
    """The layers of one device in a step, and the graph of what they do.

    It stands in for the cache before these layers, which attend by the kernels for decoding. The
    first run launches them one by one: it compiles them, and an answer of one token is not held up
    by the capture, which the second run makes.

    Attributes:
        layers: Which.
        lengths: (layers, 1) tokens before the step. Each layer counts by itself, as the kernels
            that select want it.
        mass: (layers, 1, H, T, N) that the step gave each block.
        selected: (layers, 1, G, 1, n) blocks that it selected, kept where the cache is observed.
    """

    def __init__(
        self,
        cache: KVCache,
        settings: AttentionSettings,
        heads: int,
        tokens: int,
        device: torch.device,
        layers: range,
    ) -> None:
        _, _, groups, capacity, dim = cache.shape
        self.layers = layers
        self._cache, self._settings, self._device = cache, settings, device
        self.lengths = torch.zeros(len(layers), 1, dtype=torch.int32, device=device)
        self._ahead = torch.arange(tokens, device=device)
        blocks = -(-capacity // settings.select_block)
        self.mass = torch.zeros(len(layers), 1, heads, tokens, blocks, device=device)
        self._given: tuple[Tensor, ...] = ()
        self._made: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._selecting: list[DecodeCache] = []
        self._dense: DenseWorkspace | None = None
        if settings.dense:
            self._dense = DenseWorkspace.allocate(
                settings.select_block,
                tokens=tokens,
                batch=1,
                heads=heads,
                groups=groups,
                capacity=capacity,
                value_dim=dim,
                dtype=cache.dtype,
                device=device,
            )
            return
        room = DecodeWorkspace.allocate(
            settings,
            batch=1,
            heads=heads,
            groups=groups,
            capacity=capacity,
            head_dim=dim,
            value_dim=dim,
            dtype=cache.dtype,
            device=device,
        )
        no_values = torch.empty(1, groups, 0, dim, dtype=cache.dtype, device=device)
        self._selecting = [
            DecodeCache(
                k=cache.keys[layer],
                v=cache.values[layer],
                summary_k=cache.summary_room(settings)[layer],
                summary_v=no_values,
                lengths=self.lengths[layer - layers.start],
                workspace=room,
            )
            for layer in layers
        ]
        shape = (len(layers), 1, groups, 1, room.selected.shape[2])
        self.selected = torch.full(shape, -1, dtype=torch.int32, device=device)

    def run(self, work: Callable[..., Tensor], *given: Tensor) -> Tensor:
        """Do a step's work on the device, the same at each run but for the numbers given to it.

        Args:
            work: What these layers do of the step, and perhaps what is before and behind them.
            given: What it takes, on any device.

        Returns:
            What it makes, which the next run writes over.
        """
        if self._device.type != "cuda":
            return self._work(work, *given)
        with torch.cuda.device(self._device):  # where Triton launches
            if self._made is None:
                self._given = tuple(x.to(self._device, copy=True) for x in given)
                self._made = self._work(work, *self._given)
                return self._made
            for kept, x in zip(self._given, given, strict=True):
                kept.copy_(x)
            if self._graph is None:
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph, stream=torch.cuda.Stream(self._device)):
                    self._made = self._work(work, *self._given)
            self._graph.replay()
            return self._made

    def _work(self, work: Callable[..., Tensor], *given: Tensor) -> Tensor:
        if self._dense is None:
            self.mass.zero_()
        return work(*given)

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Positions (T,) of this step's tokens, as the device knows them."""
        assert (tokens, device) == (len(self._ahead), self._ahead.device), (tokens, device)
        return self.lengths[0] + self._ahead

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,
        gates: Tensor | None,
        return_mass: bool,
        summarise: Summarise | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One layer's attention; see `KVCache.attend`. The mass is kept here."""
        assert settings == self._settings
        assert gates is None
        assert not return_mass
        own = layer - self.layers.start
        if self._dense is not None:
            keys, values = self._cache.keys[layer], self._cache.values[layer]
            at = self.lengths[own] + self._ahead
            keys.index_copy_(2, at, k)
            values.index_copy_(2, at, v)
            mass = self.mass[own]
            return dense_decode(q, keys, values, self.lengths[own], mass, self._dense), None
        of = self._selecting[own]
        phi = None
        if summarise is not None:
            first = self.lengths[own] + (1 - settings.compress_block)

            def phi(block: Tensor) -> Tensor:
                made: Tensor = summarise(block, first=first)[:, :, 0]
                return made

        out = nsa_decode(q[:, :, 0], k[:, :, 0], v[:, :, 0], of, phi_k=phi)
        selected_mass(q[0, :, 0], of, self.mass[own, 0, :, 0])
        if self._cache.observe is not None:
            self.selected[own, :, :, 0] = of.workspace.selected
        return out.unsqueeze(2), None

    def advance(self, tokens: int) -> None:
        """Do nothing: `CudaGraphDecoder` counts tokens on the host."""
