"""Fixtures of the model tests: a small vocabulary, small GGUF files, fetched models."""

from __future__ import annotations

import json
import socket
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from nsa_models.gguf.convert import import_gguf
from nsa_models.hub.fetch import fetch_model
from nsa_models.hub.registry import DEFAULT_MODEL, model_entry
from nsa_models.paths import models_folder

# Under `--import-mode=importlib` a test cannot import modules beside it.
sys.path.append(str(Path(__file__).parent))
pytest.register_assert_rewrite("published")

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's the dogs' day, isn't it? We'll see.",
    "def main(argv: list[str]) -> int:\n    for index in range(10):\n\t\treturn index\n\n",
    "你好，世界。你好，朋友。人工智能的世界。",
    "naïve café, déjà vu, Привет мир, 😀😀😀 🚀",
    "1234567890 2024-01-01 3.14159 100 200 300",
    "the the      spaces\n\n\nlines\n  \n 1\t\t2   3   x...\n\n...\r\n\r\n  ...\n \n7",
    ".\n!\n?\r\n;\n.\n!\r\n?\n;\r\n",
]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass
class Vocabulary:
    """A byte-level vocabulary: ordinary tokens ordered by id, and merges."""

    tokens: list[str]
    merges: list[str]


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """A vocabulary trained on a few lines, with tokens across word boundaries.

    A split at a wrong position therefore gives other ids.
    """
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    library.train_from_iterator(CORPUS * 3, trainer)
    model = json.loads(library.to_str())["model"]
    return Vocabulary(
        tokens=sorted(model["vocab"], key=model["vocab"].__getitem__),
        merges=[" ".join(pair) for pair in model["merges"]],
    )


def _permuted(weights: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows in the order of llama.cpp's converter for the llama architecture."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


@pytest.fixture(scope="session")
def write_gguf(vocabulary: Vocabulary) -> Callable[..., Path]:
    """A function that writes a GGUF file with a model or only a vocabulary."""

    def write(
        path: Path,
        *,
        model: torch.nn.Module | None = None,
        architecture: str = "qwen2",
        pre: str = "qwen2",
        facts: dict[str, Any] | None = None,
        kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
        extra: dict[str, np.ndarray[Any, Any]] | None = None,
        without: str = "",
    ) -> Path:
        writer = gguf.GGUFWriter(path, architecture)
        tokens = [*vocabulary.tokens, *SPECIALS, "[PAD0]"]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([1] * len(vocabulary.tokens) + [3] * len(SPECIALS) + [5])
        writer.add_token_merges(vocabulary.merges)
        writer.add_eos_token_id(tokens.index("<|im_end|>"))
        writer.add_bos_token_id(tokens.index("<|endoftext|>"))
        writer.add_chat_template(CHAT_TEMPLATE)
        if model is not None:
            config: Any = model.config
            writer.add_context_length(config.max_position_embeddings)
            writer.add_embedding_length(config.hidden_size)
            writer.add_block_count(config.num_hidden_layers)
            writer.add_feed_forward_length(config.intermediate_size)
            writer.add_head_count(config.num_attention_heads)
            writer.add_head_count_kv(config.num_key_value_heads)
            writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
            writer.add_layer_norm_rms_eps(config.rms_norm_eps)
            names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
            for name, tensor in model.state_dict().items():
                values = tensor.float().numpy()
                if name == "lm_head.weight" and config.tie_word_embeddings:
                    continue
                if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
                    is_query = "q_proj" in name
                    values = _permuted(
                        values,
                        config.num_attention_heads if is_query else config.num_key_value_heads,
                    )
                gguf_name = names.get_name(name, (".weight", ".bias"))
                if gguf_name == without:
                    continue
                if values.ndim == 2 and kind != gguf.GGMLQuantizationType.F32:
                    writer.add_tensor(gguf_name, gguf.quantize(values, kind), raw_dtype=kind)
                else:
                    writer.add_tensor(gguf_name, np.ascontiguousarray(values))
        for name, values in (extra or {}).items():
            writer.add_tensor(name, values)
        for key, value in (facts or {}).items():
            if key in writer.kv_data[0]:
                del writer.kv_data[0][key]
            writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return write


@pytest.fixture(scope="session")
def tiny_qwen2(vocabulary: Vocabulary) -> Qwen2ForCausalLM:
    """A random Qwen2 in bfloat16 with separate input and output embeddings."""
    torch.manual_seed(0)
    config = Qwen2Config(**_tiny(vocabulary), tie_word_embeddings=False)
    return _with_noise(Qwen2ForCausalLM(config))


@pytest.fixture(scope="session")
def tiny_llama(vocabulary: Vocabulary) -> LlamaForCausalLM:
    """A random Llama in bfloat16 with tied input and output embeddings."""
    torch.manual_seed(1)
    config = LlamaConfig(**_tiny(vocabulary), tie_word_embeddings=True)
    return _with_noise(LlamaForCausalLM(config))


def _tiny(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "vocab_size": len(vocabulary.tokens) + len(SPECIALS) + 1,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    }


def _with_noise(model: Any) -> Any:
    """Add noise to every parameter, biases and norms included, so that each has an effect."""
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter) * 0.2
            parameter.copy_((parameter + noise).bfloat16().float())
    return model.eval()


class QuietServer(ThreadingHTTPServer):
    """A local server that ignores clients that disconnect."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        pass


@pytest.fixture
def start_server() -> Iterator[Callable[[Any], str]]:
    """A function that starts a server with a handler and returns its address."""
    servers = []

    def start(handler: Any) -> str:
        server = QuietServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def serve(start_server: Callable[[Any], str]) -> Callable[[Any], str]:
    """A function that starts a server with a function for GET requests."""

    def start(respond: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                respond(self)

            def log_message(self, *_: Any) -> None:
                pass

        return start_server(Handler)

    return start


@pytest.fixture
def silent_address() -> Iterator[str]:
    """The address of a server that accepts connections and never responds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@dataclass
class PackageIndex:
    """A local package index: a folder of files for each package.

    Attributes:
        folder: The parent of the packages' folders.
        address: The URL for pip.
    """

    folder: Path
    address: str

    def add(self, package: str, version: str, members: dict[str, bytes]) -> None:
        """Publish a wheel that contains `members`."""
        module = package.replace("-", "_")
        (self.folder / package).mkdir()
        wheel = self.folder / package / f"{module}-{version}-py3-none-any.whl"
        facts = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        layout = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, member in members.items():
                archive.writestr(f"{module}/{name}", member)
            archive.writestr(f"{module}-{version}.dist-info/METADATA", facts)
            archive.writestr(f"{module}-{version}.dist-info/WHEEL", layout)


@pytest.fixture
def package_index(
    start_server: Callable[[Any], str], tmp_path_factory: pytest.TempPathFactory
) -> PackageIndex:
    """An empty package index."""
    folder = tmp_path_factory.mktemp("index")

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            pass

    return PackageIndex(folder=folder, address=start_server(Handler))


def fetched_folder(name: str) -> Path:
    """The Hugging Face folder of a named model in the user's cache, created at first use."""
    folder = models_folder() / name
    if not folder.exists():
        gguf_path = fetch_model(model_entry(name), models_folder(), on_note=print)
        import_gguf(gguf_path, folder)
    return folder


@pytest.fixture(scope="session")
def default_model_folder() -> Path:
    """The folder of the default model; for tests marked `model`."""
    return fetched_folder(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def smollm_folder() -> Path:
    """The folder of SmolLM2; for tests marked `model`."""
    return fetched_folder("smollm2-135m")
