"""Arbiter in a script or a notebook cell: no event loop, no ``await``.

The models are opened once for all calls in the block. Run it with ``python examples/script.py``.
"""

from arbiter import Arbiter, BlockingArbiter, load_problems


def main() -> None:
    """Solve one question, then many questions with two thresholds."""
    problems = list(load_problems("pocket:1", 40))
    answers = {problem.id: problem.answer for problem in problems}
    with BlockingArbiter(Arbiter.from_config("pocket", run_types=["router"])) as arbiter:
        solution = arbiter.solve("Compute (12+30)*7.")
        for step in solution.steps:
            print(f"{step.kept.author}: {step.kept.text}")
        for threshold in (0.5, 1.0):
            solutions = list(arbiter.map(problems, threshold=threshold))
            right = sum(f"\\boxed{{{answers[one.problem]}}}" in one.text for one in solutions)
            calls = sum(one.requests["target"].requests for one in solutions if "target" in one.requests)
            print(f"threshold {threshold}: {right} of {len(problems)} solved, {calls} calls of the target")


if __name__ == "__main__":
    main()
