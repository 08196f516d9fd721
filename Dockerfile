# Two images from one file: `server` has no PyTorch, `worker` has it.
FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 D3PO_DATA_DIR=/data
RUN useradd --uid 1000 --create-home d3po && install -d -o d3po -g d3po /data /home/d3po/.cache /home/d3po/.cache/huggingface
VOLUME /data
WORKDIR /app
COPY pyproject.toml README.md requirements.lock ./
COPY d3po_core d3po_core
COPY server server
COPY worker worker
COPY web web
COPY migrations migrations

FROM base AS server
RUN pip install --constraint requirements.lock .
USER d3po
EXPOSE 8000
CMD ["d3po", "serve", "--host", "0.0.0.0", "--port", "8000"]

# PyPI's PyTorch for Linux brings CUDA along; it runs without a GPU too.
FROM base AS worker
RUN pip install --constraint requirements.lock ".[worker]"
USER d3po
CMD ["d3po", "worker"]
