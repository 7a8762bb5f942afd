# The image of every process of ours; the command says which one it is.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_ARGS=--torch-backend=cpu
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 VIRTUAL_ENV=/venv
COPY .ci/uv.lock docker/requirements.lock /build/
RUN python -m venv /uv && /uv/bin/pip install --require-hashes -r /build/uv.lock
# torch has a layer of its own: it is most of the image, and seldom changes.
RUN /uv/bin/uv venv /venv && /uv/bin/uv pip install "torch==2.13.*" ${TORCH_ARGS}
RUN /uv/bin/uv pip install --no-deps --require-hashes -r /build/requirements.lock

FROM ${PYTHON_IMAGE}
ARG DEBIAN_PACKAGES=
# hadolint ignore=DL3008 # whoever names packages names their versions, too, where they matter
RUN [ -z "${DEBIAN_PACKAGES}" ] || { apt-get update && apt-get install --yes --no-install-recommends ${DEBIAN_PACKAGES} \
    && rm -rf /var/lib/apt/lists/*; }
RUN useradd --uid 1000 --create-home lorikeet && install -d -o lorikeet -g lorikeet /data
COPY --from=build /venv /venv
COPY . /app
RUN pip --python=/venv/bin/python install --no-deps --no-build-isolation --no-index --no-cache-dir --editable /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data
WORKDIR /app
USER 1000
VOLUME /data
EXPOSE 5000
CMD ["uvicorn", "api.main:create_app", "--factory", "--host", "0.0.0.0", "--port", "5000", "--timeout-graceful-shutdown", "10"]
