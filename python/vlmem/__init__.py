"""Run what `vlmem advise` wrote: a vision-language model's tensors from the pools of a configuration.

    optimizer = create_memory_optimized_model_context("config.yaml")
    features = optimizer.allocate_tensor_memory((1, 880, 2048), dtype=torch.float32, tensor_type="vision_features")
    optimizer.free_tensor_memory(features)
    optimizer.cleanup()

With torch, dtypes of torch give tensors of torch; dtypes of numpy, or their names, give arrays of numpy. Neither is a
copy: the memory is the pool's, in this process.

Who owns memory. An array keeps its block of the pool: the block goes back when the last array and view over it is
collected, or at free_tensor_memory, which leaves the array empty. So no array can ever show what was given to another.
Freeing an array while a view of it lives is an error. cleanup ends the optimizer; arrays that live stay valid, and the
memory goes back with the last of them.

VlmemCache (vlmem.cache) keeps the keys and values of transformers' generate() in the kv_cache pool; vlmem.card is a card's
memory for PyTorch.
"""
import ctypes
import json
import os
import pathlib
import sys
import threading
import weakref

import numpy as np

__all__ = ["Error", "Optimizer", "VlmemCache", "create_memory_optimized_model_context"]


class Error(RuntimeError):
    """What the library refused, in its words."""


class _Tensor(ctypes.Structure):
    _fields_ = [("handle", ctypes.c_uint64), ("host", ctypes.c_void_p), ("bytes", ctypes.c_int64), ("device", ctypes.c_uint64)]


def _load_path():
    here = pathlib.Path(__file__).parent
    for name in ("libvlmem.so", "libvlmem.dylib"):
        if (here / name).exists():
            return str(here / name)
    raise ImportError("libvlmem is not beside %s: install the package with pip install ./python" % __file__)


_lib = ctypes.CDLL(_load_path())
_free_text = ctypes.CDLL(None).free
_free_text.argtypes = [ctypes.c_void_p]


def _call(name, *args):
    """Calls the library and raises what it refuses."""
    message = ctypes.c_void_p()
    if getattr(_lib, name)(*args, ctypes.byref(message)) != 0:
        raise Error(_take(message))


def _take(pointer):
    text = ctypes.cast(pointer, ctypes.c_char_p).value.decode()
    _free_text(pointer)
    return text


class _Pools:
    """The library's optimizer, closed when nobody uses it any more."""

    def __init__(self, config, on_host):
        self.handle = ctypes.c_uint64()
        _call("vlmem_open", config.encode(), ctypes.c_int(on_host), ctypes.byref(self.handle))

    def __del__(self):
        if not sys.is_finalizing() and self.handle.value:
            _call("vlmem_close", self.handle)


class _Block:
    """A block of a pool as numpy's array interface; the arrays over it keep it."""

    def __init__(self, pools, tensor):
        self.pools, self.handle = pools, tensor.handle
        self.__array_interface__ = {"shape": (tensor.bytes,), "typestr": "|u1", "data": (tensor.host, False), "version": 3}

    def __del__(self):
        if not sys.is_finalizing():  # the process's end frees everything
            _call("vlmem_free", self.pools.handle, ctypes.c_uint64(self.handle))


_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}


def _element(dtype):
    """The name of an element type, and torch where the type is torch's."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(dtype, torch.dtype):
        name, framework = str(dtype).removeprefix("torch."), torch
    else:
        name, framework = "bfloat16" if str(dtype) == "bfloat16" else np.dtype(dtype).name, None
    if name not in _NAMES:
        raise TypeError("dtype %s: want one of %s" % (name, ", ".join(_NAMES)))
    return name, framework


def _root(array):
    """The array of bytes over a block that all views of it are based on, or None where it is no array of ours."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    return root if isinstance(root.base, _Block) else None


