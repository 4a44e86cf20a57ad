# One image for every process: `web` (the default), `engine`, `worker`, `migrate`, or any command of
# manage.py, such as `doctor`. It runs as an unprivileged user on a read-only root file system, and
# needs a writable /tmp and /dev/shm.
#
#     docker build --tag switchhook .

# Any image with Python 3.11 or newer as `python3`, its venv module and glibc.
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE} AS build
WORKDIR /app
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# Before the code: as long as the lock file stays, so do the packages.
COPY requirements.lock ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check --no-input \
        --require-hashes --only-binary :all: --requirement requirements.lock \
    && python -m pip uninstall --yes --quiet pip setuptools
COPY . .
RUN python manage.py collectstatic --no-input --verbosity 0 \
    && python -m compileall -q .

FROM ${BASE}
ARG VERSION=1.0.0
ARG REVISION=
LABEL org.opencontainers.image.title="Switchhook" \
      org.opencontainers.image.description="Self-hosted platform for AI phone calls" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 switchhook \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin switchhook
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
# The container's network decides who can reach these ports.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000
USER 10001:10001
# HTTP, and the media sockets of an engine.
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "deploy/health.py"]
ENTRYPOINT ["/app/deploy/run"]
CMD ["web"]
