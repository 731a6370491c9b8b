"""Attribution of input errors: decides if the input or the model is at fault, and words the error. Pure.

A runtime may raise any error, so the error itself does not tell a wrong input from a broken model. The test is whether
the model still computes other inputs. If so, the input is at fault and the client can correct it (`invalid_request`).
If not, the model is (`model_failed`), and its worker is replaced. Running out of memory is always reported as
`model_failed`.
"""

import re
from typing import Final

from schemas.errors import InvalidRequest, ModelFailed, RefusalReason
from workers.loading import first_line, is_out_of_memory

_SHOWN: Final = 200
_STATUS: Final = re.compile(r".*Status Message: ", re.DOTALL)
_CODES: Final = re.compile(r"^\s*\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_CHECK: Final = re.compile(r".*?\bwas false\.\s*", re.DOTALL)
_PATH: Final = re.compile(r"(?:[\w.+-]*/)+[\w.+-]*(?::\d+)?|\b[\w.-]+\.(?:cc|cpp|cu|cuh|h|hpp|py):\d+")
_SIGNATURE: Final = re.compile(r"(?:[\w:<>*&~]+\s)*[\w<>~]+(?:::[\w<>~]+)+\([^)]*\)(?: const)?")


class InputFailure(ModelFailed):
    """Error of a model on an input while it is unknown if the model still computes other inputs."""

    def __init__(self, words: str) -> None:
        super().__init__(f"the model failed on this input: {words}")
        self._words = words

    def as_refusal(self) -> InvalidRequest:
        """Return the error to send if the model still computes other inputs."""
        return InvalidRequest(f"the model fails on this input only: {self._words}")


def input_failure(error: Exception) -> ModelFailed:
    """Return the failure of an input that was computed alone."""
    if is_out_of_memory(error):
        message = "there was not enough memory to compute this input: send fewer inputs at a time, or shorter ones"
        return ModelFailed(message, reason=RefusalReason.OUT_OF_MEMORY)
    return InputFailure(_in_words(error))


def _in_words(error: Exception) -> str:
    """Return the message of a runtime's error without references to the runtime's source code."""
    text = _CODES.sub("", _STATUS.sub("", str(error)))
    if "was false." in text:
        text = _CHECK.sub("", text)
    text = _SIGNATURE.sub("", _PATH.sub("", text))
    text = " ".join(text.split()).strip(" :;,.")
    return text[:_SHOWN] or first_line(error).partition(":")[0][:_SHOWN] or type(error).__name__
