"""Decoding with CUDA graphs: a step launches one graph on each device.

A step does not wait for the host. It takes a fixed number of tokens, the last one and the draft
tokens, at a position that is stored on the device. With fewer draft tokens, the surplus results
are ignored and the next step overwrites them.

A trained φ runs only in steps that complete a compression block: these have a second graph.

Letters: L layers, B batch (texts of one length), T tokens of a step, H query heads, G key/value
groups, D head dim, N selection blocks, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu.decode import Phi, nsa_decode
from nsa_kernels.gpu.decode_branches import BranchBuffers, BranchTokens
from nsa_kernels.gpu.decode_cache import DecodeCache, DecodeWorkspace
from nsa_kernels.gpu.decode_linear import Positions
from nsa_kernels.gpu.decode_mass import selected_mass
from nsa_kernels.gpu.dense_decode import MOST_ROWS, DenseWorkspace, dense_decode
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache.branches import Branches
from nsa_models.cache.kv_cache import Compressor, KVCache
from nsa_models.cache.layer_devices import device_runs
from nsa_models.configuration.config import NSAConfig
from nsa_models.generation.fused_layers import FusedLayers, StepHeads
from nsa_models.modeling.model import NSALanguageModel

_MOST_NEW_TOKENS = 8192
"""Tokens for which a decoder makes room in the branches' buffers; later ones need another one."""

Phis = tuple[Phi | None, Phi | None]
"""φ of the keys and of the values of a step."""


