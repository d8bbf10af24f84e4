# syntax=docker/dockerfile:1
# Two stages: pip and its caches stay behind. The image runs as nobody in particular, with a root that may be read-only.

FROM python:3.11-slim-bookworm AS build
RUN python -m venv /opt/proxy
COPY requirements.txt .
RUN /opt/proxy/bin/pip install --no-cache-dir --require-virtualenv --requirement requirements.txt

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin proxy
COPY --from=build /opt/proxy /opt/proxy
WORKDIR /srv/proxy
COPY app app
COPY wsgi.py gunicorn.conf.py ./
# Byte code is made now: later the root may be read-only.
RUN /opt/proxy/bin/python -m compileall -q app wsgi.py
ENV PATH=/opt/proxy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 API_HOST=0.0.0.0 API_PORT=8001
USER 10001
EXPOSE 8001
# The same question that the load balancer asks; it does not ask MLflow.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['API_PORT'] + '/health', timeout=4)"]
# Exec form: gunicorn is process 1 and gets SIGTERM itself, so that it can drain.
CMD ["gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"]
