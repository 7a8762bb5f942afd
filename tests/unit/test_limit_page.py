"""The limits that docs/operations.md lists are those that hold."""

import re

from api import form, header, json_body
from cli.environment import ROOT
from core.domain.dataset import MAX_IMAGES
from core.infra import adapter_file, archive_file, image_file, safetensors_file
from core.infra.decoder_pool import DecoderLimit

PAGE = (ROOT / "docs" / "operations.md").read_text()
TABLE = PAGE.partition("## Limits that are no settings")[2].partition("## ")[0]
LIMITS = {
    "a picture's file": [image_file.MAX_BYTES],
    "a picture as it arrives": [image_file.MAX_PIXELS],
    "a process that decodes pictures": [DecoderLimit().memory_bytes],
    "the decoding of a picture": [int(DecoderLimit().seconds)],
    "a form": [form._MAX_FILES, form._MAX_FIELDS],
    "a dataset": [MAX_IMAGES],
    "a zip": [archive_file._MAX_ENTRIES, archive_file._MAX_TOTAL_BYTES],
    "a file in a zip": [archive_file._MAX_ENTRY_BYTES, archive_file._MAX_RATIO],
    "all lists of captions in a zip": [archive_file._MAX_LIST_BYTES],
    "a LoRA file": [safetensors_file.MAX_HEADER_BYTES, safetensors_file.MAX_TENSORS, adapter_file.MAX_RANK],
    "a JSON body": [json_body._MAX_VALUES, json_body._MAX_FIELDS],
    "a body with a feedback token and no key": [json_body._STRANGER_BYTES],
    "`Prefer: wait`": [header.MAX_WAIT_SECONDS],
}


def test_the_page_says_every_limit_as_it_is() -> None:
    rows = re.findall(r"^\| (.+?) \| (.*\d.*) \|$", TABLE, re.MULTILINE)
    said = {of: [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\b", limit)] for of, limit in rows}
    assert said == LIMITS
