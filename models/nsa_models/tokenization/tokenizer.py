"""Encoding and decoding of text, for any Hugging Face folder with a `tokenizer.json`."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nsa_models.errors import ModelError
from nsa_models.tokenization.byte_level import token_bytes
from nsa_models.tokenization.chat_template import ChatFrame, chat_frame, chat_parts
from nsa_models.tokenization.ids import TokenIds
from nsa_models.tokenization.tables import Tables, load_tables, parse_object

END_OF_TURN = frozenset(
    {
        "</s>",
        "<end_of_turn>",
        "<|end_of_text|>",
        "<|end|>",
        "<|endoftext|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|im_end|>",
        "<|return|>",
        "<｜end▁of▁sentence｜>",
    }
)
"""Special tokens that end an answer even if a model's configuration does not name them."""

_SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token")


class Tokenizer:
    """The tokenizer of one model.

    Attributes:
        backend: `tiktoken`, or `tokenizers` for vocabularies that tiktoken cannot reproduce.
        fingerprint: Hexadecimal digest; tokenizers with the same digest give the same ids.
        vocab_size: Largest id plus one; the model's embedding may have more rows.
        stop_ids: Tokens that end an answer.
        has_template: Whether the model has a chat template.
    """

    def __init__(
        self,
        tables: Tables,
        *,
        fingerprint: str,
        special_names: dict[str, str],
        end_ids: Iterable[int],
        template: str | None,
    ) -> None:
        """See `from_folder`."""
        self.fingerprint = fingerprint
        described = tables.described
        self._added: dict[str, int] = {
            token["content"]: token["id"] for token in described.get("added_tokens") or ()
        }
        self._tables, self._tokens = tables, tables.tokens
        self.backend = self._tokens.name
        self._nfc = (described.get("normalizer") or {}).get("type") == "NFC"
        self._spells_bytes = '"ByteLevel"' in json.dumps(
            [described.get("decoder"), described.get("pre_tokenizer")]
        )
        self._spelled = tables.spelled
        self.vocab_size = len(self._spelled)
        self._special_names = special_names
        self._template = template
        self.has_template = template is not None
        self.stop_ids = frozenset(
            [*end_ids]
            + [token_id for token, token_id in self._added.items() if token in END_OF_TURN]
            + ([] if tables.end_id is None else [tables.end_id])
        )
        longest_first = sorted(self._added, key=len, reverse=True)
        self._special_pattern = (
            re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
            if longest_first
            else None
        )

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """Read `tokenizer.json` and the configuration files beside it.

        Raises:
            ModelError: With code `model_missing` if `tokenizer.json` is missing, and
                `model_broken` if a file cannot be read.
        """
        path = folder / "tokenizer.json"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"cannot read {path}: {error.strerror or error}",
                hint="name a Hugging Face folder with a tokenizer.json",
                code="model_missing",
            ) from error
        fingerprint = hashlib.sha256(content).hexdigest()
        config = _read_json(folder / "tokenizer_config.json")
        special_names = _special_names(config)
        end_token = special_names.get("eos_token", "")
        end_ids = [
            end
            for name in ("generation_config.json", "config.json")
            for end in _as_list(_read_json(folder / name).get("eos_token_id"))
        ]
        return cls(
            load_tables(content, fingerprint, end_token, path),
            fingerprint=fingerprint,
            special_names=special_names,
            end_ids=end_ids,
            template=_template(folder, config),
        )

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the added tokens and of the tokens that end an answer."""
        return frozenset(self._added.values()) | self.stop_ids

    def normalize(self, text: str) -> str:
        """Return `text` in NFC if the tokenizer uses NFC, or unchanged.

        The `tokenizers` library applies other normalizers itself; its offsets refer to the text
        before normalization.
        """
        # ASCII text is normalized already.
        if not self._nfc or text.isascii():
            return text
        return unicodedata.normalize("NFC", text)

    def encode(self, text: str) -> TokenIds:
        """Return the ids of plain text; special tokens in it have no special meaning."""
        return self._tokens.encode(self.normalize(text))

    def encode_with_offsets(self, text: str) -> tuple[TokenIds, npt.NDArray[np.int64]]:
        """Return the ids of plain text and the start of each token.

        Args:
            text: Text from `normalize`; offsets refer to it.

        Returns:
            The ids (T,), and for each the index (T,) of the character in which it starts.

        Raises:
            ValueError: If `text` is not normalized.
        """
        if self._nfc and not text.isascii() and not unicodedata.is_normalized("NFC", text):
            raise ValueError("text must be normalized first, see Tokenizer.normalize")
        return self._tokens.encode_with_offsets(text)

    def encode_template(self, text: str) -> TokenIds:
        """Return the ids of a template's text, in which written special tokens are special."""
        if self._special_pattern is None:
            return self.encode(text)
        parts = [np.empty(0, np.int32)]
        for part in self._special_pattern.split(text):
            if part in self._added:
                parts.append(np.array([self._added[part]], np.int32))
            elif part:
                parts.append(self.encode(part))
        return np.concatenate(parts)

    def decode_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token; empty for an unknown id."""
        token = self._spelled[token_id]
        if token in self._added:
            return token.encode()
        if self._spells_bytes:
            return token_bytes(token)
        # SentencePiece writes a space as U+2581 and an unknown byte by its number.
        if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            return bytes.fromhex(token[3:5])
        return token.replace("▁", " ").encode()

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`, with U+FFFD for incomplete characters."""
        return b"".join(self.decode_bytes(int(token_id)) for token_id in ids).decode(
            errors="replace"
        )

    def chat_frame(self, system: str | None = None) -> ChatFrame:
        """Return the text of the model's chat template around the user's text.

        Raises:
            ModelError: With code `model_unsupported` if the template cannot be used.
        """
        return chat_frame(self._template, self._special_names, system)

    def encode_chat(self, messages: Sequence[tuple[str, str]]) -> TokenIds:
        """Return the ids of a conversation, up to where the model's answer begins.

        Args:
            messages: Roles (`system`, `user` or `assistant`) and texts; special tokens in the
                texts have no special meaning.

        Raises:
            ModelError: With code `model_unsupported` if the template cannot be used.
        """
        parts = [np.empty(0, np.int32)]
        for text, said in chat_parts(self._template, self._special_names, messages):
            parts.append(self.encode(text) if said else self.encode_template(text))
        return np.concatenate(parts)


def _special_names(config: dict[str, Any]) -> dict[str, str]:
    """Return the special tokens by name; a configuration has strings or objects."""
    names = {}
    for name in _SPECIAL_NAMES:
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            names[name] = text
    return names


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """Return the chat template: from its file, the configuration, or the default of several."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _as_list(value: Any) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file, or an empty one if the file is missing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    return parse_object(content, path)
