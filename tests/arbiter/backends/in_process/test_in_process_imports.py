"""The pocket models run without transformers, whose import takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import arbiter

USE = """
import sys
import anyio
from arbiter.backends.in_process.local_models import open_local_generator, open_local_scorer
from arbiter.backends.prompts import PromptTemplate
from arbiter.config.model_tables import InProcessTable
from arbiter.pocket import world
from arbiter.protocols.ports import GenerationRequest, ScoreRequest
from arbiter.protocols.records import Transcript

def table(model):
    return InProcessTable(model=model, prompt=world.PROMPT, device="cpu")

async def use():
    transcript = Transcript("Compute 1+1.")
    common = dict(problem="p", step=0, author="draft", separator=world.SEPARATOR, transcript=transcript)
    write = GenerationRequest(**common, sample=0, max_tokens=9, temperature=0.0, top_p=1.0, seed=0)
    score = ScoreRequest(**common, score_kind="router", candidate="1+1: 2.")
    async with open_local_generator(table("pocket:draft"), PromptTemplate(world.PROMPT), 1) as draft:
        print((await draft.generate(write)).usage.completion_tokens > 0)
    async with open_local_scorer(table("pocket:router"), PromptTemplate(world.PROMPT, annotate=True), 1) as router:
        print(0.0 <= (await router.score(score)).value <= 1.0)

anyio.run(use)
print("transformers" in sys.modules)
"""


@pytest.mark.slow
def test_the_pocket_models_write_and_score_without_transformers() -> None:
    root = Path(arbiter.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split()) == (0, ["True", "True", "False"]), run.stderr
