"""lm-eval with its defaults: it sends the tokens of the draft's own tokenizer."""

# pyright: basic, reportMissingImports=false
# it is not in the development extra, since its pins are those of an application of its own

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

import arbiter

DRAFT = Path(arbiter.__file__).parent / "pocket" / "models" / "draft"
TASK = """
task: token_ids
dataset_path: json
dataset_kwargs: {data_files: {test: problems.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n\\nThe"], do_sample: false, max_gen_toks: 100}
metric_list: [{metric: exact_match}]
"""


def test_token_ids_stop_texts_and_limits_reach_the_endpoint(
    base_url: str, question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token_ids.yaml").write_text(TASK, encoding="utf-8")
    row = {"question": question, "answer": "12+30: 2+0=2,1+3=4: 42.\n\n42*7: 2*7=14,4*7+1=29: 294."}
    (tmp_path / "problems.jsonl").write_text(json.dumps(row), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = simple_evaluate(
        model="local-completions",
        model_args={"model": "arbiter:router@0.4", "base_url": f"{base_url}/completions", "tokenizer": str(DRAFT)},
        tasks=["token_ids"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
    )
    assert found["results"]["token_ids"]["exact_match,none"] == 1.0
