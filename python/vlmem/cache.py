"""Keys and values of transformers' models in the kv_cache pool of a configuration. Needs torch and transformers 5.

    with create_memory_optimized_model_context("config.yaml") as optimizer:
        cache = VlmemCache(optimizer, model.config, max_cache_len=4096)
        model.generate(**inputs, past_key_values=cache)

At the first token all layers are given one block, [layers, 2, batch, key heads, max_cache_len, head dimension], so that the
pool's pages are rounded up once. A token is written behind those before it, and attention reads a view up to it: where
transformers' DynamicCache copies the whole cache at every token, nothing is allocated here, and the figures are the same
bit for bit. Beam search reorders a layer at a time through a copy of torch's.

Models whose layers attend to a window or keep a state of another kind are refused: their caches do not grow this way.
"""
import weakref

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class _Layer(CacheLayerMixin):
    """One layer's part of the block: keys and values are views of its first `length` tokens."""

    is_sliding = False
    is_croppable = True
    supports_early_init = False

    def __init__(self, cache, index):
        super().__init__()
        self.cache, self.index, self.length = cache, index, 0

    def lazy_initialization(self, key_states, value_states):
        self.lie_in(self.cache.block(key_states, value_states))

    def lie_in(self, block):
        self.memory, self.batch_size, self.is_initialized = block[self.index], block.shape[2], True
        self._show()

    def _show(self):
        self.keys, self.values = self.memory[:, :, :, :self.length]

    def update(self, key_states, value_states, *args, **kwargs):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin, end = self.length, self.length + key_states.shape[-2]
        if end > self.cache.longest:
            raise ValueError("%d tokens: the cache was made for max_cache_len=%d" % (end, self.cache.longest))
        for part, states in zip(self.memory, (key_states, value_states)):
            place = part[:, :, begin:end]
            if (place.shape, place.dtype, place.device) != (states.shape, states.dtype, states.device):
                raise ValueError("layer %d: %s %s on %s does not fit %s %s on %s of the cache" % (
                    self.index, tuple(states.shape), states.dtype, states.device, tuple(place.shape), place.dtype, place.device))
            place.copy_(states)
        self.length = end
        self._show()
        return self.keys, self.values

    def get_mask_sizes(self, query_length):
        return self.length + query_length, 0

    def get_seq_length(self):
        return self.length

    def get_max_length(self):
        return self.cache.longest

    def _cut(self, length):
        self.length = length
        if self.is_initialized:
            self._show()

    def crop(self, tokens_to_remove):
        """Forgets the last tokens; their number is negative, as transformers 5 has it."""
        if tokens_to_remove > 0:
            raise ValueError("crop(%d): want a negative number of tokens to remove" % tokens_to_remove)
        self._cut(max(self.length + tokens_to_remove, 0))

    def reset(self):
        self._cut(0)

    def offload(self):
        raise NotImplementedError("the cache stays in its pool: offloading would copy it elsewhere")

    def reorder_cache(self, beam_idx):
        if self.length:
            self.keys.copy_(self.keys.index_select(0, beam_idx))
            self.values.copy_(self.values.index_select(0, beam_idx))


class VlmemCache(Cache):
    """The cache of one generation, or of several after another with `reset` between them.

    config is the model's; max_cache_len the most tokens of a sequence, question and answer together. The memory goes back
    to the pool with the cache and the last view of it.
    """

    def __init__(self, optimizer, config, max_cache_len):
        text = config.get_text_config(decoder=True)
        kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"} or getattr(text, "sliding_window", None) and getattr(text, "use_sliding_window", True):
            raise ValueError("layers of %s: only full attention is cached" % ", ".join(sorted(kinds)))
        if max_cache_len < 1:
            raise ValueError("max_cache_len %d: want at least 1 token" % max_cache_len)
        self.optimizer, self._block = optimizer, None
        self.longest = max_cache_len  # transformers 5.17 has a property max_cache_len, which cannot be set
        own = weakref.proxy(self)  # a cycle would keep the block until the collector comes
        super().__init__(layers=[_Layer(own, i) for i in range(text.num_hidden_layers)])

    def block(self, keys, values):
        """The memory of all layers, made at the first call after the states of one."""
        if self._block is None:
            if keys.device.type != "cpu":
                raise ValueError("keys on %s: the pools of this module are in host memory" % keys.device)
            if keys.shape != values.shape:
                raise ValueError("keys %s and values %s: want one shape" % (tuple(keys.shape), tuple(values.shape)))
            self._block = self._allocate(keys.shape[0], keys.shape[1], keys.shape[3], keys.dtype)
        return self._block

    def _allocate(self, batch, heads, dim, dtype):
        return self.optimizer.allocate_tensor_memory((len(self.layers), 2, batch, heads, self.longest, dim), dtype, "kv_cache")

    def batch_select_indices(self, indices):
        """Keeps these sequences, in a new block of the pool; the old one goes back afterwards."""
        if self._block is None:
            return
        _, _, _, heads, _, dim = self._block.shape
        block = self._allocate(len(torch.arange(self._block.shape[2])[indices]), heads, dim, self._block.dtype)
        for layer, new in zip(self.layers, block):
            new[:, :, :, :layer.length].copy_(layer.memory[:, indices, :, :layer.length])
            layer.lie_in(block)
        self._block = block

    def batch_repeat_interleave(self, repeats):
        if self._block is not None:
            self.batch_select_indices(torch.arange(self._block.shape[2]).repeat_interleave(repeats))
