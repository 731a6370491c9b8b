"""Environment variables of a step's process: variables of Python and native libraries, and no secret.

A step processes a tenant's file with libraries that may have security holes, and its parent's environment contains
passwords of Postgres and Kafka, keys of a bucket and signing secrets. The list therefore names allowed variables, not
forbidden ones: a secret may have any name (`DATABASE_URL`, `HF_TOKEN`), while the variables of a library are known when
its runtime is added. An operator may allow more, such as a licence, in `INFAAS_STEP_VARIABLES`.

This is no sandbox: a step runs as the user who starts it, and may read that user's files.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

ENV: Final = "INFAAS_STEP_VARIABLES"
"""Variable that allows more names, e.g. `LM_LICENSE_FILE, VENDOR_*`."""
_GIVEN: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TEMP", "TMP", "XDG_*_HOME", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("LANG", "LANGUAGE", "LC_*", "TZ", "TZDIR"),
    *("PYTHON*", "LD_*", "DYLD_*", "GLIBC_TUNABLES", "MALLOC_*"),
    *("CC", "CXX", "CPATH", "*_INCLUDE_PATH", "LIBRARY_PATH"),  # for compilers of variants
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "BLIS_*", "NUMEXPR_*", "TBB_*"),  # threads
    *("DNNL_*", "ONEDNN_*", "OV_*", "OPENVINO_*", "ONEAPI_*", "SYCL_*", "ZE_*", "OCL_*"),
    *("CUDA_*", "CUDNN_*", "CUBLAS_*", "NCCL_*"),
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE"),  # others are keys
    *("HIP_*", "HSA_*", "ROCM_*", "ROCR_*", "NEURON_*", "XLA_*"),
    *("ORT_*", "TORCH*", "PYTORCH_*", "TRITON_CACHE_DIR", "TRITON_PTXAS_PATH"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_*", "TOKENIZERS_*", "PROTOCOL_BUFFERS_*"),
)
"""Names and patterns; no pattern matches variables in which a program keeps a secret."""


def step_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that a step may have."""
    given = (*_GIVEN, *environment.get(ENV, "").replace(",", " ").split())
    return {name: value for name, value in environment.items() if any(fnmatchcase(name, one) for one in given)}
