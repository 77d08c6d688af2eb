"""The schedules of ``benchmarks/schedules.py``: what they request, and in which order."""

from tests.test_benchmarks import load


def test_the_published_schedule_scores_drafts_alone() -> None:
    schedules, fleets = load("schedules"), load("simulated_fleet")
    world = schedules.SyntheticWorkload(4)
    fleet = fleets.Fleet(world, 64, mixed=False)
    fleets.run_on(fleet, schedules.published)
    steps = sum(world.length(name) for name in world.names())
    assert {name: server.load.requests for name, server in fleet.servers.items()} == dict.fromkeys(fleet.servers, steps)


def test_the_seconds_that_are_left_of_a_problem_decrease_with_each_step() -> None:
    waiting, fleets = load("waiting"), load("simulated_fleet")
    world = load("schedules").SyntheticWorkload(8)
    for name in world.names():
        left = waiting.seconds_left(fleets.Fleet(world, 64, mixed=False), name)
        assert len(left) == world.length(name)
        assert left == sorted(left, reverse=True)
        assert left[-1] > 0


def test_in_a_listed_schedule_the_longest_problem_is_not_the_last_to_end() -> None:
    waiting, fleets, schedules = load("waiting"), load("simulated_fleet"), load("schedules")
    world, ended = schedules.SyntheticWorkload(8), dict[str, dict[str, float]]()
    for name in ("listed", "ours"):
        fleet = fleets.Fleet(world, 1, mixed=False)  # one slot per server: all problems wait
        fleets.run_on(fleet, schedules.SCHEDULES[name])
        ended[name] = fleet.ended
    left = {name: waiting.seconds_left(fleet, name)[0] for name in world.names()}
    longest = max(left, key=lambda name: left[name])
    listed, ours = ended["listed"], ended["ours"]
    assert listed[longest] == min(listed.values())
    assert max(listed.values()) - min(listed.values()) < left[longest]
    assert ours[longest] == max(ours.values())  # it came last
