"""What clients speak. A new dialect is one module, one line here and one folder of transcripts."""

from gateway.core.codec import Dialect
from gateway.dialects.ai_sdk import AI_SDK
from gateway.dialects.bookbag_v1 import BOOKBAG_V1
from gateway.dialects.bookbag_v2 import BOOKBAG_V2
from gateway.dialects.chatbase import CHATBASE
from gateway.dialects.openai import OPENAI
from gateway.dialects.sonzai import SONZAI

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (AI_SDK, BOOKBAG_V1, BOOKBAG_V2, CHATBASE, OPENAI, SONZAI)
}
