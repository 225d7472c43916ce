"""Decoding with CUDA graphs: a step launches one graph on each device.

A step does not wait for the host. It takes a fixed number of tokens, the last one and the draft
tokens, at a position that is stored on the device. With fewer draft tokens, the surplus results
are ignored and the next step overwrites them.

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
from nsa_models.cache.branches import Branches
from nsa_models.cache.kv_cache import Compressor, KVCache
from nsa_models.cache.layer_devices import device_runs
from nsa_models.modeling.model import NSALanguageModel


class CudaGraphDecoder:
    """Decodes after the tokens of a cache, with one CUDA graph per device.

    Args:
        model: The model, with all weights on GPUs.
        cache: The cache, each layer on the layer's device; steps extend it.
        settings: Attention settings; `combine` is `union`.
        tokens: Maximum of T. It is smaller for groups with many query heads, and 1 with selected
            blocks.

    Raises:
        UnsupportedError: If the kernels do not support the settings.
    """

    def __init__(
        self, model: NSALanguageModel, cache: KVCache, settings: AttentionSettings, tokens: int
    ) -> None:
        _, batch, groups, _, _ = cache.shape
        heads = model.config.num_attention_heads
        if batch != 1 or settings.combine != "union":
            raise UnsupportedError(
                f"a CUDA graph decodes one text with combine='union'; batch is {batch}, "
                f"combine {settings.combine!r}"
            )
        self.tokens = max(1, min(tokens, MOST_ROWS * groups // heads)) if settings.dense else 1
        self._model, self._cache, self._settings = model, cache, settings
        self._ids = torch.zeros(1, self.tokens, dtype=torch.long, device=cache.layer_devices[0])
        if not settings.dense:
            cache.summaries(settings)  # steps only add the following ones
        self._graphs = [
            _DeviceGraph(cache, settings, heads, self.tokens, device, layers)
            for device, layers in device_runs(cache.layer_devices)
        ]

    def fits(self) -> bool:
        """Return whether the cache has capacity for another step."""
        return self._cache.length + self.tokens <= self._cache.capacity

    def run(self, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Run the model over the next tokens and append them to the cache.

        Args:
            tokens: (T,) at least one and at most `self.tokens`.

        Returns:
            Logits (T, V), which the next run overwrites, and block masses (L, H, T, N).
        """
        count, cache = len(tokens), self._cache
        assert 0 < count <= self.tokens, (count, self.tokens)
        assert self.fits(), (cache.length, self.tokens, cache.capacity)
        padded = [*tokens, *[tokens[-1]] * (self.tokens - count)]
        self._ids.copy_(torch.tensor([padded]))
        for graph in self._graphs:
            graph.lengths.fill_(cache.length)
        logits = self._on_one_device() if len(self._graphs) == 1 else self._on_several_devices()
        cache.advance(count)
        self._observe(count)
        blocks = (cache.length - 1) // self._settings.select_block + 1
        masses = [graph.mass[:, 0, :, :count, :blocks] for graph in self._graphs]
        return logits[:count], torch.cat([mass.to(self._ids.device) for mass in masses])

    def _on_one_device(self) -> Tensor:
        """Run the whole model in one graph: logits (T, V)."""
        [graph] = self._graphs

        def whole() -> Tensor:
            output = self._model(
                self._ids, cache=graph, settings=self._settings, last_logits=self.tokens
            )
            logits: Tensor = output.logits
            return logits

        return graph.run(whole)[0]

    def _on_several_devices(self) -> Tensor:
        """Run the devices' layers one after another: logits (T, V)."""
        x = self._model.embed(self._ids)
        for graph in self._graphs:
            x = graph.run(
                lambda x, at=graph: self._model.run_layers(x, at.layers, self._settings, at)[0], x
            )
        return self._model.logits(x)[0]

    def _observe(self, count: int) -> None:
        """Call the cache's `observe` with the selected blocks of each layer."""
        if self._cache.observe is None:
            return
        for graph in self._graphs:
            chosen = None if self._settings.dense else graph.selected.cpu()
            for layer in graph.layers:
                blocks = None if chosen is None else chosen[layer - graph.layers.start]
                self._cache.observe(layer, blocks, self._settings, self._cache.length, count)


