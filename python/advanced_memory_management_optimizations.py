"""The name under which programs of the first system import it; see vlmem."""
from vlmem import Optimizer, create_memory_optimized_model_context

__all__ = ["Optimizer", "create_memory_optimized_model_context"]
