"""LitServe: whoever came within 50 ms, eight at most, is drawn as one batch. Run in an environment that has it."""

import os
from collections.abc import Sequence
from typing import Any

import litserve

from bench.rival.drawing import Painter

BATCH, WINDOW_SECONDS = 8, 0.05


class Drawing(litserve.LitAPI):
    """As its guide to batching has it."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # as it is called
        """Load."""
        self.painter = Painter()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
        return request

    def batch(self, inputs: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """As they are."""
        return inputs

    def predict(self, inputs: Sequence[dict[str, Any]]) -> list[str]:
        """All at once."""
        return self.painter.draw(inputs)

    def unbatch(self, output: list[str]) -> list[str]:
        """One for each."""
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        """A picture."""
        return {"png": output}


if __name__ == "__main__":
    server = litserve.LitServer(Drawing(max_batch_size=BATCH, batch_timeout=WINDOW_SECONDS), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")
