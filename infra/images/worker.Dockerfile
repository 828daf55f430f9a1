# Ray nodes and the gateway: Python with the worker's packages. Build from the checkout's root:
#   docker build -f infra/images/worker.Dockerfile -t patchbay-worker .
# The command decides what it is; see infra/compose/compose.yaml. For GPUs leave out TORCH_INDEX (`--build-arg TORCH_INDEX=`).
FROM python:3.11-slim-bookworm
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONHASHSEED=0 \
    OMP_NUM_THREADS=1 \
    GRPC_ENABLE_FORK_SUPPORT=0 \
    RAY_AUTH_MODE=token \
    PYTHONPATH=/opt/patchbay/src:/opt/patchbay/protocol
RUN apt-get update \
    && apt-get install --no-install-recommends --yes libseccomp2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 patchbay
WORKDIR /opt/patchbay
COPY packages/worker-py/constraints.txt packages/worker-py/pyproject.toml ./
# The dependencies alone, before the sources: they change less often
RUN python -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml','rb'))['project']['dependencies']))" > requirements.txt \
    && PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" pip install --requirement requirements.txt --constraint constraints.txt
COPY packages/worker-py/src src
COPY packages/protocol/gen/py protocol
RUN python -m compileall -q src protocol
USER patchbay
# Sources are not on the path of a script that runs elsewhere, so every process starts here
ENTRYPOINT ["python", "-m"]
CMD ["patchbay_worker.gateway", "--host", "0.0.0.0", "--port", "50051"]
