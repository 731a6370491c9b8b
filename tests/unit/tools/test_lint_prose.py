"""Tests of the lint of prose, on small trees."""

from pathlib import Path

import pytest

from tools.lint_prose import faults, fragments, is_fragment, measure, read_passages


def _passages(path: Path, text: str) -> list[str]:
    path.write_text(text)
    return list(faults(read_passages(path)))


def test_lint_prose_accepts_plain_english(tmp_path: Path) -> None:
    assert _passages(tmp_path / "a.py", '"""Pool of connections."""\n\nSIZE = 1  # connections\n') == []


@pytest.mark.parametrize("word", ["What", "Who", "Whether", "How"])
def test_lint_prose_reports_question_words(tmp_path: Path, word: str) -> None:
    (fault, *_) = _passages(tmp_path / "a.py", f'def run() -> None:\n    """{word} is run."""\n')
    assert f"a.py:2: a docstring begins with '{word}'" in fault


@pytest.mark.parametrize("text", ['"""As it was told."""\n', "SIZE = 1  # as far as it goes\n"])
def test_lint_prose_reports_listed_words(tmp_path: Path, text: str) -> None:
    assert "is a listed word" in _passages(tmp_path / "a.py", text)[0]
    assert "is a listed word" in _passages(tmp_path / "a.md", "Clients are told so\nfar.\n")[0]


def test_lint_prose_reports_the_rate_of_what(tmp_path: Path) -> None:
    rare = '"""' + "word " * 400 + 'what."""\n'
    assert _passages(tmp_path / "a.py", rare) == []
    assert "4.0 times in 1,000 words" in _passages(tmp_path / "a.py", '"""' + "word " * 249 + 'what."""\n')[-1]


def test_lint_prose_ignores_code(tmp_path: Path) -> None:
    assert _passages(tmp_path / "a.md", "Set `told`.\n\n```\ntold\n```\n") == []


def test_lint_prose_counts_docstrings_of_attributes(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('class Pool:\n    """Pool."""\n\n    size: int\n    """Number of connections."""\n')
    assert measure(read_passages(tmp_path / "a.py")).docstrings == 2


@pytest.mark.parametrize("sentence", ["Of one selector.", "As the protocol.", "By task: what was asked.", "Bytes."])
def test_is_fragment_detects_fragments(sentence: str) -> None:
    assert is_fragment(sentence)


@pytest.mark.parametrize("sentence", ["Load counted by one selector.", "Whether it is ready.", "Bypasses the cache."])
def test_is_fragment_accepts_sentences(sentence: str) -> None:
    assert not is_fragment(sentence)


def test_lint_prose_lists_fragments_of_attributes(tmp_path: Path) -> None:
    text = 'class Row:\n    """One row."""\n\n    size: int\n    """Of the row. Always."""\n'
    (tmp_path / "more.py").write_text(text)
    assert [*fragments(tmp_path, [Path("more.py")])] == ["more.py:5: Of the row."]