class CudaGraphDecoder:
    """Decodes after the tokens of a cache, with one or two CUDA graphs per device.

    Args:
        model: The model, with all weights on GPUs.
        cache: The cache, each layer on the layer's device; steps extend it.
        settings: Attention settings.
        tokens: Maximum of T. It is smaller for groups with many query heads, and 1 with selected
            blocks.
        masses: Whether sparse attention computes the block masses that `run` returns.
        fused: Whether the layers are those of `FusedLayers`, with fewer kernels.

    Raises:
        UnsupportedError: If the kernels do not support the settings.
    """

    def __init__(
        self,
        model: NSALanguageModel,
        cache: KVCache,
        settings: AttentionSettings,
        tokens: int,
        *,
        masses: bool = True,
        fused: bool = False,
    ) -> None:
        _, batch, groups, _, _ = cache.shape
        heads = model.config.num_attention_heads
        if settings.combine != model.config.combine:
            raise UnsupportedError(
                f"the settings have combine={settings.combine!r}, and the model "
                f"{model.config.combine!r}"
            )
        self.tokens = max(1, min(tokens, MOST_ROWS * groups // heads)) if settings.dense else 1
        self._model, self._cache, self._settings = model, cache, settings
        self._ids = torch.zeros(batch, self.tokens, dtype=torch.long, device=cache.layer_devices[0])
        self._end = cache.capacity
        if cache.recent is not None:
            self._end = min(self._end, cache.length + _MOST_NEW_TOKENS)
        if not settings.dense:
            _complete_summaries(cache, settings)  # steps only add the following ones
        self._graphs = [
            _DeviceGraph(
                *(cache, settings, model.config, self.tokens, device, layers),
                end=self._end,
                masses=masses,
            )
            for device, layers in device_runs(cache.layer_devices)
        ]
        self._fused = _fused_layers(model, self._ids.numel(), self._graphs) if fused else None

    def fits(self) -> bool:
        """Return whether the cache has room for another step."""
        return self._cache.length + self.tokens <= self._end

    def run(self, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Run the model over the next tokens of one text and append them to the cache.

        Args:
            tokens: (T,) at least one and at most `self.tokens`.

        Returns:
            Logits (T, V), which the next run overwrites, and block masses (L, H, T, N).
        """
        count = len(tokens)
        assert len(self._ids) == 1, self._ids.shape
        assert 0 < count <= self.tokens, (count, self.tokens)
        padded = [*tokens, *[tokens[-1]] * (self.tokens - count)]
        logits = self.step(torch.tensor([padded]), count)
        blocks = (self._cache.length - 1) // self._settings.select_block + 1
        masses = [graph.mass[:, 0, :, :count, :blocks] for graph in self._graphs]
        return logits[0, :count], torch.cat([mass.to(self._ids.device) for mass in masses])

    def step(self, ids: Tensor, count: int | None = None) -> Tensor:
        """Run the model over the next tokens of each text and append them to the cache.

        Args:
            ids: (B, T), T = `self.tokens`, on any device.
            count: Number of first tokens to keep; all when None.

        Returns:
            Logits (B, T, V), which the next step overwrites.
        """
        count, cache = self.tokens if count is None else count, self._cache
        assert self.fits(), (cache.length, self.tokens, self._end)
        self._ids.copy_(ids)
        due = self._completes_block()
        for graph in self._graphs:
            graph.lengths.fill_(cache.length)
            graph.due = due
        logits = self._on_one_device() if len(self._graphs) == 1 else self._on_several_devices()
        cache.advance(count)
        if cache.recent is not None:
            for recent in cache.recent:
                recent.extend(cache.length)
            if due:
                cache.adopt_summaries(self._settings)
        self._observe(count)
        return logits

    def _completes_block(self) -> bool:
        """Whether the next token completes a compression block of a trained φ."""
        if self._cache.recent is None:
            return True
        ended = self._cache.length + 1 - self._settings.compress_block
        return ended >= 0 and ended % self._settings.compress_stride == 0

    def _on_one_device(self) -> Tensor:
        """Run the whole model in one graph: logits (B, T, V)."""
        [graph] = self._graphs

        def whole() -> Tensor:
            if self._fused is not None:
                return self._model.logits(self._fused.run(self._model.embed(self._ids), graph))
            output = self._model(
                self._ids, cache=graph, settings=self._settings, last_logits=self.tokens
            )
            logits: Tensor = output.logits
            return logits

        return graph.run(whole)

    def _on_several_devices(self) -> Tensor:
        """Run the devices' layers one after another: logits (B, T, V)."""
        x = self._model.embed(self._ids)
        for graph in self._graphs:
            x = graph.run(
                lambda x, at=graph: self._model.run_layers(x, at.layers, self._settings, at)[0], x
            )
        return self._model.logits(x)

    def _observe(self, count: int) -> None:
        """Call the cache's `observe` with the selected blocks of each layer."""
        if self._cache.observe is None:
            return
        for graph in self._graphs:
            chosen = None if self._settings.dense else graph.selected.cpu()
            for layer in graph.layers:
                blocks = None if chosen is None else chosen[layer - graph.layers.start]
                self._cache.observe(layer, blocks, self._settings, self._cache.length, count)


def _fused_layers(
    model: NSALanguageModel, rows: int, graphs: Sequence[_DeviceGraph]
) -> FusedLayers:
    if len(graphs) > 1:
        raise UnsupportedError(f"the model is on {len(graphs)} devices; fused layers take one")
    return FusedLayers(model, rows)


def _complete_summaries(cache: KVCache, settings: AttentionSettings) -> None:
    """Bring the summaries of all layers up to date; those of separate branches always are."""
    cache.summaries(settings)
    if cache.recent is not None or settings.combine == "union":
        return
    for layer, keys in enumerate(cache.keys):
        nothing = keys[:, :, :0]
        cache.append(layer, nothing, nothing, settings)


@dataclass
class _Capture:
    """A kind of step: its result after the first run, and its graph after the second.

    Attributes:
        inputs: Arguments of the step.
        output: Its result, which each run overwrites.
        graph: The captured step.
    """

    inputs: tuple[Tensor, ...] = ()
    output: Tensor | None = None
    graph: torch.cuda.CUDAGraph | None = None


class _DeviceGraph:
    """The CUDA graphs of the layers on one device, and the cache that these layers call.

    It is a `LayerCache` whose attention uses the decoding kernels. The first run launches the
    kernels one by one and compiles them; the second run captures the graph, so an answer of one
    token does not pay for the capture.

    Attributes:
        layers: Indices of the layers.
        lengths: (layers, B) tokens before the step, per layer, as the selecting kernels need it.
        mass: (layers, B, H, T, N) block masses of the step.
        selected: (layers, B, G, 1, n) selected blocks of the step, if the cache is observed.
        due: Whether the step completes a compression block of a trained φ.
    """

    def __init__(
        self,
        cache: KVCache,
        settings: AttentionSettings,
        config: NSAConfig,
        tokens: int,
        device: torch.device,
        layers: range,
        *,
        end: int,
        masses: bool,
    ) -> None:
        _, batch, groups, capacity, dim = cache.shape
        heads = config.num_attention_heads
        self.layers, self.due = layers, True
        self._cache, self._settings, self._device = cache, settings, device
        self._masses = masses
        self.lengths = torch.zeros(len(layers), batch, dtype=torch.int32, device=device)
        self._offsets = torch.arange(tokens, device=device)
        blocks = -(-capacity // settings.select_block)
        shape = (len(layers), batch, heads, tokens, blocks)
        self.mass = torch.zeros(shape, device=device)
        self._captures = {True: _Capture(), False: _Capture()}
        self._selecting: list[DecodeCache] = []
        self._dense: DenseWorkspace | None = None
        sizes: dict[str, Any] = {
            "batch": batch,
            "heads": heads,
            "groups": groups,
            "capacity": capacity,
            "value_dim": dim,
            "dtype": cache.dtype,
            "device": device,
        }
        if settings.dense:
            self._dense = DenseWorkspace.allocate(settings.select_block, tokens=tokens, **sizes)
            return
        workspace = DecodeWorkspace.allocate(settings, head_dim=dim, **sizes)
        self._selecting = [
            DecodeCache(
                k=cache.keys[layer],
                v=cache.values[layer],
                summary_k=cache.summary_buffers(settings)[layer],
                summary_v=self._summary_values(layer),
                lengths=self.lengths[layer - layers.start],
                workspace=workspace,
                branches=self._branches(layer, end, window=config.branch_keys == "separate"),
            )
            for layer in layers
        ]
        shape = (len(layers), batch, groups, 1, workspace.selected.shape[2])
        self.selected = torch.full(shape, -1, dtype=torch.int32, device=device)

    def _summary_values(self, layer: int) -> Tensor:
        """Return the buffer of a layer's compressed values, without rows in `union` mode."""
        if self._settings.combine == "union":
            values = self._cache.values[layer]
            return values.new_empty(*values.shape[:2], 0, values.shape[3])
        return self._cache.summary_buffers(self._settings, "value_summary")[layer]

    def _branches(self, layer: int, end: int, *, window: bool) -> BranchBuffers | None:
        """Return the buffers of a layer's branches with room for the tokens before `end`."""
        if self._cache.recent is None:
            return None
        recent = self._cache.recent[layer]
        held = recent.hold(self._cache.keys[layer], end, window=window)
        return BranchBuffers(
            compress_k=held[0],
            compress_v=held[1],
            window_k=held[2] if window else None,
            window_v=held[3] if window else None,
            compress_first=recent.compress[0].first,
            window_first=recent.window[0].first,
        )

    def run(self, step: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Run a step on the device, from its graph where one is captured.

        Args:
            step: The computation; all calls must be the same apart from the values of `inputs`
                and `due`.
            inputs: Arguments of `step`, on any device.

        Returns:
            The result of `step`, which the next run overwrites.
        """
        if self._device.type != "cuda":
            return self._run_step(step, *inputs)
        capture = self._captures[self.due]
        with torch.cuda.device(self._device):  # for Triton's launches
            if capture.output is None:
                capture.inputs = tuple(x.to(self._device, copy=True) for x in inputs)
                capture.output = self._run_step(step, *capture.inputs)
                return capture.output
            for buffer, x in zip(capture.inputs, inputs, strict=True):
                buffer.copy_(x)
            if capture.graph is None:
                capture.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(capture.graph, stream=torch.cuda.Stream(self._device)):
                    capture.output = self._run_step(step, *capture.inputs)
            capture.graph.replay()
            return capture.output

    def _run_step(self, step: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        if self._dense is None and self._masses:
            self.mass.zero_()
        return step(*inputs)

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Return positions (T,) of this step's tokens, computed on the device."""
        assert (tokens, device) == (len(self._offsets), self._offsets.device), (tokens, device)
        return self.lengths[0, :1] + self._offsets + self._cache.position_offset

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
        assert not return_mass
        index = layer - self.layers.start
        if self._dense is not None:
            keys, values = self._cache.keys[layer], self._cache.values[layer]
            length = self.lengths[index, :1]
            at = length + self._offsets
            keys.index_copy_(2, at, k)
            values.index_copy_(2, at, v)
            return self._dense_step(layer, q), None
        decode_cache = self._selecting[index]
        phi_k, phi_v = self._phis(index, compress)
        out = nsa_decode(
            *(q[:, :, 0], k[:, :, 0], v[:, :, 0], decode_cache),
            gates=None if gates is None else gates[:, :, 0],
            phi_k=phi_k,
            phi_v=phi_v,
            branches=self._new_tokens(compress),
        )
        if self._masses:
            selected_mass(q[:, :, 0], decode_cache, self.mass[index, :, :, 0])
        if self._cache.observe is not None:
            self.selected[index, :, :, 0] = decode_cache.workspace.selected
        return out.unsqueeze(2), None

    def _dense_step(self, layer: int, q: Tensor) -> Tensor:
        """Attend densely from tokens whose keys and values the cache has: (B, H, T, D)."""
        assert self._dense is not None
        index = layer - self.layers.start
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        length = self.lengths[index, :1]
        return dense_decode(q, keys, values, length, self.mass[index], self._dense)

    def place(self, layer: int) -> Positions:
        """Return where the step's tokens are in one layer."""
        return Positions(
            lengths=self.lengths[layer - self.layers.start],
            tokens=len(self._offsets),
            offset=self._cache.position_offset,
        )

    def kept(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Return the cache's keys and values of a dense layer; see `StepAttention.kept`."""
        if self._dense is None:
            return None
        return self._cache.keys[layer], self._cache.values[layer]

    def attend_heads(self, layer: int, heads: StepHeads) -> Tensor:
        """Attend in one layer of fused layers: (B, H, T, D)."""
        if self._dense is not None:
            return self._dense_step(layer, heads.q)
        given = (heads.q, heads.k, heads.v, self._settings, heads.gates, False, heads.compress)
        return self.attend(layer, *given)[0]

    def _new_tokens(self, compress: Compressor | None) -> BranchTokens | None:
        """Return the step's keys and values of the branches."""
        if not isinstance(compress, Branches):
            return None

        def last(x: Tensor) -> Tensor:
            return x[:, :, 0].to(self._cache.dtype)

        keys, values = compress.window_k, compress.window_v
        return BranchTokens(
            compress_k=last(compress.compress_k),
            compress_v=last(compress.compress_v),
            window_k=None if keys is None else last(keys),
            window_v=None if values is None else last(values),
        )

    def _phis(self, index: int, compress: Compressor | None) -> Phis:
        """Return φ of the keys and values of a step; None for the mean, or if no block is due."""
        settings = self._settings
        block = settings.compress_block
        if compress is None or not self.due:
            return None, None
        first = self.lengths[index, :1] + (1 - block)
        if isinstance(compress, Branches):
            back = torch.arange(block, device=self._device)
            positions = first + back + self._cache.position_offset
            return (
                lambda x: compress.summary_keys(x, positions, settings)[:, :, 0],
                lambda x: compress.phi_v(x, settings, None)[:, :, 0],
            )
        mean = (lambda x: x.float().mean(dim=2)) if settings.combine == "gated" else None
        return lambda x: compress(x, first=first)[:, :, 0], mean

    def advance(self, tokens: int) -> None:
        """Do nothing: `CudaGraphDecoder` counts tokens on the host."""
