"""A card's memory for PyTorch: vlmem's stream-ordered pool as its allocator.

    from vlmem import card
    card.use()                   # before the first tensor on a card; or torch.cuda.MemPool(card.allocator().allocator())
    ...
    card.statistics()            # {"live_bytes": …, "peak_reserved_bytes": …, "last_refusal": …}

PyTorch then asks for every block on a card here. A freed block is at once its own stream's again, and another's after an
event; record_stream and empty_cache work. A request that the card cannot hold raises as PyTorch makes of std::bad_alloc, and
statistics tell what was missing. PyTorch's own figures (memory_allocated, snapshots) stay empty, and graphs cannot be captured:
that is so with every allocator that is plugged in without pools of graphs.
"""
import ctypes
import json

from . import _call, _lib, _load_path, _take

_allocator = None


def open(device=0, library="", max_bytes=0):
    """Opens the card before its first use: by another driver library, or with at most max_bytes (0: what the card has)."""
    _call("vlmem_card_open", library.encode(), ctypes.c_int(device), ctypes.c_int64(max_bytes))


def close(device=0):
    """Gives everything back; blocks that live end with it."""
    _call("vlmem_card_close", ctypes.c_int(device))


def allocator():
    """The torch.cuda.memory.CUDAPluggableAllocator over this pool."""
    global _allocator
    if _allocator is None:
        from torch.cuda.memory import CUDAPluggableAllocator
        made = CUDAPluggableAllocator(_load_path(), "vlmem_torch_malloc", "vlmem_torch_free")
        inner = made.allocator()
        inner.set_record_stream_fn(_address("vlmem_torch_record"))
        inner.set_reset_fn(_address("vlmem_torch_trim"))
        _allocator = made
    return _allocator


def use():
    """Makes it PyTorch's allocator; PyTorch refuses once a tensor of a card was made."""
    from torch.cuda.memory import change_current_allocator
    change_current_allocator(allocator())


def statistics(device=0):
    """The counters of a card's pool, in bytes and operations, and the last refusal in words."""
    text = ctypes.c_void_p()
    _call("vlmem_card_statistics", ctypes.c_int(device), ctypes.byref(text))
    return json.loads(_take(text))


def _address(name):
    return ctypes.cast(getattr(_lib, name), ctypes.c_void_p).value
