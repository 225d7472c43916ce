"""`nsa pretrain`: train a model from scratch on token shards; a later run continues it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nsa_cli import __version__
from nsa_cli.output.layout import documents_in_words, tell
from nsa_cli.system import git_commit
from nsa_cli.training.pretrain_log import heldout_writer, keep_steps, log_writer
from nsa_cli.training.text_shards import TOKENIZER_FILES
from nsa_models.cache.layer_devices import pick_device
from nsa_models.configuration.config import NSAConfig
from nsa_models.errors import DataError, UsageError
from nsa_models.modeling.model import NSALanguageModel
from nsa_models.paths import atomic_write
from nsa_models.tokenization.tokenizer import Tokenizer
from nsa_models.training.checkpoint import load_checkpoint, save_checkpoint, save_model
from nsa_models.training.distributed import Processes
from nsa_models.training.initial import initial_model
from nsa_models.training.pretrain import PretrainHooks, Pretraining, PretrainProgress
from nsa_models.training.pretrain_settings import PretrainSettings
from nsa_models.training.rows import PackedRows, Rows, RowsInTurn, WholeRows, heldout_batches
from nsa_models.training.shards import Shards
from nsa_models.weights.load import load_weights

RECORD = "pretrain.json"
_RESUMED = ("tokenizer", "attention", "model", "shards", "last_shards")
"""Entries of the record that a resumed run must share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainPlan:
    """What `nsa pretrain` trains.

    Attributes:
        out: Folder for the model, its state and its logs.
        attention: `nsa` or `dense`.
        config: The model.
        settings: Duration, rates and sizes.
        start_from: Folder of a model whose weights are the initial ones; None for random ones.
        last: Shards that the last share of the training reads instead; None for none.
        device: `auto`, `cpu` or `cuda`.
        quiet: Whether to write nothing to standard error.
    """

    out: Path
    attention: str
    config: NSAConfig
    settings: PretrainSettings
    start_from: Path | None = None
    last: Shards | None = None
    device: str = "auto"
    quiet: bool = False


def pretrain(plan: PretrainPlan, shards: Shards) -> PretrainProgress:
    """Train, or continue an earlier run in the same folder.

    Raises:
        DataError: If the shards have fewer tokens than a row, or the saved state is broken.
        UsageError: If the folder has a run with other settings.
    """
    processes = Processes(cpu=plan.device == "cpu")
    device = processes.device or pick_device(plan.device)
    settings = plan.settings
    rows = _rows(plan, shards)
    heldout = heldout_batches(shards.heldout, settings.context, settings.heldout_tokens)
    state = _earlier(plan, shards)
    model = initial_model(plan.config, settings.seed, device)
    if plan.start_from is not None and state is None:
        start_with(model, plan.start_from)
    processes.wait()
    if processes.first:
        _prepare(plan, shards, 0 if state is None else state["step"])
    processes.wait()
    hooks = PretrainHooks(
        report=log_writer(plan.out, settings.steps, quiet=plan.quiet),
        heldout=heldout_writer(plan.out, quiet=plan.quiet),
        save=_saver(plan, device),
    )
    training = Pretraining(model, rows, heldout, settings, hooks, processes)
    if state is not None:
        training.resume(state)
        del state
    if processes.first and not plan.quiet:
        _announce(plan, shards, training, device)
    return training.run()


def _rows(plan: PretrainPlan, shards: Shards) -> Rows:
    """The rows to train on.

    Raises:
        DataError: If the shards do not fill a row.
        UsageError: If the last shards have another tokenizer, or time limits the training.
    """
    settings = plan.settings
    kind = WholeRows if settings.whole_rows else PackedRows
    rows = kind(shards.train, settings.context, settings.seed)
    if plan.last is None:
        return rows
    if plan.last.index.tokenizer != shards.index.tokenizer:
        raise UsageError(
            f"{plan.last.folder} was made with another tokenizer than {shards.folder}",
            hint=f"make both with the same tokenizer: the one in {shards.folder}",
        )
    if settings.steps is None:
        raise UsageError("the last shards need a budget of tokens", hint="give --tokens")
    last = kind(plan.last.train, settings.context, settings.seed)
    return RowsInTurn(rows, last, settings.first_of_last)


