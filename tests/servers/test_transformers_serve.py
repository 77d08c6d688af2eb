"""Tests with a real transformers server."""

import pytest

from tests.servers.engines import TRANSFORMERS
from tests.servers.rules import GenerationRules

ENGINE = TRANSFORMERS
pytestmark = pytest.mark.servers


class TestGenerationBehindTransformersServe(GenerationRules):
    pass
