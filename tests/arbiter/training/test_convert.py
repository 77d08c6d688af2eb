"""Each published kind is converted to a sequence classifier with the same score, or refused."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.training.convert import LARGEST, as_form, convert
from arbiter.training.convert_check import TEXTS, converted_logits

Base = Callable[..., Path]
BIAS = 0.75


@torch.inference_mode()
def logits(auto: Any, folder: Path) -> Tensor:
    """Return the logits at the last token of each text, without the weights that transformers ignores."""
    model, tokenizer = auto.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)
    found = [model(torch.tensor([tokenizer(text)["input_ids"]])).logits for text in TEXTS]
    return torch.cat([each[:, -1] if each.dim() == 3 else each for each in found])


@torch.inference_mode()
def served(folder: Path) -> Tensor:
    """Return the logits as an engine computes them from the folder."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    return converted_logits(folder, tokenizer)


@pytest.fixture(scope="session")
def skywork(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Tensor]]:
    """Return a value-head reward model, stored as Skywork's are, and its values."""

    def build(family: str = "qwen2", bias: float = BIAS, shards: int = 1, **changes: Any) -> tuple[Path, Tensor]:
        source = base(family=family)
        out = tmp_path_factory.mktemp("skywork") / "model"
        shutil.copytree(source, out, ignore=shutil.ignore_patterns("*.safetensors"))
        weights = load_file(source / "model.safetensors")
        head = {"v_head.summary.weight": weights.pop("score.weight"), "v_head.summary.bias": torch.tensor([bias])}
        body = {f"pretrained_model.{name}": each for name, each in weights.items()}
        body["pretrained_model.lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
        config = msgspec.json.decode((source / "config.json").read_bytes())
        config |= {"architectures": ["Qwen2ForPrmModel"], "auto_map": {"AutoModel": "a.B"}, **changes}
        (out / "config.json").write_bytes(msgspec.json.encode(config))
        if shards == 1:
            save_file({**body, **head}, out / "model.safetensors")
        else:
            names = sorted(body)
            parts = [{name: body[name] for name in names[start::2]} for start in range(2)]
            for number, part in enumerate([*parts, head]):
                save_file(part, out / f"part-{number}.safetensors")
            places = {name: f"part-{number}.safetensors" for number, part in enumerate([*parts, head]) for name in part}
            (out / "model.safetensors.index.json").write_bytes(
                msgspec.json.encode({"metadata": {}, "weight_map": places})
            )
        return out, logits(AutoModelForSequenceClassification, source) + bias

    return build


@pytest.fixture(scope="session")
def router(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Tensor]]:
    """Return a token classifier of two labels with biases, and its logits at the last token."""

    def build(family: str = "qwen2", bias: tuple[float, float] = (0.5, -0.25)) -> tuple[Path, Tensor]:
        source = base("ForTokenClassification", 2, family)
        out = tmp_path_factory.mktemp("router") / "model"
        shutil.copytree(source, out)
        weights = {**load_file(out / "model.safetensors"), "score.bias": torch.tensor(bias)}
        save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
        return out, logits(AutoModelForTokenClassification, out)

    return build


Built = Callable[..., tuple[Path, Tensor]]


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.slow
def test_a_value_head_becomes_one_label_with_its_bias(skywork: Built, tmp_path: Path, shards: int) -> None:
    source, values = skywork(shards=shards)
    made = convert(str(source), tmp_path / "out")
    assert (made.architecture, made.labels, made.bias) == ("Qwen2ForSequenceClassification", 1, (BIAS,))
    assert made.difference <= LARGEST
    assert torch.allclose(served(tmp_path / "out"), values, atol=1e-5)
    assert torch.allclose(logits(AutoModelForSequenceClassification, tmp_path / "out") + BIAS, values, atol=1e-5)


def test_a_value_as_classes_has_the_same_score(skywork: Built, tmp_path: Path) -> None:
    source, values = skywork()
    assert convert(str(source), tmp_path / "out", "classes").labels == 2
    score = torch.softmax(served(tmp_path / "out"), -1)[:, 1:]
    assert torch.allclose(score, torch.sigmoid(values), atol=1e-6)


def test_a_value_fits_the_class_of_reward_models_exactly(skywork: Built, tmp_path: Path) -> None:
    source, values = skywork()
    assert convert(str(source), tmp_path / "out", "reward").architecture == "Qwen2ForRewardModel"
    assert torch.allclose(served(tmp_path / "out"), values, atol=1e-5)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    shapes = {name: tuple(each.shape) for name, each in weights.items() if name.startswith("score.")}
    assert shapes == {
        "score.0.weight": (32, 32),
        "score.0.bias": (32,),
        "score.2.weight": (1, 32),
        "score.2.bias": (1,),
    }


def test_a_token_classifier_keeps_the_meaning_of_its_classes(router: Built, tmp_path: Path) -> None:
    source, classes = router()
    made = convert(str(source), tmp_path / "out")
    assert (made.architecture, made.labels, made.bias) == ("Qwen2ForSequenceClassification", 2, (0.5, -0.25))
    assert torch.allclose(served(tmp_path / "out"), classes, atol=1e-5)


