"""An OpenAI-compatible endpoint over one Arbiter: an ASGI application, served by uvicorn or used in process.

It needs the extra ``gateway``.
"""
