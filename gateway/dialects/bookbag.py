"""What Bookbag's two versions have in common."""

from gateway.core.events import Citation, FinishReason, Json, Usage

FINISH_REASONS: dict[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.TOOL_CALLS: "tool-calls",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content-filter",
    FinishReason.OTHER: "stop",
}


def citation(item: Citation) -> dict[str, Json]:
    """`{"title","url","snippet"}`, without what is not known."""
    known = {"title": item.title, "url": item.url, "snippet": item.snippet}
    return {name: value for name, value in known.items() if value is not None}


def usage(known: Usage) -> dict[str, Json]:
    """Tokens under their own names, credits under theirs; nothing that is not known."""
    figures: dict[str, Json] = {
        "inputTokens": known.input_tokens,
        "outputTokens": known.output_tokens,
        "credits": known.credits,
    }
    return {name: value for name, value in figures.items() if value is not None}
