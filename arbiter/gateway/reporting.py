"""What makes the fields ``arbiter`` of the answers to one request."""

from starlette.requests import Request

from arbiter.gateway.context import GatewayContext
from arbiter.gateway.response_schemas import Reporter
from arbiter.gateway.schemas import CommonBody
from arbiter.gateway.spend_caps import is_capped
from arbiter.gateway.verification_notes import verification_off
from arbiter.protocols.messages import Task


def reporter_of(context: GatewayContext, request: Request, body: CommonBody, task: Task) -> Reporter:
    """Return the reporter of a request. Its tasks differ from ``task`` only by their questions and seeds."""
    unverified = verification_off(context.arbiter.config, task)
    return Reporter(body.arbiter, context.costs.prices, is_capped(request), unverified)
