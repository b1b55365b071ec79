"""What clients speak. A new dialect is one module, one line here and one folder of transcripts."""

from gateway.core.codec import Dialect
from gateway.dialects.bookbag_v1 import BOOKBAG_V1
from gateway.dialects.bookbag_v2 import BOOKBAG_V2

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (BOOKBAG_V1, BOOKBAG_V2)}
