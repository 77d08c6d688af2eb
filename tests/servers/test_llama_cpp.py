"""Real llama.cpp servers, with GGUF files."""

import pytest

from tests.servers.engines import LLAMA_CPP
from tests.servers.rules import GenerationRules

ENGINE = LLAMA_CPP
pytestmark = pytest.mark.servers


class TestGenerationBehindLlamaCpp(GenerationRules):
    pass
