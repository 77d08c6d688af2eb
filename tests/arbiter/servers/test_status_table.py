"""The status table of servers, by the width of the terminal."""

import pytest

from arbiter.servers.status_table import StatusTable


@pytest.mark.parametrize(("width", "has_addresses"), [(60, False), (79, False), (80, True), (120, True)])
def test_a_narrow_terminal_has_the_state_and_the_load_without_addresses(width: int, has_addresses: bool) -> None:
    headers = [str(column.header) for column in StatusTable([], ()).table(width).columns]
    assert {"server", "state", "memory", "tok/s", "running", "queue"} <= set(headers)
    assert ("address" in headers) is has_addresses
