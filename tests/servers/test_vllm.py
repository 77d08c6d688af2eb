"""Tests with real vLLM servers."""

import pytest

from tests.servers.engines import VLLM
from tests.servers.rules import GenerationRules
from tests.servers.scoring_rules import ScoringRules
from tests.servers.token_rules import TokenRules

ENGINE = VLLM
pytestmark = pytest.mark.servers


class TestGenerationBehindVllm(GenerationRules):
    pass


class TestTokensBehindVllm(TokenRules):
    pass


class TestScoresBehindVllm(ScoringRules):
    pass
