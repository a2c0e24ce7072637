# Whatever is a node of the Ray cluster: head, dispatcher with its runners, trial actors. Build from the repository's root.
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 TZ=UTC \
    PATH=/opt/mudman/bin:$PATH
# A named volume takes its owner from the folder that it is first mounted over.
RUN useradd --uid 10001 --create-home mudman && python -m venv /opt/mudman \
    && install --directory --owner=mudman /home/mudman/.cache /home/mudman/.cache/huggingface /artifacts

# Before the source, so that an edit of it does not install them again.
WORKDIR /src
COPY requirements/all.lock requirements/
RUN pip install --require-hashes --no-deps -r requirements/all.lock
# Which build of torch: the package index that has it (for a CUDA version, or for CPU only); by default pip's own.
ARG TORCH_INDEX=""
COPY requirements/torch.txt requirements/
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r requirements/torch.txt

COPY pyproject.toml README.md ./
COPY mudman mudman
COPY service service
COPY workers workers
RUN pip install --no-deps --no-build-isolation .
# What the image is made from, for the evidence of what it computes: --build-arg COMMIT="$(git rev-parse HEAD)".
ARG COMMIT=""
ENV MUDMAN_COMMIT=${COMMIT}
COPY deploy/images/ray-node.sh /usr/local/bin/mudman-ray-node
COPY deploy/images/dispatcher.sh /usr/local/bin/mudman-dispatcher

# A node without the cluster's token does not start: Ray would run whatever anybody who reaches it sends.
ENV RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/run/secrets/ray_token RAY_USAGE_STATS_ENABLED=0 MUDMAN_DATA_ROOT=/data
# A trial runs in a thread, which is to reuse the memory of large tensors too: mudman/heap.py.
ENV MALLOC_ARENA_MAX=1
# Products on a card come out the same every time: mudman/precision.py.
ENV CUBLAS_WORKSPACE_CONFIG=:4096:8
# A node that is asked to stop does so at once: its trials are started again elsewhere.
ENV RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0
# `ray start --block` ends with its raylet, so a running container whose raylet answers is a live node.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD \
    ["python", "-c", "import socket; socket.socket(socket.AF_UNIX).connect('/tmp/ray/session_latest/sockets/raylet')"]
WORKDIR /home/mudman
USER mudman
CMD ["mudman-ray-node", "--help"]
