"""Files in the AI SDK's messages, as OpenAI-compatible upstreams take them."""

import re

from gateway.core.events import Json
from gateway.wire import json

_DATA = re.compile(r"data:([A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+)(?:;[^,;]+)*;base64,")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")

# The only sounds that chat completions take.
_SOUNDS: dict[str, str] = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}


def file_content(part: dict[str, Json]) -> Json:
    """A file or image part as a part of a message's content; None where that has no form for it.

    A UI message's file has a `url`; a model message's `data` or `image`, a URL or base64.
    """
    media = _media(part)
    url = _url(part, media)
    found = _DATA.match(url)
    if found is None and not url.startswith(("https://", "http://")):
        return None
    media = found[1] if found else media
    if media.startswith("image"):
        return {"type": "image_url", "image_url": {"url": url}}
    return _document(part, media, url) if found else None


def _media(part: dict[str, Json]) -> str:
    names = ("mediaType", "contentType", "mimeType")
    known = next((said for name in names if (said := json.text(part.get(name)))), "")
    known = known or ("image/*" if part.get("type") == "image" else "")
    # Nobody reads the star: what it stands for is in the bytes.
    return known.lower().replace("image/*", "image/jpeg")


def _url(part: dict[str, Json], media: str) -> str:
    given = (json.text(part.get(name)) for name in ("url", "data", "image"))
    url = next((said for said in given if said), "")
    return f"data:{media};base64,{url}" if _BASE64.fullmatch(url) else url


def _document(part: dict[str, Json], media: str, url: str) -> Json:
    if sound := _SOUNDS.get(media.lower()):
        data = url.partition(",")[2]
        return {"type": "input_audio", "input_audio": {"data": data, "format": sound}}
    name = json.text(part.get("filename")) or json.text(part.get("name")) or "file"
    return {"type": "file", "file": {"filename": name, "file_data": url}}