class _DeviceGraph:
    """The CUDA graph of the layers on one device, and the cache that these layers call.

    It is a `LayerCache` whose attention uses the decoding kernels. The first run launches the
    kernels one by one and compiles them; the second run captures the graph, so an answer of one
    token does not pay for the capture.

    Attributes:
        layers: Indices of the layers.
        lengths: (layers, 1) tokens before the step, per layer, as the selecting kernels need it.
        mass: (layers, 1, H, T, N) block masses of the step.
        selected: (layers, 1, G, 1, n) selected blocks of the step, if the cache is observed.
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
        self._offsets = torch.arange(tokens, device=device)
        blocks = -(-capacity // settings.select_block)
        self.mass = torch.zeros(len(layers), 1, heads, tokens, blocks, device=device)
        self._inputs: tuple[Tensor, ...] = ()
        self._output: Tensor | None = None
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
        workspace = DecodeWorkspace.allocate(
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
                summary_k=cache.summary_buffers(settings)[layer],
                summary_v=no_values,
                lengths=self.lengths[layer - layers.start],
                workspace=workspace,
            )
            for layer in layers
        ]
        shape = (len(layers), 1, groups, 1, workspace.selected.shape[2])
        self.selected = torch.full(shape, -1, dtype=torch.int32, device=device)

    def run(self, step: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Run a step on the device, from its graph where one is captured.

        Args:
            step: The computation; all calls must be the same apart from the values of `inputs`.
            inputs: Arguments of `step`, on any device.

        Returns:
            The result of `step`, which the next run overwrites.
        """
        if self._device.type != "cuda":
            return self._run_step(step, *inputs)
        with torch.cuda.device(self._device):  # for Triton's launches
            if self._output is None:
                self._inputs = tuple(x.to(self._device, copy=True) for x in inputs)
                self._output = self._run_step(step, *self._inputs)
                return self._output
            for buffer, x in zip(self._inputs, inputs, strict=True):
                buffer.copy_(x)
            if self._graph is None:
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph, stream=torch.cuda.Stream(self._device)):
                    self._output = self._run_step(step, *self._inputs)
            self._graph.replay()
            return self._output

    def _run_step(self, step: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        if self._dense is None:
            self.mass.zero_()
        return step(*inputs)

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return positions (T,) of this step's tokens, computed on the device."""
        assert (tokens, device) == (len(self._offsets), self._offsets.device), (tokens, device)
        return self.lengths[0] + self._offsets + self._cache.position_offset

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        settings: AttentionSettings,
        gates: Tensor | None,
        return_mass: bool,
        compress: Compressor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend in one layer, see `KVCache.attend`; the mass goes to `self.mass`."""
        assert settings == self._settings
        assert gates is None
        assert not return_mass
        index = layer - self.layers.start
        if self._dense is not None:
            keys, values = self._cache.keys[layer], self._cache.values[layer]
            at = self.lengths[index] + self._offsets
            keys.index_copy_(2, at, k)
            values.index_copy_(2, at, v)
            mass = self.mass[index]
            return dense_decode(q, keys, values, self.lengths[index], mass, self._dense), None
        decode_cache = self._selecting[index]
        phi = None
        if compress is not None:
            assert not isinstance(compress, Branches)  # they need `gated`
            first = self.lengths[index] + (1 - settings.compress_block)

            def phi(block: Tensor) -> Tensor:
                summary: Tensor = compress(block, first=first)[:, :, 0]
                return summary

        out = nsa_decode(q[:, :, 0], k[:, :, 0], v[:, :, 0], decode_cache, phi_k=phi)
        selected_mass(q[0, :, 0], decode_cache, self.mass[index, 0, :, 0])
        if self._cache.observe is not None:
            self.selected[index, :, :, 0] = decode_cache.workspace.selected
        return out.unsqueeze(2), None

    def advance(self, tokens: int) -> None:
        """Do nothing: `CudaGraphDecoder` counts tokens on the host."""
