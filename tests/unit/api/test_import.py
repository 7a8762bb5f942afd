"""What importing the API brings along."""

import subprocess
import sys

_GPU_STACK = ("torch", "diffusers", "peft", "transformers", "accelerate", "safetensors", "numpy")
_DECODERS = ("PIL",)  # foreign pictures are decoded elsewhere
_SCRIPT = f"""
import sys
from api.main import create_app
from core.infra.settings import Settings
app = create_app(Settings(
    database_url="postgresql://nobody@127.0.0.1:1/none", redis_url="redis://127.0.0.1:1/0", s3_bucket="none",
    s3_access_key_id="none", s3_secret_access_key="none", secret_key="x" * 32, _env_file=None,
))
app.openapi()
print([name for name in {_GPU_STACK + _DECODERS} if name in sys.modules])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


def test_a_fresh_api_process_has_no_gpu_stack_and_no_decoder_and_is_small() -> None:
    answer = subprocess.run([sys.executable, "-c", _SCRIPT], check=True, capture_output=True, text=True)
    loaded, kilobytes = answer.stdout.splitlines()
    assert loaded == "[]"
    assert int(kilobytes) <= 200 * 1024
