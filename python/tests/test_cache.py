"""VlmemCache under transformers' own Qwen3-VL classes. From the root: python3 -m unittest discover python/tests

Skipped, with the reason, where the module was not installed or torch or transformers are absent. About a minute.
"""
import pathlib
import sys
import unittest

try:
    import torch
    import transformers  # noqa: F401
    import vlmem
    from vlmem import VlmemCache
    REASON = None
except ImportError as absent:
    REASON = str(absent)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NEW = 64


@unittest.skipIf(REASON, REASON)
class CacheTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        sys.path.insert(0, str(ROOT / "tools" / "reference"))
        import record
        torch.manual_seed(1)
        cls.model = record.build("2b", 2, 2, [0, 1], 0, "sdpa", "fp32")  # two layers of the 2B model's real widths
        cls.given = record.inputs(cls.model.config, 64, 64, 1, 0, 12, 1)

    def generate(self, cache, given=None, new=NEW, **settings):
        self.model.model.rope_deltas = None
        with torch.no_grad():
            out = self.model.generate(**(given or self.given), past_key_values=cache, max_new_tokens=new, min_new_tokens=new,
                                      do_sample=False, pad_token_id=0, output_logits=True, return_dict_in_generate=True, **settings)
        return out.sequences, torch.stack(out.logits)

    def of(self, optimizer, tokens=128):
        return VlmemCache(optimizer, self.model.config, max_cache_len=tokens)

    def pool(self, optimizer):
        return next(p for p in optimizer.statistics() if p["pool"] == "kv_cache")

    def test_bit_for_bit_from_one_block(self):
        want_tokens, want_logits = self.generate(None)
        with vlmem.create_memory_optimized_model_context() as optimizer:
            before = self.pool(optimizer)["allocations"]
            cache = self.of(optimizer)
            for _ in range(2):  # the second time over what the first left behind
                tokens, logits = self.generate(cache)
                self.assertTrue(torch.equal(tokens, want_tokens))
                self.assertEqual(logits.shape[0], NEW)
                self.assertTrue(torch.equal(logits, want_logits))
                self.assertEqual(cache.get_seq_length(), tokens.shape[1] - 1)
                self.assertEqual(self.pool(optimizer)["allocations"], before + 1)
                cache.reset()
            del cache
            self.assertEqual(self.pool(optimizer)["live_bytes"], 0)

    def test_beams(self):
        want, _ = self.generate(None, new=6, num_beams=3)
        with vlmem.create_memory_optimized_model_context() as optimizer:
            got, _ = self.generate(self.of(optimizer), new=6, num_beams=3)
            self.assertTrue(torch.equal(got, want))

    def states(self, batch, tokens):
        return torch.rand(batch, 8, tokens, 128)

    def test_sequences_are_cut_chosen_and_repeated(self):
        from transformers import DynamicCache
        with vlmem.create_memory_optimized_model_context() as optimizer:
            ours, theirs = self.of(optimizer), DynamicCache()
            for layer in range(2):
                keys, values = self.states(2, 9), self.states(2, 9)
                for cache in (ours, theirs):
                    cache.update(keys, values, layer)
            for change in (lambda c: c.crop(-4), lambda c: c.batch_repeat_interleave(3),
                           lambda c: c.batch_select_indices(torch.tensor([5, 0])), lambda c: c.reorder_cache(torch.tensor([1, 0]))):
                change(ours), change(theirs)
                for a, b in zip(ours.layers, theirs.layers):
                    self.assertTrue(torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values))
            self.assertEqual(self.pool(optimizer)["allocations"] - self.pool(optimizer)["frees"], 1)

    def test_refusals(self):
        with vlmem.create_memory_optimized_model_context() as optimizer:
            with self.assertRaisesRegex(ValueError, "max_cache_len=16"):
                self.generate(self.of(optimizer, 16))
            with self.assertRaisesRegex(ValueError, "at least 1"):
                self.of(optimizer, 0)
            with self.assertRaisesRegex(vlmem.Error, "kv_cache"):
                self.of(optimizer, 1 << 24).update(self.states(1, 1), self.states(1, 1), 0)
            cache = self.of(optimizer)
            cache.update(self.states(1, 1), self.states(1, 1), 0)
            with self.assertRaisesRegex(ValueError, "does not fit"):
                cache.update(self.states(2, 1), self.states(2, 1), 0)
            self.assertEqual(cache.get_seq_length(), 1)
            window = transformers.Gemma3TextConfig()
            with self.assertRaisesRegex(ValueError, "only full attention"):
                VlmemCache(optimizer, window, 16)


if __name__ == "__main__":
    unittest.main()
