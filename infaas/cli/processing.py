"""Processing flags of `infaas register`, and text or file inputs of `infaas query`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from msgspec.structs import replace

from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import DecodeImage, PoolTokens, Processing, TensorSpec, Tokenise, TopClasses
from schemas.tensors import Array, bytes_array

TokenizerFlag = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="A tokenizer.json: clients send texts instead of token ids."),
]
ImageFlag = Annotated[
    str | None, typer.Option(metavar="WxH[:grey|rgb]", help="Clients send PNG or JPEG files, scaled to this size.")
]
ProcessingFlag = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="A .toml or .json file of such steps; see `docs/models.md`."),
]
PoolFlag = Annotated[
    str | None,
    typer.Option(metavar="mean|cls|last[:l2]", help="With --tokenizer: one vector a text; l2 scales it to length 1."),
]
TopFlag = Annotated[int | None, typer.Option(min=1, help="Add this number of best classes to the answer.")]
_IMAGE: Final = re.compile(r"(\d+)x(\d+)(?::(grey|rgb))?")


def declared_processing(
    tokenizer: Path | None,
    image: str | None,
    file: Path | None,
    top: int | None,
    classes: Path | None,
    pool: str | None = None,
) -> Processing | None:
    """Return the processing that the flags declare; None if they declare none.

    Raises:
        InvalidRequest: the flags are contradictory or invalid.
    """
    given = [flag for flag, value in (("tokenizer", tokenizer), ("image", image), ("processing", file)) if value]
    if len(given) > 1:
        raise InvalidRequest(f"--{given[0]} and --{given[1]} exclude one another: a task takes one input")
    if not given:
        if pool is not None:
            raise InvalidRequest("--pool needs --tokenizer: it makes one vector of the tokens of a text")
        if top is not None:
            raise InvalidRequest("--top needs --tokenizer, --image or --processing: a task of tensors returns tensors")
        return None
    if file is not None:
        processing = read_processing(file)
    elif tokenizer is not None:
        step = Tokenise(tokenizer=str(tokenizer.absolute()))
        processing = Processing(before=step, after=(_pool_step(pool),) if pool is not None else ())
    else:
        processing = Processing(before=_image_step(image or ""))
    if top is None and classes is None:
        return processing
    best = TopClasses(count=top or 1, labels=str(classes.absolute()) if classes else "")
    return replace(processing, after=(*processing.after, best))


def read_processing(file: Path) -> Processing:
    """Read a file that declares processing; paths in it are relative to its folder.

    Raises:
        InvalidRequest: the file's content is invalid.
        OperatorError: the file, or a file that it names, cannot be read.
    """
    try:
        content = file.read_bytes()
        decode = msgspec.toml.decode if file.suffix == ".toml" else msgspec.json.decode
        processing = decode(content, type=Processing).declared
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequest(f"{file.name} is not a valid processing declaration: {error}") from error
    return processing.with_files(lambda name: str((file.absolute().parent / name).absolute()))


def plain_inputs(values: Sequence[str], inputs: Sequence[TensorSpec], name: str) -> dict[str, Array]:
    """Return a task's only input, from texts or from the contents of files.

    Raises:
        InvalidRequest: the task takes tensors.
        OperatorError: a file cannot be read.
    """
    if len(inputs) != 1 or inputs[0].datatype != "BYTES":
        wanted = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in inputs)
        raise InvalidRequest(f"{name} takes tensors ({wanted}): give them by --inputs")
    array = bytes_array([_content(value) for value in values])
    return {inputs[0].name: array.reshape(-1, *(1 for _ in inputs[0].shape[1:]))}


def _content(value: str) -> bytes:
    try:
        file = Path(value)
        return file.read_bytes() if file.is_file() else value.encode()
    except OSError as error:
        if "\n" in value or len(value) > 255:  # too long for a path: a text
            return value.encode()
        raise OperatorError(f"cannot read {value}: {error.strerror or error}") from error


def _pool_step(text: str) -> PoolTokens:
    mode, _, scaled = text.partition(":")
    try:
        return msgspec.convert({"step": "pool", "mode": mode, "normalise": {"": False, "l2": True}[scaled]}, PoolTokens)
    except (KeyError, msgspec.ValidationError):
        raise InvalidRequest(f"--pool must be mean, cls or last, optionally with :l2, not {text!r}") from None


def _image_step(text: str) -> DecodeImage:
    found = _IMAGE.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"--image must be a size, optionally with grey or rgb, e.g. 28x28:grey, not {text!r}")
    channels = "grey" if found[3] == "grey" else "rgb"
    return DecodeImage(width=int(found[1]), height=int(found[2]), channels=channels)
