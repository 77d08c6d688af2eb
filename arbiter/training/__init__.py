"""Train routers, process reward models and the pocket models, and convert published reward models.

Needs the extra ``train``; most modules import torch and transformers.
"""
