"""What the file says of the log."""

from typing import Literal

from pydantic import Field

from gateway.config.values import Share, Strict

Level = Literal["debug", "info", "warning", "error"]
Form = Literal["auto", "json", "text"]


class Logs(Strict):
    """Standard error: one line for each request, and what else happens."""

    level: Level = Field(
        "info",
        description='"warning": no requests but those that failed by an upstream\'s fault or ours.',
    )
    format: Form = Field(
        "auto", description='"json" for machines, "text" for people; "auto": text on a terminal.'
    )
    sample: Share = Field(
        1.0,
        description="Of the requests that ended well, the share that is written: 0.01 is one in a"
        " hundred. All others are.",
    )
