# The page and the HTTP interface over a folder of maps, on the processor.
#
#   docker build -t dejavlad .
#   docker run --rm -p 127.0.0.1:8000:8000 -v ./town.map:/maps/town.map -v ./secret.txt:/run/secrets/token:ro dejavlad
#
# Inside of the container it listens on all addresses, so it wants a token (`openssl rand -hex 24 > secret.txt`).
FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src ./src
# PyTorch's own index has it without CUDA, which is most of its size.
RUN python -m venv /venv \
    && /venv/bin/pip install --index-url https://download.pytorch.org/whl/cpu "torch>=2.4" \
    && /venv/bin/pip install ".[serve,local,lance,qdrant]"

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="dejavlad" org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin dejavlad \
    && mkdir /maps /cache \
    && chown dejavlad:dejavlad /maps /cache
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DEJAVLAD_OFFLINE=1
# What a map in a database needs on this machine: its model, and a copy of rows that memory does not hold.
ENV DEJAVLAD_CACHE_DIR=/cache
USER 10001:10001
WORKDIR /maps
EXPOSE 8000
VOLUME ["/maps", "/cache"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v1/health', timeout=4)"]
ENTRYPOINT ["dejavlad"]
CMD ["serve", "/maps/town.map", "--host", "0.0.0.0", "--token", "/run/secrets/token"]
