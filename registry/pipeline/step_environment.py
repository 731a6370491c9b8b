"""What the process of a step gets of our environment: what Python and native libraries need, and no secret.

A step works on somebody's file, with libraries that may have holes; and whoever starts it has in its environment the
passwords of Postgres and Kafka, the keys of a bucket and secrets that sign. So this says what is given, not what is
kept back: a secret may have any name (`DATABASE_URL`, `HF_TOKEN`), while what the libraries need is known to who adds
a runtime. What else one of them needs, a licence say, an operator names in `INFAAS_STEP_VARIABLES`.

It is no sandbox: a step runs as the user who starts it, and may read what that one may.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

ENV: Final = "INFAAS_STEP_VARIABLES"
"""Variable that names more, e.g. `LM_LICENSE_FILE, VENDOR_*`."""
_GIVEN: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TEMP", "TMP", "XDG_*_HOME", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR"),
    *("PYTHON*", "LD_*", "DYLD_*", "GLIBC_TUNABLES", "MALLOC_*"),
    *("CC", "CXX", "CPATH", "*_INCLUDE_PATH", "LIBRARY_PATH"),  # of what compiles a variant
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "BLIS_*", "NUMEXPR_*", "TBB_*"),  # threads
    *("DNNL_*", "ONEDNN_*", "OV_*", "OPENVINO_*", "ONEAPI_*", "SYCL_*", "ZE_*", "OCL_*"),
    *("CUDA_*", "CUDNN_*", "CUBLAS_*", "NCCL_*"),
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE"),  # others of the name are keys
    *("HIP_*", "HSA_*", "ROCM_*", "ROCR_*", "NEURON_*", "XLA_*"),
    *("ORT_*", "TORCH*", "PYTORCH_*", "TRITON_CACHE_DIR", "TRITON_PTXAS_PATH"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_*", "TOKENIZERS_*", "PROTOCOL_BUFFERS_*"),
)
"""Names, and beginnings of names; no beginning under which some program keeps a secret."""


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a step gets of an environment."""
    given = (*_GIVEN, *environment.get(ENV, "").replace(",", " ").split())
    return {name: value for name, value in environment.items() if any(fnmatchcase(name, one) for one in given)}
