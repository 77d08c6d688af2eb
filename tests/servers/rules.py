"""Rules of the generation port for every engine. The model has hand-set weights (``scribe.py``)."""

from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.ports import Generation, Generator
from arbiter.protocols.records import Step, Transcript
from tests.servers.asking import Gauges, Model, answering, asked, at_once
from tests.servers.engines import WRITER, Engine
from tests.servers.scribe import ANSWERS, CONTEXT, EMPTY_STEP, ENDLESS, NOTHING, UNICODE
from tests.servers.starting import Running, free_ports

BACKENDS = ["http", pytest.param("openai", marks=pytest.mark.servers)]
CUT = "\ufffd"
PATIENCE = 300  # seconds; reached only if something hangs
both = pytest.mark.parametrize("backend", BACKENDS)


@pytest.mark.asyncio
class GenerationRules:
    """Collected once per engine, by a subclass in its file."""

    @both
    async def test_a_step_before_another_one_ends_at_the_separator_and_has_none(
        self, writer: Model, backend: str
    ) -> None:
        async with writer.writing(backend=backend) as generator:
            found = await generator.generate(asked("1"))
        assert (found.text, found.stop_reason) == ("abc", "separator")

    @both
    async def test_the_last_step_ends_the_answer(self, writer: Model, backend: str) -> None:
        async with writer.writing(backend=backend) as generator:
            found = await generator.generate(asked("2"))
        assert (found.text, found.stop_reason) == ("def", "end")

    async def test_a_separator_that_the_last_token_completes_ends_the_step(self, writer: Model) -> None:
        async with writer.writing() as generator:
            found = await generator.generate(asked("1", max_tokens=len("abc\n\n")))
        assert (found.text, found.stop_reason) == ("abc", "separator")

    @both
    async def test_a_step_cut_by_its_limit_says_so_and_has_as_many_tokens(self, writer: Model, backend: str) -> None:
        async with writer.writing(backend=backend) as generator:
            found = await generator.generate(asked(ENDLESS, max_tokens=9))
        assert (found.text, found.stop_reason) == ("xyxyxyxyx", "limit")
        assert found.usage.completion_tokens == 9

    @both
    async def test_a_model_that_has_nothing_to_write_ends_the_answer(self, writer: Model, backend: str) -> None:
        async with writer.writing(backend=backend) as generator:
            found = await generator.generate(asked(NOTHING))
        assert (found.text, found.stop_reason) == ("", "end")

    async def test_a_separator_at_once_is_an_empty_step(self, writer: Model) -> None:
        async with writer.writing() as generator:
            found = await generator.generate(asked(EMPTY_STEP))
        assert (found.text, found.stop_reason) == ("", "separator")

    @both
    async def test_a_character_that_the_limit_cuts_is_no_fault_and_the_text_before_it_is_whole(
        self, writer: Model, backend: str
    ) -> None:
        async with writer.writing(backend=backend) as generator:
            found = await generator.generate(asked(UNICODE, max_tokens=8))
        whole = found.text.rstrip(CUT)
        assert (ANSWERS[UNICODE].startswith(whole), len(whole) >= 2, found.stop_reason) == (True, True, "limit")

    async def test_a_limit_holds_where_it_cuts_a_character(self, writer: Model) -> None:
        async with writer.writing() as generator:
            found = await generator.generate(asked(UNICODE, max_tokens=8))
        assert found.usage.completion_tokens == 8

    async def test_a_character_that_ends_at_the_limit_is_whole(self, writer: Model) -> None:
        async with writer.writing() as generator:
            found = await generator.generate(asked(UNICODE, max_tokens=9))
        assert (found.text, found.stop_reason) == ("世界世", "limit")

    async def test_a_question_of_several_bytes_a_character_is_read_as_it_is(self, writer: Model) -> None:
        async with writer.writing() as generator:
            found = await generator.generate(asked("🙂 é 世\u2028 1"))
        assert (found.text, found.stop_reason) == ("abc", "separator")

    @both
    async def test_of_many_requests_at_once_each_has_its_own_answer(self, writer: Model, backend: str) -> None:
        cues = [cue for cue in ANSWERS if cue not in (ENDLESS, UNICODE)]
        requests = [asked(cue) for cue in cues]
        requests += [asked(ENDLESS, max_tokens=limit) for limit in range(1, 58)]
        async with writer.writing(backend=backend) as generator:
            together = await at_once(generator, requests)
        assert [one.text for one in together[: len(cues)]] == [ANSWERS[cue].removesuffix("\n\n") for cue in cues]
        assert [one.text for one in together[len(cues) :]] == [ANSWERS[ENDLESS][:limit] for limit in range(1, 58)]

    async def test_the_tokens_of_a_prompt_are_counted(self, writer: Model) -> None:
        async with writer.writing() as generator:
            found = await generator.generate(asked("1" * 20))
        assert found.usage.prompt_tokens == 20

    async def test_the_tokens_of_a_step_are_counted_with_those_that_ended_it_at_the_most(self, writer: Model) -> None:
        async with writer.writing() as generator:
            found = await generator.generate(asked("1"))
        assert 3 <= found.usage.completion_tokens <= len("abc\n\n")

    async def test_a_context_that_grows_is_read_from_the_cache(self, writer: Model) -> None:
        question = "9" * 600 + "1"
        async with writer.writing() as generator:
            first = await generator.generate(asked(question))
            grown = Transcript(question, (Step(first.text, "target"),))
            second = await generator.generate(asked(question, transcript=grown, step=1))
        assert 500 <= second.usage.cached_tokens <= second.usage.prompt_tokens

    @both
    async def test_an_answer_that_does_not_come_in_time_is_an_error_that_says_so(
        self, writer: Model, backend: str
    ) -> None:
        async with writer.writing(backend=backend, timeout=2) as generator:
            with pytest.raises(BackendError, match=r"no complete answer within 2 s.*lower in_flight or raise timeout"):
                await generator.generate(asked(ENDLESS, max_tokens=4000))
        await answering(writer.url)  # llama.cpp and transformers answer nothing until the request is finished
        async with writer.writing(timeout=PATIENCE) as generator:
            await generator.generate(asked("1"))

    @both
    async def test_a_request_that_is_given_up_ends_at_the_server(
        self, engine: Engine, writer: Model, backend: str
    ) -> None:
        assert engine.metrics is not None
        gauges, limit = Gauges(writer.url, engine.metrics), CONTEXT - 100
        await gauges.until_running(False)
        before = await gauges.written()
        async with writer.writing(backend=backend) as generator:
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    for _ in range(4):
                        group.start_soon(generator.generate, asked(ENDLESS, max_tokens=limit))
                    await gauges.until_running(True)
                    group.cancel_scope.cancel()
                await gauges.until_running(False)
                await gauges.until_written(before + 1)
        assert await gauges.written() - before < 4 * limit

    @both
    async def test_a_prompt_that_the_context_does_not_hold_is_told_as_such(self, writer: Model, backend: str) -> None:
        async with writer.writing(backend=backend) as generator:
            with pytest.raises(ContextTooLongError, match=r"Lower limits\.max_tokens"):
                await generator.generate(asked("1" * (CONTEXT + 9)))

    @both
    async def test_a_model_that_the_server_does_not_have_is_refused_at_the_start(
        self, writer: Model, backend: str
    ) -> None:
        with pytest.raises(BackendError, match=r"models\.target: .*'nobody'"):
            async with writer.writing(backend=backend, model="nobody"):
                pass

    @pytest.mark.servers
    async def test_a_server_that_is_killed_in_the_middle_and_comes_back_loses_no_request(
        self, engine: Engine, interpreter: Path, checkpoints: dict[str, Path], tmp_path: Path
    ) -> None:
        folder, requests = checkpoints[WRITER], [asked(ENDLESS, max_tokens=600 + n) for n in range(4)]
        launch = engine.launch(interpreter, WRITER, folder, free_ports(1)[0], tmp_path / "log")
        found: list[Generation] = []

        async def ask(generator: Generator) -> None:
            found.extend(await at_once(generator, requests))

        with ExitStack() as stack:
            first = stack.enter_context(Running(launch))
            await anyio.to_thread.run_sync(first.wait_until_ready)
            model = Model(engine.table(launch.url, folder, retries=40, timeout=600))
            async with model.writing() as generator, anyio.create_task_group() as group:
                group.start_soon(ask, generator)
                await anyio.sleep(0.5)
                assert not found
                first.kill()
                stack.enter_context(Running(launch))
        assert [one.text for one in found] == [ANSWERS[ENDLESS][: 600 + n] for n in range(4)]

    async def test_a_server_that_writes_is_refused_as_a_scorer_at_the_start(self, writer: Model) -> None:
        with pytest.raises(BackendError, match=r"models\.prm: .*/classify answered"):
            async with writer.scoring():
                pass