class Optimizer:
    """The pools of one configuration. Its methods may be called from several threads."""

    def __init__(self, config=None, on_host=True):
        self._lock = threading.Lock()
        self._pools = _Pools(_configuration(config), on_host)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cleanup()

    def _open(self):
        pools = self._pools
        if pools is None:
            raise Error("the optimizer is closed")
        return pools

    def _bytes(self, pools, tensor):
        if not tensor.host:
            _call("vlmem_free", pools.handle, ctypes.c_uint64(tensor.handle))
            raise Error("the tensor is in a card's memory, which this process cannot address: open it with on_host=True")
        return np.asarray(_Block(pools, tensor))

    def allocate_tensor_memory(self, shape, dtype=np.float32, tensor_type="general"):
        """A tensor of the pool that tensor_type names: general, kv_cache, vision_features, text_embeddings, stream, pinned."""
        pools, (name, torch) = self._open(), _element(dtype)
        sizes = (ctypes.c_int64 * len(shape))(*shape)
        tensor = _Tensor()
        _call("vlmem_allocate", pools.handle, sizes, ctypes.c_int(len(shape)), _NAMES[name].encode(), tensor_type.encode(),
              ctypes.byref(tensor))
        return _shaped(self._bytes(pools, tensor), shape, name, torch)

    def optimize_image_processing_memory(self, images):
        """The images in one contiguous block of the vision pool, in the shape that stacking gives them."""
        torch = sys.modules.get("torch")
        if torch is not None and (isinstance(images, torch.Tensor) or len(images) and isinstance(images[0], torch.Tensor)):
            batch = images if isinstance(images, torch.Tensor) else None
            shape = tuple(images.shape) if batch is not None else (len(images), *images[0].shape)
            out = self.allocate_tensor_memory(shape, images[0].dtype, "vision_features")
            if batch is not None:
                return out.copy_(batch)
            for i, image in enumerate(images):
                out[i].copy_(image)
            return out
        if len(images) == 0:
            raise ValueError("no images")
        first = np.asarray(images[0])
        out = self.allocate_tensor_memory((len(images), *first.shape), first.dtype, "vision_features")
        for i, image in enumerate(images):
            out[i] = image
        return out

    def optimize_attention_memory(self, batch_size, seq_len, hidden_dim, num_heads, num_kv_heads=None, dtype=np.float32):
        """query, key, value, attention_scores and output of a layer in one block, packed by their lifetimes.

        output takes the place of what is dead when it is written: query, as long as it is read, must not be needed after
        the scores. Each part keeps the block; it goes back with the last of them.
        """
        if hidden_dim % num_heads:
            raise ValueError("hidden_dim %d is not a multiple of num_heads %d" % (hidden_dim, num_heads))
        pools, (name, torch) = self._open(), _element(dtype)
        kv, dim = num_kv_heads or num_heads, hidden_dim // num_heads
        parts = (_Tensor * 5)()
        _call("vlmem_attention_layer", pools.handle, *map(ctypes.c_int64, (batch_size, seq_len, num_heads, kv, dim)),
              _NAMES[name].encode(), parts)
        low = min(p.host for p in parts)
        block = _Tensor(parts[0].handle, low, max(p.host + p.bytes for p in parts) - low, 0)
        root = self._bytes(pools, block)
        shapes = {"query": (batch_size, num_heads, seq_len, dim), "key": (batch_size, kv, seq_len, dim),
                  "value": (batch_size, kv, seq_len, dim), "attention_scores": (batch_size, num_heads, seq_len, seq_len),
                  "output": (batch_size, num_heads, seq_len, dim)}
        return {part: _shaped(root[p.host - low:p.host - low + p.bytes], shape, name, torch)
                for p, (part, shape) in zip(parts, shapes.items())}

    def free_tensor_memory(self, tensor):
        """Gives a tensor's memory back and leaves it empty. A second free, and one while a view lives, is an error."""
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(tensor, torch.Tensor):
            return self._free_torch(torch, tensor)
        with self._lock:
            root = _root(tensor) if isinstance(tensor, np.ndarray) else None
            if root is None or root is tensor:
                raise Error("the array is not a live tensor of this optimizer")
            if root.base.pools is not self._pools:
                raise Error("the tensor is another optimizer's")
            if sys.getrefcount(root) > 3:  # tensor.base, root, and the argument
                raise Error("the tensor has live views: they would show memory that is given to another")
            del root
            tensor.__setstate__((1, (0,), tensor.dtype, False, b""))

    def _free_torch(self, torch, tensor):
        with self._lock:
            storage = tensor.untyped_storage()
            owner = _owners.get(storage.data_ptr())
            if owner is None or storage.nbytes() == 0:
                raise Error("the tensor is not a live tensor of this optimizer")
            if owner.pools is not self._pools:
                raise Error("the tensor is another optimizer's")
            if torch._C._storage_Use_Count(storage._cdata) > owner.uses:
                raise Error("the tensor has live views: they would show memory that is given to another")
            del _owners[storage.data_ptr()], owner, storage
            tensor.set_()

    def statistics(self):
        """The counters of every pool, as a list of dictionaries; sizes are in bytes."""
        text = ctypes.c_void_p()
        _call("vlmem_statistics", self._open().handle, ctypes.byref(text))
        return json.loads(_take(text))

    def relieve(self):
        """Reads this machine's memory, does what its pressure asks of the pools, and returns low, medium or high."""
        level = ctypes.c_int()
        _call("vlmem_relieve", self._open().handle, ctypes.byref(level))
        return ("low", "medium", "high")[level.value]

    def cleanup(self):
        """Ends the optimizer. Tensors that live stay valid; the memory goes back with the last of them."""
        self._pools = None


class _Owner:
    """What is known of a torch tensor: its pools, and how many uses its storage had when it was alone."""

    def __init__(self, pools, uses):
        self._pools, self.uses = weakref.ref(pools), uses  # a tensor that is collected leaves its entry behind

    @property
    def pools(self):
        return self._pools()


_owners = {}


def _shaped(root, shape, name, torch):
    count = int(np.prod(shape))
    if torch is None:
        kind = np.dtype(np.uint16 if name == "bfloat16" else name)
        return root[:count * kind.itemsize].view(kind).reshape(shape)
    dtype = getattr(torch, name)
    memory = torch.from_numpy(root[:count * dtype.itemsize])
    tensor = torch.empty(0, dtype=dtype).set_(memory.untyped_storage(), 0, tuple(shape))  # a view would keep its base
    del memory
    base = root
    while isinstance(base.base, np.ndarray):
        base = base.base
    storage = tensor.untyped_storage()
    _owners[storage.data_ptr()] = _Owner(base.base.pools, torch._C._storage_Use_Count(storage._cdata))
    return tensor


def _configuration(config):
    """The text of a configuration: of a file, a text itself, $VLMEM_CONFIG, or the one that comes with this
    package, of Qwen3-VL-2B on a laptop with 8 GiB."""
    config = config or os.environ.get("VLMEM_CONFIG")
    if config is None:
        return (pathlib.Path(__file__).parent / "default.yaml").read_text()
    text = os.fspath(config)
    return text if "\n" in text else pathlib.Path(text).read_text()


def create_memory_optimized_model_context(config=None):
    """Opens a configuration of `vlmem advise`: a file's name or its text; see _configuration for None."""
    return Optimizer(config)


def __getattr__(name):
    """VlmemCache, where it is asked for: it needs torch and transformers, which nothing else here does."""
    if name != "VlmemCache":
        raise AttributeError("module %r has no attribute %r" % (__name__, name))
    from .cache import VlmemCache
    return VlmemCache
