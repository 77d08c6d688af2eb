"""Models behind the ports. Only this package and ``arbiter/training`` import torch and transformers, when needed."""
