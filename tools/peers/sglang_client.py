"""SGLang's own serving benchmark, unchanged, without the rest of SGLang.

    python3 sglang_client.py [flags of sglang.bench_serving]

The package's __init__ and two of its server modules want a GPU stack that a client has no use for. They are
replaced by empty ones here; sglang.benchmark itself is what the package ships.
"""
import importlib
import importlib.util
import runpy
import sys
import types

MODULE = "sglang.benchmark.serving"
NEEDS = ("aiohttp", "datasets", "msgspec", "numpy", "orjson", "PIL", "psutil", "pybase64", "requests", "tqdm",
         "transformers", "zmq")  # fmt: skip


def missing():
    """What the client would lack, as a sentence; None when it can run."""
    absent = [name for name in ("sglang",) + NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        return "not installed: " + ", ".join(absent)
    return None


def _stub(name, path=None, **members):
    module = types.ModuleType(name)
    if path is not None:
        module.__path__ = [path]
    module.__dict__.update(members)
    sys.modules[name] = module


def install_stubs():
    root = importlib.util.find_spec("sglang").submodule_search_locations[0]
    _stub("sglang", root)
    _stub("sglang.srt", f"{root}/srt")
    _stub("sglang.srt.utils", f"{root}/srt/utils")
    _stub("sglang.srt.disaggregation", f"{root}/srt/disaggregation")
    _stub("sglang.srt.disaggregation.utils", FAKE_BOOTSTRAP_HOST="2.2.2.2")


def load():
    """The module, to call its functions."""
    install_stubs()
    return importlib.import_module(MODULE)


if __name__ == "__main__":
    if missing():
        sys.exit(f"sglang_client: {missing()}")
    install_stubs()
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
