"""Substitutes for packages that sglang lacks on a machine without a GPU.

This folder is first on the PYTHONPATH of the server's process only. ``sgl_kernel`` has no CPU build on the package
index. The substitute has every name, so that sglang can be imported, and raises when one is called. With ``--device cpu
--attention-backend torch_native`` none is called. ``torchvision`` exists only as a CUDA build, which needs two
operators that a CPU torch does not declare.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

_KERNELS = ("sgl_kernel", "sgl_kernel.mamba")  # sglang works without the other modules of the package
_kept: list[object] = []  # the operators of a torch library exist only while the object does


def _refusing(module: str) -> Callable[[str], Callable[..., Any]]:
    def look_up(name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: object, **__: object) -> None:
            raise NotImplementedError(f"{module}.{name} needs a build of sgl_kernel for this machine")

        return refuse

    return look_up


class _Kernels(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the substitutes for the kernel modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _KERNELS:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__dict__.update(__version__="0.0.0", __getattr__=_refusing(spec.name))
        return module

    def exec_module(self, module: types.ModuleType) -> None: ...


class _Operators(importlib.abc.MetaPathFinder):
    """Declares the operators just before torchvision is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library: Any = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept.append(library)


sys.meta_path[:0] = [_Kernels(), _Operators()]
