"""An OpenAI-compatible endpoint for one Arbiter: an ASGI application, served by uvicorn or used in process.

It needs the extra ``gateway``.
"""
