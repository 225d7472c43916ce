"""Decoding on a CUDA device: a step is one launch of a CUDA graph, and nothing waits for the host.

A step takes a fixed number of tokens at a place that the device knows: those that are tried ahead
beside the last one. Where fewer are tried, what is made of the rest is passed over, and the next
step writes over it.

Letters: L layers, B batch (one), T tokens of a step, H query heads, G key/value groups, D head
dim, N selection blocks, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nsa_kernels.errors import UnsupportedError
from nsa_kernels.gpu.decode import nsa_decode
from nsa_kernels.gpu.decode_cache import DecodeCache, DecodeWorkspace
from nsa_kernels.gpu.decode_mass import selected_mass
from nsa_kernels.gpu.dense_decode import MOST_ROWS, DenseWorkspace, dense_decode
from nsa_kernels.settings import AttentionSettings
from nsa_models.cache import KVCache, Summarise
from nsa_models.modeling import NSALanguageModel


class DecodeStep:
    """A step of decoding after what a cache holds, captured when it is run the second time.

    It stands in for the cache before the model, whose layers attend by the kernels for decoding.
    The first run launches them one by one: it compiles them, and an answer of one token is not
    held up by the capture.

    Args:
        model: The model, on one device.
        cache: What was read, on the same device. Steps are appended to it.
        settings: What to attend to; `combine` is `union`.
        tokens: T at most; fewer where a group has many query heads, one where blocks are selected.

    Raises:
        UnsupportedError: If the kernels cannot do this.
    """

    def __init__(
        self, model: NSALanguageModel, cache: KVCache, settings: AttentionSettings, tokens: int
    ) -> None:
        layers, batch, groups, capacity, dim = cache.shape
        heads, device = model.config.num_attention_heads, cache.homes[0]
        if batch != 1 or settings.combine != "union":
            raise UnsupportedError(
                f"a step decodes one text by combine='union'; batch is {batch}, "
                f"combine {settings.combine!r}"
            )
        self.tokens = max(1, min(tokens, MOST_ROWS * groups // heads)) if settings.dense else 1
        self._model, self._cache, self._settings = model, cache, settings
        self._ids = torch.zeros(1, self.tokens, dtype=torch.long, device=device)
        # Each layer counts by itself, as the kernels that select want it.
        self._lengths = torch.zeros(layers, 1, dtype=torch.int32, device=device)
        self._ahead = torch.arange(self.tokens, device=device)
        blocks = -(-capacity // settings.select_block)
        self._mass = torch.zeros(layers, 1, heads, self.tokens, blocks, device=device)
        self._logits: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._selecting: list[DecodeCache] = []
        self._dense: DenseWorkspace | None = None
        if settings.dense:
            self._dense = DenseWorkspace.allocate(
                settings.select_block,
                tokens=self.tokens,
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
        cache.summaries(settings)  # brought up to date; the steps complete those that follow
        no_values = cache.values[0].new_empty(1, groups, 0, dim)
        self._selecting = [
            DecodeCache(
                k=cache.keys[layer],
                v=cache.values[layer],
                summary_k=cache.summary_room(settings)[layer],
                summary_v=no_values,
                lengths=self._lengths[layer],
                workspace=room,
            )
            for layer in range(layers)
        ]
        shape = (layers, 1, groups, 1, room.selected.shape[2])
        self._selected = torch.full(shape, -1, dtype=torch.int32, device=device)

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
        self._lengths.fill_(cache.length)
        if self._logits is None or not self._ids.is_cuda:
            self._logits = self._forward()
        else:
            if self._graph is None:
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph):
                    self._logits = self._forward()
            self._graph.replay()
        cache.advance(count)
        self._tell(count)
        blocks = (cache.length - 1) // self._settings.select_block + 1
        assert self._logits is not None
        return self._logits[:count], self._mass[:, 0, :, :count, :blocks].clone()

    def _forward(self) -> Tensor:
        """The model, with this step in the place of the cache: logits (T, V)."""
        if self._dense is None:
            self._mass.zero_()
        output = self._model(
            self._ids, cache=self, settings=self._settings, last_logits=self.tokens
        )
        logits: Tensor = output.logits[0]
        return logits

    def _tell(self, count: int) -> None:
        """Tell whoever observes the cache which blocks were attended to."""
        if self._cache.observe is None:
            return
        chosen = None if self._dense is not None else self._selected.cpu()
        for layer in range(len(self._lengths)):
            blocks = None if chosen is None else chosen[layer]
            self._cache.observe(layer, blocks, self._settings, self._cache.length, count)

    def positions(self, tokens: int, device: torch.device) -> Tensor:
        """Positions (T,) of this step's tokens, as the device knows them."""
        assert (tokens, device) == (self.tokens, self._ids.device), (tokens, device)
        return self._lengths[0] + self._ahead

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
        if self._dense is not None:
            keys, values = self._cache.keys[layer], self._cache.values[layer]
            at = self._lengths[layer] + self._ahead
            keys.index_copy_(2, at, k)
            values.index_copy_(2, at, v)
            mass = self._mass[layer]
            return dense_decode(q, keys, values, self._lengths[layer], mass, self._dense), None
        of = self._selecting[layer]
        phi = None
        if summarise is not None:
            first = self._lengths[layer] + (1 - settings.compress_block)

            def phi(block: Tensor) -> Tensor:
                made: Tensor = summarise(block, first=first)[:, :, 0]
                return made

        out = nsa_decode(q[:, :, 0], k[:, :, 0], v[:, :, 0], of, phi_k=phi)
        selected_mass(q[0, :, 0], of, self._mass[layer, 0, :, 0])
        if self._cache.observe is not None:
            self._selected[layer, :, :, 0] = of.workspace.selected
        return out.unsqueeze(2), None

    def advance(self, tokens: int) -> None:
        """Nothing: the host's count is kept by `run`, which knows how many tokens are meant."""
