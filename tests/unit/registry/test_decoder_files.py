"""Tests of folders with decoders: one file with the settings is registered, and other graphs are refused in words."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from registry.importers.importing import ImportModel
from registry.pipeline.inspection import InspectModel, read_signature
from registry.pipeline.source_format import SourceFormat, model_sha256, source_format, weights_precision
from registry.plan import plan_variants
from registry.request import Registration
from runtimes.decoder.settings import METADATA, DecoderSettings, read_settings
from runtimes.onnx import is_pack
from schemas import generation
from schemas.errors import InvalidRequest
from schemas.rows.catalog import Processing, Tokenise
from tests.decoder_models import END, write_decoder
from tests.gguf_models import CONTEXT, SPECIAL, TEMPLATE

ONNX = SourceFormat.ONNX_DECODER


def imported(folder: Path) -> Any:
    return ImportModel(folder, folder.with_suffix(".onnx")).run()


def settings_of(file: Path) -> DecoderSettings:
    return read_settings({entry.key: entry.value for entry in onnx.load(file).metadata_props})


def test_import_of_folder_keeps_settings_in_file(tmp_path: Path) -> None:
    found = imported(write_decoder(tmp_path / "Tiny_Model"))
    assert (found.name, found.processing, source_format(found.file)) == ("tiny-model", None, ONNX)
    assert read_signature(found.file, ONNX).inputs == generation.INPUTS
    settings = settings_of(found.file)
    assert (settings.ends, settings.context_tokens, settings.chat_template) == ((END,), CONTEXT, TEMPLATE)
    assert settings.special_tokens == {"eos_token": SPECIAL[0]}
    assert settings.tokenizer == (tmp_path / "Tiny_Model" / "tokenizer.json").read_text()
    assert model_sha256(found.file, ONNX) == model_sha256(imported(tmp_path / "Tiny_Model").file, ONNX)


def test_import_prefers_newer_files_of_settings(tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "tiny", n_positions=None, max_position_embeddings=99)
    (folder / "generation_config.json").write_text('{"eos_token_id": [7, 8]}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    own = {"bos_token": {"content": "<s>"}, "chat_template": [{"name": "default", "template": "other"}]}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    settings = settings_of(imported(folder).file)
    assert (settings.ends, settings.context_tokens, settings.chat_template) == ((7, 8), 99, "{{ messages }}")
    assert settings.special_tokens == {"bos_token": "<s>"}
    (folder / "chat_template.jinja").unlink()
    assert settings_of(imported(folder).file).chat_template == "other"


def test_import_notes_missing_settings(tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "tiny", eos_token_id=None, n_positions=None)
    (folder / "tokenizer_config.json").unlink()
    notes = "\n".join(imported(folder).notes)
    for words in ("no template for chats", "no token ends an answer", "any number of tokens"):
        assert words in notes
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InvalidRequest, match=r"add tokenizer\.json"):
        imported(folder)


def test_import_takes_in_weights_of_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_decoder(tmp_path / "tiny")
    onnx.save(onnx.load(folder / "model.onnx"), folder / "model.onnx", save_as_external_data=True, location="weights")
    model: Any = onnx.load(imported(folder).file, load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    monkeypatch.setattr("registry.pipeline.adaptation.graph.ONE_FILE_BYTES", 1)  # as if they were too large
    pack = imported(folder).file
    assert is_pack(pack)
    assert (source_format(pack), weights_precision(pack, ONNX)) == (ONNX, "fp32")
    assert read_signature(pack, ONNX).outputs == generation.OUTPUTS


def test_file_without_its_folder_is_refused(tmp_path: Path) -> None:
    file = write_decoder(tmp_path / "tiny") / "model.onnx"
    assert source_format(file) is ONNX
    with pytest.raises(InvalidRequest, match="register the folder that holds it"):
        read_signature(file, ONNX)


def test_decoder_takes_no_processing(tmp_path: Path) -> None:
    file = imported(write_decoder(tmp_path / "tiny")).file
    steps = Processing(before=Tokenise(tokenizer="tokenizer.json"))
    with pytest.raises(InvalidRequest, match="has its own tokenizer"):
        InspectModel(file, ONNX, None, None, tmp_path / "copy", steps).run()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("graph", "merged graph of an older exporter"),
        ("code", "PyOp, which contain compiled code"),
        ("settings", "settings of the language model are damaged"),
        ("template", "template for chats is damaged"),
    ],
)
def test_inspection_refuses_file_that_cannot_be_served(tmp_path: Path, change: str, words: str) -> None:
    file = imported(write_decoder(tmp_path / "tiny")).file
    model: Any = onnx.load(file)
    if change == "graph":
        model.graph.input.append(onnx.helper.make_tensor_value_info("use_cache_branch", onnx.TensorProto.BOOL, [1]))
    elif change == "code":
        model.graph.node.append(onnx.helper.make_node("PyOp", ["logits"], ["other"], domain="x"))
    else:
        wrong = {"settings": {"ends": 1}, "template": {"chat_template": "{% if %}"}}
        settings = json.loads(model.metadata_props[0].value) | wrong[change]
        onnx.helper.set_model_props(model, {METADATA: json.dumps(settings)})
    onnx.save(model, file)
    with pytest.raises(InvalidRequest, match=words):
        read_signature(file, ONNX)


def test_plan_of_decoder_has_int8(tmp_path: Path) -> None:
    request = Registration(architecture="tiny", task="chat", file=tmp_path / "tiny.onnx", accuracy=1.0)
    planned = plan_variants(request, ONNX)
    assert [one.row.name for one in planned] == ["tiny.onnx-fp32.cpu", "tiny.onnx-int8dyn.cpu"]
    assert {one.row.runtime for one in planned} == {"onnx-decoder"}