def _earlier(plan: PretrainPlan, shards: Shards) -> dict[str, Any] | None:
    """The state of an earlier run in the folder, or None.

    Raises:
        UsageError: If the earlier run had other settings.
        DataError: If a file is broken.
    """
    path = plan.out / RECORD
    if not path.exists():
        if (plan.out / "config.json").exists():
            raise UsageError(
                f"{plan.out} has a model that this command did not train",
                hint="name another folder, or continue from it with --start-from",
            )
        return None
    record = _record(plan, shards)
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name in _RESUMED if earlier.get(name) != record[name]]
        differing += plan.settings.differing(earlier["training"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {path}: {error}", code="broken") from error
    if differing:
        raise _differs(plan.out, differing[0], earlier, record)
    return load_checkpoint(plan.out)


def _differs(out: Path, name: str, earlier: dict[str, Any], record: dict[str, Any]) -> UsageError:
    """Return the error for a resumed run with another entry of the record, or another setting."""
    if name == "tokenizer":
        return UsageError(
            f"the shards were made with another tokenizer than the model in {out}",
            hint="make the shards with the tokenizer in that folder, or name another folder",
        )
    old, new = ({**each["training"], **each}[name] for each in (earlier, record))
    values = "" if isinstance(old or new, dict) else f": {old} before, {new} now"
    return UsageError(
        f"{out} was started with other {name}{values}",
        hint="repeat the earlier settings, or name another folder; --start-from continues from a "
        "model with other settings",
    )


def _record(plan: PretrainPlan, shards: Shards) -> dict[str, Any]:
    """What the folder records of a run, to compare a resumed one."""
    defaults = NSAConfig().to_dict()
    model = {
        name: value
        for name, value in plan.config.to_dict().items()
        if name in defaults and defaults[name] != value
    }
    return {
        "attention": plan.attention,
        "model": json.loads(json.dumps(model)),
        "tokenizer": shards.index.tokenizer,
        "shards": _content(shards),
        "last_shards": None if plan.last is None else _content(plan.last),
        "training": asdict(plan.settings),
        "start_from": None if plan.start_from is None else plan.start_from.name,
        "nsa": __version__,
        "commit": git_commit(),
    }


def _content(shards: Shards) -> dict[str, Any]:
    """What the record says about shards."""
    return {
        "documents": shards.index.documents,
        "tokens": shards.index.tokens,
        "lengths": hashlib.sha256(shards.train.lengths.tobytes()).hexdigest(),
    }


def _prepare(plan: PretrainPlan, shards: Shards, step: int) -> None:
    """Write the record and the tokenizer; remove rows of the logs after the resumed step."""
    plan.out.mkdir(parents=True, exist_ok=True)
    keep_steps(plan.out, step)
    for name in TOKENIZER_FILES:
        if (shards.folder / name).is_file():
            shutil.copyfile(shards.folder / name, plan.out / name)
    with atomic_write(plan.out / RECORD) as path:
        path.write_text(json.dumps(_record(plan, shards), indent=1) + "\n", encoding="utf-8")


def _saver(plan: PretrainPlan, device: torch.device) -> Callable[[dict[str, Any]], None]:
    """A function that writes the state, and then the model's folder."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def save(state: dict[str, Any]) -> None:
        save_checkpoint(plan.out, state)
        prefix = "model."
        tensors = {name.removeprefix(prefix): x for name, x in state["model"].items()}
        save_model(plan.out, plan.config, tensors, dtype)

    return save


def start_with(model: NSALanguageModel, folder: Path) -> None:
    """Load the weights of a folder; those that the folder lacks keep their initial values.

    Raises:
        ModelError: If the folder has no weights.
        UsageError: If a weight does not belong to the model.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    tensors = load_weights(folder)
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            raise UsageError(
                f"{folder} has {name} of shape {tuple(tensor.shape)}, and the model has not",
                hint="repeat the shape of that model in [model]",
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
    lacking = [name for name, _ in model.named_parameters() if name not in tensors]
    if lacking:
        tell(
            f"{len(lacking)} weights that {folder} lacks keep their initial values, such as "
            f"{lacking[0]}"
        )


def check_start(folder: Path, shards: Shards) -> None:
    """Check that a folder's tokenizer made the shards.

    Raises:
        ModelError: If the folder has no tokenizer.
        UsageError: If another tokenizer made them.
    """
    if Tokenizer.from_folder(folder).fingerprint != shards.index.tokenizer:
        raise UsageError(
            f"the shards were made with another tokenizer than the model in {folder}",
            hint=f"make them with --tokenizer {folder}",
        )


def _announce(
    plan: PretrainPlan,
    shards: Shards,
    training: Pretraining,
    device: torch.device,
) -> None:
    """Tell the user what is trained on what."""
    index, settings, step = shards.index, plan.settings, training.progress.step
    rows = (index.tokens["train"] - 1) // settings.context
    if settings.whole_rows:
        rows = int((shards.train.lengths // settings.context).sum())
    size = f"{training.parameters / 1e6:,.1f} M parameters in products"
    tokens, documents = index.tokens["train"], index.documents["train"]
    lines = [
        f"{plan.attention} attention, {size}, context {settings.context:,}, on {device.type}",
        f"{tokens:,} tokens in {documents_in_words(documents)} make {rows:,} rows",
    ]
    if plan.last is not None:
        last, change = plan.last.index, settings.first_of_last // settings.rows
        lines.append(
            f"from step {change + 1:,} on {last.tokens['train']:,} other tokens in "
            f"{documents_in_words(last.documents['train'])}"
        )
    if index.longest["train"] < settings.context:
        lines.append(
            f"the longest document has {index.longest['train']:,} tokens: no position beyond it "
            "is trained"
        )
    if not index.documents["heldout"]:
        lines.append("the shards hold out no document: no held-out loss is measured")
    if step:
        lines.append(f"continuing after step {step:,}")
    for line in lines:
        tell(line)
