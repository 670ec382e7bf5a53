# MENTOR kit on a CPU: the environment of `make`, JupyterLab on port 8888.
#   docker build -t mentor-kit . && docker run --rm -p 8888:8888 -v mentor-results:/kit/results mentor-kit
#   docker run --rm -v mentor-results:/kit/results mentor-kit make demo
# pip's PyTorch for Linux brings CUDA; for a smaller image give PyTorch's CPU wheels:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... -t mentor-kit .
FROM python:3.11-slim
ARG PIP_EXTRA_INDEX_URL=
RUN apt-get update && apt-get install --yes --no-install-recommends make git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home kit && mkdir /kit && chown kit /kit
USER kit
WORKDIR /kit
COPY --chown=kit . .
RUN make .venv/installed.stamp && rm -rf ~/.cache/pip
EXPOSE 8888
CMD [".venv/bin/jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--notebook-dir=/kit"]
