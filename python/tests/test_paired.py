"""generate() with and without VlmemCache, paired: page faults and wall time. And the pools under threads, and the interpreter's end.

    python3 -m unittest python/tests/test_paired.py

From the root; skipped, with the reason, where the module was not installed or torch or transformers are absent. A few minutes.
"""
import itertools
import pathlib
import resource
import subprocess
import sys
import threading
import time
import unittest

try:
    import numpy as np
    import vlmem
    WITHOUT = None
except ImportError as absent:
    WITHOUT = str(absent)
try:
    import torch
    import transformers  # noqa: F401
    NO_TORCH = WITHOUT
except ImportError as absent:
    NO_TORCH = str(absent)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def resident():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@unittest.skipIf(NO_TORCH, NO_TORCH)
class PairedTest(unittest.TestCase):
    """Two layers of the 2B's real widths, 64 tokens after a prompt of 1,000: what DynamicCache copies at every token, VlmemCache does not."""

    def test_faults_and_time(self):
        from vlmem import VlmemCache
        sys.path.insert(0, str(ROOT / "tools" / "reference"))
        import record
        torch.manual_seed(1)
        torch.set_num_threads(1)
        model = record.build("2b", 2, 2, [0, 1], 0, "sdpa", "fp32")
        given = record.inputs(model.config, 64, 64, 1, 0, 1000, 1)
        optimizer = vlmem.create_memory_optimized_model_context()
        ours = VlmemCache(optimizer, model.config, max_cache_len=1100)

        def once(cache):
            model.model.rope_deltas = None
            with torch.no_grad():
                model.model(**given, past_key_values=cache)  # the prompt; the head, which has no cache, is left out
                begun, before = time.perf_counter(), faults()
                for _ in range(64):
                    model.model(input_ids=torch.tensor([[7]]), past_key_values=cache)
            return faults() - before, time.perf_counter() - begun

        from transformers import DynamicCache
        rows = []
        for turn in range(4):
            pair = {}
            for mine in (True, False) if turn % 2 else (False, True):
                cache = ours if mine else DynamicCache()
                if mine:
                    ours.reset()
                pair[mine] = once(cache)
            if turn:  # the first is warm-up
                rows.append(pair)
        median = lambda k, mine: sorted(r[mine][k] for r in rows)[len(rows) // 2]
        ratio = sorted(r[True][1] / r[False][1] for r in rows)[len(rows) // 2]
        print("faults %d with, %d without; time %+.2f %% of the pairs' median" % (median(0, True), median(0, False), 100 * (ratio - 1)))
        self.assertLessEqual(median(0, True) * 10, median(0, False))
        self.assertLessEqual(ratio, 1)
        del ours
        optimizer.cleanup()


@unittest.skipIf(WITHOUT, WITHOUT)
class ThreadsTest(unittest.TestCase):
    def test_flat_under_threads(self):
        "10^5 tensors given and taken back by 4 threads, after as many for warm-up"
        with vlmem.create_memory_optimized_model_context() as optimizer:
            def work(count):
                for n in range(count):
                    a = optimizer.allocate_tensor_memory((100 + n % 50,), np.float32, "general")
                    a[0] = n
                    optimizer.free_tensor_memory(a)

            def all_threads():
                threads = [threading.Thread(target=work, args=(25_000,)) for _ in range(4)]
                for t in threads:
                    t.start()
                for t in threads:
                    t.join()
                return resident()

            first, second = all_threads(), all_threads()
            print("resident after 10^5: %.1f MiB, after 2*10^5: %.1f" % (first / 2**20, second / 2**20))
            self.assertLess(second - first, 1 << 20)
            self.assertEqual(sum(p["requested_bytes"] for p in optimizer.statistics()), 0)


@unittest.skipIf(WITHOUT, WITHOUT)
class EndTest(unittest.TestCase):
    """The interpreter ends without a crash whatever is alive, and in whatever order it goes."""

    def test_every_order(self):
        steps = {"cleanup": "o.cleanup()", "tensor": "del t", "view": "del v", "optimizer": "del o", "collect": "gc.collect()"}
        start = ("import gc, vlmem, numpy as np\no = vlmem.create_memory_optimized_model_context()\n"
                 "t = o.allocate_tensor_memory((64,), np.float32)\nv = t[1:]\n")
        programs = [start + "\n".join(steps[s] for s in order) for order in itertools.permutations(steps, 3)
                    if not ("cleanup" in order and "optimizer" in order and order.index("optimizer") < order.index("cleanup"))]
        kinds = [start, start + "import builtins; builtins.kept = t, o", start + "import atexit; atexit.register(lambda: v.sum())",
                 start + "import threading; threading.Thread(target=lambda: [v.sum() for _ in range(10**5)], daemon=True).start()",
                 start + "raise SystemExit(0)"]
        for program in kinds + programs[::4]:
            p = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
            self.assertEqual((p.returncode, p.stderr), (0, ""), program)


@unittest.skipIf(NO_TORCH, NO_TORCH)
class SeedTest(unittest.TestCase):
    def test_the_first_systems_example(self):
        "its Usage Example, with names for what it leaves open"
        from advanced_memory_management_optimizations import create_memory_optimized_model_context
        batch_size, image_seq_len, text_seq_len, feature_dim, hidden_dim, seq_len, num_heads = 1, 880, 64, 1024, 2048, 128, 16
        optimizer = create_memory_optimized_model_context()
        image_features = optimizer.allocate_tensor_memory(
            (batch_size, image_seq_len, feature_dim),
            dtype=torch.float32,
            tensor_type="vision_features"
        )
        text_embeddings = optimizer.allocate_tensor_memory(
            (batch_size, text_seq_len, hidden_dim),
            dtype=torch.float32,
            tensor_type="text_embeddings"
        )
        attention_components = optimizer.optimize_attention_memory(
            batch_size, seq_len, hidden_dim, num_heads
        )
        self.assertEqual((tuple(image_features.shape), image_features.dtype), ((1, 880, 1024), torch.float32))
        self.assertEqual(set(attention_components), {"query", "key", "value", "attention_scores", "output"})
        optimizer.free_tensor_memory(image_features)
        optimizer.free_tensor_memory(text_embeddings)
        optimizer.cleanup()


if __name__ == "__main__":
    unittest.main()
