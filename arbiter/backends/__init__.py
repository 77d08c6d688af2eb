"""The models behind the ports. Only this folder and ``arbiter/training`` import torch and transformers, when used."""
