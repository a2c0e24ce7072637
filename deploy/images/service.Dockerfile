# API and migrations: neither torch nor Ray. Build from the repository's root.
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 TZ=UTC \
    PATH=/opt/mudman/bin:$PATH
# A named volume takes its owner from the folder that it is first mounted over.
RUN useradd --uid 10001 --create-home mudman && python -m venv /opt/mudman \
    && install --directory --owner=mudman /artifacts

# Before the source, so that an edit of it does not install them again.
WORKDIR /src
COPY requirements/service.lock requirements/all.lock requirements/
RUN pip install --require-hashes --no-deps -r requirements/service.lock
# What builds the package below, as locked: the service itself does not need it.
RUN awk '/^[^ #]/ { wanted = /^setuptools==/ } wanted' requirements/all.lock > requirements/build.lock \
    && pip install --require-hashes --no-deps -r requirements/build.lock

COPY pyproject.toml README.md ./
COPY mudman mudman
COPY service service
RUN pip install --no-deps --no-build-isolation .
COPY deploy/images/migrate.sh /usr/local/bin/mudman-migrate

ENV MUDMAN_DATA_ROOT=/data
WORKDIR /home/mudman
USER mudman
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
CMD ["python", "-m", "service", "--host", "0.0.0.0", "--port", "8080"]