def test_two_classes_as_a_value_have_the_same_score(router: Built, tmp_path: Path) -> None:
    source, classes = router()
    convert(str(source), tmp_path / "out", "value")
    score = torch.sigmoid(served(tmp_path / "out"))
    assert torch.allclose(score, torch.softmax(classes, -1)[:, 1:], atol=1e-6)


def test_a_sequence_classifier_gets_the_bias_of_zeros_that_its_engine_asks_for(base: Base, tmp_path: Path) -> None:
    source = base(family="qwen2")
    convert(str(source), tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")["score.bias"].tolist() == [0.0]
    assert torch.allclose(served(tmp_path / "out"), logits(AutoModelForSequenceClassification, source), atol=1e-6)


def test_a_head_of_more_labels_stays_as_it_is(base: Base, tmp_path: Path) -> None:
    source = base(labels=6, family="qwen2")
    assert convert(str(source), tmp_path / "out").labels == 6
    with pytest.raises(ConfigError, match="6 labels cannot change its form"):
        convert(str(source), tmp_path / "other", "value")


def test_llama_without_a_bias_is_converted(router: Built, skywork: Built, tmp_path: Path) -> None:
    for number, (source, expected) in enumerate([router("llama", (0.0, 0.0)), skywork("llama", 0.0)]):
        made = convert(str(source), tmp_path / str(number))
        assert made.architecture == "LlamaForSequenceClassification"
        assert "score.bias" not in load_file(tmp_path / str(number) / "model.safetensors")
        assert torch.allclose(served(tmp_path / str(number)), expected, atol=1e-5)


def test_llama_with_a_bias_is_refused_with_the_reason(router: Built, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"a bias \(0\.5, -0\.25\).* classifier of \w+ has none"):
        convert(str(router("llama")[0]), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_llama_has_no_class_of_reward_models(skywork: Built, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such class for llama, only for qwen2, qwen3"):
        convert(str(skywork("llama")[0]), tmp_path / "out", "reward")


@pytest.mark.parametrize("form", ["value", "classes", "reward"])
@pytest.mark.slow
def test_another_precision_rounds_what_is_below_the_head(skywork: Built, tmp_path: Path, form: Any) -> None:
    source, values = skywork()
    made = convert(str(source), tmp_path / "out", form, "bfloat16")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {each.dtype for name, each in weights.items() if name.startswith("model.")} == {torch.bfloat16}
    assert msgspec.json.decode((tmp_path / "out" / "config.json").read_bytes())["dtype"] == "bfloat16"
    assert made.difference <= LARGEST
    assert torch.allclose(as_form(served(tmp_path / "out"), 1), values, atol=0.2)


def test_the_folder_has_what_a_server_needs_and_no_code(skywork: Built, tmp_path: Path) -> None:
    convert(str(skywork()[0]), tmp_path / "out")
    config = msgspec.json.decode((tmp_path / "out" / "config.json").read_bytes())
    assert "auto_map" not in config
    assert config["architectures"] == ["Qwen2ForSequenceClassification"]
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert not (tmp_path / "out.part").exists()


@pytest.mark.parametrize(
    ("head", "labels", "message"),
    [("ForCausalLM", 1, "without a linear head"), ("ForTokenClassification", 5, "5 labels for each token")],
)
def test_what_has_no_score_is_refused(base: Base, tmp_path: Path, head: str, labels: int, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        convert(str(base(head, labels)), tmp_path / "out")


def test_a_checkpoint_that_lacks_weights_is_refused_and_nothing_is_left(skywork: Built, tmp_path: Path) -> None:
    source, _ = skywork()
    weights = load_file(source / "model.safetensors")
    del weights["pretrained_model.model.norm.weight"]
    save_file(weights, source / "model.safetensors")
    with pytest.raises(BackendError, match=r"lacks the weights .*norm\.weight"):
        convert(str(source), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_other_formats_than_safetensors_are_refused(base: Base, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(base(), source, ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(BackendError, match="no weights in the format safetensors"):
        convert(str(source), tmp_path / "out")


def test_a_folder_that_is_there_is_never_touched(base: Base, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="already exists"):
        convert(str(base()), tmp_path / "out")
    with pytest.raises(BackendError, match=r"cannot read '\./nowhere'"):
        convert("./nowhere", tmp_path / "other")
    assert list((tmp_path / "out").iterdir()) == []


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=2), st.sampled_from([1, 2]))
def test_another_form_has_the_same_score(values: list[float], labels: int) -> None:
    def score(form: Tensor) -> Tensor:
        return torch.sigmoid(form[0]) if len(form) == 1 else torch.softmax(form, 0)[1]

    original = torch.tensor(values, dtype=torch.float64)
    assert float(score(as_form(original, labels))) == pytest.approx(float(score(original)), abs=1e-9)
