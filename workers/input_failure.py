"""What is said of an input at which a model raised: whose fault it is, and in whose words. Pure.

A runtime raises what it likes, so nothing in an error tells a wrong input from a broken model. What tells is whether
the model still computes other inputs: then it is the input, which the client can put right (`invalid_request`), and
else the model (`model_failed`), whose worker is replaced. Running out of memory is nobody's mistake, and stays the
model's.
"""

import re
from typing import Final

from schemas.errors import InvalidRequest, ModelFailed
from workers.loading import first_line, is_out_of_memory

_SHOWN: Final = 200
_STATUS: Final = re.compile(r".*Status Message: ", re.DOTALL)
_CODES: Final = re.compile(r"^\s*\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_CHECK: Final = re.compile(r".*?\bwas false\.\s*", re.DOTALL)
_PATH: Final = re.compile(r"(?:[\w.+-]*/)+[\w.+-]*(?::\d+)?|\b[\w.-]+\.(?:cc|cpp|cu|cuh|h|hpp|py):\d+")
_SIGNATURE: Final = re.compile(r"(?:[\w:<>*&~]+\s)*[\w<>~]+(?:::[\w<>~]+)+\([^)]*\)(?: const)?")


class InputFailure(ModelFailed):
    """A model raised on an input, and it is not known yet whether it still computes others."""

    def __init__(self, words: str) -> None:
        super().__init__(f"the model failed on this input: {words}")
        self._words = words

    def as_refusal(self) -> InvalidRequest:
        """The error of an input, where the model still computes others."""
        return InvalidRequest(f"the model computes other inputs, and not this one: {self._words}")


def input_failure(error: Exception) -> ModelFailed:
    """The failure of the only input that was computed."""
    if is_out_of_memory(error):
        return ModelFailed("there was not enough memory to compute this input: send fewer at a time, or shorter ones")
    return InputFailure(_in_words(error))


def _in_words(error: Exception) -> str:
    """What a runtime says, less where in its own code it says so."""
    text = _CODES.sub("", _STATUS.sub("", str(error)))
    if "was false." in text:
        text = _CHECK.sub("", text)
    text = _SIGNATURE.sub("", _PATH.sub("", text))
    text = " ".join(text.split()).strip(" :;,.")
    return text[:_SHOWN] or first_line(error).partition(":")[0][:_SHOWN] or type(error).__name__
