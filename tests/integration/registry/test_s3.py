"""Tests of artifacts in a real S3 server: shared, verified and cached; credentials stay hidden."""

import hashlib
import logging
import os
from pathlib import Path

import pytest

from registry.artifact_settings import open_artifacts, open_exchange
from registry.artifacts import ArtifactStore, sha256_of
from registry.s3 import S3Bucket
from schemas.errors import OperatorError
from tests.s3.server import BUCKET, KEY, S3Server

URL = f"s3://{BUCKET}/a/prefix"


pytestmark = [pytest.mark.needs_jdk, pytest.mark.usefixtures("s3_environment")]


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "model"
    path.write_bytes(content)
    return path


def _machine(folder: Path, name: str) -> ArtifactStore:
    return open_artifacts(URL, folder / name)


def test_s3_artifact_is_shared_between_machines(tmp_path: Path) -> None:
    content = os.urandom(6 << 20)  # large enough for a multipart upload
    here, there = _machine(tmp_path, "here"), _machine(tmp_path, "there")
    sha256 = here.put(_file(tmp_path, content))
    assert sha256 == hashlib.sha256(content).hexdigest()
    assert here.put(_file(tmp_path, content)) == sha256
    assert there.has(sha256)
    with there.held(sha256) as path:
        assert path.read_bytes() == content
    there.discard(sha256)
    assert not there.has(sha256)


def test_s3_exchange_discards_old_files(tmp_path: Path) -> None:
    here, exchange = _machine(tmp_path, "here"), open_exchange(URL, tmp_path / "here")
    kept, passing = here.put(_file(tmp_path, b"kept")), exchange.put(_file(tmp_path, b"passing"))
    exchange.discard_older(3600.0)
    assert exchange.has(passing)
    exchange.discard_older(0.0)
    assert (exchange.has(passing), here.has(kept)) == (False, True)


def test_s3_missing_artifact_names_bucket(tmp_path: Path) -> None:
    store = _machine(tmp_path, "here")
    assert not store.has("0" * 64)
    store.discard("0" * 64)
    with pytest.raises(OperatorError, match=f"not in s3://{BUCKET}/a/prefix: register"), store.held("0" * 64):
        pass


def test_s3_object_with_other_content_is_refused(tmp_path: Path, s3: S3Server) -> None:
    sha256 = _machine(tmp_path, "here").put(_file(tmp_path, b"right"))
    (s3.objects / "a" / "prefix" / sha256).write_bytes(b"wrong")
    there = _machine(tmp_path, "there")
    with pytest.raises(OperatorError, match="other content"), there.held(sha256):
        pass
    assert list((tmp_path / "there" / "artifact-cache").iterdir()) == []


def test_s3_damaged_copy_is_fetched_again(tmp_path: Path) -> None:
    _machine(tmp_path, "here").put(_file(tmp_path, b"right"))
    there = _machine(tmp_path, "there")
    sha256 = hashlib.sha256(b"right").hexdigest()
    with there.held(sha256):
        pass
    there.path(sha256).write_bytes(b"wrong")
    with pytest.raises(OperatorError, match="damaged"), there.held(sha256):
        pass
    with there.held(sha256) as path:
        assert path.read_bytes() == b"right"


def test_s3_cached_copy_does_not_count_as_stored(tmp_path: Path) -> None:
    here, there = _machine(tmp_path, "here"), _machine(tmp_path, "there")
    sha256 = here.put(_file(tmp_path, b"discarded"))
    with there.held(sha256):
        pass
    here.discard(sha256)
    assert there.path(sha256).exists()
    assert not there.has(sha256)
    assert there.keep(_file(tmp_path, b"discarded")).is_new


def test_s3_fetched_artifact_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = _machine(tmp_path, "here").put(_file(tmp_path, b"once"))
    hashed: list[Path] = []

    def watched(file: Path) -> str:
        hashed.append(file)
        return sha256_of(file)

    monkeypatch.setattr("registry.artifacts.sha256_of", watched)
    there = _machine(tmp_path, "there")
    for _ in range(2):
        with there.held(sha256) as path:
            assert path.read_bytes() == b"once"
    assert len(hashed) == 1


def test_s3_cache_stays_within_its_size(tmp_path: Path) -> None:
    bucket = S3Bucket(URL, os.environ["INFAAS_ARTIFACTS_ENDPOINT"])
    store = ArtifactStore(tmp_path / "cache", bucket, cache_bytes=2500)
    first, *others = [store.put(_file(tmp_path, bytes([number]) * 1000)) for number in range(5)]
    here = [path for path in (tmp_path / "cache").iterdir() if path.is_file()]
    assert len(here) == 2
    assert not store.path(first).exists()
    with store.held(first) as path:
        assert path.read_bytes() == bytes(1000)
        for sha256 in others:
            with store.held(sha256):
                assert path.exists()


def test_s3_missing_bucket_is_named(tmp_path: Path) -> None:
    store = open_artifacts("s3://other-bucket", tmp_path)
    with pytest.raises(OperatorError, match=r"cannot write to s3://other-bucket: .*NoSuchBucket"):
        store.put(_file(tmp_path, b"model"))
    assert list((tmp_path / "artifact-cache").iterdir()) == []


def test_s3_wrong_credentials_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    store, file = open_artifacts(URL, tmp_path), _file(tmp_path, b"model")
    with caplog.at_level(logging.DEBUG), pytest.raises(OperatorError) as raised:
        store.put(file)
    shown = str(raised.value) + caplog.text + "".join(capfd.readouterr()) + repr(raised.value.__cause__)
    assert f"s3://{BUCKET}/a/prefix" in shown
    assert "wrong-secret" not in shown
    assert KEY not in shown


@pytest.mark.parametrize("url", ["s3://key:secret@models/a", "s3://", "s3://models/a?secret=x"])
def test_s3_url_with_credentials_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="AWS_SECRET_ACCESS_KEY") as raised:
        open_artifacts(url, tmp_path)
    assert "secret@" not in str(raised.value)


def test_s3_missing_extra_names_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(OperatorError, match=r"infaas\[s3\]"):
        open_artifacts(URL, tmp_path)
