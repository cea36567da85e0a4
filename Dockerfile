# The server for one node. No model is in it: the embedded one is fetched into the data volume, or OPENAI_BASE_URL is set.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# The embedded model's runtime needs OpenMP, which slim images lack.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*

RUN groupadd --gid 10001 self_agent \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin self_agent \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data /logs

WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check -r requirements.txt
COPY core ./core
COPY self_agent ./self_agent
COPY run.py LICENSE ./
# The chat page's libraries, each with the hash that the lock file says.
ARG LIBRARIES_REGISTRY=
RUN python -m self_agent.libraries \
    && python -m compileall -q core self_agent

USER 10001:10001
# Whoever publishes the port decides who reaches it; the names it is called by are ALLOWED_HOSTS.
ENV HOST=0.0.0.0 \
    PORT=5000 \
    DATA_DIR=/data \
    LOG_DIR=/logs \
    LOG_FORMAT=json
VOLUME ["/data", "/logs"]
EXPOSE 5000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=4)"]
CMD ["python", "run.py"]
