"""The C interface of Bifocal's attention (src/capi/bifocal_attention.h) for Python, over PyTorch's tensors."""
import ctypes

import torch

PREFILL, DECODE = 0, 1


class Options(ctypes.Structure):
    _fields_ = [("device", ctypes.c_char_p), ("backend", ctypes.c_char_p)] + [
        (name, ctypes.c_int32) for name in ("num_heads", "num_kv_heads", "head_dim", "page_size", "window", "sinks",
                                            "deterministic")] + [
        ("scale", ctypes.c_float), ("softcap", ctypes.c_float)] + [
        (name, ctypes.c_int32) for name in ("cache_dtype", "max_tokens", "max_seqs", "max_kv_len",
                                            "num_threads")]  # fmt: skip


class Batch(ctypes.Structure):
    _fields_ = [("num_prefill", ctypes.c_int32), ("num_decode", ctypes.c_int32)] + [
        (name, ctypes.c_void_p) for name in ("q_begin", "q_len", "kv_len", "page_table")] + [
        ("page_table_stride", ctypes.c_int64)]  # fmt: skip


class Layer(ctypes.Structure):
    _fields_ = [("q", ctypes.c_void_p), ("out", ctypes.c_void_p), ("num_tokens", ctypes.c_int32),
                ("first_page", ctypes.c_int32), ("sinks", ctypes.c_void_p)]  # fmt: skip


class Interface:
    def __init__(self, path):
        self.calls = ctypes.CDLL(path)
        handle = ctypes.c_void_p
        signatures = {
            "bifocal_attention_defaults": (None, [ctypes.POINTER(Options)]),
            "bifocal_attention_create": (ctypes.c_int, [ctypes.POINTER(Options), ctypes.POINTER(handle)]),
            "bifocal_attention_destroy": (None, [handle]),
            "bifocal_attention_set_cache": (ctypes.c_int, [handle, handle, handle, ctypes.c_int32]),
            "bifocal_attention_plan": (ctypes.c_int, [handle, ctypes.POINTER(Batch), handle]),
            "bifocal_attention_run": (ctypes.c_int, [handle, ctypes.POINTER(Layer), handle]),
            "bifocal_attention_explain": (ctypes.c_char_p, [handle, ctypes.c_int]),
            "bifocal_last_error": (ctypes.c_char_p, []),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self.calls, name)
            function.restype, function.argtypes = result, arguments

    def check(self, code):
        if code != 0:
            raise RuntimeError(self.calls.bifocal_last_error().decode())


class Attention:
    """One attention class over a cache k, v: [pages of all layers, KV heads, page size, head dim]."""

    def __init__(self, interface, k, v, num_heads, backend="auto", **options):
        self.interface, self.k, self.v = interface, k, v
        wishes = Options()
        interface.calls.bifocal_attention_defaults(ctypes.byref(wishes))
        wishes.device = k.device.type.encode()
        wishes.backend = backend.encode()
        wishes.cache_dtype = [torch.float32, torch.float16, torch.bfloat16].index(k.dtype)
        wishes.num_heads = num_heads
        wishes.num_kv_heads, wishes.page_size, wishes.head_dim = k.shape[1:]
        for name, value in options.items():
            setattr(wishes, name, value)
        self.handle = ctypes.c_void_p()
        interface.check(interface.calls.bifocal_attention_create(ctypes.byref(wishes), ctypes.byref(self.handle)))
        interface.check(
            interface.calls.bifocal_attention_set_cache(self.handle, k.data_ptr(), v.data_ptr(), k.shape[0]))

    def __del__(self):
        self.interface.calls.bifocal_attention_destroy(self.handle)

    @staticmethod
    def stream(tensor):
        return torch.cuda.current_stream().cuda_stream if tensor.is_cuda else None

    def plan(self, q_begin, q_len, kv_len, page_table, num_prefill):
        """int32 tensors on the cache's device; sequences from num_prefill on have one row each."""
        self.planned = (q_begin, q_len, kv_len, page_table)  # they must live until the step has ended
        batch = Batch(num_prefill, len(q_len) - num_prefill, *(t.data_ptr() for t in self.planned),
                      page_table.stride(0))  # fmt: skip
        self.interface.check(self.interface.calls.bifocal_attention_plan(self.handle, ctypes.byref(batch),
                                                                     self.stream(self.k)))  # fmt: skip

    def run(self, q, out, first_page=0):
        """q, out: [tokens, heads, head dim]."""
        layer = Layer(q.data_ptr(), out.data_ptr(), q.shape[0], first_page, None)
        self.interface.check(
            self.interface.calls.bifocal_attention_run(self.handle, ctypes.byref(layer), self.stream(q)))

    def explain(self, phase):
        return self.interface.calls.bifocal_attention_explain(self.handle, phase).decode()
